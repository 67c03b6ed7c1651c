"""The live view of a run, in a real pseudo-terminal; plain lines elsewhere."""

from __future__ import annotations

import codecs
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from pipelines.progress import Terminal, redrawn, shown
from seaway.config import project_root
from seaway.progress import LIVE_VARIABLE

# a run of three steps; "slow" goes on until it is ended
RUN = """
import contextlib, os, signal, sys, time
from components.tune.snapshot import Sight, snapshot
from pipelines.progress import EventStream, shown
from seaway import progress

def stop(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, stop)
slow = sys.argv[1:] == ["slow"]
trial = {"index": 0, "params": {}, "status": "running", "error": "", "attempts": 1, "gpu_seconds": 0.0}
with shown() as on_event, open(os.devnull, "w") as log:
    with contextlib.redirect_stdout(EventStream(log, on_event)):
        with progress.of_step("ingest"):
            progress.emit("reason", reason="first run", skipped=False)
            time.sleep(0.3)
            print("noise of a library")
            progress.emit("end", status="done", reason="", summary={"rows": 1234}, seconds=0.3)
        with progress.of_step("tune"):
            progress.emit("reason", reason="first run", skipped=False)
            for n in range(1, 1000 if slow else 4):
                values = [0.1 * k for k in range(1, n + 1)]
                epochs = [{"epoch": k + 1, "average_precision": v, "objective": v, "seconds": 1.0, "replayed": False}
                          for k, v in enumerate(values)]
                record = trial | {"epochs": epochs, "objective": values[-1], "cpu_seconds": float(n)}
                seen = snapshot(Sight(8, "average_precision", 20), [record], values, n, n)
                progress.say("a line that is drawn", sweep=seen)
                time.sleep(0.3)
            progress.say("tune: something else")
            progress.emit("end", status="done", reason="", summary={"trials": 8}, seconds=1.0)
print("after it", flush=True)
"""
HIDE, SHOW, UP = "\x1b[?25l", "\x1b[?25h", "\x1b[1A"


def take_terminal():
    """Make standard input this process's terminal, so that Ctrl-C is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background ignores it


class Screen:
    """A program in a pseudo-terminal of its own; what it has drawn is kept."""

    def __init__(self, arguments=(), columns=100, program=RUN, **environment):
        self.drawn, self.decoder = "", codecs.getincrementaldecoder("utf-8")()
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdin=slave, stdout=slave, stderr=slave, cwd=project_root(),
            start_new_session=True, preexec_fn=take_terminal,
            env={**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **environment},
        )  # fmt: skip
        self.master, self.slave = master, slave

    def read(self, until=None, seconds=60.0):
        """Read until the text is drawn, or, without one, until the program has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                self.drawn += self.decoder.decode(os.read(self.master, 65536))
            elif self.process.poll() is not None:
                break
            if until and until in self.drawn:
                return self.drawn
        assert not until or until in self.drawn, self.drawn
        return self.drawn

    def type(self, keys):
        os.write(self.master, keys)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def screen():
    made = []

    def start(*arguments, **more):
        made.append(Screen(arguments, **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


def plain(drawn):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)


def last_frame(drawn):
    """What stands on the screen at the end: a small terminal that knows what is used here."""
    rows, row, column, hidden = [""], 0, 0, False
    for mark, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", drawn):
        if text:
            rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + len(text) :]
            column += len(text)
        elif mark == "\r":
            column = 0
        elif mark == "\n":
            row, column = row + 1, 0
            if row == len(rows):
                rows.append("")
        elif mark.endswith("A"):
            row -= int(mark[2:-1] or 1)
        elif mark == "\x1b[2K":
            rows[row] = ""
        elif mark in (HIDE, SHOW):
            hidden = mark == HIDE
        else:
            assert mark.endswith("m"), mark
    return [line.rstrip() for line in rows], hidden


