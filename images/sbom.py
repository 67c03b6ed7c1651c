"""The software bill of materials of an image, CycloneDX 1.5: what the lock gives it, and the base that it is on.

The base's own packages are not in it: `docker buildx imagetools inspect --format '{{json .SBOM}}' BASE` tells them.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from images.table import Table, version
from seaway.artifacts import write_json
from seaway.config import project_root
from seaway.errors import SeawayError

MARKER = "uv:package:marker"


def exported(group: str) -> dict[str, Any]:
    """What uv exports from the lock: the group's packages on every platform, each with its files' hashes."""
    root = project_root()
    uv = root / ".venv" / "bin" / "uv"
    command = [str(uv), "export", "--frozen", "--quiet", "--group", group, "--format", "cyclonedx1.5"]
    command += ["--preview-features", "sbom-export"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        raise SeawayError(f"{uv} does not exist: run `make setup`") from None
    if done.returncode:
        raise SeawayError(f"uv cannot export group {group!r}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def bill(found: Mapping[str, Any], *, name: str, base: str, python: str) -> dict[str, Any]:
    """The bill of the image: Linux's packages alone, the base as a container. The same lock gives the same bill."""
    environment = {
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": "x86_64",
    }
    kept = [c for c in found["components"] if _applies(c, environment)]
    references = {c["bom-ref"] for c in kept}
    root = found["metadata"]["component"]["bom-ref"]
    edges = [
        {**d, "dependsOn": [r for r in d.get("dependsOn", []) if r in references]}
        for d in found["dependencies"]
        if d["ref"] in references or d["ref"] == root
    ]
    place, _, digest = base.partition("@")
    container = {
        "type": "container",
        "bom-ref": "base",
        "name": place,
        "version": digest,
        "purl": f"pkg:oci/{place.rsplit('/', 1)[-1].split(':')[0]}@{quote(digest, safe='')}"
        f"?repository_url={quote(place.rsplit(':', 1)[0], safe='/.')}",
    }
    contents = json.dumps([sorted(references), base], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.UUID(hashlib.sha256(contents.encode()).hexdigest()[:32])}",
        "version": 1,
        "metadata": {
            "tools": found["metadata"]["tools"],
            "component": {"type": "container", "bom-ref": root, "name": f"seaway-{name}", "version": version()},
        },
        "components": [container, *(_plain(c) for c in kept)],
        "dependencies": edges,
    }


def _applies(component: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    from packaging.markers import Marker

    markers = [p["value"] for p in component.get("properties", []) if p["name"] == MARKER]
    return all(Marker(m).evaluate(dict(environment)) for m in markers)


def _plain(component: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is for uv alone, and with the files that Linux can take."""
    other = re.compile(r"-(win|macosx)[^/]*\.whl$")
    files = [f for f in component.get("externalReferences", []) if not other.search(f.get("url", ""))]
    plain = {k: v for k, v in component.items() if k not in ("properties", "externalReferences")}
    return {**plain, **({"externalReferences": files} if files else {})}


def write(table: Table, name: str, folder: Path) -> tuple[Path, int]:
    """Write the image's bill to the folder; its file and how many packages it lists."""
    made = bill(exported(table.images[name].group), name=name, base=table.base, python=table.python)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.cdx.json"
    write_json(file, made)
    return file, len(made["components"]) - 1
