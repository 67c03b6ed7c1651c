"""Population based training: who goes on from whom follows from seed and values, never from time."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from components.train.loop import Rows, Training
from components.tune.order import deciding, trials
from components.tune.population import Generations, free, moved
from components.tune.searching import searcher
from components.tune.space import distributions, weight_shapes
from components.tune.step import tune
from seaway.artifacts import read_json
from seaway.config import Parameter, Sweep
from seaway.errors import SeawayError
from seaway.hooks import resolve

SPACE = {
    "learning_rate": Parameter(kind="log_float", low=0.001, high=0.1),
    "batch_size": Parameter(kind="choice", values=(32, 64, 128)),
    "width": Parameter(kind="int", low=4, high=16),
}


def sweep_of(**changes):
    pbt = {"scheduler": "pbt", "population": 8, "interval": 3, "max_epochs": 8, "seed": 5}
    return Sweep(**{"space": SPACE, **pbt, **changes})


def shapes(params):
    return params["width"]


def played(sweep, seed, slots=3, fails=()):
    """Trials by index as the searcher suggests them; ``slots`` at a time end in an order of the ``seed``'s."""
    draw, space = np.random.default_rng(seed), distributions(sweep.space)
    rules = deciding(sweep, slots, space, shapes)
    search, made, running = searcher(sweep, space, rules), {}, []
    while len(made) < trials(sweep) or running:
        while len(running) < slots and len(made) < trials(sweep):
            found = search.suggest(str(len(made)))
            if not isinstance(found, dict):
                break
            made[found["index"]] = found
            running.append(found["index"])
        if not running:
            return made, rules, found
        index = running.pop(int(draw.integers(len(running))))
        rate = made[index]["params"]["learning_rate"]
        rules.reported(index, 1, 0.0)
        rules.ended(index, float("-inf") if index in fails else -abs(np.log10(rate) + 2), failed=index in fails)
    return made, rules, None


def test_the_same_generations_whatever_ends_first():
    sweep = sweep_of()
    first, _, _ = played(sweep, 0)
    assert len(first) == trials(sweep) == 24
    assert all(played(sweep, seed, slots)[0] == first for seed, slots in ((1, 3), (2, 1), (3, 8)))
    assert played(sweep_of(seed=6), 0)[0] != first


def test_the_lowest_quarter_goes_on_from_the_best_with_moved_parameters():
    made, rules, _ = played(sweep_of(), 0)
    values = {index: -abs(np.log10(made[index]["params"]["learning_rate"]) + 2) for index in made}
    assert [made[i]["epochs"] for i in (0, 8, 16)] == [[0, 3], [3, 6], [6, 8]]
    for generation in (1, 2):
        before = range(8 * generation - 8, 8 * generation)
        ranked = sorted(before, key=lambda i: -values[i])
        for number in range(8):
            trial, own = made[8 * generation + number], before[number]
            parent = trial["parent"]["index"]
            assert trial["parent"]["params"] == made[parent]["params"]
            if own in ranked[-2:]:
                assert parent in ranked[:2]
                assert trial["params"] != made[parent]["params"]
            else:
                assert (parent, trial["params"]) == (own, made[own]["params"])
            assert trial["params"]["width"] == made[parent]["params"]["width"]  # it would change the weights
    assert rules.stopped == {}


def test_moves_are_of_the_seed():
    def second(seed):
        rules = Generations(sweep_of(seed=seed), distributions(SPACE), frozenset(SPACE))
        for index in range(8):
            rules.began(index, {"learning_rate": 0.01, "batch_size": 64, "width": 8})
            rules.ended(index, float(index))
        return [rules.member(8 + number) for number in range(8)]

    assert second(1) == second(1)
    assert second(1) != second(2)


def test_the_population_comes_to_the_good_values():
    made, _, _ = played(sweep_of(max_epochs=30), 0)
    off = [abs(np.log10(made[i]["params"]["learning_rate"]) + 2) for i in range(len(made))]
    assert np.mean(off[-8:]) < 0.5 * np.mean(off[:8])


def test_members_that_failed_are_replaced_and_a_lost_generation_ends_the_sweep():
    made, _, _ = played(sweep_of(), 0, fails=(0, 1, 2, 3, 4))
    assert {made[8 + m]["parent"]["index"] for m in range(5)} <= {5, 6, 7}
    made, _, end = played(sweep_of(), 0, fails=range(8))
    assert len(made) == 8
    assert end == "FINISHED"


def test_a_parameter_that_changes_weights_anywhere_is_not_free():
    def build(params):
        return (params["layers"], params["second"] if params["layers"] > 1 else 0)

    space = distributions(
        {
            "layers": Parameter(kind="int", low=1, high=3),
            "second": Parameter(kind="int", low=4, high=8),  # with more than one layer
            "rate": Parameter(kind="float", low=0, high=1),
        }
    )
    assert free(space, build, 0) == {"rate"}


