"""Our gate for many releases at once, and the loop that plays any gate against a world.

`Ours` applies serving.rollout.policy's rules to arrays: the same evidence (rates.update_many, means), the same
thresholds, the same ramp. tests/benchmarks/ drives the policy itself on the same blocks and compares verdicts.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.canary.cells import CAP, DECISION_MARGIN, FLIP_MARGIN, GRACE, MARGIN, Block, Cell, World
from seaway.evidence import means, rates
from seaway.evidence.mixing import log_mean_exp
from serving.rollout.policy import STEP_REQUESTS
from serving.rollout.rules import GUARDRAILS, Rules

RAMP, ALPHA = (5, 10, 25, 50), 0.05
PROMOTED, ROLLED_BACK, HELD = 1, -1, 2
FRESH, LOST, AGAIN = 0, 1, 2  # how a scrape went
LEANING, NO_LOOK = -2, -1  # causes at the cap: the evidence leans towards harm; the last look had a problem

Rows = dict[str, Any]  # name -> array (runs, ...), or a dict of such


def rules(cell: Cell) -> Rules:
    """The release's rules in this cell: tolerances as the configuration's defaults give them."""
    margins = {"errors": MARGIN, "latency": MARGIN, "decisions_up": DECISION_MARGIN, "decisions_down": DECISION_MARGIN}
    rails = {
        name: rates.Rail(margins[name], margins[name] * GUARDRAILS[name][2])
        for name in cell.guardrails
        if name in margins
    }
    rails["errors"] = replace(rails["errors"], guess=cell.guess, cluster=cell.cluster)
    pairs = {"flips": means.Bound(FLIP_MARGIN, FLIP_MARGIN / 2, 0.0, 1.0)} if "flips" in cell.guardrails else {}
    return Rules(
        ramp=RAMP,
        cap=60.0 * CAP,
        alpha_promote=ALPHA,
        alpha_rollback=ALPHA,
        rails=rails,
        pairs=pairs,
        slo_ms=100 if "latency" in rails else None,
        block=60.0,
    )


@dataclass
class Result:
    """What a gate did with each run. Minutes of undecided runs are the cap's."""

    verdict: np.ndarray  # PROMOTED, ROLLED_BACK or HELD
    minute: np.ndarray
    bad: np.ndarray  # unwanted answers above the stable's until the cap, a promoted canary's included
    cause: np.ndarray  # index of the guardrail that rolled back, or one of the two at the cap


class Gate:
    """A gate for many runs. ``rows`` holds its arrays; `play` drops the rows of decided runs."""

    name = ""
    grace = 0  # minutes after the cap

    def __init__(self, cell: Cell, runs: int) -> None:
        self.cell = cell
        self.rows: Rows = {}
        self.cause = np.full(runs, LEANING)

    def share(self) -> np.ndarray:
        """The canary's share of the next minute."""
        raise NotImplementedError

    def step(self, block: Block, minute: int) -> np.ndarray:
        """The verdicts after a minute (1, 2, ...): 0 for none yet."""
        raise NotImplementedError

    def keep(self, rows: np.ndarray) -> None:
        self.rows, self.cause = _kept(self.rows, rows), self.cause[rows]


def _kept(values: Any, rows: np.ndarray) -> Any:
    return {k: _kept(v, rows) for k, v in values.items()} if isinstance(values, dict) else values[rows]


def play(gate: Gate, world: World, seed: tuple[int, ...]) -> Result:
    """The gate against every run of the world, minute by minute until decided or the cap."""
    rng, runs, harm = np.random.default_rng([*seed, 1]), world.runs, world.harm()
    result = Result(np.full(runs, HELD), np.full(runs, CAP), np.zeros(runs), np.full(runs, LEANING))
    rows = np.arange(runs)
    for minute in range(CAP + gate.grace):
        block = world.block(rng, minute, rows, gate.share())
        if minute < CAP:
            result.bad[rows] += block.counts["errors"][2] * world.excess(minute)
        verdict = gate.step(block, minute + 1)
        done = verdict != 0
        if not done.any():
            continue
        ended = rows[done]
        result.verdict[ended], result.minute[ended] = verdict[done], minute + 1
        result.cause[ended] = gate.cause[done]
        result.bad[ended] += np.where(verdict[done] == PROMOTED, harm[min(minute + 1, CAP), ended], 0)
        rows = rows[~done]
        if not len(rows):
            break
        gate.keep(~done)
    return result


