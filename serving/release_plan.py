"""What a release will be, worked out from its request: names, folders, the object at the start."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from seaway.artifacts import canonical_json, read_json, write_json
from seaway.bundles import local_copy, publish
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.keys import IN_PODS, public_key
from seaway.online import project_name
from seaway.signing import Seal, opened
from seaway.storage import Storage, is_uri
from serving import manifests
from serving.pod_parts import Parts
from serving.rollout import state as states
from serving.rollout.rules import Rules
from serving.rollout.state import State
from serving.signals.objects import ObjectFolder

FAULTY = "serving.faults.FaultyModelServer"


@dataclass(frozen=True)
class Plan:
    """One release. ``champion`` is None for a first release; ``faults`` harm the candidate on purpose."""

    name: str
    workload: str
    candidate: dict[str, Any]
    champion: dict[str, Any] | None
    faults: dict[str, Any]
    folder: Path
    store: dict[str, Any]
    obj: dict[str, Any]
    rules: Rules
    infrastructure: dict[str, Any] = field(default_factory=dict)  # that it is released on

    @property
    def canary(self) -> str:
        return predictor_name(self.candidate)

    @property
    def stable(self) -> str:
        return predictor_name(self.champion) if self.champion else self.canary

    @property
    def spec(self) -> str:
        """Hash of what is compared; the same release of the same specs is decided once."""
        return states.spec_hash(self.obj, self.stable, self.canary)

    @property
    def predictors(self) -> dict[str, str]:
        """Model version -> predictor."""
        versions = [self.candidate, *([self.champion] if self.champion else [])]
        return {str(v["version"]): predictor_name(v) for v in versions}

    @property
    def annotations(self) -> dict[str, str]:
        """What a controller needs to go on with the release, and the ledger to name it, without any configuration."""
        parameters = manifests.parameters(manifests.predictors(self.obj)[self.canary])
        identity = {
            "release": self.name,
            "version": str(self.candidate["version"]),
            "champion": str(self.champion["version"]) if self.champion else None,
            "run": self.candidate.get("run_id"),
            "lineage": self.candidate.get("lineage"),
            "digest": parameters.get("digest"),
            "bundle": self.candidate.get("release"),
            "infrastructure": self.infrastructure or None,
            "faults": self.faults or None,
            "spec": self.spec,
        }
        known = {k: v for k, v in identity.items() if v is not None}
        return {states.RULES: canonical_json(self.rules.record()), states.CANDIDATE: canonical_json(known)}

    def begun(self, now: float) -> State:
        return states.begin(self.name, self.stable, self.canary, self.spec, now, self.rules.rails)


def predictor_name(version: Mapping[str, Any]) -> str:
    return f"v{version['version']}".lower()


def plan(config: Config, request: Mapping[str, Any]) -> Plan:
    """The plan of a request (components/release); SeawayError when a bundle is missing."""
    name, candidate = str(request["name"]), dict(request["candidate"])
    champion = dict(request["champion"]) if request.get("champion") else None
    if champion and str(champion["version"]) == str(candidate["version"]):
        champion = None  # it is the champion already: serve it
    for version in (candidate, champion):
        if version and not _there(config, str(version["bundle"])):
            raise SeawayError(
                f"release {name!r}: the bundle {version['bundle']} of version {version['version']} is gone"
            )
    faults = dict(request.get("faults") or {})
    store = online_store(config, name)
    rules = Rules.of(config.release, config.serving.scrape)
    share = rules.ramp[0] if champion else 100
    listed = [predictor(config, champion, 100 - share, store, {})] if champion else []
    listed.append(predictor(config, candidate, share, store, faults))
    if champion and rules.mirror:
        canary = listed[-1]
        listed.append(replace(canary, name=f"{canary.name}-shadow", traffic=rules.mirror, shadow=True, replicas=1))
    obj = manifests.seldon_deployment(
        config.workload.name,
        config.serving.namespace,
        listed,
        image=config.serving.image,
        mounts=config.serving.mounts,
        parts=Parts.of(config),
    )
    folder = config.home / "releases" / name
    platform = config.infrastructure.model_dump(mode="json")
    return Plan(name, config.workload.name, candidate, champion, faults, folder, store, obj, rules, platform)


def harmed(config: Config, request: Mapping[str, Any], faults: Mapping[str, Any]) -> dict[str, Any]:
    """A request for the same candidate with ``faults`` (parameters of serving.faults), against the champion.

    The candidate is a copy of the bundle under a version of its own, so that its answers can be told apart.
    The champion is the registry's; without one it is the request's candidate, as if it had been promoted.
    """
    from seaway.registry import CHAMPION, Registry

    candidate = dict(request["candidate"])
    # what is not trusted as it is must not get a signature by being copied
    original = local_copy(config, str(candidate["bundle"]), _trust(config, candidate)["digest"])
    version, name = f"{candidate['version']}-harmed", f"{request['name']}-harmed"
    folder = config.home / "releases" / name / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    identity = read_json(folder / "identity.json") if (folder / "identity.json").exists() else {}
    write_json(folder / "identity.json", {**identity, "version": version})
    place = publish(config, folder, Seal(config).sign(folder))
    champion = Registry.of(config).find(CHAMPION)
    return {
        **request,
        "name": name,
        "version": version,
        "bundle": place,
        "candidate": {**candidate, "version": version, "bundle": place, "label": "harmed on purpose"},
        "champion": champion.as_record() if champion else dict(request["candidate"]),
        "faults": dict(faults),
    }


def online_store(config: Config, release: str) -> dict[str, Any]:
    """The release's online store, as the server and the stream take it."""
    if config.online_store.type == "redis":
        return {"type": "redis", "connection": config.online_store.connection}
    return {"type": "sqlite", "path": str(config.home / "online" / f"{release}.db")}


