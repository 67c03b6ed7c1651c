"""Planned sweeps: times and losses that can be counted by hand, the rules of real sweeps, what a person is shown."""

from __future__ import annotations

import json
import time

import numpy as np
import polars as pl
import pytest

from components.tune.plan import Fleet, simulate
from components.tune.plan_curves import Curve, Curves, read
from components.tune.plan_page import lines, page
from components.tune.planning import planned
from seaway.cli import main
from seaway.config import StepResources, Sweep
from seaway.errors import SeawayError
from seaway.spend import Rates


def sweep(**changes):
    asked = {"space": {}, "trials": 40, "max_epochs": 9, "grace_epochs": 1, "searcher": "random"}
    return Sweep(**{**asked, "scheduler": "none", **changes})


def even(epochs=3, seconds=10.0, trials=4):
    """Trials alike in everything."""
    curve = Curve(np.linspace(0.1, 0.3, epochs), np.full(epochs, seconds), epochs)
    return Curves((curve,) * trials, "average_precision", 0.0)


def various(trials=30, epochs=9, seed=0):
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(trials):
        top, pace = draw.uniform(0.2, 0.8), draw.uniform(5, 20)
        made.append(Curve(top * (1 - 0.5 ** np.arange(1, epochs + 1)), np.full(epochs, pace), epochs))
    return Curves(tuple(made), "average_precision", 0.001)


def test_time_is_what_one_counts_by_hand():
    tally = simulate(sweep(trials=4), even(), Fleet(slots=2, per_node=2, start=100, begin=1, once=7), (0,))
    # two trials after one another in each place, each 3 x 10 s and a second to begin
    assert tally.seconds == pytest.approx(100 + 2 * 31 + 7)
    assert tally.node_seconds == pytest.approx(100 + 2 * 31)
    assert (tally.slot_seconds, tally.epochs, tally.losses) == (pytest.approx(4 * 31), 12, 0)
    assert tally.best == pytest.approx(0.3)
    assert tally.best_at == pytest.approx(131)


def test_the_last_node_has_only_the_places_that_are_left():
    tally = simulate(sweep(trials=6), even(trials=6), Fleet(slots=3, per_node=2), (0,))
    assert tally.seconds == pytest.approx(60)
    assert tally.node_seconds == pytest.approx(120)


def test_speed_divides_epochs_and_nothing_else():
    tally = simulate(sweep(trials=1), even(), Fleet(slots=1, start=100, begin=1, speed=4), (0,))
    assert tally.seconds == pytest.approx(101 + 7.5)


def test_a_lost_node_costs_the_running_epoch_and_its_return():
    fleet = Fleet(slots=1, start=50, again=5, loss=40.0)
    calm = simulate(sweep(trials=6), even(epochs=8), Fleet(slots=1, start=50), (3,))
    lossy = simulate(sweep(trials=6), even(epochs=8), fleet, (3,))
    assert lossy.losses > 2
    assert lossy.node_seconds == pytest.approx(lossy.seconds)  # one node at any time, each paid for until it is lost
    assert lossy.epochs == calm.epochs == 48  # no epoch twice
    assert lossy.slot_seconds == pytest.approx(calm.slot_seconds + lossy.lost_seconds + 5 * again(lossy))
    # what is lost is less than an epoch and a return each time; each time a node starts anew
    assert 0 < lossy.lost_seconds < 15 * lossy.losses
    assert lossy.seconds == pytest.approx(calm.seconds + lossy.lost_seconds + 5 * again(lossy) + 50 * lossy.losses)
    assert simulate(sweep(trials=6), even(epochs=8), fleet, (3,)) == lossy
    assert simulate(sweep(trials=6), even(epochs=8), fleet, (4,)) != lossy


def again(tally):
    """Returns whose five seconds were not cut short by the next loss."""
    return round((tally.slot_seconds - 480 - tally.lost_seconds) / 5)


