"""Suggestions and stops are functions of trial order and seed, never of timing; they do not hold trials up for long."""

from __future__ import annotations

import heapq
import inspect
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.execution.tune_controller import TuneController
from ray.tune.utils.object_cache import _ObjectCache

from components.tune.order import OBJECTIVE, deciding
from components.tune.rungs import Brackets, Lags, Rungs, levels, shares, turns
from components.tune.scheduling import scheduler
from components.tune.searching import searcher
from components.tune.space import distributions
from seaway.config import Parameter, Sweep

SPACE = {
    "rate": Parameter(kind="log_float", low=1e-4, high=1),
    "width": Parameter(kind="int", low=2, high=40),
    "kind": Parameter(kind="choice", values=("a", "b")),
}


def sweep_of(**changes):
    return Sweep(**{"space": SPACE, "trials": 24, "max_epochs": 9, "grace_epochs": 1, "seed": 3, **changes})


def quality(params):
    """Best at rate 0.01, width 30 and kind b; at most 1."""
    off = (np.log10(params["rate"]) + 2) / 2, (params["width"] - 30) / 40, 0.3 * (params["kind"] == "a")
    return float(np.exp(-sum(x**2 for x in off)))


class Played:
    """A sweep in the order of a seeded clock, by the objects that Ray asks. ``fails``: trials that end by an error."""

    def __init__(self, sweep, slots, seed, fails=(), patience=99):
        self.sweep, self.draw, self.fails, self.patience = sweep, np.random.default_rng(seed), fails, patience
        self.rules = deciding(sweep, slots, distributions(sweep.space))
        self.search = searcher(sweep, distributions(sweep.space), self.rules)
        self.points, self.epochs, self.busy, self.now = [], {}, 0.0, 0.0
        events, running = [], 0
        while True:
            while running < slots and len(self.points) < sweep.trials:
                made = self.search.suggest(str(len(self.points)))
                if made is None:
                    assert running, "nothing runs, and nothing may begin"
                    break
                assert made["index"] == len(self.points)
                self.points.append(made["params"])
                speed = float(np.exp(self.draw.normal(0, 0.5)))
                heapq.heappush(events, (self.now + speed, made["index"], 1, speed))
                self.busy += speed
                running += 1
            if not events:
                break
            self.now, index, epoch, speed = heapq.heappop(events)
            if self.over(index, epoch):
                running -= 1
            else:
                takes = speed * self.draw.uniform(0.8, 1.25)
                heapq.heappush(events, (self.now + takes, index, epoch + 1, speed))
                self.busy += takes

    @property
    def counted(self):
        """Epochs by trial, without those after the one at which it had to stop."""
        return {index: seen.epochs for index, seen in self.rules.seen.items()}

    def over(self, index, epoch):
        self.epochs[index] = epoch
        value = quality(self.points[index]) * (1 - 0.6**epoch)
        natural = min(self.sweep.max_epochs, 3 + index % self.patience)
        if index in self.fails and epoch == 2:
            self.rules.ended(index, float("-inf"), failed=True)
        elif epoch == natural:
            self.rules.ended(index, value)
        elif not self.rules.reported(index, epoch, value):
            return False
        return True


@pytest.mark.parametrize("scheduler", ["asha", "bohb", "none"])
@pytest.mark.parametrize("slots", [1, 2, 5])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), other=st.integers(0, 10**6))
def test_the_same_points_and_stops_whatever_takes_how_long(scheduler, slots, seed, other):
    sweep = sweep_of(scheduler=scheduler)
    one, two = (Played(sweep, slots, s, fails=(4, 11), patience=5) for s in (seed, other))
    assert one.points == two.points
    assert one.counted == two.counted
    assert one.rules.stopped == two.rules.stopped
    assert bool(one.rules.stopped) == (scheduler != "none")


def test_another_seed_gives_other_points_and_tpe_learns_from_what_has_ended():
    assert Played(sweep_of(), 2, 0).points != Played(sweep_of(seed=4), 2, 0).points
    random, tpe = (Played(sweep_of(searcher=name), 2, 0).points for name in ("random", "tpe"))
    assert random != tpe


@pytest.mark.parametrize("scheduler", ["asha", "bohb"])
def test_search_and_halving_beat_chance_on_a_smooth_surface(scheduler):
    def best_by_epochs(seed, epochs, **changes):
        played, best, left = Played(sweep_of(seed=seed, trials=60, **changes), 2, seed), 0.0, epochs
        for index, point in enumerate(played.points):
            used = min(played.epochs[index], left)
            best, left = max(best, quality(point) * (1 - 0.6**used)), left - used
        return best

    ours = [best_by_epochs(s, 120, scheduler=scheduler) for s in range(7)]
    chance = [best_by_epochs(s, 120, scheduler="none", searcher="random") for s in range(7)]
    assert statistics.median(ours) > statistics.median(chance)