class Ours(Gate):
    """The policy's rules: prove, ramp on absence of harm, roll back on harm, never promote at the cap."""

    name = "Seaway"
    grace = GRACE

    def __init__(self, cell: Cell, runs: int, seed: tuple[int, ...] = (0,)) -> None:
        super().__init__(cell, runs)
        self.rules = rules(cell)
        self.faults = np.random.default_rng([*seed, 2])  # scrapes and restarts; the canaries are drawn elsewhere
        self.rows = {
            "step": np.zeros(runs, dtype=int),
            "requests": np.zeros(runs, dtype=int),
            "evidence": {name: rates.new_state((runs,)) for name in self.rules.rails},
            "pairs": np.zeros((runs, 2)),
        }
        if cell.lost or cell.again or cell.resets:
            self.rows["feed"] = {arm: _no_counts(runs) for arm in ("stable", "canary")}

    def share(self) -> np.ndarray:
        return np.array(RAMP)[self.rows["step"]] / 100

    def step(self, block: Block, minute: int) -> np.ndarray:
        rows, told = self.rows, self.rules
        counts, problem = block.counts, np.zeros(len(rows["step"]), dtype=bool)
        if "feed" in rows:
            counts, problem = self._scraped(counts["errors"])
        for name, rail in told.rails.items():
            signal, exchanged, _ = GUARDRAILS[name]
            n_s, k_s, n_c, k_c = counts[signal]
            both = (n_c, k_c, n_s, k_s) if exchanged else (n_s, k_s, n_c, k_c)
            rows["evidence"][name] = rates.update_many(rows["evidence"][name], rail, *both)
        if block.pairs is not None:
            rows["pairs"] += np.stack(block.pairs, axis=-1)
        if self.cell.restarts:
            _through_text(rows["evidence"], self.faults.random(len(rows["step"])) < self.cell.restarts)
        logs = [rates.log_e(rows["evidence"][name]) for name in told.rails]
        logs += [_pair_log_e(bound, rows["pairs"]) for bound in told.pairs.values()]
        promote, rollback = (np.stack(values) for values in zip(*logs, strict=True))
        return self._decided(promote, rollback, counts["errors"][2], problem, minute)

    def _decided(
        self, promote: np.ndarray, rollback: np.ndarray, gained: np.ndarray, problem: np.ndarray, minute: int
    ) -> np.ndarray:
        """Verdicts from ln E (guardrails, runs); what is undecided may ramp."""
        rows, told = self.rows, self.rules
        last = rows["step"] >= len(RAMP) - 1
        rows["requests"] = rows["requests"] + gained
        harmed = rollback >= told.rollback_at
        proven = (promote >= told.promote_at).all(axis=0) & last & ~problem & (minute < CAP)
        leaning = (rollback >= told.rollback_at / 2).any(axis=0)
        waits = problem & (minute < CAP + GRACE)
        late = np.where(waits, 0, np.where(leaning | problem, ROLLED_BACK, HELD)) if minute >= CAP else 0
        verdict = np.where(harmed.any(axis=0), ROLLED_BACK, np.where(proven, PROMOTED, late))
        at_cap = np.where(problem, NO_LOOK, LEANING)
        self.cause = np.where(harmed.any(axis=0), np.where(harmed, rollback, -np.inf).argmax(axis=0), at_cap)
        harmless = rollback.max(axis=0) < told.rollback_at / 2
        up = ~last & (rows["requests"] >= STEP_REQUESTS) & harmless & ~problem
        rows["step"], rows["requests"] = rows["step"] + up, np.where(up, 0, rows["requests"])
        return verdict

    def _scraped(self, block: tuple[np.ndarray, ...]) -> tuple[dict[str, tuple[np.ndarray, ...]], np.ndarray]:
        """What the counters gained as the controller reads them, and where something was wrong."""
        found, problems = [], []
        for arm, (n, k) in (("stable", block[:2]), ("canary", block[2:])):
            gain, problem = scrape(self.rows["feed"][arm], n, k, self.cell, self.faults)
            found += gain
            problems.append(problem)
        return {"errors": tuple(found)}, problems[0] | problems[1]


