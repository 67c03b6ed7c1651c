"""What a measured sweep tells of points that it did not try: how good they are and how long an epoch of theirs takes.

Values: a Gaussian process over the parameters, all epochs of a trial together (Rasmussen & Williams 2006, chapters 2
and 5; additive kernels: Duvenaud et al. 2011, arXiv 1112.4394; the covariance of epochs as in a matrix normal), with
the lengths and weights of the highest likelihood. Pace: the logarithm of an epoch's seconds, linear in the parameters,
by ridge regression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from seaway.config import Parameter

LENGTHS = (0.3, 0.6, 1.2, 2.4, 10.0)  # of a parameter's range
WEIGHTS = (0.03, 0.3, 1.0, 3.0)  # of one parameter alone
JOINT = (0.03, 0.1, 0.3, 1.0)  # of all together
ROUGH = (0.01, 0.03, 0.1, 0.3)  # of what close neighbours alone share
CLOSE = 0.8  # parameter ranges over which they do
NOISE = 0.0005  # variance by chance, hardly any: a trial near another comes out nearly as that one did
ROUNDS = 2  # of trying all of these
MOST = 128  # measured trials that count: evenly spread over all
RIDGE = 0.3
FAR = 3.0  # usual deviations from the pace beyond which a trial was held up by something else


def encoder(space: Mapping[str, Parameter]) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """From a point of ``space`` to float (dimensions,), each parameter's range from 0 to 1.

    Numbers to choose from count by their rank, other choices are one dimension each. Without choice: no dimension.
    """
    makers: list[Callable[[Mapping[str, Any]], list[float]]] = []
    for name, parameter in space.items():
        if parameter.kind == "choice":
            choices = list(parameter.values or ())
            if len(choices) < 2:
                continue
            if all(isinstance(c, int | float) and not isinstance(c, bool) for c in choices):
                makers.append(_ranked(name, sorted(choices)))
            else:
                makers.append(lambda p, n=name, cs=choices: [0.7 * (str(p[n]) == str(c)) for c in cs])
        elif parameter.low is not None and parameter.high is not None and parameter.low < parameter.high:
            makers.append(_scaled(name, parameter.low, parameter.high, parameter.kind == "log_float"))
    return lambda point: np.array([x for make in makers for x in make(point)], dtype=np.float64)


def _ranked(name: str, choices: list[float]) -> Callable[[Mapping[str, Any]], list[float]]:
    ranks = np.linspace(0.0, 1.0, len(choices))
    return lambda point: [float(np.interp(point[name], choices, ranks))]


def _scaled(name: str, low: float, high: float, log: bool) -> Callable[[Mapping[str, Any]], list[float]]:
    scale = np.log if log else float
    return lambda point: [float((scale(point[name]) - scale(low)) / (scale(high) - scale(low)))]


class Pace:
    """Seconds of an epoch by point: ``points`` (trials, dimensions), ``seconds`` (trials,).

    A trial that lies far from all others is left out: it waited for something.
    """

    def __init__(self, points: np.ndarray, seconds: np.ndarray, epochs: np.ndarray) -> None:
        logs, weights = np.log(np.maximum(seconds, 1e-6)), np.sqrt(np.minimum(epochs, 4.0))
        keep = np.ones(len(logs), dtype=bool)
        for _ in range(4):
            self._fit(points[keep], logs[keep], weights[keep])
            off = logs - self._logs(points)
            self.noise = 1.4826 * float(np.median(np.abs(off[keep]))) + 1e-6
            keep = np.abs(off) <= FAR * max(self.noise, 0.05)

    def _fit(self, points: np.ndarray, logs: np.ndarray, weights: np.ndarray) -> None:
        w = weights**2 / np.sum(weights**2)
        self._at, self._middle = w @ points, float(w @ logs)
        x, y = (points - self._at) * weights[:, None], (logs - self._middle) * weights
        self._slopes = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)

    def _logs(self, points: np.ndarray) -> np.ndarray:
        return self._middle + (points - self._at) @ self._slopes

    def of(self, point: np.ndarray) -> float:
        """The usual seconds of an epoch there."""
        return float(np.exp(self._logs(point)))


@dataclass(frozen=True)
class Kernel:
    """How alike the values at two points are: a sum over the parameters, and a part of all together (Matérn 5/2).

    ``lengths`` and ``weights`` (dimensions,), ``joint`` the weight of that part, ``rough`` of what none of these
    explain and close neighbours yet share.
    """

    lengths: np.ndarray
    weights: np.ndarray
    joint: float
    rough: float
    noise: float = NOISE

    @property
    def top(self) -> float:
        """Of a point with itself."""
        return float(self.weights.sum()) + self.joint + self.rough

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        far = np.abs(a[:, None, :] - b[None, :, :])
        apart = far / self.lengths
        alike = _matern(apart) @ self.weights + self.joint * _matern(np.sqrt((apart**2).sum(axis=-1)))
        return alike + self.rough * _matern(np.sqrt((far**2).sum(axis=-1)) / CLOSE)

    def distance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt((((a[:, None, :] - b[None, :, :]) / self.lengths) ** 2).sum(axis=-1))


def _matern(apart: np.ndarray) -> np.ndarray:
    far = np.sqrt(5.0) * apart
    return (1 + far + far**2 / 3) * np.exp(-far)


def fitted(points: np.ndarray, values: np.ndarray) -> Kernel:
    """The kernel of the highest likelihood of ``values`` (trials, columns) at ``points``: one number after another."""
    dimensions = points.shape[1]
    tries = [LENGTHS] * dimensions + [WEIGHTS] * dimensions + [JOINT, ROUGH]
    found = [0.6] * dimensions + [0.3] * dimensions + [0.3, 0.1]

    def kernel(numbers: Sequence[float]) -> Kernel:
        lengths, weights = np.array(numbers[:dimensions]), np.array(numbers[dimensions : 2 * dimensions])
        return Kernel(lengths, weights, numbers[-2], numbers[-1])

    best = _likelihood(kernel(found), points, values)
    for _ in range(ROUNDS):
        for number, grid in enumerate(tries):
            for tried in grid:
                changed = [*found[:number], tried, *found[number + 1 :]]
                likelihood = _likelihood(kernel(changed), points, values)
                if likelihood > best:
                    best, found = likelihood, changed
    return kernel(found)


def _likelihood(kernel: Kernel, points: np.ndarray, values: np.ndarray) -> float:
    """Logarithm, up to a constant, each column with the mean and variance that suit it best."""
    count = len(points)
    factor = np.linalg.cholesky(kernel(points, points) + kernel.noise * np.eye(count))
    solved = np.linalg.solve(factor, np.column_stack([np.ones(count), values]))
    ones, rest = solved[:, :1], solved[:, 1:]
    rest = rest - ones * (ones.T @ rest) / (ones.T @ ones)
    spread = np.log(np.maximum((rest**2).mean(axis=0), 1e-12))
    return float(-values.shape[1] * np.log(np.diag(factor)).sum() - count / 2 * spread.sum())


class Scores:
    """Values by their rank among all measured ones, as those of a normal distribution.

    Searchers and schedulers look at nothing else, and where most points are good small differences decide.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._values, counts = np.unique(values, return_counts=True)
        ranks = (np.cumsum(counts) - counts / 2) / values.size
        self._scores = np.array([NormalDist().inv_cdf(float(r)) for r in ranks])

    def of(self, values: np.ndarray) -> np.ndarray:
        return np.interp(values, self._values, self._scores)

    def back(self, scores: np.ndarray) -> np.ndarray:
        """Within what was measured; beyond the ends by almost nothing, so that the order stays."""
        over = scores - np.clip(scores, self._scores[0], self._scores[-1])
        return np.interp(scores, self._scores, self._values) + 1e-9 * over


