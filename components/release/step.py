"""The release request: what to release, against what; pure but for reading and writing one file.

The request names versions and bundles only. The manifest to apply is built from it in serving/, which this
layer does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seaway.artifacts import read_json, write_json
from seaway.config import Config
from seaway.errors import SeawayError


def request(config: Config, version: Path, out: Path) -> dict[str, Any]:
    """Write ``out``/release.json for the version in the folder ``version``.

    This step itself refuses a version whose verdict is not a pass, with SeawayError: a run that may not
    release then ends as failed everywhere, on a laptop and on a cluster, and keeps all that it made. A
    condition in the pipeline would end it as succeeded, with a step that is silently missing.
    """
    made = build(config.workload.name, read_json(version / "version.json"))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "release.json", made)
    champion = made["champion"]
    return {"name": made["name"], "candidate": made["version"], "champion": champion["version"] if champion else None}


def build(workload: str, version: dict[str, Any]) -> dict[str, Any]:
    """The request's record from version.json; SeawayError when the verdict is not a pass."""
    verdict = version["verdict"]
    if verdict["verdict"] != "pass":
        reasons = "; ".join(verdict.get("reasons", [])) or "no reason was given"
        raise SeawayError(
            f"version {version['version']} of {version['name']} is registered but will not be released: "
            f"its verdict is {verdict['verdict']!r} ({reasons})"
        )
    kept = ("name", "version", "run_id", "bundle")
    candidate = {key: version[key] for key in (*kept, "lineage", "release", "image")}
    champion = version.get("champion")
    return {
        "name": f"{workload}-{version['version']}",
        "workload": workload,
        "version": version["version"],
        "bundle": version["bundle"],
        "verdict": verdict,
        "candidate": candidate,
        "champion": {key: champion[key] for key in (*kept, "image")} | {"kind": champion["tags"].get("kind")}
        if champion
        else None,
    }