def _no_counts(runs: int) -> Rows:
    names = ("n", "k", "how", "cursor_n", "cursor_k", "lower")
    return {name: np.zeros(runs, dtype=np.int64) for name in names}


def scrape(feed: Rows, n: np.ndarray, k: np.ndarray, cell: Cell, rng: np.random.Generator) -> tuple[list, np.ndarray]:
    """One minute of one predictor's counters, in place: [gained n, gained k], problem.

    The semantics of serving.signals.counters.advance for one source: a lost reading is made up for by the
    next, a repeated one is too old and adds nothing, a lower one becomes the cursor when it comes a second time.
    """
    reset, lost, again = (rng.random(len(n)) < p for p in (cell.resets, cell.lost, cell.again))
    for name, more in (("n", n), ("k", k)):
        feed[name] = np.where(reset, 0, feed[name]) + more
    feed["how"] = np.where(lost, LOST, np.where(again, AGAIN, FRESH))
    fresh = feed["how"] == FRESH
    read_n, read_k = np.where(fresh, feed["n"], feed["cursor_n"]), np.where(fresh, feed["k"], feed["cursor_k"])
    gain_n, gain_k = read_n - feed["cursor_n"], read_k - feed["cursor_k"]
    lower = (gain_n < 0) | (gain_k < 0)
    torn = ~lower & (gain_k > gain_n)
    good = fresh & ~lower & ~torn
    move = good | (lower & (feed["lower"] > 0))
    for name, value in (("cursor_n", read_n), ("cursor_k", read_k)):
        feed[name] = np.where(move, value, feed[name])
    feed["lower"] = np.where(fresh & ~torn, np.where(lower & (feed["lower"] == 0), 1, 0), feed["lower"])
    return [np.where(good, gain_n, 0), np.where(good, gain_k, 0)], ~good


def _through_text(evidence: dict[str, Rows], chosen: np.ndarray) -> None:
    """The chosen runs' evidence as the released object keeps it: to JSON and back, in place."""
    for state in evidence.values():
        for row in np.flatnonzero(chosen):
            text = json.dumps({name: values[row].tolist() for name, values in state.items()})
            for name, value in json.loads(text).items():
                state[name][row] = value


def _pair_log_e(bound: means.Bound, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln E of values that are 0 or 1: a cumulative record is linear in the two counts."""
    one, none = (means.update(means.new_state(), bound, [v]) for v in (1.0, 0.0))
    n, k = pairs[:, :1], pairs[:, 1:]
    return tuple(log_mean_exp(k * np.array(one[w]) + (n - k) * np.array(none[w])) for w in ("promote", "rollback"))


def one_decision(rounds: int = 400) -> float:
    """Milliseconds of processor time of one update of both e-processes of a guardrail, median."""
    state, took = rates.new_state(), []
    for i in range(rounds):
        start = time.thread_time()
        state = rates.update(state, rates.Rail(MARGIN), 540, int(i % 3 == 0), 60, 0)
        rates.log_e(state)
        took.append(time.thread_time() - start)
    return float(np.median(took)) * 1e3


def shortest(rate: int) -> float:
    """Minutes until the last ramp step at a request rate, without any delay."""
    return sum(math.ceil(STEP_REQUESTS / (rate * 60 * share / 100)) for share in RAMP[:-1])