class Landscape:
    """Values of measured trials, (trials, epochs) at points (trials, dimensions), and what they let one expect."""

    def __init__(self, points: np.ndarray, values: np.ndarray) -> None:
        self.scale = Scores(values)
        values = self.scale.of(values)
        some = np.unique(np.linspace(0, len(points) - 1, min(MOST, len(points))).astype(int))
        self.points, values = points[some], values[some]
        self.kernel = fitted(self.points, values[:, [0, -1]])
        count = len(self.points)
        factor = np.linalg.cholesky(self.kernel(self.points, self.points) + self.kernel.noise * np.eye(count))
        self.inverse = np.linalg.inv(factor)
        ones = self.inverse.sum(axis=1)
        self.mean = (ones @ (self.inverse @ values)) / (ones @ ones)
        self.white = self.inverse @ (values - self.mean)
        epochs = self.white.T @ self.white / count
        scale = float(np.trace(epochs)) / len(epochs) or 1e-12
        self.mix = np.linalg.cholesky(epochs + 1e-6 * scale * np.eye(len(epochs)))


class Drawn:
    """One landscape of those that agree with the measured trials; what is asked of it, it keeps to."""

    def __init__(self, landscape: Landscape, draw: np.random.Generator, most: int) -> None:
        self._of, self._draw = landscape, draw
        count, dimensions = landscape.points.shape
        self._count, room = count, count + most
        self._points = np.zeros((room, dimensions))
        self._inverse = np.zeros((room, room))
        self._white = np.zeros((room, landscape.white.shape[1]))
        self._points[:count], self._white[:count] = landscape.points, landscape.white
        self._inverse[:count, :count] = landscape.inverse

    def values(self, point: np.ndarray) -> np.ndarray:
        """Float (epochs,) of a trial at ``point``; what chance makes of a trial is in it."""
        n, kernel = self._count, self._of.kernel
        inverse = self._inverse[:n, :n]
        like = inverse @ kernel(self._points[:n], point[None, :])[:, 0]
        left = np.sqrt(max(kernel.top + kernel.noise - float(like @ like), 1e-9))
        fresh = self._of.mix @ self._draw.standard_normal(self._white.shape[1])
        made = self._of.mean + like @ self._white[:n] + left * fresh
        if n < len(self._points):
            self._points[n], self._white[n] = point, fresh
            self._inverse[n, :n], self._inverse[n, n] = -(like @ inverse) / left, 1.0 / left
            self._count += 1
        return self._of.scale.back(made)
