"""The report is built from the steps' records, whole or in part."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest

from components.report.dag import NEEDS, needs
from components.report.evidence_parts import drift
from components.report.step import PARTS, build
from components.report.svg import Plot, Times, ticks


def test_every_part_is_there_and_none_says_that_it_was_not_run(page: Path) -> None:
    text = page.read_text()
    for part in PARTS:
        assert f'<section id="{part.id}">' in text, part.id
    assert "Not run" not in text and "could not be read" not in text
    plain = html.unescape(text)
    for words in (
        "Version 2 was promoted after 70 s",
        "Version 3 was rolled back",
        "1,754,155",
        "promote at 20",
        "roll back at 140",
        "alarm at 1000",
        "Loss, as labels arrive",
        "labelled pairs",
        "then since provisional",
        "95 % by chance",
        "✕ skewed",
        "✓ equal",
        "too few",
        "4f1c4f1c",
        "mlflow ui",
        "1,200",
        "harm proven",
        "average precision",
    ):
        assert words in plain, words
    assert text.count("<svg") >= 3 + 2 + 1 + 2 * 5 + 4
    assert len(text) < 3_000_000


def test_nothing_is_fetched_from_anywhere(page: Path) -> None:
    text = page.read_text()
    assert "default-src 'none'" in text
    markup = re.sub(r'data-tip="[^"]*"', "", text)
    assert not re.search(r"""\b(src|href|srcset|action)\s*=\s*["']?[^#"']""", markup)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp", text)


def test_values_are_escaped_wherever_they_appear(page: Path) -> None:
    text = page.read_text()
    assert "alert(" in text  # the planted values did arrive
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


def test_an_empty_workspace_gives_notes(tmp_path: Path) -> None:
    out = build(tmp_path, [tmp_path / "nowhere"], tmp_path / "run.json", tmp_path / "report.html")
    text = out.read_text()
    assert text.count("Not run.") >= len(PARTS) - 1
    assert "could not be read" not in text


@pytest.mark.parametrize(
    ("file", "content", "broken"),
    [
        ("cache/evaluate/key/metrics.json", "{not json", ["metrics"]),
        ("cache/evaluate/key/segments.json", '{"rows": 3}', ["segments"]),
        ("cache/evaluate/key/curves.json", '{"candidate": {"roc": 3}}', ["curves"]),
        ("cache/tune/key/trials.parquet", "not parquet", ["sweep"]),
        ("releases/good/record.json", '{"evidence": [{"guardrail": "errors"}]}', ["canary", "traffic", "parity"]),
    ],
)
def test_a_broken_record_costs_its_own_part_only(
    workspace: Path, tmp_path: Path, file: str, content: str, broken: list[str]
) -> None:
    home = tmp_path / "home"
    shutil.copytree(workspace, home)
    run = home / "runs" / "r1" / "run.json"
    run.write_text(run.read_text().replace(str(workspace), str(home)))
    (home / file).write_text(content)
    text = build(home, [home / "releases" / "good"], run, home / "r.html").read_text()
    assert re.findall(r'<section id="(\w+)" class="absent">', text) == broken


def test_the_graph_knows_what_waits_for_what() -> None:
    steps = [{"name": n} for n in ("ingest", *NEEDS)]
    assert needs(steps) == {"ingest": [], **{n: list(before) for n, before in NEEDS.items()}}
    assert needs([{"name": "a"}, {"name": "b", "needs": ["a", "unknown"]}, {"name": "c"}]) == {
        "a": [],
        "b": ["a"],
        "c": ["b"],
    }


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(0.31 <= t <= 0.77 for t in ticks(0.31, 0.77))
    assert ticks(2, 2) == [2]


def test_a_plot_holds_values_outside_its_range_at_the_edge() -> None:
    plot = Plot("p", (0, 1), (0, 10))
    assert plot.sy(1e9) == plot.sy(10) == plot.top
    assert plot.sx(-5) == plot.left


def test_distances_of_scores_stand_beside_what_chance_gives(workspace: Path, tmp_path: Path) -> None:
    sound, harmed = (
        drift(
            {"folder": workspace / "releases" / name, "champion": {"version": "1"}, "candidate": {"version": version}}
        )
        for name, version in (("good", "2"), ("harmed", "3"))
    )
    assert [(row["n"], row["m"]) for row in sound + harmed] == [(900, 300)] * 4
    assert all(row["value"] < row["null"] for row in sound)  # of one distribution
    assert all(row["value"] > 2 * row["null"] for row in harmed)  # shifted
    assert drift({"folder": tmp_path}) == []
    assert drift({"folder": workspace / "releases" / "good", "candidate": {"version": "2"}}) == []


def test_an_axis_of_two_stages_gives_each_its_half_and_its_unit() -> None:
    axis = Times(0.0, 70.0 + 48 * 3600, 70.0)
    assert [axis(t) for t in (0.0, 35.0, 70.0, 70.0 + 24 * 3600, 1e9)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    said = [axis.said(place) for place in axis.ticks]
    assert said[0] == "0 s" and said[-1].endswith(" h") and said[-1].startswith("+")
    assert (axis.moment(0.5), axis.moment(1.5)) == ("35 s", "24 h after")
    plain = Times(0.0, 600.0)
    assert plain.label == "minutes" and plain.said(plain(240.0)) == "4"
