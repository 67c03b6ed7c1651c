"""A small Ray of our own on this machine: started, kept quiet, and gone afterwards."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from components.ray.guard import MARKER
from seaway.errors import SeawayError

ATTEMPTS = 3
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the trials' own checkpoints are the sweep's state
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it ends a sweep as if it were complete
}
_SERVERS = ("gcs_server", "raylet")
LOOK_S = 0.5
T = TypeVar("T")


def prepare(own: bool = True) -> None:
    """Settings that Ray reads from the environment, some while it is imported: call before. They stay.

    ``own``: for a Ray of this process; one that is joined has its token already.
    """
    os.environ.update(_SETTINGS)
    # by default its workers give way to all else on the machine: a step would take as long as others please
    os.environ.setdefault("RAY_worker_niceness", "0")
    if own and "ray" not in sys.modules:
        # a token for this process alone: other users of the machine cannot submit work
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})


def temporary_folder() -> Path:
    """A short path: the sockets below it may have at most 107 characters."""
    return Path(f"/tmp/seaway-ray-{os.getuid()}")  # noqa: S108 (private to the user, mode 700)


def results_folder() -> Path:
    """Where Ray Tune writes what nobody reads, of this process."""
    return temporary_folder() / "results" / str(os.getpid())


@contextmanager
def local_ray(cpus: int, gpus: int, memory: int, lost: Callable[[str], None] | None = None) -> Iterator[Any]:
    """The ``ray`` module, connected to a Ray of ``cpus`` and ``gpus`` that nobody else can join.

    ``memory``: bytes for shared objects. A cluster named in the environment is not used. A guard process
    sees to it that none of Ray's is left, even when this one is killed. ``lost`` is called from a thread
    with the name of a server of Ray's that has ended; Ray itself would wait a minute and end this process.
    """
    main = threading.current_thread() is threading.main_thread()
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)} if main else {}
    folder = temporary_folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    _sweep_out(folder)
    prepare()
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    marker = secrets.token_hex(16)
    # its own session: what ends this process by its group, or Ctrl-C, does not end the guard
    guard = subprocess.Popen(
        [sys.executable, "-m", "components.ray.guard", marker], stdin=subprocess.PIPE, start_new_session=True
    )
    over = threading.Event()
    try:
        os.environ[MARKER] = marker
        _start(
            ray,
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            object_store_memory=max(memory, 80_000_000),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            _temp_dir=str(folder),
        )
        del os.environ[MARKER]
        _restore(handlers)
        if lost:
            threading.Thread(target=_watch, args=(over, lost), daemon=True, name="ray-watch").start()
        yield ray
    except Exception as error:
        if lost and not isinstance(error, SeawayError):
            over.wait(3 * LOOK_S)  # is it because Ray has ended? then the watch says so
        raise
    finally:
        over.set()
        os.environ.pop(MARKER, None)
        ray.shutdown()
        guard.stdin.close()
        guard.wait()
        _restore(handlers)
        _sweep_out(folder, own=True)


class Early(AbstractContextManager[T]):
    """What ``opened`` opens, begun in a thread at once: ``with`` waits for it. Call ``close`` where nobody may come.

    Ray's servers take seconds to start, and whoever wants them has other things to do. ``entered`` is done when
    ``with`` would not wait.
    """

    def __init__(self, opened: AbstractContextManager[T]) -> None:
        self._opened, self._over = opened, threading.Event()
        self.entered: Future[T] = Future()
        threading.Thread(target=self._enter, daemon=True, name="ray-start").start()

    def _enter(self) -> None:
        try:
            self.entered.set_result(self._opened.__enter__())
        except BaseException as error:
            self.entered.set_exception(error)
        else:
            self._over.wait()  # the kernel ends Ray's servers when the thread that began them ends

    def __enter__(self) -> T:
        return self.entered.result()

    def __exit__(self, *error: Any) -> bool | None:
        try:
            return self._opened.__exit__(*error)
        finally:
            self._over.set()

    def close(self) -> None:
        """Leave it, once it is open, unless somebody has."""
        if not self._over.is_set() and self.entered.exception() is None:
            self.__exit__(None, None, None)


def _restore(handlers: dict[int, Any]) -> None:
    """Ray takes SIGTERM for itself."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _watch(over: threading.Event, lost: Callable[[str], None]) -> None:
    import psutil

    servers = {p: p.name() for p in psutil.Process().children() if p.name() in _SERVERS}
    while not over.wait(LOOK_S):
        for process, name in servers.items():
            if (not process.is_running() or process.status() == psutil.STATUS_ZOMBIE) and not over.is_set():
                lost(name)
                return


def _sweep_out(folder: Path, own: bool = False) -> None:
    """Remove the logs and results of sessions whose process has ended, and with ``own`` this process's too."""
    for results in folder.glob("results/*"):
        if not Path(f"/proc/{results.name}").exists():
            shutil.rmtree(results, ignore_errors=True)
    for session in folder.glob("session_*_*"):
        number = session.name.rsplit("_", 1)[-1]
        if session.is_symlink() or not number.isdigit():
            continue
        alive = Path(f"/proc/{number}").exists()
        if not alive or (own and int(number) == os.getpid()):
            shutil.rmtree(session, ignore_errors=True)


def _start(ray: Any, **settings: Any) -> None:
    """``ray.init``, tried again where it gives up: it waits 30 s, which a busy machine can exceed."""
    for left in reversed(range(ATTEMPTS)):
        try:
            ray.init(**settings)
            return
        except Exception as error:
            ray.shutdown()
            if not left or "timed out" not in str(error):
                raise SeawayError(
                    f"Ray did not start ({str(error).splitlines()[0]}); its logs: {settings['_temp_dir']}. "
                    "Is the machine out of memory, or busy with something else?"
                ) from error
