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
