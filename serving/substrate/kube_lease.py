"""A lease, so that of several controllers one works. It guards nothing: every write has its own precondition."""

from __future__ import annotations

from datetime import UTC, datetime
from time import monotonic
from typing import Any

from seaway.kube_api import Api
from serving.substrate.base import Conflict, NotFound

_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Lease:
    """``hold`` takes or renews it and says whether this holder has it; a holder that died loses it in time.

    Whether another's lease is over is judged by how long its record did not change here, never by comparing
    this clock with another machine's.
    """

    def __init__(self, api: Api, namespace: str, name: str, holder: str, seconds: int = 30):
        self.api, self.name, self.holder, self.seconds = api, name, holder, seconds
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._seen: tuple[str, float] | None = None  # another's record, and since when it is unchanged

    def hold(self) -> bool:
        """Raises SeawayError when the API server cannot be asked."""
        try:
            lease = self.api.get(f"{self._path}/{self.name}")
        except NotFound:
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name}}
        spec, version = lease.get("spec") or {}, lease["metadata"].get("resourceVersion")
        if spec.get("holderIdentity") not in (None, "", self.holder) and not self._over(spec, version or ""):
            return False
        renewed = {**lease, "spec": self._spec(spec)}
        try:
            if version:
                self.api.replace(f"{self._path}/{self.name}", renewed)
            else:
                self.api.create(self._path, renewed)
        except (Conflict, NotFound):
            return False  # someone else was faster
        return True

    def release(self) -> None:
        """Give it up, so that the next holder need not wait."""
        try:
            lease = self.api.get(f"{self._path}/{self.name}")
            if (lease.get("spec") or {}).get("holderIdentity") == self.holder:
                self.api.replace(
                    f"{self._path}/{self.name}", {**lease, "spec": {**lease["spec"], "holderIdentity": ""}}
                )
        except (Conflict, NotFound):
            return

    def _over(self, spec: dict[str, Any], version: str) -> bool:
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, monotonic())
        return monotonic() - self._seen[1] > (spec.get("leaseDurationSeconds") or self.seconds)

    def _spec(self, old: dict[str, Any]) -> dict[str, Any]:
        now = datetime.now(UTC).strftime(_FORMAT)
        mine = old.get("holderIdentity") == self.holder
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.seconds,
            "acquireTime": old.get("acquireTime") if mine else now,
            "renewTime": now,
            "leaseTransitions": (old.get("leaseTransitions") or 0) + int(not mine),
        }
