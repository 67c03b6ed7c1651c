"""The benchmark's gate for many releases is the policy that releases are decided by."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.canary import cells
from benchmarks.canary.gates import AGAIN, HELD, LOST, PROMOTED, ROLLED_BACK, Ours, play, rules
from seaway.evidence import means
from serving.rollout import state as states
from serving.rollout.policy import decide
from serving.rollout.rules import Observation
from serving.substrate.base import Counters

RUNS, START = 12, 1_000_000.0
ENDED = {states.PROMOTED: PROMOTED, states.ROLLED_BACK: ROLLED_BACK, states.HELD: HELD}


class Recorded(Ours):
    """Keeps, by run, what each minute brought."""

    def __init__(self, cell, runs, seed):
        super().__init__(cell, runs, seed)
        self.rows["run"] = np.arange(runs)
        self.minutes = [[] for _ in range(runs)]

    def step(self, block, minute):
        share, verdict = self.share(), super().step(block, minute)
        for row, run in enumerate(self.rows["run"]):
            counts = {signal: [int(v[row]) for v in values] for signal, values in block.counts.items()}
            pairs = None if block.pairs is None else [int(v[row]) for v in block.pairs]
            feed = {
                arm: tuple(int(known[name][row]) for name in ("how", "n", "k"))
                for arm, known in self.rows.get("feed", {}).items()
            }
            self.minutes[run].append((share[row], counts, pairs, feed))
        return verdict


def driven(cell, minutes):
    """(phase, minute) of the policy on recorded minutes; the weights must be the recorded ones throughout."""
    told = rules(cell)
    state = states.begin("r", "v1", "v2", "s", START, told.rails)
    totals = {"v1": np.zeros(5, dtype=int), "v2": np.zeros(5, dtype=int)}
    flips = means.new_state()
    state = decide(state, seen(START, totals, {}, flips, told), told).state
    for minute, (share, counts, pairs, feed) in enumerate(minutes, 1):
        assert round(100 * share) == told.ramp[state.step]
        for name, at in (("v1", 0), ("v2", 2)):
            n, k = counts["errors"][at : at + 2]
            answered, decided = counts.get("decisions", [0] * 4)[at : at + 2]
            totals[name] += np.array([n, k, counts.get("latency", [0] * 4)[at + 1], decided, answered])
        if pairs:
            flips = means.update(flips, told.pairs["flips"], [1.0] * pairs[1] + [0.0] * (pairs[0] - pairs[1]))
        state = decide(state, seen(START + 60 * minute, totals, feed, flips, told), told).state
        if state.phase != states.RUNNING:
            return ENDED[state.phase], minute
    raise AssertionError("undecided at the cap")


def seen(now, totals, feed, flips, told):
    counters = {}
    for name, arm in (("v1", "stable"), ("v2", "canary")):
        n, k, slow, decided, answered = (int(v) for v in totals[name])
        at, how = now, 0
        if arm in feed:
            how, n, k = feed[arm]
            at = now - 60 if how == AGAIN else now
        counters[name] = {} if how == LOST else {"pod": Counters(n, k, {100: slow}, decided, answered, at=at)}
    return Observation(
        now=now,
        spec="s",
        counters=counters,
        ready={"v1": True, "v2": True},
        pairs={"flips": flips} if told.pairs else {},
    )


CHOSEN = [
    cell
    for cell in cells.sweep((10,))
    if (cell.scenario, cell.null)
    in {
        ("plain", "good"),
        ("plain", "edge"),
        ("clustered errors, size told", "good"),
        ("lost and repeated scrapes", "good"),
        ("lost and repeated scrapes", "edge"),
        ("counter resets", "good"),
        ("prior x3", "edge"),
        ("slow tail", "worse"),
        ("more decisions", "good"),
        ("more decisions", "worse"),
    }
] + [next(cell for cell in cells.sweep((1,)) if cell.scenario == "slow tail" and cell.null == "edge")]


@pytest.mark.parametrize("cell", CHOSEN, ids=lambda cell: cell.name)
def test_the_policy_gives_the_same_verdict_at_the_same_block(cell):
    seed = (5, 1)
    gate = Recorded(cell, RUNS, seed)
    result = play(gate, cells.World(cell, RUNS, seed), seed)
    found = [driven(cell, minutes) for minutes in gate.minutes]
    assert found == list(zip(result.verdict.tolist(), result.minute.tolist(), strict=True))


def test_restarts_change_nothing():
    plain = next(cell for cell in cells.sweep((10,)) if cell.scenario == "plain" and cell.null == "edge")
    restarting = cells.Cell(**{**vars(plain), "restarts": 0.5})
    results = [play(Ours(cell, 50, (3,)), cells.World(cell, 50, (3,)), (3,)) for cell in (plain, restarting)]
    assert results[0].minute.tolist() == results[1].minute.tolist()
    assert results[0].verdict.tolist() == results[1].verdict.tolist()


def test_a_groups_fate_keeps_the_mean_and_widens_the_spread():
    group = next(cell for cell in cells.sweep((10,)) if cell.scenario == "clustered errors" and cell.null == "edge")
    world, rng = cells.World(group, 1, (0,)), np.random.default_rng(1)
    n, p = np.full(200_000, 303), np.full(200_000, 0.01)
    k = world._failed(rng, n, p)
    assert abs(k.mean() - 3.03) < 0.05
    assert 4.5 < k.var() / (3.03 * 0.99) < 5.2


def test_what_bursts_and_an_outage_do_to_both_arms():
    found = {cell.scenario: cell for cell in cells.sweep((10,)) if cell.null == "edge"}
    rows = np.arange(400)
    bursts, outage = (cells.World(found[name], 400, (0,)) for name in ("bursts", "common outage"))
    means_ = np.mean([[p.mean() for p in bursts.rate("errors", m, rows)] for m in range(cells.CAP)], axis=0)
    assert means_ == pytest.approx([0.005, 0.010], rel=0.03)
    gaps = {
        round(float(gap), 9) for m in range(cells.CAP) for gap in np.subtract(*outage.rate("errors", m, rows)[::-1])
    }
    assert gaps == {0.005}
    assert np.max([outage.rate("errors", m, rows)[0].max() for m in range(20)]) == pytest.approx(0.05)


def test_a_rollback_is_laid_to_the_guardrail_that_showed_it():
    flip = next(c for c in cells.sweep((10,)) if c.scenario.startswith("score flip") and c.null == "worse")
    result = play(Ours(flip, 60, (0,)), cells.World(flip, 60, (0,)), (0,))
    names = [*rules(flip).rails, *rules(flip).pairs]
    assert (result.verdict == ROLLED_BACK).all()
    assert {names[i] if i >= 0 else "the cap" for i in result.cause} == {"flips"}