@pytest.mark.parametrize("slots, bar", [(2, 1.08), (4, 1.16)])
def test_slots_seldom_wait(slots, bar):
    """Wall time by busy slots, the sweep's last trials included; trials differ in speed by factors."""
    sweep = sweep_of(trials=64, max_epochs=20, grace_epochs=4, searcher="random")
    played = [Played(sweep, slots, seed) for seed in range(9)]
    assert statistics.median(p.now * slots / p.busy for p in played) < bar


def test_a_longer_sweep_begins_like_a_shorter_one():
    short, long = (Played(sweep_of(trials=n), 2, n) for n in (12, 24))
    assert long.points[:12] == short.points
    assert {i: long.counted[i] for i in range(12)} == short.counted


def test_rungs_compare_with_earlier_trials_alone():
    rungs = Rungs((2, 6, 18), 3, 3)
    assert not rungs.reported(0, 1, 0.0)  # not a rung
    for index, value in ((0, 0.5), (1, 0.9), (2, 0.1)):
        assert not rungs.reported(index, 2, value)  # nobody to compare with
    assert rungs.reported(3, 2, 0.4)  # worse than trial 0
    assert rungs.reported(3, 2, 0.4)  # told again by a trial that was begun again
    assert rungs.reported(4, 2, 0.4)  # of 0.5 and 0.9, the best third begins at 0.77
    assert not rungs.reported(5, 2, 0.8)  # of 0.1, 0.5 and 0.9 the third begins at 0.63
    rungs.ended(0, 0.6)
    assert rungs.reported(5, 6, 0.55)  # trial 0 ended before this rung with 0.6


def test_levels_and_lags():
    assert levels(1, 27, 3) == (1, 3, 9)
    assert levels(4, 4, 3) == ()
    one = Lags.of(1, (1, 3), 9)
    assert (one.search, dict(one.stops)) == (1, {1: 1, 3: 1})  # one slot: everything before is known
    many = Lags.of(4, (4, 12), 20)
    assert 4 < many.stops[4] < many.stops[12] < many.search


def test_brackets_are_hyperbands_and_halve_for_themselves():
    assert shares(2, 3) == [9, 5, 3]
    assert shares(3, 3) == [27, 12, 6, 4]
    order = turns([9, 5, 3])
    assert [order.count(b) for b in range(3)] == [9, 5, 3]
    assert len(set(order[:4])) == 3  # spread, not one after the other
    brackets = Brackets((1, 3), 3, 1)
    places = {b: [i for i in range(17) if brackets.bracket(i) == b] for b in range(3)}
    first, second, last = (places[b] for b in range(3))
    assert not brackets.reported(first[0], 1, 0.9)
    assert brackets.reported(first[1], 1, 0.1)
    assert not brackets.reported(second[0], 1, 0.0)  # begins at 3
    assert not brackets.reported(second[0], 3, 0.0)  # nobody of its own to compare with
    assert not any(brackets.reported(last[0], epoch, 0.0) for epoch in range(1, 9))


class Trial:
    def __init__(self, index, status="RUNNING"):
        self.config, self.status, self.last_result = {"index": index}, status, {"training_iteration": 2}


class Told:
    def __init__(self):
        self.seen = []

    def reported(self, trial, result):
        self.seen.append((trial.config["index"], result["training_iteration"]))

    def ended(self, trial):
        self.seen.append((trial.config["index"], "ended"))


def test_ray_is_answered_by_the_rules_and_watchers_are_told():
    rules, told = deciding(sweep_of(max_epochs=4), 1, {}), Told()
    asked = scheduler(rules, (told,))
    for index, value, answer in ((0, 0.9, "CONTINUE"), (1, 0.2, "STOP")):
        assert asked.on_trial_result(None, Trial(index), {"training_iteration": 1, OBJECTIVE: value}) == answer
    asked.on_trial_complete(None, Trial(1), {OBJECTIVE: 0.2})
    assert asked.stopped == {1: 1}
    assert not rules.may_begin(1)  # trial 0 is still at it
    asked.on_trial_error(None, Trial(0, "ERROR"))  # only begun again
    assert not rules.may_begin(1)
    asked.on_trial_error(None, Trial(0))
    assert rules.may_begin(2)
    assert told.seen == [(0, 1), (1, 1), (1, "ended"), (0, "ended"), (0, "ended")]
    assert asked.__getstate__()["_watchers"] == ()


def test_ray_keeps_a_process_for_each_slot():
    """Without that both slots' processes end while the next trial waits for both."""
    assert "self._actor_cache = _ObjectCache(" in inspect.getsource(TuneController.__init__)

    def kept(slots):
        controller, trial = SimpleNamespace(_actor_cache=_ObjectCache(may_keep_one=True)), Trial(0)
        trial.placement_group_factory = "what a trial takes"
        asked = scheduler(deciding(sweep_of(), slots, {}), (), slots)
        for _ in range(3):  # once for all trials
            asked.on_trial_add(controller, trial)
        return sum(controller._actor_cache.cache_object("what a trial takes", process) for process in range(6))

    assert [kept(slots) for slots in (1, 2, 4)] == [1, 2, 4]
