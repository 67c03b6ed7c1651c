"""Where the searcher of a planned sweep would go: the real one is asked, and told what a drawn landscape makes of it.

So a plan follows the searcher to models that are good and slow, or good and fast, as the sweep itself will.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from components.tune.order import Deciding, trials
from components.tune.plan_curves import TIES, Curve, Curves, natural_end
from components.tune.plan_space import Drawn, Landscape, Pace, encoder
from components.tune.space import distributions
from components.tune.suggesting import Asked, Suggestions, learns
from seaway.config import Sweep
from seaway.errors import SeawayError

LEAST_POINTS = 10  # measured trials; fewer say little about parameters
TAUGHT = 60  # points that are asked for once the searcher can know the first; later ones are like the later of these


@dataclass(frozen=True)
class Known:
    """What measured trials at ``points`` (trials, dimensions) tell of a sweep's space; ``begins``: its first points."""

    curves: Curves
    landscape: Landscape
    pace: Pace
    points: np.ndarray
    encode: Callable[[Mapping[str, Any]], np.ndarray]
    space: Mapping[str, Any]
    begins: tuple[Mapping[str, Any], ...] = ()


def known(curves: Curves, sweep: Sweep) -> Known | None:
    """None where the measured sweep tells nothing of this one's parameters: few trials, or another space."""
    good = [i for i, curve in enumerate(curves.measured) if not curve.failed] if curves.points else []
    if len(good) < LEAST_POINTS:
        return None
    try:
        space, encode = distributions(sweep.space), encoder(sweep.space)
        points = np.array([encode(point) for point in curves.points])
    except (SeawayError, TypeError, ValueError):  # words where there are numbers now
        return None
    if not points.shape[1] or not np.isfinite(points).all():
        return None
    values = np.array([curves.measured[i].values for i in good])
    paces = np.array(curves.paces)
    timed = np.isfinite(paces) & (paces > 0)
    if not timed.any():
        return None
    best = sorted(good, key=lambda i: -float(curves.measured[i].values[: curves.epochs[i]].max()))
    begins = [curves.points[i] for i in best if _within(curves.points[i], space)][: sweep.warm_start]
    return Known(
        curves,
        Landscape(points[good], values),
        Pace(points[timed], paces[timed], np.array(curves.epochs)[timed]),
        points,
        encode,
        space,
        tuple(begins),
    )


def _within(point: Mapping[str, Any], space: Mapping[str, Any]) -> bool:
    """Whether a sweep in ``space`` (Optuna's distributions) could begin with it."""
    return all(
        point[name] in d.choices if hasattr(d, "choices") else d.low <= point[name] <= d.high
        for name, d in space.items()
    )


@dataclass
class Found:
    """A trial of a simulated sweep: ``pace`` seconds of an epoch, ``failed`` the epochs until its error, 0: none."""

    values: np.ndarray
    pace: float
    failed: int = 0


class Searched:
    """The trials of one simulated sweep under ``rules``, each asked for in its turn and kept in ``found``.

    ``machine``: how much longer everything takes in this sweep. ``again``: what another simulated sweep has found, to
    be gone through once more instead of asking.
    """

    def __init__(
        self,
        known: Known,
        sweep: Sweep,
        rules: Deciding,
        slots: int,
        seed: Sequence[int],
        machine: float = 1.0,
        again: Sequence[Found] = (),
    ) -> None:
        self._known, self._machine, self._learns = known, machine, learns(sweep)
        self._draw = np.random.default_rng(seed)
        self._most = 0 if again else min(trials(sweep), slots + slots // 4 + TAUGHT)
        self._asked = Asked(Suggestions(sweep, known.space, known.begins), rules)
        self._drawn = Drawn(known.landscape, self._draw, self._most)
        self.found = list(again)

    def curve(self, index: int) -> Curve:
        """Of trial ``index``, which may begin."""
        if index < self._most:
            made = self._new(index)
            self.found.append(made)
        else:
            made = self._more(index)
        curves, pace = self._known.curves, self._known.pace
        each = made.pace * float(np.exp(pace.noise * self._draw.standard_normal()))
        seconds = np.full(len(made.values), each + curves.beside[1])
        seconds[0] += each * (curves.rate - 1) + curves.beside[0]
        seconds *= self._machine
        if made.failed:
            return Curve(made.values[: made.failed], seconds[: made.failed], made.failed, failed=True)
        return Curve(made.values, seconds, natural_end(made.values, curves.patience))

    def _new(self, index: int) -> Found:
        k = self._known
        point = k.encode(self._asked.next(index))
        near = k.curves.measured[int(np.argmin(k.landscape.kernel.distance(point[None, :], k.points)[0]))]
        values = self._drawn.values(point)
        return Found(values, k.pace.of(point), min(len(near.values), len(values)) if near.failed else 0)

    def _more(self, index: int) -> Found:
        if index < len(self.found):
            made = self.found[index]
        else:
            low = len(self.found) // 2 if self._learns else 0
            made = self.found[int(self._draw.integers(low, len(self.found)))]
        return replace(made, values=made.values + TIES * self._known.curves.noise * self._draw.standard_normal())
