"""What a person sees of a running sweep: one live line, or a plain line every ten seconds."""

from __future__ import annotations

import threading
import time
from typing import Any, TextIO

from seaway.progress import stream as default_stream

PLAIN_SECONDS = 10.0
LIVE_SECONDS = 0.5


class Progress:
    """Counts trials and epochs; while open, writes to ``stream``: in place when it is a terminal."""

    def __init__(self, trials: int, metric: str, max_epochs: int, stream: TextIO | None = None) -> None:
        self._stream = stream or default_stream()
        self._trials, self._metric, self._max_epochs = trials, metric, max_epochs
        self._live = self._stream.isatty()
        self._started = time.monotonic()
        self._running: dict[str, int] = {}
        self._finished = self._kept = self._epochs = 0
        self._best: tuple[float, int, float] | None = None  # objective, trial, metric as it reads
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._write("\n")

    def reported(self, trial: Any, result: dict[str, Any]) -> None:
        self._running[trial.trial_id] = result["training_iteration"]
        if result["replayed"]:
            self._kept += 1
        else:
            self._epochs += 1
        if self._best is None or result["objective"] > self._best[0]:
            self._best = (result["objective"], trial.config["index"], result[self._metric])

    def ended(self, trial: Any) -> None:
        self._running.pop(trial.trial_id, None)
        self._finished += 1

    def line(self) -> str:
        """For example: sweep: 3/8 trials, 2 running, 41 epochs; best average_precision 0.7411 (trial 2); 25 s."""
        spent = time.monotonic() - self._started
        if self._best is None:
            return f"sweep: starting Ray for {self._trials} trials; {_clock(spent)}"
        best = f"best {self._metric} {self._best[2]:.4f} (trial {self._best[1]})"
        kept = f" and {self._kept} kept from before" if self._kept else ""
        done = self._finished + sum(list(self._running.values())) / self._max_epochs
        left = f", at the most {_clock(spent / done * (self._trials - done))} left" if 0 < done < self._trials else ""
        return (
            f"sweep: {self._finished}/{self._trials} trials, {len(self._running)} running,"
            f" {self._epochs} epochs{kept}; {best}; {_clock(spent)}{left}"
        )

    def _run(self) -> None:
        while not self._closed.wait(LIVE_SECONDS if self._live else PLAIN_SECONDS):
            self._write("" if self._live else "\n")

    def _write(self, end: str) -> None:
        self._stream.write(("\r\x1b[2K" if self._live else "") + self.line() + end)
        self._stream.flush()


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