def test_halving_spends_less_for_the_same_best_and_keeps_to_the_rules_of_real_sweeps():
    curves, fleet = various(), Fleet(slots=4)
    full = simulate(sweep(), curves, fleet, (0,))
    halved = simulate(sweep(scheduler="asha"), curves, fleet, (0,))
    assert (full.stopped, full.epochs) == (0, 360)
    assert halved.stopped > 15
    assert halved.epochs < 0.6 * full.epochs
    assert halved.best > full.best - 0.05
    strict = simulate(sweep(scheduler="asha", reduction=2), curves, fleet, (0,))
    assert strict.epochs != halved.epochs


def test_a_thousand_trials_on_64_gpus_take_seconds_and_every_trial_ends():
    started = time.process_time()
    fleet = Fleet(slots=64, start=180, begin=1, again=15, loss=900)
    tally = simulate(sweep(scheduler="asha", trials=1000), various(60), fleet, (0,))
    assert time.process_time() - started < 5
    assert tally.losses > 0
    assert tally.epochs > 1000
    assert tally.stopped + 1000 * 9 - tally.epochs > 0


def plan(**more):
    rates = Rates(cpu=0.1, gpu=1.0, source="test")
    asked = {"node": StepResources(cpu="1", gpu=1), "head": StepResources(cpu="1"), "seeds": 5, "rates": rates, **more}
    return planned(sweep(), various(), Fleet(slots=4, start=60, loss=3600), ("none", "asha", "bohb", "pbt"), **asked)


def test_a_plan_has_edges_around_its_middle_and_the_same_seed_gives_the_same():
    made = plan()
    assert made == plan()
    assert made != plan(seed=1)
    json.dumps(made)
    for found in made["schedulers"].values():
        for key in ("seconds", "trials_usd", "nodes_usd", "best", "epochs"):
            low, middle, high = found[key]
            assert low <= middle <= high
        assert found["path"][-1][1] == pytest.approx(found["best"][1], abs=0.01)
        # nodes cost their GPU and core, the head its core
        usd = (1.1 * found["node_hours"][1], 0.1 * found["seconds"][1] / 3600)
        assert found["nodes_usd"][1] == pytest.approx(sum(usd), rel=0.1)
        assert found["trials_usd"][1] == pytest.approx(0.1 * found["slot_hours"][1])
    none, asha = made["schedulers"]["none"], made["schedulers"]["asha"]
    assert asha["nodes_usd"][1] < none["nodes_usd"][1]


def test_without_prices_there_are_hours_and_no_dollars():
    made = plan(rates=Rates())
    assert made["schedulers"]["asha"]["trials_usd"] is None
    text = "\n".join(lines(made))
    assert "no prices are set" in text
    assert "USD" not in text
    assert "USD" not in page(made)


def table(file, trials, metric="average_precision"):
    """``trials``: (values, seconds an epoch, status)."""
    rows = [
        {"trial": i, "epoch": e, "loss": 0.1, metric: v, "seconds": pace * e, "status": status, "x": 0.5}
        for i, (values, pace, status) in enumerate(trials)
        for e, v in enumerate(values, 1)
    ]
    pl.DataFrame(rows).write_parquet(file)
    return file


FULL = [0.1, 0.3, 0.5, 0.6]


def test_a_stopped_trial_goes_on_as_the_nearest_did(tmp_path):
    trials = [
        (FULL, 2.0, "finished"),
        ([0.5, 0.7, 0.75, 0.75], 3.0, "finished"),
        ([0.12, 0.28], 5.0, "stopped early"),
        ([0.2], 1.0, "failed"),
        ([0.45], 7.0, "stopped early"),
    ]
    curves = read(table(tmp_path / "t.parquet", trials), "average_precision", 4, 5)
    assert curves.measured[2].values == pytest.approx([0.12, 0.28, 0.48, 0.58])
    assert curves.measured[2].seconds == pytest.approx([5.0] * 4)
    assert curves.measured[4].values == pytest.approx([0.45, 0.65, 0.7, 0.7])
    assert [c.failed for c in curves.measured] == [False, False, False, True, False]
    assert len(curves.measured[3].values) == 1