def test_what_runs_is_redrawn_and_what_is_over_stays(screen):
    terminal = screen()
    drawn = terminal.read()
    assert terminal.process.returncode == 0
    assert UP in drawn and "▁" in drawn and "running" in drawn
    rows, hidden = last_frame(drawn)
    assert not hidden
    said = [line for line in rows if line]
    assert said[0].split() == ["ingest", "0.3", "s", "rows", "1,234"]
    assert said[1].split() == ["tune", "tune:", "something", "else"]
    assert said[2].strip().startswith("sweep  0/8") and said[4].strip().startswith("best   average precision 0.3000")
    assert said[5].split()[:3] == ["tune", "1.0", "s"] and said[6:] == ["after it"]
    assert "a line that is drawn" not in drawn and "noise" not in drawn


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_however_it_is_ended_the_terminal_is_as_it_was(screen, how):
    terminal = screen("slow")
    terminal.read(until="▁")
    if how == "Ctrl-C":
        terminal.type(b"\x03")
    else:
        terminal.process.send_signal(signal.SIGTERM)
    drawn = terminal.read()
    assert terminal.process.wait(10) != 0
    rows, hidden = last_frame(drawn)
    assert not hidden, "the cursor is seen again"
    assert termios.tcgetattr(terminal.slave) == terminal.before
    assert any(line.strip().startswith("best") for line in rows), "what it came to stays"
    assert not any("running" in line and "0/" not in line for line in rows), "the table is gone"
    assert "KeyboardInterrupt" in [line for line in rows if line][-1]


MANY = """
import sys
from components.tune.snapshot import Sight, snapshot
from pipelines import live
from pipelines.progress import shown

live.EVERY_S = 0.001
epochs = [{"epoch": 1, "average_precision": 0.5, "objective": 0.5, "seconds": 1.0, "replayed": False}]
trial = {"index": 0, "params": {}, "status": "running", "error": "", "epochs": epochs, "objective": 0.5}
with shown() as on_event:
    for n in range(150):
        step = f"step{n}"
        on_event({"event": "reason", "step": step, "skipped": False, "reason": ""})
        records = [trial | {"index": i} for i in range(n % 5)]  # what is drawn grows and shrinks
        seen = snapshot(Sight(8, "m", 9), records, [], 1, 1)
        on_event({"event": "progress", "step": step, "text": "", "sweep": seen})
        print(f"warning {n}", file=sys.stderr)
        on_event({"event": "end", "step": step, "status": "done", "seconds": n, "summary": {}})
"""


def test_no_line_is_lost_however_often_it_is_redrawn(screen):
    terminal = screen(program=MANY)
    drawn = terminal.read()
    assert terminal.process.returncode == 0, drawn[-2000:]
    rows, _ = last_frame(drawn)
    ends = [line.split()[0] for line in rows if line.strip().startswith("step")]
    assert ends == [f"step{n}" for n in range(150)]
    assert [line for line in rows if line.startswith("warning")] == [f"warning {n}" for n in range(150)]
    assert UP in drawn
    assert not [line for line in rows if "0/9" in line], "no table stays"


def test_a_narrow_terminal_is_never_wider_than_it_is(screen):
    drawn = screen(columns=34).read()
    frames = [plain(part) for part in re.split(r"[\r\n]", drawn)]
    assert max(len(line) for line in frames) <= 34
    assert "best" in drawn and "…" in drawn


def test_colours_are_left_out_where_they_are_not_wanted(screen):
    drawn = screen(NO_COLOR="1").read()
    assert UP in drawn and "▁" in drawn
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", drawn)
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", screen().read())


def test_a_dumb_terminal_gets_lines(screen):
    drawn = screen(TERM="dumb").read()
    assert "\x1b" not in drawn and "tune        a line that is drawn" in drawn


def test_what_is_no_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    assert not redrawn(stream)
    with shown(stream=stream) as on_event:
        assert type(on_event) is Terminal and LIVE_VARIABLE not in os.environ
        on_event({"event": "progress", "step": "tune", "text": "sweep: 1/8 trials", "sweep": {}})
    assert stream.getvalue() == "  tune        sweep: 1/8 trials\n"
    listener = [].append
    with shown(listener) as on_event:
        assert on_event is listener
