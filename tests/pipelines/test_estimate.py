"""What a run will cost, from what earlier ones did; and what one has cost."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipelines.costs import cost_of, foretold, history, known_by
from pipelines.estimate import estimate, unchanged, wires
from pipelines.record import Record
from pipelines.run import run_pipeline
from pipelines.training import training_pipeline
from seaway.artifacts import read_json, write_json
from seaway.config import load
from seaway.spend import Use

PRICED = {"cpu_hour": 3.6, "gpu_hour": 36.0}  # a tenth of a cent, and a cent, a second
SUMMARY = {"epochs_trained": 80, "epochs_kept": 0, "trials": 8, "cpu_seconds": 160.0, "gpu_seconds": 0.0, "slots": 2}


def config(tmp_path, **more):
    return load(overrides={"home": str(tmp_path), "budget": PRICED, **more})


def step(name, seconds, key="k", **more):
    return {
        "name": name,
        "status": "done",
        "seconds": seconds,
        "work_seconds": seconds,
        "key": key,
        "summary": {},
        **more,
    }


def kept(found, run, *steps, file="run.json", **more):
    record = {"run": run, "workload": found.workload.name, **known_by(found), "steps": list(steps), **more}
    write_json(found.home / "runs" / run / file, record)


def test_a_step_costs_its_own_resources_as_long_as_it_took(tmp_path):
    found = config(tmp_path, pipeline={"resources": {"train": {"cpu": "2", "gpu": 1}}})
    cost = cost_of(step("train", 100.0), found)
    assert cost == {
        "cpu_seconds": 200.0,
        "gpu_seconds": 100.0,
        "usd": pytest.approx(1.2),
        "work_usd": pytest.approx(1.2),
    }
    assert cost_of(step("other", 10.0), found)["usd"] == pytest.approx(0.01)  # one core


def test_a_skipped_step_costs_nothing_but_its_result_was_worked_for(tmp_path):
    cost = cost_of(step("train", 0.1, work_seconds=50.0) | {"status": "skipped"}, config(tmp_path))
    assert cost["usd"] == 0 and cost["work_usd"] == pytest.approx(2 * 0.05)


def test_trials_inside_the_step_count_where_they_held_more_than_it(tmp_path):
    found = config(tmp_path, pipeline={"resources": {"tune": {"cpu": "2"}}})
    assert cost_of(step("tune", 100.0, summary=SUMMARY), found)["cpu_seconds"] == 200.0
    more = SUMMARY | {"cpu_seconds": 500.0}
    assert cost_of(step("tune", 100.0, summary=more), found)["cpu_seconds"] == 500.0


def test_trials_elsewhere_come_on_top_of_the_step_that_waits_for_them(tmp_path):
    ray = {"substrate": "address", "address": "auto"}
    cost = cost_of(step("tune", 100.0, summary=SUMMARY), config(tmp_path, ray=ray))
    assert cost["cpu_seconds"] == 200.0 + 160.0 and cost["usd"] == pytest.approx(0.36)
    # the nodes of a RayJob are held all the time: 1 core of the head, 2 x 2 of the workers
    cost = cost_of(step("tune", 100.0, summary=SUMMARY), config(tmp_path, ray={"substrate": "kuberay", "workers": 2}))
    assert cost["usd"] == pytest.approx(0.2 + 0.5)


def test_a_forecast_is_the_middle_of_the_newest_runs_of_the_same_data(tmp_path):
    found = config(tmp_path)
    for n, seconds in enumerate((900.0, 10.0, 30.0, 20.0)):
        kept(found, f"2026010{n}", step("train", seconds, key=f"k{n}"))
    kept(found, "20260108", step("train", 20.0, key="k3") | {"status": "skipped"})  # the same work, seen again
    kept(found, "20260109", step("train", 500.0, key="x"), data={"transactions": "10x"})
    ahead = foretold("train", found, history(found))
    assert (ahead.seconds, ahead.use) == (20.0, Use(40.0, 0.0)) and ahead.usd == pytest.approx(0.04)
    assert foretold("evaluate", found, history(found)).seconds is None


def test_a_sweeps_forecast_follows_its_trials_and_epochs(tmp_path):
    found = config(tmp_path, workload={"sweep": {"trials": 8, "max_epochs": 20}})
    kept(found, "20260101-tune", step("tune", 100.0, summary=SUMMARY), file="sweep.json")
    assert foretold("tune", found, history(found)).seconds == pytest.approx(100.0)
    twice = config(tmp_path, workload={"sweep": {"trials": 16, "max_epochs": 20}})
    ahead = foretold("tune", twice, history(twice))
    assert ahead.seconds == pytest.approx(200.0) and "160 epochs of at the most 320" in ahead.why
    assert ahead.most_usd == pytest.approx(2 * ahead.usd)
    whole = config(tmp_path, workload={"sweep": {"trials": 8, "max_epochs": 20, "scheduler": "none"}})
    assert foretold("tune", whole, history(whole)).seconds == pytest.approx(200.0)  # nothing is stopped early


def test_a_sweep_that_only_went_on_foretells_the_time_of_all_its_epochs(tmp_path):
    found = config(tmp_path, workload={"sweep": {"trials": 8, "max_epochs": 20}})
    went_on = SUMMARY | {"epochs_trained": 5, "epochs_kept": 75}
    kept(found, "20260101", step("tune", 12.0, summary=went_on))
    assert foretold("tune", found, history(found)).seconds == pytest.approx(80.0)  # 160 core-seconds in two slots


def test_a_sweep_that_was_ended_says_nothing_of_how_many_epochs_there_will_be(tmp_path):
    found = config(tmp_path, workload={"sweep": {"trials": 8, "max_epochs": 20}})
    ended = SUMMARY | {"epochs_trained": 40, "cpu_seconds": 80.0, "ended": "budget.limit is 1.00 USD: …"}
    kept(found, "20260101", step("tune", 50.0, summary=ended))
    assert foretold("tune", found, history(found)).seconds == pytest.approx(200.0)  # all 160 epochs


def test_records_of_other_versions_are_no_earlier_runs(tmp_path):
    found = config(tmp_path)
    kept(found, "20260101", step("tune", 50.0, summary=SUMMARY), sweep={"trials": 8})
    kept(found, "20260102", step("tune", 50.0, key="l", summary={"trials": 8}))
    kept(found, "20260103", step("tune", 50.0, key="m", summary=None), steps_of="another version")
    (tmp_path / "runs" / "20260104").mkdir()
    (tmp_path / "runs" / "20260104" / "run.json").write_text("{")
    assert foretold("tune", found, history(found)).seconds is None


def test_a_population_has_as_many_epochs_as_members_times_epochs(tmp_path):
    sweep = {"scheduler": "pbt", "population": 4, "max_epochs": 20, "trials": 8}
    found = config(tmp_path, workload={"sweep": sweep})
    kept(found, "20260101", step("tune", 100.0, summary=SUMMARY | {"trials": 20}))
    assert foretold("tune", found, history(found)).seconds == pytest.approx(100.0)


def test_a_limit_is_the_most_that_a_sweep_may_cost(tmp_path):
    found = config(tmp_path, budget=PRICED | {"limit": 0.05})
    kept(found, "20260101", step("tune", 100.0, summary=SUMMARY))
    ahead = foretold("tune", found, history(found))
    assert ahead.usd == ahead.most_usd == 0.05


def test_the_wires_of_the_pipeline_are_read_from_it():
    found = wires(training_pipeline(load().pipeline))
    assert found["train"] == {"dataset": ("dataset", "out"), "best": ("tune", "out")}
    order = list(found)
    assert all(order.index(p) < order.index(name) for name, inputs in found.items() for p, _ in inputs.values())


def test_steps_up_to_the_sweep_are_estimated_for_a_sweep(tmp_path):
    found = config(tmp_path)
    kept(found, "20260101", *(step(n, 10.0) for n in ("ingest", "validate", "features", "dataset")))
    ahead = estimate(found, training_pipeline(found.pipeline), until="tune")
    assert {f.step for f in ahead.forecasts} == {"ingest", "validate", "features", "dataset", "tune"}
    assert ahead.unknown == ["tune"] and ahead.seconds == 40.0
    assert "no earlier run of tune" in ahead.question(found.budget)


def test_somebody_must_agree_above_the_amount_and_to_the_unknown(tmp_path):
    found = config(tmp_path)
    assert not estimate(config(tmp_path, budget={}), small_pipeline()).question(found.budget)  # free
    kept(found, "20260101", step("ingest", 1000.0))
    ahead = estimate(found, small_pipeline())
    assert ahead.usd == pytest.approx(1.0) and ahead.question(found.budget) == ""
    dear = found.budget.model_copy(update={"ask_above": 0.99})
    assert ahead.question(dear) == "the estimate of 1.00 USD is above budget.ask_above (0.99 USD)"


def small_pipeline():
    """A pipeline of one step."""
    inputs = SimpleNamespace(artifacts={})
    dag = SimpleNamespace(tasks={"ingest": SimpleNamespace(inputs=inputs)})
    return SimpleNamespace(pipeline_spec=SimpleNamespace(root=SimpleNamespace(dag=dag)))


def test_a_real_run_foretells_the_next_one_and_what_is_unchanged(small, tmp_path):
    file = small.write_workload(tmp_path)
    overrides = {"home": str(tmp_path / "home"), "budget": PRICED}
    found = load(workload=file, overrides=overrides)
    before = estimate(found, small.pipeline)
    assert before.unknown == ["ingest", "validate", "features"] and before.question(found.budget)
    record = run_pipeline(small.pipeline, found, on_event=lambda event: None, more={"estimate": before.as_record()})
    assert record["usd"] == pytest.approx(sum(s["seconds"] for s in record["steps"]) * 0.001, rel=0.2)
    assert read_json(found.home / "runs" / record["run"] / "run.json")["estimate"]["unknown"] == before.unknown
    after = estimate(found, small.pipeline)
    assert after.unchanged == ("ingest", "validate", "features") and after.forecasts == () and after.usd == 0
    assert unchanged(found, wires(small.pipeline)) == after.unchanged

    (tmp_path / "spec.py").write_text(small.SPEC + "\n# changed\n")
    changed = estimate(found, small.pipeline)
    assert [f.step for f in changed.forecasts] == ["features"] and changed.unknown == []
    assert changed.seconds == pytest.approx(
        next(s["work_seconds"] for s in record["steps"] if s["name"] == "features"), abs=0.01
    )
    assert [f.step for f in estimate(found, small.pipeline, until="validate", fresh=True).forecasts] == ["validate"]


def test_a_record_that_goes_on_adds_up_what_its_steps_cost(tmp_path):
    found = config(tmp_path)
    record = Record("r", tmp_path / "run.json", found)
    record.take({"event": "end", "step": "ingest", **step("ingest", 100.0)})
    assert record.end("failed")["usd"] == pytest.approx(0.1)
    again = Record.of(tmp_path / "run.json", found)
    again.take({"event": "end", "step": "validate", **step("validate", 50.0)})
    assert again.end("passed")["usd"] == pytest.approx(0.15)
    assert read_json(tmp_path / "run.json")["rates"]["source"] == "budget.cpu_hour and budget.gpu_hour"