def test_patience_and_epochs_end_trials_and_lower_may_be_better(tmp_path):
    file = table(tmp_path / "t.parquet", [([0.5, 0.4, 0.45, 0.42, 0.1], 1.0, "finished")] * 4, "brier")
    curves = read(file, "brier", 5, 2)
    assert curves.measured[0].end == 4  # two after the best
    assert curves.measured[0].values == pytest.approx([-0.5, -0.4, -0.45, -0.42, -0.1])
    assert curves.shown(-0.4) == 0.4
    assert len(read(file, "brier", 3, 5).measured[0].values) == 3


def test_seconds_are_those_that_a_place_was_held(tmp_path):
    file = table(tmp_path / "t.parquet", [(FULL, 2.0, "finished")] * 4)
    frame = pl.read_parquet(file).with_columns(cpu_seconds=20.0, attempts=1)
    frame.write_parquet(file)
    assert read(file, "average_precision", 4, 5, cores=2.0).measured[0].seconds == pytest.approx([2.5] * 4)


def test_the_start_of_a_process_is_not_taken_for_the_pace_of_its_first_trial(tmp_path):
    file = table(tmp_path / "t.parquet", [(FULL, 1.0, "finished")] * 4 + [(FULL[:1], 0.5, "stopped early")])
    held = pl.when(pl.col("trial") == 4).then(4.5).otherwise(4.0)  # four seconds of imports before its one epoch
    pl.read_parquet(file).with_columns(cpu_seconds=held, attempts=1).write_parquet(file)
    assert read(file, "average_precision", 4, 5).measured[4].seconds == pytest.approx([0.5] * 4)


def test_in_order_later_trials_are_like_the_later_measured_ones():
    curves = Curves(tuple(Curve(np.full(1, float(i)), np.ones(1), 1) for i in range(16)), "average_precision", 0.0)
    first = [curves.drawn((n,), 0, True).values[0] for n in range(50)]
    beyond = [curves.drawn((n,), 500, True).values[0] for n in range(50)]
    assert max(first) <= 2
    assert min(beyond) >= 8
    assert min(curves.drawn((n,), 500, False).values[0] for n in range(200)) == 0


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        ([(FULL, 1.0, "finished")] * 3, "seaway tune --trials 8"),
        ([(FULL, 1.0, "stopped early")] * 5, "max_epochs: 9"),
    ],
)
def test_what_cannot_be_planned_from_is_said(tmp_path, trials, said):
    with pytest.raises(SeawayError, match=said):
        read(table(tmp_path / "t.parquet", trials), "average_precision", 9, 5)


def test_a_missing_or_foreign_table_is_said(tmp_path):
    with pytest.raises(SeawayError, match="no finished sweep at"):
        read(tmp_path / "none.parquet", "average_precision", 4, 5)
    with pytest.raises(SeawayError, match="lacks brier"):
        read(table(tmp_path / "t.parquet", [(FULL, 1.0, "finished")] * 4), "brier", 4, 5)


def test_the_verb_shows_a_table_json_and_a_page(tmp_path, capsys):
    file = table(tmp_path / "t.parquet", [(FULL, 2.0, "finished"), ([0.2, 0.3, 0.4, 0.5], 3.0, "finished")] * 3)
    asked = ["plan", "--from", str(file), "--trials", "12", "--gpus", "4", "--spot", "2", "--seeds", "2"]
    asked += ["--home", str(tmp_path), "--set", "workload.sweep.max_epochs=4", "--schedulers", "none", "asha"]
    out = tmp_path / "made" / "plan.html"
    assert main([*asked, "--set", "budget.gpu_hour=2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "12 trials, 4 at a time on 4 nodes, each lost after 2 h" in shown
    assert "asha" in shown and "USD" in shown and str(out) in shown
    written = out.read_text()
    assert written.count("<svg") >= 3
    assert "http" not in written.replace("http://www.w3.org", "")
    assert main([*asked, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["schedulers"]) == {"none", "asha"}


@pytest.mark.parametrize("wrong", [["--trials", "0"], ["--speed", "0"], ["--spot", "-1"], []])
def test_a_plan_that_cannot_be_made_ends_with_2(tmp_path, capsys, wrong):
    assert main(["plan", "--home", str(tmp_path), *wrong]) == 2
    assert (wrong[0] if wrong else "no finished sweep") in capsys.readouterr().err
