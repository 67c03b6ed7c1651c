"""Model versions and their aliases, over MLflow; the only module that knows it.

Importing MLflow takes seconds. Look-ups in the local SQLite file therefore read its tables directly
(seaway/registry_file.py), and only writing imports it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from seaway.artifacts import read_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.registry_bundles import IDENTITY, PLACE, SIGNED, Shelf
from seaway.registry_client import connect, experiment, keep
from seaway.registry_file import Version, find_in_file, local
from seaway.signature import ANEW
from seaway.signing import Seal
from seaway.storage import is_uri

__all__ = ["CANDIDATE", "CHAMPION", "IMAGE", "RELEASE", "RELEASED", "SIGNED", "Registry", "Version"]

CANDIDATE, CHAMPION = "candidate", "champion"
RELEASE = "release"  # digest of the release bundle that was made at registration
RELEASED = "released"  # digest of the one that was promoted
IMAGE = "serve_image"  # that the version is served with
_COMPLETE = "digest"  # the last tag to be set: a version without it was left by a killed registration


class Registry:
    """The versions of one workload's model.

    ``uri`` is MLflow's tracking and registry URI; bundles go below ``artifacts`` when it is a local file, or into
    the object storage of ``config``. Bundles are signed with ``seal``; without one they are not.
    """

    def __init__(
        self, uri: str, name: str, artifacts: Path, seal: Seal | None = None, config: Config | None = None
    ) -> None:
        self._uri, self._name, self._artifacts, self._seal = uri, name, artifacts, seal
        self._shelf = Shelf(artifacts, seal, config)

    @classmethod
    def of(cls, config: Config) -> Registry:
        uri = config.tracking_uri or f"sqlite:///{config.home / 'mlflow.db'}"
        return cls(uri, config.workload.name, config.home / "mlartifacts", Seal(config), config)

    # reading

    def find(self, which: str | int) -> Version | None:
        """The version with this alias or number; None when there is none or its files are gone."""
        try:
            found = self._find_in_file(str(which)) if self._file else self._find_by_client(str(which))
        except sqlite3.Error:  # a schema that this reader does not know
            found = self._find_by_client(str(which))
        if found is None or _COMPLETE not in found.tags:
            return None
        return self._shelf.found(found)

    def get(self, which: str | int) -> Version:
        """The version with this alias or number; SeawayError when there is none."""
        found = self.find(which)
        if found is None:
            raise SeawayError(f"the registry has no version {which!r} of {self._name}; `seaway run` registers one")
        return found

    def unsound(self, version: Version) -> str:
        """Why a version's bundle is not to be trusted, or "": it is signed and is the one that was registered."""
        return self._shelf.unsound(version)

    def rival(self, digest: str) -> Version | None:
        """What a model competes with: the champion, or what that had to beat; not itself, nor its own baseline."""
        found = self.find(CHAMPION)
        if found and found.tags.get("trained_with") == digest and found.tags.get("rival"):
            found = self.find(found.tags["rival"])
        return None if found is None or found.tags.get("trained_with") == digest else found

    # writing

    def register(
        self,
        bundle: Path,
        digest: str,
        *,
        params: dict[str, Any],
        metrics: dict[str, float],
        tags: dict[str, str],
        identity: dict[str, Any],
        extras: list[Path] | None = None,
    ) -> Version:
        """Register a bundle; the same ``digest`` again gives the version it already has, with new tags.

        ``identity`` is completed with model, version and run, and written into the bundle as identity.json;
        then the bundle is signed. One that is there already and does not verify is put back and signed anew.
        ``extras`` are files or folders to keep with the run, such as figures and the model card.
        """
        client = self._client
        known = self._with_digest(digest)
        if known:
            self._mend(known, bundle, identity)
            champion = self.find(CHAMPION)
            for key, value in tags.items():
                if not (key == "rival" and champion and champion.version == known.version):
                    client.set_model_version_tag(self._name, known.version, key, value)
            keep(client, known.run_id, metrics, extras or [])
            return self.get(known.version)
        run = client.create_run(self._experiment(), run_name=str(identity.get("run", "")) or None)
        run_id = run.info.run_id
        for key, value in params.items():
            client.log_param(run_id, key, str(value)[:6000])
        keep(client, run_id, metrics, extras or [])
        source = self._shelf.remote or f"{run.info.artifact_uri}/model"  # MLflow takes no other source later
        if not self._shelf.remote:
            client.log_artifacts(run_id, str(bundle), "model")
        version = str(client.create_model_version(self._name, source, run_id, tags=tags).version)
        record = Version(self._name, version, run_id, local(source))
        self._finish(record, bundle, digest, {**identity, "model": self._name, "version": version})
        client.set_terminated(run_id)
        client.set_model_version_tag(self._name, version, _COMPLETE, digest)
        return self.get(version)

    def signed(self, version: Version) -> Version:
        """The version, signed: one from before bundles were signed is signed now, with its trained files unchanged.

        The registry's own digest says whether they are. Raises SeawayError when they are not.
        """
        if self._seal is None or SIGNED in version.tags or is_uri(version.bundle):
            return version
        folder = Path(version.bundle)
        try:
            identity = read_json(folder / IDENTITY)
        except (OSError, ValueError):
            identity = {}
        if identity.get("version") != version.version:
            raise SeawayError(f"{folder} is not signed and does not say that it is version {version.version}: {ANEW}")
        self._finish(version, folder, version.tags[_COMPLETE], identity)
        return self.get(version.version)

    def nominate(self, version: str | int) -> None:
        """Give ``version`` the alias candidate."""
        self._client.set_registered_model_alias(self._name, CANDIDATE, str(version))

    def describe(self, version: str | int, text: str) -> None:
        """Show ``text`` (Markdown) on the version's page."""
        self._client.update_model_version(self._name, str(version), description=text)

    def tag(self, version: str | int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(self._name, str(version), key, value)

    def adopt(self, source: str, model: Mapping[str, Any], tags: Mapping[str, str]) -> Version:
        """Register a bundle that another environment made and signed, as it is; again: the version it already has.

        ``source``: its folder or URI; ``model``: {digest (signed), hash (as trained), lineage}.
        """
        client, lineage = self._client, model["lineage"]
        tags = {**tags, PLACE: source} if is_uri(source) else tags  # a file's URI too: its folder holds more
        tags = {**tags, SIGNED: model["digest"], **{k: "" if v is None else str(v) for k, v in lineage.items()}}
        for found in client.search_model_versions(f"name = '{self._name}'"):
            if found.tags.get(SIGNED) != model["digest"]:
                continue
            if _COMPLETE in found.tags and self.find(found.version):
                self.tag(found.version, tags)
                return self.get(found.version)
            client.delete_model_version(self._name, found.version)  # left by a killed one, or its files are gone
        run_id = client.create_run(self._experiment(), run_name=str(lineage.get("run", "")) or None).info.run_id
        version = str(client.create_model_version(self._name, source, run_id, tags=tags).version)
        client.set_terminated(run_id)
        client.set_model_version_tag(self._name, version, _COMPLETE, model["hash"])
        return self.get(version)

    def promote(self, version: str | int, *, release: str = "") -> Version:
        """Make ``version`` the champion; it is no candidate any more. Repeating it changes nothing.

        ``release``: digest of the release bundle that proved itself; without one the version cannot move on.
        """
        record = self.get(version)
        self.tag(record.version, {RELEASED: release})
        self._client.set_registered_model_alias(self._name, CHAMPION, record.version)
        self._drop_candidate(record.version)
        self._client.set_model_version_tag(self._name, record.version, "decision", "promoted")
        return self.get(record.version)

    def reject(self, version: str | int) -> Version:
        """Take the alias candidate from ``version`` and mark it; the champion stays. May be repeated."""
        record = self.get(version)
        self._drop_candidate(record.version)
        self._client.set_model_version_tag(self._name, record.version, "decision", "rejected")
        return self.get(record.version)

    # inside

    @property
    def _file(self) -> Path | None:
        return Path(self._uri.removeprefix("sqlite:///")) if self._uri.startswith("sqlite:///") else None

    @cached_property
    def _client(self) -> Any:
        return connect(self._uri, self._name, self._file)

    def _experiment(self) -> str:
        return experiment(self._client, self._name, self._artifacts if self._file else None)

    def _with_digest(self, digest: str) -> Version | None:
        for found in self._client.search_model_versions(f"name = '{self._name}'"):
            if found.tags.get(_COMPLETE) == digest and (record := self.find(found.version)):
                return record
            if _COMPLETE not in found.tags:  # left by a killed registration
                self._client.delete_model_version(self._name, found.version)
        return None

    def _finish(self, version: Version, bundle: Path, digest: str, identity: dict[str, Any]) -> None:
        """Complete and sign the registered bundle, if its files still have ``digest``."""

        def log(file: Path) -> None:
            self._client.log_artifact(version.run_id, str(file), "model")

        self.tag(version.version, self._shelf.finish(version, bundle, digest, identity, log))

    def _mend(self, known: Version, bundle: Path, identity: dict[str, Any]) -> None:
        """Sign a known version anew, from the bundle that it was made of, where it cannot be trusted as it is."""
        with suppress(SeawayError):
            known = self.signed(known)
        if self.unsound(known):
            self._shelf.put_back(known, bundle)
            made = {**identity, "model": self._name, "version": known.version}
            self._finish(known, bundle, known.tags[_COMPLETE], made)

    def _drop_candidate(self, version: str) -> None:
        candidate = self.find(CANDIDATE)
        if candidate and candidate.version == version:
            self._client.delete_registered_model_alias(self._name, CANDIDATE)

    def _find_by_client(self, which: str) -> Version | None:
        from mlflow.exceptions import MlflowException

        look_up = self._client.get_model_version if which.isdigit() else self._client.get_model_version_by_alias
        try:
            found = look_up(self._name, which)
        except MlflowException:
            return None
        return Version(self._name, str(found.version), found.run_id, local(found.source), dict(found.tags))

    def _find_in_file(self, which: str) -> Version | None:
        return find_in_file(self._file, self._name, which) if self._file and self._file.exists() else None
