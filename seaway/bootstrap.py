"""Install both environments from the lock: ``.venv`` (platform) and ``.venv-serving``.

Run by make with the system's Python; standard library only. Safe to kill at any moment and to run
twice at once: a lock file serialises, and an installation that did not finish is started afresh.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"
ENVIRONMENTS = {".venv": ["--group", "platform", "--group", "dev"], ".venv-serving": ["--group", "serving"]}


def _die_with_parent() -> None:
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def _run(*command: str, **environment: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, **environment}, preexec_fn=_die_with_parent)


def _wanted() -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]}{ROOT}".encode())
    for name in ("pyproject.toml", "uv.lock"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def install() -> None:
    """Bring both environments in line with the lock; a no-op when their stamps match it."""
    wanted = _wanted()
    stamps = {name: ROOT / name / ".seaway-installed" for name in ENVIRONMENTS}
    if all(stamp.exists() and stamp.read_text() == wanted for stamp in stamps.values()):
        return
    started = time.monotonic()
    main = ROOT / ".venv"
    print("Setting up two environments from uv.lock (the first time takes some minutes) ...", flush=True)
    for name in ENVIRONMENTS:
        if (ROOT / name).exists() and not stamps[name].exists():
            shutil.rmtree(ROOT / name)  # left by an installation that was interrupted
    uv = main / "bin" / "uv"
    if not uv.exists():
        _run(sys.executable, "-m", "venv", str(main))
        _run(str(main / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV)
    for name, groups in ENVIRONMENTS.items():
        stamps[name].unlink(missing_ok=True)
        _run(
            str(uv), "sync", "--frozen", "--quiet", "--python", sys.executable, *groups,
            UV_PROJECT_ENVIRONMENT=str(ROOT / name),
        )  # fmt: skip
        stamps[name].write_text(wanted)
    print(f"Set up in {time.monotonic() - started:.0f} s.", flush=True)


def main() -> int:
    _die_with_parent()
    with (ROOT / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            install()
        except subprocess.CalledProcessError as error:
            print(
                f"Set-up failed: {' '.join(map(str, error.cmd))} ended with {error.returncode}.\n"
                "See its message above. It needs PyPI, about 8 GB of disk and Python's venv module.",
                file=sys.stderr,
            )
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