def test_moves_stay_inside_and_are_neighbours():
    draw, space = np.random.default_rng(0), distributions(SPACE)
    rates = [moved(space["learning_rate"], 0.09, draw) for _ in range(200)]
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    assert {0.1, 0.09 * 0.8} <= set(rates)  # 0.108 is outside
    widths = [moved(space["width"], 4, draw) for _ in range(200)]
    assert all(isinstance(w, int) and 4 <= w <= 16 for w in widths)
    assert {4, 5} <= set(widths)
    assert {moved(space["batch_size"], 32, draw) for _ in range(200)} == {32, 64, 128}


@pytest.fixture
def rows():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(300, 4)).astype(np.float32)
    return Rows(features, (features[:, 0] > 0.5).astype(np.float32))


def training(toy, rows, epochs, **params):
    config, _ = toy()
    build = resolve(config.workload.model, config.root).build
    return Training(build, {"width": 5, "batch_size": 64, **params}, rows, rows, max_epochs=epochs, device="cpu")


def test_adopting_takes_weights_and_optimizer_but_not_the_parameters(toy, rows, tmp_path):
    parent = training(toy, rows, 2, learning_rate=0.01)
    while not parent.finished:
        parent.epoch()
    parent.save(tmp_path / "parent")
    same, other = training(toy, rows, 4, learning_rate=0.01), training(toy, rows, 4, learning_rate=0.05)
    for child in (same, other):
        child.adopt(tmp_path / "parent")
        assert child.history == parent.history
        assert child.best is None  # the parent's best epoch had other parameters
        assert (child.scores(rows.features) == parent.scores(rows.features)).all()
    unbroken = training(toy, rows, 4, learning_rate=0.01)
    while not unbroken.finished:
        unbroken.epoch()
    same.epoch()
    other.epoch()
    assert same.history[2]["loss"] == unbroken.history[2]["loss"]  # with the optimizer's moments
    assert other.epoch()["loss"] != unbroken.history[3]["loss"]
    same.epoch()
    same.save(tmp_path / "child")
    again = training(toy, rows, 4, learning_rate=0.01)
    assert again.load(tmp_path / "child")
    assert again.best == same.best
    assert again.best["epoch"] > 2


def test_other_weights_and_no_state_are_told(toy, rows, tmp_path):
    parent = training(toy, rows, 1)
    parent.epoch()
    parent.save(tmp_path / "parent")
    with pytest.raises(SeawayError, match="other weights"):
        training(toy, rows, 1, width=6).adopt(tmp_path / "parent")
    with pytest.raises(SeawayError, match="no state"):
        training(toy, rows, 1).adopt(tmp_path / "none")


def test_the_weights_of_a_model(toy):
    config, _ = toy()
    space = distributions(config.workload.sweep.space)
    found = free(space, weight_shapes(resolve(config.workload.model, config.root).build, 4), 0)
    assert found == set(space) - {"width"}
    assert isinstance(deciding(sweep_of(space=config.workload.sweep.space), 2, space), Generations)


@pytest.mark.slow
def test_a_sweep_of_generations_goes_on_where_it_was(toy, toy_dataset, tmp_path):
    sweep = {"space": toy()[0].workload.sweep.model_dump(mode="json")["space"], "warm_start": 0}
    pbt = {"scheduler": "pbt", "population": 4, "interval": 2, "max_epochs": 6}
    config, spec = toy(sweep={**sweep, **pbt})
    whole = tune(config, spec, toy_dataset, tmp_path / "whole")
    table = pl.read_parquet(tmp_path / "whole" / "trials.parquet").sort("trial", "epoch")
    assert whole["trials"] == 12
    assert whole["epochs_trained"] == 24  # a generation begins where its parents ended
    assert table["epoch"].to_list() == [1, 2] * 4 + [3, 4] * 4 + [5, 6] * 4
    assert table.group_by("trial").first()["width"].n_unique() <= 4
    folder = config.home / "sweeps" / whole["key"]
    for file in sorted(folder.glob("[0-9]*.safetensors"))[5:]:
        file.unlink()  # as if the second generation had just begun
    again = tune(config, spec, toy_dataset, tmp_path / "again")
    assert (again["epochs_kept"], again["epochs_trained"]) == (10, 14)
    columns = ["trial", "epoch", "average_precision", "loss", "learning_rate", "width", "status"]
    other = pl.read_parquet(tmp_path / "again" / "trials.parquet").sort("trial", "epoch")
    assert other.select(columns).equals(table.select(columns))
    assert read_json(tmp_path / "again" / "best.json") == read_json(tmp_path / "whole" / "best.json")
