"""A real sweep at its budget: it ends before it costs more, keeps the best, and goes on when there is more to spend."""

from __future__ import annotations

import polars as pl
import pytest

from components.base import ingredients
from components.steps import STEPS, within_budget
from components.tune.step import tune
from seaway.artifacts import read_json, write_json
from seaway.cache import StepCache
from seaway.config import Budget
from seaway.spend import Rates, spent, worth

DOLLAR_A_SECOND = 3600.0
LIMIT = 12.0
EPOCHS = 40


def config_of(toy, limit):
    config, spec = toy()
    sweep = config.workload.sweep.model_copy(
        update={"max_epochs": EPOCHS, "grace_epochs": EPOCHS, "patience": EPOCHS, "trials": 6}
    )
    workload = config.workload.model_copy(update={"sweep": sweep})
    budget = Budget(cpu_hour=DOLLAR_A_SECOND, limit=limit)
    return config.model_copy(update={"workload": workload, "budget": budget}), spec


def trials_of(out):
    """Records as of components.tune.records, from the table."""
    table = pl.read_parquet(out / "trials.parquet")
    each = table.group_by("trial", maintain_order=True).agg(pl.all().last())
    return table, each.to_dicts()


def test_a_sweep_ends_at_its_limit_and_keeps_the_best(toy, toy_dataset, tmp_path):
    config, spec = config_of(toy, LIMIT)
    summary = tune(config, spec, toy_dataset, tmp_path)
    table, each = trials_of(tmp_path)
    assert summary["ended"].startswith(f"budget.limit is {worth(LIMIT)}: ")
    assert "ended" in {trial["status"] for trial in each} and not {"failed"} & {trial["status"] for trial in each}
    best = read_json(tmp_path / "best.json")
    assert best["ended"] == summary["ended"]
    assert best["value"] >= table["average_precision"].max()  # an epoch may be kept that nobody was told of any more
    usd = spent([trial | {"epochs": []} for trial in each], config.workload.sweep.resources, Rates(DOLLAR_A_SECOND))
    assert usd == pytest.approx(summary["cpu_seconds"], abs=0.1)
    assert 1 <= summary["epochs_trained"] < 6 * EPOCHS
    # no more than the running trials had begun: their set-up, where the machine is slow, and an epoch each
    longest = max(trial["cpu_seconds"] - (trial["seconds"] or 0.0) for trial in each)
    assert usd < LIMIT + 2 * (longest + 1.0)
    assert len(list((config.home / "sweeps").glob("*/[0-9]*.safetensors"))) >= len(each) - 2, "their states are kept"


def test_the_steps_stored_result_is_not_taken_for_another_limit(toy, toy_dataset, tmp_path):
    config, _ = config_of(toy, LIMIT)
    cache, step = StepCache(tmp_path / "cache"), STEPS["tune"]
    what = ingredients("tune", step, config, {})
    work = cache.begin(what)
    write_json(work / "outputs" / "out" / "best.json", {"ended": f"budget.limit is {worth(LIMIT)}: 9.90 USD are spent"})
    stored = cache.store(what, work, ["out"], {}, 1.0)
    more, _ = config_of(toy, 2 * LIMIT)
    assert ingredients("tune", step, more, {}) == what, "the limit is no part of what decides the result"
    assert within_budget(config, stored.outputs) == "" and "another now" in within_budget(more, stored.outputs)


@pytest.mark.slow
def test_with_more_to_spend_it_goes_on_as_if_it_had_not_ended(toy, toy_dataset, tmp_path):
    config, spec = config_of(toy, LIMIT)
    first = tune(config, spec, toy_dataset, tmp_path / "first")
    unlimited, _ = config_of(toy, None)
    unlimited = unlimited.model_copy(update={"home": config.home})
    then = tune(unlimited, spec, toy_dataset, tmp_path / "then")
    assert first["ended"] and not then["ended"]
    assert then["epochs_kept"] >= first["epochs_trained"] and then["trials"] == 6
    whole_config, _ = config_of(toy, None)
    whole = tune(whole_config.model_copy(update={"home": tmp_path / "home"}), spec, toy_dataset, tmp_path / "whole")
    tables = [trials_of(tmp_path / name)[0].drop("seconds", "cpu_seconds", "attempts") for name in ("then", "whole")]
    assert tables[0].equals(tables[1]) and whole["value"] == then["value"]