def predictor(
    config: Config, version: Mapping[str, Any], traffic: int, store: Mapping[str, Any], faults: Mapping[str, Any]
) -> manifests.Predictor:
    """One registered version as a predictor; ``faults`` harm it on purpose.

    Its server serves the bundle that is there now, if it is the registered one and signed; else SeawayError.
    """
    return manifests.Predictor(
        name=predictor_name(version),
        traffic=traffic,
        bundle=_served(config, str(version["bundle"])),
        online_store=store,
        project=project_name(config.workload.name),
        version=str(version["version"]),
        parameters={**_trust(config, version), **_log(config), **faults},
        replicas=config.serving.replicas,
        image=_image(version),
        **({"model_class": FAULTY} if faults else {}),
    )


def answers_folder(config: Config) -> Path | ObjectFolder:
    """Where the servers log their answers: one folder for all releases, since a predictor's spec names it."""
    store = Storage.of(config) if config.serving.substrate != "local" else None
    where = config.serving.log or (store.join("answers") if store else "")
    if is_uri(where):
        return ObjectFolder(Storage.holding(config, where), where.rstrip("/"))
    return Path(where) if where else config.home / "answers"


def _image(version: Mapping[str, Any]) -> str:
    """What the version was registered or promoted with; empty for one from before that was kept."""
    from seaway.registry import IMAGE

    return str(version.get("image") or (version.get("tags") or {}).get(IMAGE) or "")


def _there(config: Config, bundle: str) -> bool:
    if is_uri(bundle):
        return Storage.holding(config, bundle).exists(bundle)
    return (Path(bundle) / "model.onnx").exists()


def _served(config: Config, bundle: str) -> str:
    """The bundle as its server finds it: pods fetch a URI themselves, a process of this machine needs the files."""
    return bundle if config.serving.substrate != "local" else str(local_copy(config, bundle))


def _log(config: Config) -> dict[str, str]:
    """Answers are logged where both models' are compared on the same requests."""
    return {"log": str(answers_folder(config))} if config.release.mirror else {}


def _trust(config: Config, version: Mapping[str, Any]) -> dict[str, str]:
    """What the server checks before it reads the bundle, and the controller before it promotes it."""
    from seaway.registry import SIGNED, Registry

    registry = Registry.of(config)
    known = registry.find(version["version"])
    # a copy that is harmed on purpose is signed, and not registered
    registered = known is not None and known.bundle == str(version["bundle"])
    expected = registry.signed(known).tags.get(SIGNED, "") if registered else ""
    trusted = public_key(config)
    digest = opened(local_copy(config, str(version["bundle"]), expected), trusted, expected).digest
    in_pods = config.serving.substrate != "local" and config.serving.trust
    return {"digest": digest, "public_key": str(IN_PODS if in_pods else trusted)}
