"""What a person sees of a running sweep: one live line, or a plain line every ten seconds."""

from __future__ import annotations

import time
from typing import Any, TextIO

from ray.tune import Callback

from seaway.progress import stream as default_stream

PLAIN_SECONDS = 10.0


class Progress(Callback):
    """Counts trials and epochs; writes to ``stream`` (stderr, or the pipeline's), in place when it is a terminal."""

    def __init__(self, trials: int, metric: str, max_epochs: int, stream: TextIO | None = None) -> None:
        self._stream = stream or default_stream()
        self._trials, self._metric, self._max_epochs = trials, metric, max_epochs
        self._live = self._stream.isatty()
        self._started = self._last = time.monotonic()
        self._running: dict[str, int] = {}
        self._finished = self._kept = self._epochs = 0
        self._best: tuple[float, int, float] | None = None  # objective, trial, metric as it reads

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running[trial.trial_id] = 0
        self._show()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        self._running[trial.trial_id] = result["training_iteration"]
        if result.get("replayed"):
            self._kept += 1
        else:
            self._epochs += 1
        if self._best is None or result["objective"] > self._best[0]:
            self._best = (result["objective"], trial.config["index"], result[self._metric])
        self._show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)
        self._finished += 1
        self._show()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)
        reason = (str(trial.get_error()).strip().splitlines() or ["no reason given"])[-1]
        self._stream.write(f"\nsweep: trial {trial.config['index']} failed: {reason}\n")
        self._show()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._show()

    def close(self) -> None:
        self._show(last=True)

    def line(self) -> str:
        """For example: sweep: 3/8 trials, 2 running, 41 epochs; best 0.7411 (trial 2); 25 s, about 40 s left."""
        best = f"best {self._metric} {self._best[2]:.4f} (trial {self._best[1]})" if self._best else "no result yet"
        kept = f", {self._kept} epochs kept from before" if self._kept else ""
        spent = time.monotonic() - self._started
        done = self._finished + sum(self._running.values()) / self._max_epochs
        left = f", about {_clock(spent / done * (self._trials - done))} left" if 0 < done < self._trials else ""
        return (
            f"sweep: {self._finished}/{self._trials} trials, {len(self._running)} running, {self._epochs} epochs{kept};"
            f" {best}; {_clock(spent)}{left}"
        )

    def _show(self, last: bool = False) -> None:
        now = time.monotonic()
        if self._live:
            self._stream.write(f"\r\x1b[2K{self.line()}" + ("\n" if last else ""))
        elif last or now - self._last >= PLAIN_SECONDS:
            self._stream.write(self.line() + "\n")
        else:
            return
        self._last = now
        self._stream.flush()


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
