"""A sweep ends when its metric is reached or its time is up, earlier runs counted."""

from __future__ import annotations

from components.tune.stopping import After, Reached, stopping
from seaway.artifacts import read_json
from seaway.config import Parameter, Sweep


def record(status, *values, metric="average_precision"):
    return {"status": status, "epochs": [{metric: value} for value in values]}


def test_the_metric_is_reached():
    wanted = Reached("average_precision", 0.7)
    assert wanted.must_end([record("running", 0.2, 0.69), record("failed", 0.9)]) == ""
    assert "0.71" in wanted.must_end([record("running", 0.2, 0.71, 0.3)])
    low = Reached("brier", 0.2)
    assert low.must_end([record("running", 0.3, metric="brier")]) == ""
    assert "0.19" in low.must_end([record("finished", 0.3, 0.19, metric="brier")])


def test_breaks_do_not_count(tmp_path):
    now = [100.0]

    def rule():
        return After(60, "1m", tmp_path, clock=lambda: now[0])

    first = rule()
    now[0] += 40
    assert first.must_end([]) == ""
    now[0] += 1000  # killed, and begun again later
    second = rule()
    now[0] += 19
    assert second.must_end([]) == ""
    now[0] += 2
    assert "1m" in second.must_end([])
    assert 60 <= read_json(tmp_path / "elapsed.json")["seconds"] < 65
    assert "1m" in rule().must_end([])  # whoever asks again gets no more time


def test_only_what_is_asked_for(tmp_path):
    def made(**stop):
        return stopping(Sweep(space={"x": Parameter(kind="float", low=0, high=1)}, stop=stop), tmp_path)

    assert made() == ()
    assert [type(e) for e in made(value=0.5, after="2h")] == [Reached, After]
    assert made(after="2h")[0]._limit == 7200
