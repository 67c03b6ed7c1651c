from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seaway.cli.main import main, parser

VERBS = ("demo", "run", "tune", "compile", "serve", "predict", "release", "controller", "report", "simulate",
         "features", "evaluate", "cost", "doctor")  # fmt: skip
ACTIONS = ("start", "status", "watch", "promote", "abort", "freeze", "history", "explain", "verify", "label")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "usage: seaway " + verb in capsys.readouterr().out


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_of_a_release_has_help_that_explains(action, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["release", action, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "usage: seaway release " + action in text and len(text.split("configuration:")[0].split()) > 25


def test_actions_on_a_home_without_a_release_say_what_to_do(tmp_path, capsys):
    home = ["--home", str(tmp_path)]
    assert main(["release", "status", *home]) == 0
    assert capsys.readouterr().out == "no release yet\n"
    assert main(["release", "status", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out) == {"release": None, "phase": "no release yet"}
    for action in (["watch"], ["promote"], ["abort", "no"], ["freeze"], ["explain"]):
        assert main(["release", *action, *home]) == 2
        assert "start one with `seaway release start`" in capsys.readouterr().err
    assert main(["release", "history", *home]) == 0
    assert "no release was decided yet" in capsys.readouterr().out
    assert main(["release", "verify", *home]) == 0
    assert "ledger: 0 lines" in capsys.readouterr().out


def test_a_changed_ledger_fails_the_verification(tmp_path, capsys):
    from seaway import ledger

    path = tmp_path / "ledger.jsonl"
    for what in ("promoted", "rolled back"):
        ledger.append(path, {"release": "r", "what": what, "who": "release loop", "why": "it was decided"})
    assert main(["release", "verify", "--home", str(tmp_path)]) == 0
    path.write_text(path.read_text().replace("rolled back", "promoted"))
    capsys.readouterr()
    assert main(["release", "verify", "--home", str(tmp_path)]) == 1
    assert "line 2 was changed" in capsys.readouterr().out
    assert main(["release", "verify", "--json", "--home", str(tmp_path)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"] and "line 2" in told["problem"]
    assert main(["release", "history", "--home", str(tmp_path)]) == 2


def test_a_controller_looks_once_at_every_release(tmp_path, capsys):
    assert main(["controller", "--once", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""


def test_help_names_every_verb():
    text = parser().format_help()
    assert all(f"    {verb}" in text for verb in VERBS)


def test_a_problem_is_one_message_without_a_stack_trace(tmp_path):
    command = [str(Path(sys.executable).parent / "seaway"), "features", "--data", str(tmp_path / "none.parquet")]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "o.parquet")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "none.parquet" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "o.parquet").exists()


def test_an_unknown_protocol_names_the_known(capsys):
    assert main(["evaluate", "--protocol", "mine"]) == 2
    assert "it has: published" in capsys.readouterr().err


def test_doctor_finds_what_the_lock_installs(capsys):
    assert main(["doctor"]) == 0
    assert "kfp" in capsys.readouterr().out


def test_a_defect_is_reported_without_a_stack_trace(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken():
        raise ZeroDivisionError("halves of nothing")

    monkeypatch.setattr("seaway.cli.doctor.survey", broken)
    assert main(["doctor"]) == 3
    said = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: halves of nothing" in said
    assert "Traceback" not in said
    assert "Traceback" in Path(said.split()[-1]).read_text()


def test_a_release_says_which_version_failed_requests():
    from seaway.cli.release import of_traffic

    by = {"v1": {"sent": 6961, "failed": 6961}, "v2": {"sent": 6636, "failed": 0}}
    parity = {"checked": 6636, "feature_differences": 0, "max_score_difference": 0.0}
    first, second = of_traffic({"traffic": {"sent": 13597, "failed": 6961, "by_predictor": by}, "parity": parity})
    assert first == "13,597 requests, 6,961 of them failed (v1 6,961 of 6,961, v2 0 of 6,636)"
    assert second.startswith("parity: 6,636 answers") and "0 features differ" in second
    assert of_traffic({"traffic": {"sent": 9, "failed": 0}}) == ["9 requests, 0 of them failed"]
    assert of_traffic({"traffic": {}, "parity": None}) == []  # on a cluster, which sends nothing from here


def test_the_newest_run_that_passed_is_taken_and_a_newer_failure_is_said(tmp_path):
    from pipelines.run import newest_run
    from seaway.artifacts import write_json
    from seaway.config import load
    from seaway.errors import SeawayError

    config, said = load(overrides={"home": str(tmp_path)}), []
    mine, other = config.workload.name, "another"
    runs = (("1", mine, "passed"), ("2", mine, "failed"), ("3", other, "failed"))
    with pytest.raises(SeawayError, match=f"no finished run of {mine}"):
        newest_run(config)
    for name, workload, status in runs:
        record = {"run": name, "workload": workload, "status": status, "steps": []}
        write_json(tmp_path / "runs" / name / "run.json", record)
        assert newest_run(config, said.append)["run"] == "1"
    assert said == ["the newest run 2 failed; this is about 1, the newest that passed"] * 2


def test_the_demo_ends_with_commands_for_the_same_workload(capsys, tmp_path):
    from argparse import Namespace

    from seaway.cli.demo import _closing
    from seaway.config import load

    args = Namespace(env="local", workload=tmp_path / "my plant.yaml", home=tmp_path)
    _closing(args, load(overrides={"home": str(tmp_path)}), tmp_path / "page.html", 1.0)
    assert f"serve --workload '{tmp_path}/my plant.yaml' --home {tmp_path}" in capsys.readouterr().out
