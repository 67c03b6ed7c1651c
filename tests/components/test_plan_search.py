"""A plan follows the searcher: into slow models where these are better, the same way for the same seed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.tune.order import deciding
from components.tune.plan import simulate
from components.tune.plan_curves import read
from components.tune.plan_fleet import Fleet
from components.tune.plan_search import Searched, known
from components.tune.plan_space import Drawn, Landscape, Pace, Scores, encoder
from components.tune.planning import planned
from components.tune.searching import searcher
from components.tune.space import distributions
from components.tune.suggesting import Asked, Suggestions
from seaway.config import Parameter, StepResources, Sweep
from seaway.spend import Rates

SPACE = {
    "rate": Parameter(kind="log_float", low=1e-5, high=1.0),
    "width": Parameter(kind="choice", values=(16, 32, 64, 128)),
    "kind": Parameter(kind="choice", values=("a", "b")),
    "fixed": Parameter(kind="choice", values=(1,)),
}
EPOCHS = 9


def sweep(**changes):
    asked = {"space": SPACE, "trials": 40, "max_epochs": EPOCHS, "grace_epochs": 1, "seed": 5, "warm_start": 0}
    return Sweep(**{**asked, **changes})


def seconds(params):
    """Of an epoch: 0.5 at width 16, 4 at width 128."""
    return params["width"] / 32


def quality(params, wide):
    """Best at a rate of 0.003 and, if ``wide``, for wide models; else for narrow ones."""
    width = (np.log2(params["width"]) - 4) / 3
    return float(np.exp(-((np.log10(params["rate"]) + 2.5) ** 2)) * (0.4 + 0.4 * (width if wide else 1 - width)))


def measured(folder: Path, wide: bool, trials=30, seed=0, imports=0.0) -> Path:
    """trials.parquet of random points, each trained to its end; the first two wait for ``imports`` seconds."""
    draw, space, rows = np.random.default_rng(seed), distributions(SPACE), []
    asked = Suggestions(sweep(searcher="random", seed=seed), space)
    for trial in range(trials):
        params = asked.ask()
        top, at = quality(params, wide), 0.0
        for epoch in range(1, EPOCHS + 1):
            at += seconds(params) * float(np.exp(0.1 * draw.standard_normal())) + imports * (trial < 2 and epoch == 1)
            value = top * (1 - 0.5**epoch) + 0.003 * draw.standard_normal()
            rows.append({"trial": trial, "epoch": epoch, "loss": 0.1, "average_precision": value, "seconds": at,
                         "status": "finished", **params})  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "trials.parquet")
    return folder / "trials.parquet"


def curves_of(file):
    return read(file, "average_precision", EPOCHS, 5, space=SPACE)


def plan(file, scheduler="asha", seeds=6, **more):
    curves, asked = curves_of(file), sweep(scheduler=scheduler)
    made = planned(asked, curves, Fleet(2, 2), (scheduler,), rates=Rates(), node=StepResources(), seeds=seeds, **more)
    return made["schedulers"][scheduler]


def truth(wide, seed=5, scheduler="asha"):
    """Epochs and seconds of trials of the sweep itself, played with the true functions."""
    asked, slots = sweep(scheduler=scheduler, seed=seed), 2
    rules = deciding(asked, slots, {})
    points = Asked(Suggestions(asked, distributions(SPACE)), rules)
    used = epochs = 0
    for index in range(asked.trials):  # one after another: all that a trial may know is known
        assert rules.may_begin(index)
        params, best = points.next(index), float("-inf")
        for epoch in range(1, EPOCHS + 1):
            used, epochs = used + seconds(params), epochs + 1
            best = max(best, quality(params, wide) * (1 - 0.5**epoch))
            if epoch < EPOCHS and rules.reported(index, epoch, best):
                break
        else:
            rules.ended(index, best)
    return used, epochs


def test_a_plan_follows_the_searcher_to_slow_models_where_these_are_better(tmp_path):
    slow, fast = tmp_path / "slow", tmp_path / "fast"
    for folder, wide in ((slow, True), (fast, False)):
        folder.mkdir()
        said = plan(measured(folder, wide), scheduler="none")
        used, _ = truth(wide, scheduler="none")
        low, middle, high = (3600 * hours for hours in said["slot_hours"])
        assert low < used < high
        assert middle == pytest.approx(used, rel=0.2)
    # both were measured at the same points, so what differs is where the searcher goes
    assert (
        plan(slow / "trials.parquet", "none")["slot_hours"][1]
        > 1.4 * plan(fast / "trials.parquet", "none")["slot_hours"][1]
    )


def test_with_halving_too(tmp_path):
    said = plan(measured(tmp_path, wide=True))
    used, epochs = truth(wide=True)
    assert said["epochs"][1] == pytest.approx(epochs, rel=0.25)
    assert 3600 * said["slot_hours"][1] == pytest.approx(used, rel=0.25)


def test_the_seed_says_all(tmp_path):
    file = measured(tmp_path, wide=True)
    assert plan(file, seed=1) == plan(file, seed=1)
    assert plan(file, seed=1) != plan(file, seed=2)


def test_the_points_are_those_of_a_real_sweep_whose_trials_come_out_the_same(tmp_path):
    asked, space = sweep(trials=25), distributions(SPACE)
    told = known(curves_of(measured(tmp_path, wide=True)), asked)
    points, curves = [], []

    def source(rules):
        encode = told.encode
        object.__setattr__(told, "encode", lambda point: (points.append(dict(point)), encode(point))[1])
        made = Searched(told, asked, rules, 1, (0,))
        return lambda index: (curves.append(made.curve(index)), curves[-1])[1]

    simulate(asked, told.curves, Fleet(1), (0,), source)
    rules = deciding(asked, 1, space)
    real = searcher(asked, space, rules)
    for index, curve in enumerate(curves):
        assert real.suggest(str(index)) == {"index": index, "params": points[index]}
        for epoch in range(1, curve.end + 1):
            best = float(curve.values[:epoch].max())
            if epoch < curve.end and rules.reported(index, epoch, best):
                break
        else:
            rules.ended(index, best)
    assert len(points) == asked.trials


def test_warm_points_come_first(tmp_path):
    file = measured(tmp_path, wide=True)
    asked = sweep(warm_start=2)
    told = known(curves_of(file), asked)
    best = sorted(curves_of(file).measured, key=lambda c: -c.values.max())[:2]
    values = [told.curves.measured[told.curves.points.index(p)].values.max() for p in told.begins]
    assert values == [c.values.max() for c in best]
    assert Asked(Suggestions(asked, told.space, told.begins), deciding(asked, 2, {})).next(0) == dict(told.begins[0])


def test_what_is_not_asked_is_like_what_was_found_later(tmp_path):
    asked = sweep(trials=400)
    told = known(curves_of(measured(tmp_path, wide=True)), asked)
    made = {}

    def source(rules):
        made["searched"] = Searched(told, asked, rules, 2, (0,))
        return made["searched"].curve

    started = time.process_time()
    tally = simulate(asked, told.curves, Fleet(2), (0,), source)
    assert time.process_time() - started < 5
    found = made["searched"].found
    assert len(found) == 2 + 60
    later = np.mean([f.pace for f in found[31:]])
    assert tally.slot_seconds / tally.epochs == pytest.approx(later, rel=0.25)


@pytest.mark.parametrize("space", [{}, {"other": SPACE["rate"]}])
def test_without_the_parameters_trials_are_drawn_as_measured(tmp_path, space):
    file = measured(tmp_path, wide=True)
    curves = read(file, "average_precision", EPOCHS, 5, space=space)
    assert known(curves, sweep(space=space)) is None
    few = read(measured(tmp_path, wide=True, trials=6), "average_precision", EPOCHS, 5, space=SPACE)
    assert known(few, sweep()) is None


def test_imports_are_counted_once_a_place_and_are_no_pace(tmp_path):
    plain, held = tmp_path / "plain", tmp_path / "held"
    plain.mkdir(), held.mkdir()
    without, curves = curves_of(measured(plain, wide=True)), curves_of(measured(held, wide=True, imports=60.0))
    assert without.process == 0
    assert curves.process == pytest.approx(60, rel=0.1)
    assert curves.rate == pytest.approx(1, abs=0.1)
    assert max(c.seconds.max() for c in curves.measured) < 10
    asked, fleet = sweep(trials=6, scheduler="none", searcher="random"), Fleet(2, 2)
    cold = simulate(asked, without, Fleet(2, 2, process=60.0), (0,))
    warm = simulate(asked, without, fleet, (0,))
    assert cold.slot_seconds == pytest.approx(warm.slot_seconds + 120)
    assert curves.around(1000.0, 2, 0.0) == pytest.approx(without.around(1000.0, 2, 0.0) - 60, abs=30)


def test_pace_is_that_of_the_parameters_and_no_straggler_moves_it():
    draw = np.random.default_rng(0)
    points = draw.uniform(size=(40, 3))
    taken = np.exp(points @ [1.0, -0.5, 0.0] - 1 + 0.05 * draw.standard_normal(40))
    taken[3] *= 20
    pace = Pace(points, taken, np.full(40, 3.0))
    assert pace.of(np.array([1.0, 0.0, 0.5])) == pytest.approx(1.0, rel=0.1)
    assert pace.of(np.array([0.0, 1.0, 0.5])) == pytest.approx(np.exp(-1.5), rel=0.1)
    assert pace.noise < 0.1


def test_a_landscape_passes_near_what_was_measured_and_keeps_to_what_it_said():
    draw = np.random.default_rng(1)
    points = draw.uniform(size=(40, 2))
    top = np.sin(3 * points[:, 0]) + 0.2 * points[:, 1]
    values = top[:, None] * np.linspace(0.5, 1, 4) + 0.01 * draw.standard_normal((40, 4))
    landscape = Landscape(points, values)
    drawn = Drawn(landscape, np.random.default_rng(2), 10)
    for i in (0, 7, 30):
        assert drawn.values(points[i]) == pytest.approx(values[i], abs=0.12)
    far = np.array([3.0, 3.0])  # nothing is known there, and once it has been said it is
    said = drawn.values(far)
    assert np.abs(drawn.values(far) - said).max() < 0.4
    others = [Drawn(landscape, np.random.default_rng(n), 1).values(far)[-1] for n in range(20)]
    assert np.std(others) > 0.2
    assert max(others) <= values.max() + 1e-6


def test_scores_keep_the_order_and_go_back():
    values = np.array([[-3.0, 0.2], [0.7, 0.71], [0.5, 0.5]])
    scores = Scores(values)
    assert scores.back(scores.of(values)) == pytest.approx(values)
    assert (np.diff(scores.back(np.linspace(-5, 5, 50))) > 0).all()


def test_every_kind_of_parameter_has_its_range():
    encode = encoder({**SPACE, "deep": Parameter(kind="int", low=1, high=5)})
    point = {"rate": 1e-5, "width": 128, "kind": "b", "fixed": 1, "deep": 3}
    assert encode(point) == pytest.approx([0.0, 1.0, 0.0, 0.7, 0.5])
