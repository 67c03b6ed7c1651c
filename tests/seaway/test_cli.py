from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seaway.cli.main import main, parser

VERBS = ("demo", "run", "tune", "compile", "serve", "predict", "release", "report", "simulate", "features", "evaluate",
         "doctor")  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "usage: seaway " + verb in capsys.readouterr().out


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
