"""Builds the images with docker, podman or buildah: ``python -m images.build [NAME ...]``; `make images` calls it.

The builder never sees this folder, but a copy of the files that git tracks and images.yaml names: nothing else
that lies here, a key or a data set, can get into an image or to the builder's daemon.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from images import check, sbom
from images.table import Image, Table, containerfile, load, version
from seaway.config import project_root
from seaway.errors import SeawayError

BUILDERS = ("docker", "podman", "buildah")
OUTPUT = ".seaway/images"
SHARED = ("pyproject.toml", "uv.lock", "images/uv.txt")


def builder(wanted: str | None = None) -> str:
    """The first builder that works; SeawayError when none does, or not the wanted one."""
    tried = []
    for name in (wanted,) if wanted else BUILDERS:
        if not shutil.which(name):
            tried.append(f"{name} is not on PATH")
            continue
        if name == "buildah":
            return name  # it has no daemon
        asked = subprocess.run([name, "info"], capture_output=True, text=True)
        if asked.returncode == 0:
            return name
        tried.append(f"{name}: {(asked.stderr.strip().splitlines() or ['no answer'])[-1]}")
    raise SeawayError(f"nothing here builds images ({'; '.join(tried)}): `make images CHECK=1` checks them without")


def context_files(image: Image, root: Path) -> list[str]:
    """Paths of the files that the builder gets, relative to the root."""
    named = [*SHARED, *image.folders]
    files = [f for f in _git(root, "ls-files", "-z", "--", *named).split("\0") if f and (root / f).is_file()]
    for name in named:
        if not any(f == name or f.startswith(f"{name}/") for f in files):
            raise SeawayError(f"images/images.yaml names {name!r}, where git tracks no file")
    return files


def left_out(image: Image, root: Path) -> list[str]:
    """Files of the image's folders that git neither tracks nor ignores: forgotten, more often than not."""
    found = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *image.folders)
    return sorted(f for f in found.split("\0") if f)


def fill_context(files: Sequence[str], root: Path, to: Path) -> int:
    """Copy the files; their size in bytes. Modes are made equal: they would change the layers' digests."""
    size = 0
    for file in files:
        target = to / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / file, target)
        target.chmod(0o755 if os.access(root / file, os.X_OK) else 0o644)
        size += target.stat().st_size
    return size


def revision(root: Path) -> str:
    """The commit of the tree, with ``-dirty`` when tracked files differ from it."""
    return _git(root, "rev-parse", "HEAD") + ("-dirty" if _git(root, "status", "--porcelain", "-uno") else "")


def build_command(tool: str, name: str, reference: str, context: Path, arguments: dict[str, str]) -> list[str]:
    """The builder's command line. podman and buildah give all files one time, the commit's."""
    command = [tool, "build", "--file", str(containerfile(name)), "--tag", reference]
    if tool == "docker":
        arguments = {**arguments, "SOURCE_DATE_EPOCH": _commit_time()}
    else:
        # a layer a step: a change of the program alone leaves the packages' layer as it is, here and in registries
        command += ["--layers", "--format", "oci", "--timestamp", _commit_time()]
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    return [*command, str(context)]


def _commit_time() -> str:
    return _git(project_root(), "log", "-1", "--format=%ct")


def _git(root: Path, *words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, "stderr", "") or str(error)).strip()
        raise SeawayError(f"images are built from a git clone, with git on PATH: git {words[0]}: {why}") from None


def push(tool: str, reference: str) -> str:
    """Push it; the reference with the digest that the registry gave."""
    if tool == "docker":
        _run(["docker", "push", reference])
        digest = _docker_digest(reference)
    else:
        with tempfile.NamedTemporaryFile("r") as told:
            _run([tool, "push", "--digestfile", told.name, reference])
            digest = told.read().strip()
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise SeawayError(f"{tool} told no digest of {reference} after the push, but {digest!r}")
    return f"{reference}@{digest}"


def _docker_digest(reference: str) -> str:
    """The digest in the registry of ``reference``: an image may have been pushed to others before. Or ""."""
    asked = ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", reference]
    known = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    repository = reference.rpartition(":")[0]
    return next((d.partition("@")[2] for d in known if d.startswith(f"{repository}@")), "")


def _run(command: Sequence[str]) -> None:
    if subprocess.run(command).returncode:
        raise SeawayError(f"{' '.join(command[:2])} failed: its message is above")


def build(table: Table, names: Sequence[str], tool: str, *, tag: str, registry: str | None) -> list[str]:
    """Build the images, and push them where a registry is given; their references."""
    root, made = project_root(), []
    for name in names:
        reference = f"{registry.rstrip('/')}/{name}:{tag}" if registry else f"seaway-{name}:{tag}"
        arguments = {"BASE": table.base, "REVISION": revision(root), "VERSION": version()}
        with tempfile.TemporaryDirectory(prefix="seaway-image-") as context:
            size = fill_context(context_files(table.images[name], root), root, Path(context))
            print(f"{reference}: {size / 1e6:.1f} MB to {tool}", flush=True)
            for file in left_out(table.images[name], root):
                print(f"{reference}: without {file}, which git does not track", file=sys.stderr, flush=True)
            _run(build_command(tool, name, reference, Path(context), arguments))
        made.append(push(tool, reference) if registry else reference)
    return made


def main(words: Sequence[str] | None = None) -> int:
    table = load()
    parser = argparse.ArgumentParser(prog="python -m images.build")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(table.images)}; all without")
    parser.add_argument("--check", action="store_true", help="check the Containerfiles and build nothing")
    parser.add_argument("--tag", default="dev")
    parser.add_argument("--push", metavar="REGISTRY", help="such as registry.example.com/seaway")
    parser.add_argument("--base", metavar="IMAGE", help="a mirror's copy of images.yaml's base")
    parser.add_argument("--builder", choices=BUILDERS)
    args = parser.parse_args(words)
    try:
        unknown = set(args.names) - set(table.images)
        if unknown:
            raise SeawayError(f"no image {', '.join(sorted(unknown))}: there are {', '.join(table.images)}")
        names = args.names or list(table.images)
        found = check.run(table, names)
        if found:
            raise SeawayError("\n".join(found))
        if args.base:
            if args.push and "@sha256:" not in args.base:
                raise SeawayError(f"--base {args.base} has no digest: what is pushed is built on NAME@sha256:…")
            table = table.model_copy(update={"base": args.base})
        for name in names:
            file, count = sbom.write(table, name, project_root() / OUTPUT)
            print(f"{name}: no fault found, SBOM of {count} packages in {file}", flush=True)
        if not args.check:
            references = build(table, names, builder(args.builder), tag=args.tag, registry=args.push)
            print("\n".join(references))
    except SeawayError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
