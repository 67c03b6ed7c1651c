"""Both models on the same requests: what the stable answered and the canary's shadow scored, joined by id.

A pair is one id in prediction logs of both versions, scored within a minute of each other and since the
release began. Its three values:

    flips        1 where the decisions differ, else 0
    score_shift  |score of the canary - score of the stable|
    loss         loss of the canary - loss of the stable, once the id has a label

A request without a label has no loss: it is censored, not negative. Both losses of a pair have one label, so
the models are always compared at equal label age. Each id counts once, with the first line by its time. The
readings are cumulative records of ``seaway.evidence.means``; a reader that starts anew gets the same ones, up
to the order of sums.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from seaway.errors import SeawayError
from seaway.evidence import losses, means
from serving.rollout.rules import Rules
from serving.signals.firsts import Firsts, Put, key_of
from serving.signals.labels import LabelFeed
from serving.signals.lines import Tail
from serving.signals.objects import ObjectFolder, ObjectTail

APART = 60.0  # seconds: an id that comes again later is another request
CHUNK = 20_000  # values at a time


class PairFeed:
    """Reads ``folder``, the prediction logs of one deployment (``<log>/<deployment>``, or in storage), and ``labels``.

    ``stable`` and ``canary``: the versions as the models report them; ``since``: seconds since the epoch.
    """

    def __init__(
        self,
        folder: Path | ObjectFolder,
        labels: LabelFeed | None,
        rules: Rules,
        *,
        stable: str,
        canary: str,
        since: float,
    ):
        if stable == canary:
            raise SeawayError(f"both predictors report version {stable!r}: their answers cannot be told apart")
        self.folder, self.labels, self.rules, self.since = folder, labels, rules, since
        self._answers = {stable: Firsts(), canary: Firsts()}
        self._stable, self._canary = self._answers[stable], self._answers[canary]
        tail = ObjectTail if isinstance(folder, ObjectFolder) else Tail
        self._tail = tail(folder, since - APART)  # older releases' logs are not read again
        self._bounds: dict[str, Any] = dict(rules.pairs)
        if rules.loss and labels is not None:
            self._bounds["loss"] = rules.loss.bound
        self._states = {name: means.new_state() for name in self._bounds}
        self._anew = False  # work out all pairs again: an answer or label that was used has changed
        self.damaged: Counter[str] = Counter()  # lines of the logs that are none, by file

    def read(self) -> dict[str, Any]:
        """{"flips", "score_shift", "loss": cumulative states of what the rules have, "problem": text}.

        ``problem``: why the logs or the labels could not be read to their end. Never raises. What was left out
        of readable files is in ``said``.
        """
        problem = ""
        try:
            self._read_answers()
            self._read_labels()
        except OSError as error:
            problem = f"prediction logs or labels cannot be read: {error}"
        if self._anew:
            self._anew = False
            self._states = {name: means.new_state() for name in self._bounds}
            self._add(self._stable.key)
        return {**self._states, "problem": problem}

    @property
    def said(self) -> str:
        """What was left out, for people; "" when nothing was."""
        found = [f"{n} damaged lines in {name}" for name, n in sorted(self.damaged.items())]
        return "; ".join(found + ([self.labels.problem] if self.labels is not None and self.labels.problem else []))

    def _read_answers(self) -> None:
        for path, lines in self._tail.read():
            found: dict[str, list[tuple[int, float, float, int]]] = {version: [] for version in self._answers}
            for line in lines:
                try:
                    record = json.loads(line)
                    answers = found.get(record["v"])
                    if answers is not None and record["t"] >= self.since:
                        answers.append(_answer(record))
                except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                    self.damaged[path.name] += 1
            for version, answers in found.items():
                put = self._answers[version].put(*zip(*answers, strict=True)) if answers else Put()
                self._anew |= put.replaced
                self._add(put.new)  # whichever answer of a pair comes second makes it one

    def _read_labels(self) -> None:
        if self.labels is not None:
            for put in self.labels.blocks():
                self._anew |= put.replaced
                self._add_losses(put.new)

    def _add(self, keys: np.ndarray) -> None:
        """The values of these keys, where they are pairs by now, into the states."""
        for start in range(0, keys.size, CHUNK):
            s, c = self._both(keys[start : start + CHUNK])
            shift = np.abs(self._canary.value[c].astype(np.float64) - self._stable.value[s])
            self._update("flips", (self._canary.mark[c] != self._stable.mark[s]).astype(np.float64))
            self._update("score_shift", shift)
        self._add_losses(keys)

    def _add_losses(self, keys: np.ndarray) -> None:
        """The loss differences of these keys, where they are pairs with a label by now."""
        for start in range(0, keys.size if "loss" in self._bounds else 0, CHUNK):
            part = keys[start : start + CHUNK]
            s, c = self._both(part[self.labels.known.find(part) >= 0])
            label = self.labels.known.mark[self.labels.known.find(self._stable.key[s])]
            rules = self.rules.loss
            of_canary, of_stable = (
                losses.loss(rules.kind, arm.value[i].astype(np.float64), label, rules.clip, rules.positive_weight)
                for arm, i in ((self._canary, c), (self._stable, s))
            )
            self._update("loss", of_canary - of_stable)

    def _both(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places of the pairs among these keys: in the stable's answers and in the canary's."""
        s, c = self._stable.find(keys), self._canary.find(keys)
        s, c = s[(s >= 0) & (c >= 0)], c[(s >= 0) & (c >= 0)]
        near = np.abs(self._stable.rank[s] - self._canary.rank[c]) <= APART
        return s[near], c[near]

    def _update(self, name: str, values: np.ndarray) -> None:
        if name in self._bounds:
            self._states[name] = means.update(self._states[name], self._bounds[name], values)


def _answer(record: dict[str, Any]) -> tuple[int, float, float, int]:
    """(key, time, score, decision); ValueError, KeyError or TypeError for anything else."""
    score, decision = record["p"], record["d"]
    if not 0 <= score <= 1 or decision not in (0, 1) or not isinstance(record["id"], str):
        raise ValueError("not an answer")
    return key_of(record["id"]), float(record["t"]), float(score), int(decision)
