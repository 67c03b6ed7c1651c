"""Telling what it will cost, and asking: at a real terminal, and where there is none."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from seaway.cli import agree
from seaway.cli.main import main
from seaway.config import Budget, load, project_root
from seaway.errors import SeawayError
from seaway.spend import Estimate, Forecast, Rates, Use

RATES = Rates(3.6, source="budget.cpu_hour")
SWEEP = Forecast("tune", 7000.0, Use(7000.0), 7.0, 12.0, "80 epochs")
DEAR = Estimate((SWEEP, Forecast("train", 50.0, Use(50.0), 0.05, 0.05, "as r")), RATES, ("ingest",))
ASK = """
import sys
from seaway.cli import agree
from seaway.config import Budget, load
try:
    agree._ask("the estimate of 7.05 USD is above budget.ask_above (5.00 USD)", "7.05", load())
    print("AGREED")
except Exception as error:
    print(f"REFUSED {error}")
except KeyboardInterrupt:
    print("STOPPED")
"""


def config(**budget):
    return load(overrides={"budget": budget})


def test_an_estimate_is_told_with_what_costs_most_of_it():
    lines = agree.told(DEAR, config(limit=9.0))
    assert lines[0] == (
        "estimate: about 2.0 h, 2 core-hours, 7.05 USD (at the most 12.05 USD, if no trial is stopped early); "
        "1 step unchanged"
    )
    assert lines[1].split() == ["tune", "1.9", "h", "7.00", "USD", "80", "epochs"] and len(lines) == 3
    assert lines[2] == "  prices: budget.cpu_hour; budget.limit ends the sweep at 9.00 USD"


def test_without_prices_it_is_time_alone_and_without_earlier_runs_it_says_so():
    free = Estimate((Forecast("tune", 60.0, Use(120.0)), Forecast("train", None)), Rates())
    assert agree.told(free, config()) == [
        "estimate: about 60 s, 0.033 core-hours; without train, of which there is no earlier run"
    ]
    none = Estimate((Forecast("tune", None),), Rates())
    assert agree.told(none, config()) == ["estimate: there is no earlier run of this workload and data to go by"]
    assert agree.told(Estimate((), Rates(), ("tune",)), config()) == [
        "estimate: all steps are unchanged, so nothing will run"
    ]


def test_what_must_be_agreed_to():
    assert "7.05 USD is above budget.ask_above (5.00 USD)" in DEAR.question(Budget())
    assert DEAR.question(Budget(ask_above=7.05)) == ""
    unknown = Estimate((Forecast("tune", None),), RATES)
    assert "no earlier run of tune" in unknown.question(Budget())
    assert Estimate((Forecast("tune", None),), Rates()).question(Budget(ask_above=0)) == ""  # everything is free


def test_without_a_terminal_it_is_refused_with_how_to_go_on(monkeypatch):
    with pytest.raises(SeawayError) as refused:
        agree._ask("it is dear", "7.05", config())
    for word in ("nothing was run", "--yes", "budget.ask_above=7.05", "config/local.yaml", "budget.limit"):
        assert word in str(refused.value)


def take_terminal():
    """Make standard input this process's terminal, so that Ctrl-C is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background ignores it


@pytest.mark.parametrize("keys", [b"y\n", b"yes\n", b"\n", b"n\n", b"\x04", b"\x03"])
def test_at_a_terminal_it_asks(keys):
    said = "AGREED" if keys.startswith(b"y") else "STOPPED" if keys == b"\x03" else "REFUSED not agreed"
    main_end, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ASK],
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=project_root(),
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    try:
        os.close(end)
        drawn = b""
        while b"[y/N]" not in drawn:
            drawn += os.read(main_end, 1024)
        os.write(main_end, keys)
        process.wait(30)
        drawn += os.read(main_end, 4096)
    finally:
        process.kill()
        os.close(main_end)
    assert said in drawn.decode() and "above budget.ask_above" in drawn.decode()


def test_a_dear_sweep_is_not_begun_in_automation(tmp_path, capsys):
    dear = ["--set", "budget.cpu_hour=1000", "--scale", "tiny", "--home", str(tmp_path)]
    assert main(["tune", *dear]) == 2
    told = capsys.readouterr()
    assert "estimate: there is no earlier run" in told.out
    assert "cannot be told" in told.err and "--yes" in told.err
    assert not (tmp_path / "runs").exists(), "nothing was run"


def test_what_was_agreed_to_is_kept(tmp_path, capsys):
    more = agree.agree(load(overrides={"home": str(tmp_path), "budget": {"cpu_hour": 1000}}), yes=True, until="tune")
    assert more["estimate"]["unknown"] == ["ingest", "validate", "features", "dataset", "tune"]
    assert "prices: budget.cpu_hour" in capsys.readouterr().out
