"""The process of a sweep: ``python -m components.tune.driver FD``, begun by components.tune.keeper.

Standard input has what to do in one line, and stays open as long as somebody wants it: at its end this process ends.
What it has to say goes to the file descriptor ``FD``, a JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.hooks import resolve


class Speaker:
    """Writes messages; several threads may."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def say(self, **message: Any) -> None:
        with self._lock:
            os.write(self._descriptor, (json.dumps(message) + "\n").encode())


def main(descriptor: int) -> int:
    os.set_inheritable(descriptor, False)
    speaker, stopped = Speaker(descriptor), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_owner, daemon=True).start()

    def lost(what: str) -> None:
        speaker.say(lost=what)
        os._exit(1)  # nothing here can do without Ray; what it leaves is ended by the guard

    try:
        speaker.say(**_sweep(job, speaker, lost, stopped))
    except SeawayError as error:
        speaker.say(**{"away" if type(error).__name__ == "Away" else "error": str(error)})
    except Exception as error:
        if rays_own(error):
            speaker.say(lost=f"the connection ({type(error).__name__})")
        else:
            speaker.say(unexpected=traceback.format_exc())
    return 0


def _sweep(
    job: dict[str, Any], speaker: Speaker, lost: Callable[[str], None], stopped: threading.Event
) -> dict[str, Any]:
    from components.tune.step import search
    from components.tune.sweep import Hooks

    hooks = Hooks(lambda: speaker.say(begun=True), lambda: speaker.say(epoch=True), lost, stopped=stopped)
    config = Config.model_validate(job["config"])
    spec = resolve(config.workload.features, config.root)
    return {"summary": search(config, spec, Path(job["dataset"]), Path(job["out"]), job["resume"], hooks=hooks)}


def rays_own(error: BaseException) -> bool:
    """Whether it says that Ray is gone, or cannot go on; a trial's own errors never come here."""
    if "ray" not in sys.modules:
        return False
    from ray.exceptions import RayError

    return isinstance(error, RayError | ConnectionError)


def _end_with_owner() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
