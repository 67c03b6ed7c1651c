"""``seaway doctor``: what this machine has, what it lacks, and what that is for."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from seaway.config import project_root


@dataclass(frozen=True)
class Check:
    name: str
    found: str | None  # None: not there
    purpose: str
    required: bool
    fix: str = ""


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser("doctor", help="what is missing on this machine, and what for")
    verb.set_defaults(call=doctor)


def doctor(args: argparse.Namespace) -> int:
    checks = survey()
    for check in checks:
        mark = "ok  " if check.found else ("MISS" if check.required else "-   ")
        print(f"  {mark} {check.name:<22} {check.found or 'not found'}")
        if not check.found:
            print(f"       {'':<22} for: {check.purpose}{'; fix: ' + check.fix if check.fix else ''}")
    missing = [check.name for check in checks if check.required and not check.found]
    if missing:
        print(f"\nThe release train cannot run here yet: {', '.join(missing)}.")
        return 1
    print("\nAll that the release train needs is here; lines with '-' are optional.")
    return 0


def survey() -> list[Check]:
    """Look at the machine; starts nothing that stays."""
    root = project_root()
    checks = [_python(), _git(), _linux()]
    for package, purpose in (
        ("kfp", "the pipeline"), ("ray", "the sweep"), ("torch", "training"), ("feast", "the feature store"),
        ("mlflow", "tracking and registry"), ("polars", "features"), ("onnxruntime", "checking the exported model"),
    ):  # fmt: skip
        checks.append(Check(package, _version(package), purpose, True, "make setup"))
    serving = root / ".venv-serving" / "bin" / "seldon-core-microservice"
    checks.append(Check("seldon-core", _path(serving), "serving", True, "make setup"))
    checks.append(
        Check("envoy", _path(Path(sys.executable).parent / "envoy"), "splitting the traffic", True, "make setup")
    )
    checks += [_disk(root), _memory(), _cuda()]
    for tool, purpose, fix in (
        ("redis-server", "the Redis online store and its tests", "apt install redis-server"),
        ("chromium", "the test that opens the report", "apt install chromium"),
        ("kubectl", "clusters", "see kubernetes.io"),
        ("pulumi", "provisioning clusters", "see pulumi.com"),
    ):
        checks.append(Check(tool, shutil.which(tool), purpose, False, fix))
    return checks


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Check("python 3.11 or 3.12", version if fits else None, "everything", True, f"this is {version}")


def _git() -> Check:
    return Check("git", shutil.which("git"), "the code revision in the lineage", False, "install git")


def _linux() -> Check:
    here = sys.platform if sys.platform.startswith("linux") else None
    return Check("linux", here, "processes that end with their parent", True, "use Linux, or WSL 2 on Windows")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _path(path: Path) -> str | None:
    return str(path) if path.exists() else None


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free / 1e9
    return Check("2 GB of free disk", f"{free:.0f} GB" if free > 2 else None, "runs and their data", True, "free some")


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Check(
        "6 GB of memory", f"{total:.0f} GB" if total > 6 else None, "the published scale", False, "use --scale small"
    )


def _cuda() -> Check:
    tool = shutil.which("nvidia-smi")
    found = None
    if tool:
        query = [tool, "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        found = answer.stdout.strip() or None
    return Check("CUDA GPU", found, "faster training (compute.device: auto uses it)", False)
