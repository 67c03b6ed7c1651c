"""The report's table of slices: worst first, why the others fall back, readable with hundreds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.report import slice_parts
from components.report.records import NotRun, Records
from components.report.step import build
from tests.components.report.conftest import NASTY, slices, write


def records(folder: Path) -> Records:
    return Records(home=folder, run={"outputs": {"evaluate": str(folder)}})


def test_the_worst_slices_come_first_and_those_with_too_few_rows_last(tmp_path: Path) -> None:
    slices(tmp_path, kept=8, left=5)
    found = slice_parts.slices(records(tmp_path))
    gains = [row["gain"] for row in found["kept"]["shown"]]
    assert gains[0] == pytest.approx(-0.02)
    assert gains[:-1] == sorted(gains[:-1])
    assert found["kept"]["shown"][-1]["few"]
    assert found["worse"] == 1
    assert found["why"] == [("its fit failed", 3), ("fewer than minimum_rows", 2)]


def test_hundreds_of_slices_are_folded_and_none_is_lost(tmp_path: Path) -> None:
    slices(tmp_path, kept=180, left=120)
    write(tmp_path / "run.json", {"outputs": {"evaluate": str(tmp_path)}})
    text = build(tmp_path, [], tmp_path / "run.json", tmp_path / "report.html").read_text()
    part = text[text.index('<section id="slices">') :].partition("</section>")[0]
    assert "could not be read" not in part and "<summary>155 more</summary>" in part
    assert "<summary>95 more</summary>" in part
    names = [f"region {i:03d}" for i in range(1, 180)] + [f"small {i:03d}" for i in range(120)]
    assert not [name for name in names if part.count(f"<td>{name}</td>") != 1]
    assert NASTY not in part and "alert(" in part
    assert "180 values have a model of their own, 120 fall back" in part
    assert len(part) < 400_000


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("30 rows, fewer than workload.slices.minimum_rows 500", "fewer than workload.slices.minimum_rows"),
        ("its later rows (12) are not of both classes", "its later rows are not of both classes"),
        ("auc_roc on later rows is 0.71, the global model's 0.8", "not better than the global model on later rows"),
        (
            "auc_roc on later rows is 0.9, the global model's 0.8: too few rows to tell (the gain lies …)",
            "perhaps better",
        ),
        ("", "no reason is recorded"),
    ],
)
def test_reasons_are_counted_by_kind(reason: str, kind: str) -> None:
    assert slice_parts._kind(reason).startswith(kind)


def test_a_workload_without_slices_and_a_record_without_intervals_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotRun, match="The workload has no slices"):
        slice_parts.slices(records(tmp_path))
    with pytest.raises(NotRun, match="no output of the step"):
        slice_parts.slices(Records(home=tmp_path))
    slices(tmp_path, kept=1, left=1)
    record = json.loads((tmp_path / "slices.json").read_text())
    for part in record["slices"]:
        part["learnt"]["difference"] = None
        part["test"] |= {"own": None, "global": None, "positives": 0}
    write(tmp_path / "slices.json", record)
    found = slice_parts.slices(records(tmp_path))
    assert found["kept"]["shown"][0]["gain"] is None
