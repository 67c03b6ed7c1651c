"""Promotion between environments: find what the source promoted, check the target, copy, enter as a canary there.

Nothing is built and nothing is signed: the target gets the very files of the source. Every part may be
repeated; a promotion that was killed goes on when it is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaway import ledger, release_bundle
from seaway.artifacts import read_json
from seaway.bundles import local_copy, place, publish_to
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.keys import public_key
from seaway.kube_api import Api
from seaway.registry import CHAMPION, IMAGE, RELEASE, RELEASED, Registry
from seaway.registry_file import Version
from seaway.release_bundle import ReleaseBundle, store_of
from serving.promotion.checks import lacking
from serving.promotion.facts import guardrails_of, target_of
from serving.release import run_release
from serving.rollout.settle import MOVED, who, writing
from serving.rollout.state import PROMOTED


@dataclass(frozen=True)
class Prepared:
    """A promotion that was looked at; ``lacking``: why the target cannot take it, []: it can."""

    source: Config
    target: Config
    version: Version  # in the source's registry
    bundle: ReleaseBundle
    model: Path  # the model bundle, checked, on this machine
    champion: Version | None  # the target's
    lacking: list[str]

    @property
    def there(self) -> bool:
        """The target's champion is this release already."""
        return self.champion is not None and self.champion.tags.get(RELEASED) == self.bundle.digest


def prepare(source: Config, target: Config, *, version: str = "", api: Api | None = None) -> Prepared:
    """Find the bundle of the source's champion, or of the ``version`` that was promoted there; check the target.

    Nothing is written. Raises SeawayError for a version without a bundle, and for one that does not verify.
    """
    if source.home == target.home or source.env == target.env:
        raise SeawayError(
            f"{source.env} and {target.env} share {target.home}: environments need a name and a home of their own"
        )
    found = Registry.of(source).get(version or CHAMPION)
    digest = found.tags.get(RELEASED, "")
    if not digest:
        raise SeawayError(
            f"version {found.version} of {found.name} was not promoted with a release bundle in {source.env}: "
            "only what proved itself there moves on; release it with `seaway release start`"
        )
    bundle = release_bundle.read(store_of(source), digest, public_key(source, make=False))
    model = local_copy(source, found.bundle, bundle.record["model"]["digest"])
    facts = target_of(target, _distrusts(source, target, digest), api)
    champion = Registry.of(target).find(CHAMPION)
    return Prepared(
        source, target, found, bundle, model, champion, lacking(bundle.record, guardrails_of(source), facts)
    )


def carry_out(ready: Prepared, *, on_event: Callable[[str], None] = print, **release: Any) -> dict[str, Any]:
    """Copy, register and release; the release's record (serving/release.py, which also takes ``release``).

    Raises SeawayError, before anything is written, when the target lacks something.
    """
    if ready.lacking:
        raise SeawayError("\n  ".join([f"{ready.target.env} cannot take {ready.bundle.digest[:12]}:", *ready.lacking]))
    target, record = ready.target, ready.bundle.record
    if ready.there:
        text = f"it is the champion of {target.env} already"
        return {"candidate": ready.champion.as_record(), "verdict": PROMOTED, "reason": text}
    store = store_of(target)
    digest, trusted = record["model"]["digest"], public_key(target, make=False)
    uri = publish_to(store, ready.model, place(store, digest), digest, trusted)
    copied = local_copy(target, uri, digest)
    release_bundle.copy(store_of(ready.source), store, ready.bundle.digest, trusted)
    on_event(f"copied to {store.uri} and read back: the same digests")
    registry = Registry.of(target)
    tags = {RELEASE: ready.bundle.digest, IMAGE: record["images"]["serve"], "promoted_from": ready.source.env}
    where = uri if target.storage.uri else str(copied)
    version = registry.adopt(where, record["model"], tags)
    on_event(f"version {version.version} of {version.name} in the registry of {target.env}")
    request = _request(ready, version, registry.find(CHAMPION))
    for config in (ready.source, target):
        _note(config, ready, version, request["name"])
    if target.serving.substrate == "local":
        release = {"run": _replayed(ready.source, record["model"]["lineage"].get("run", "")), **release}
    return run_release(target, request, on_event=on_event, **release)


def _request(ready: Prepared, version: Version, champion: Version | None) -> dict[str, Any]:
    """As the pipeline's last step writes it, for the target's own version and champion."""
    candidate = {
        **version.as_record(),
        "lineage": ready.bundle.record["model"]["lineage"],
        "release": ready.bundle.digest,
        "image": ready.bundle.record["images"]["serve"],
    }
    return {
        "name": f"{version.name}-{version.version}",
        "workload": version.name,
        "version": version.version,
        "bundle": version.bundle,
        "candidate": candidate,
        "champion": champion.as_record() if champion else None,
    }


def _distrusts(source: Config, target: Config, digest: str) -> str:
    try:
        release_bundle.read(store_of(source), digest, public_key(target, make=False))
    except SeawayError as error:
        return str(error)
    return ""


def _replayed(source: Config, run: str) -> Mapping[str, Any]:
    """The record of the run whose held-out events are replayed on a machine without traffic of its own."""
    file = source.home / "runs" / run / "run.json"
    if not run or not file.exists():
        raise SeawayError(
            f"the run {run or '?'} whose events are replayed is not in {source.home}: promote on the machine "
            "that ran it, or to a cluster"
        )
    return read_json(file)


def _note(config: Config, ready: Prepared, version: Version, release: str) -> None:
    """One line in the environment's ledger: what moved where, by whom; a promotion that goes on has its line.

    The same version may move again, after another one. So only the last line of that target counts, and only if
    the champion that the version met is the same.
    """
    record = ready.bundle.record
    entry = {
        "what": MOVED,
        "who": who(),
        "to": ready.target.env,
        "why": f"promoted from {ready.source.env} (version {ready.version.version}) "
        f"to {ready.target.env} (version {version.version})",
        "release": release,
        "workload": record["workload"],
        "version": version.version,
        "champion": ready.champion.version if ready.champion else None,
        "digest": record["model"]["digest"],
        "bundle": ready.bundle.digest,
        "run": record["model"]["lineage"].get("run"),
        "infrastructure": config.infrastructure.model_dump(mode="json"),
    }
    path = config.home / "ledger.jsonl"
    same = ("bundle", "why", "champion")
    with writing(path):
        moves = [
            e for line in ledger.read(path) if (e := line["entry"]).get("what") == MOVED and e.get("to") == entry["to"]
        ]
        if not moves or any(moves[-1].get(k) != entry[k] for k in same):
            ledger.append(path, entry)
