"""One RayJob of the KubeRay operator: handed in, followed to its end, and gone afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from components.ray.look import ENDING, FAILED, OVER, RUNNING, SUCCEEDED, SUSPENDED, WAITING, Look, look
from components.ray.rayjob import API, SPEC, kind
from seaway.config import Config, duration
from seaway.errors import Conflict, NotFound, SeawayError
from seaway.kube_api import Api, Unavailable
from seaway.processes import unwound_by_sigterm
from seaway.progress import say
from seaway.storage import Storage

BEAT_S = 30.0  # between two signs of life
SUBMIT_S = 300.0  # an API server that does not answer is asked for so long
UNSEEN_S = 60.0  # without an operator, until that is said
WARN_S = 20.0  # of waiting, until the cluster's warnings are told
GRACE_S = 600.0  # beyond ray.deadline, for an operator that does not end the job


class Job:
    """The RayJob of ``manifest``, from its beginning, or from where an earlier attempt left it, to its end.

    ``at``: URI below which it tells ``progress`` and ``error`` and leaves ``result``, and this side ``watched``.
    """

    def __init__(
        self,
        config: Config,
        store: Storage,
        at: str,
        manifest: dict[str, Any],
        api: Api | None = None,
        on_event: Callable[[str], None] = say,
    ) -> None:
        self.config, self.store, self.at, self.manifest, self.say = config, store, at, manifest, on_event
        self.api = api or Api(config.ray.context)
        self.name, self.namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
        self.result, self.what = f"{at}/result", kind(manifest)
        self._folder = f"/apis/{API}/namespaces/{self.namespace}"
        self._poll = duration(config.ray.poll).total_seconds()
        self._beaten, self._beats = float("-inf"), 0
        self._told: set[str] = set()
        self._cluster = ""

    def run(self, stale: Sequence[str] = ()) -> None:
        """Until the result is there; SeawayError says why it is not. Interrupted, nothing is left running.

        With ``stale``, what an earlier attempt began is ended and these URIs are removed, before the job is handed in.
        """
        try:
            with unwound_by_sigterm():
                self._submit(stale)
                self._follow()
        except (Unseen, Gone):
            raise  # the job ends itself when nobody comes back for it; what has the name of a gone one is another
        except BaseException:
            self._delete()
            raise
        self._delete()

    def _submit(self, stale: Sequence[str]) -> None:
        """The RayJob exists afterwards, as the manifest says or from an earlier attempt of the same."""
        wanted, answered = self.manifest["metadata"]["annotations"][SPEC], time.monotonic()
        leaving: float | None = None  # since when an earlier attempt's job is on its way out
        while True:
            self._beat()
            try:
                found = self._get()
                answered = time.monotonic()
                if found is None:
                    for gone in (f"{self.at}/error", f"{self.at}/progress", f"{self.at}/seen", *stale):
                        self.store.remove(gone)
                    self._create()
                    self.say(f"RayJob {self.namespace}/{self.name} handed in")
                    return
                seen, same = look(found), found["metadata"].get("annotations", {}).get(SPEC) == wanted
                good = self.store.exists(self.result) if seen.state == SUCCEEDED else seen.state not in (FAILED, ENDING)
                if same and good and not stale:
                    self.say(f"RayJob {self.name} was handed in before: following it")
                    return
                leaving = answered if leaving is None else leaving
                if answered - leaving > SUBMIT_S:
                    raise SeawayError(
                        f"RayJob {self.namespace}/{self.name} of an earlier attempt is still there {SUBMIT_S:.0f} s "
                        "after it was deleted: see that KubeRay runs, or take its finalizers away"
                    )
                self._once(f"waiting for RayJob {self.name} of an earlier attempt to be gone")
                if seen.state != ENDING:
                    self.api.delete(self._path())
            except Conflict:
                pass  # another attempt was quicker: look at what it made
            except Unavailable as error:
                if time.monotonic() - answered > SUBMIT_S:
                    raise Unseen(f"{self.what.called} was not handed in: {error}") from None
                self._once(f"cannot hand in {self.what.called} yet: {error}")
            time.sleep(min(self._poll, 1.0))

    def _create(self) -> None:
        try:
            self.api.create(self._path(""), self.manifest)
        except NotFound as error:
            raise SeawayError(
                f"the cluster has no RayJobs or no namespace {self.namespace!r} ({error}): "
                "`make up` installs KubeRay and makes the namespace; ray.namespace names it"
            ) from None

    def _follow(self) -> None:
        limit = duration(self.config.ray.deadline).total_seconds() + GRACE_S
        began = answered = time.monotonic()
        spent, away = 0.0, False
        while True:
            self._beat()
            try:
                found = self._get()
            except Unavailable as error:
                if time.monotonic() - answered > limit:
                    raise Unseen(f"{self.what.called} was lost from sight: {error}") from None
                if not away:
                    self.say(f"cannot look at the RayJob, {self.what.called} goes on: {error}")
                away = True
                time.sleep(self._poll)
                continue
            answered, was_away, away = time.monotonic(), away, False
            if was_away:
                self.say("the Kubernetes API answers again")
            if found is None:
                return self._gone()
            seen = look(found)
            self._cluster = found.get("status", {}).get("rayClusterName", "") or self._cluster
            self._tell(seen, time.monotonic() - began)
            if seen.state in OVER:
                return self._over(seen)
            spent = 0.0 if seen.state == SUSPENDED else spent + self._poll
            if spent > limit:
                raise SeawayError(
                    f"RayJob {self.name} runs past ray.deadline ({self.config.ray.deadline}), and no operator ends it: "
                    "it is deleted; see that KubeRay runs"
                )
            time.sleep(self._poll)

    def _over(self, seen: Look) -> None:
        if seen.state == SUCCEEDED:
            if not self.store.exists(self.result):
                raise SeawayError(f"RayJob {self.name} ended well and left no result at {self.result}: run it again")
            return
        kept = f"Finished {self.what.kept} are kept: the same command goes on from them."
        if seen.reason == "DeadlineExceeded":
            warning = self._warning()
            raise SeawayError(
                f"{self.what.called} did not end within ray.deadline ({self.config.ray.deadline}). {kept} "
                "Raise it, or see whether the nodes that it asks for can be had"
                + (f". The cluster's last warning: {warning}" if warning else "")
            )
        raise SeawayError(
            f"{self.what.called}'s RayJob failed ({seen.reason}): {self._read('error') or seen.text}\n{kept}"
        )

    def _gone(self) -> None:
        """Deleted: by another attempt that has fetched the result, or by a person."""
        if not self.store.exists(self.result):
            raise Gone(
                f"RayJob {self.namespace}/{self.name} was deleted by somebody before it ended. "
                f"Finished {self.what.kept} are kept: the same command goes on from them"
            )

    def _tell(self, seen: Look, seconds: float) -> None:
        if seen.taken or seconds > UNSEEN_S:
            self._once(seen.text + ("" if seen.taken else ": is KubeRay running?"))
        if seen.state == WAITING and seconds > WARN_S and (warning := self._warning()):
            self._once(f"the cluster says: {warning}")
        if seen.state == RUNNING and (line := self._read("progress")):
            more: dict[str, Any] = {}
            with suppress(ValueError):  # a sweep's job tells what a terminal draws of it too
                more = {"sweep": json.loads(self._read("seen"))}
            self._once(line, **more)

    def _warning(self) -> str:
        """The newest warning about the job's pods, such as a refused or unplaced one; empty when there is none."""
        try:
            path = f"/api/v1/namespaces/{self.namespace}/events"
            events = self.api.get(path, fieldSelector="type=Warning")["items"]
        except SeawayError:
            return ""
        ours = [e for e in events if e["involvedObject"]["name"].startswith((self._cluster or self.name, self.name))]
        newest = max(ours, key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "", default={})
        return str(newest.get("message", "")).strip()

    def _once(self, text: str, **more: Any) -> None:
        if text not in self._told:
            self._told.add(text)
            self.say(text, **more)

    def _read(self, what: str) -> str:
        with suppress(SeawayError):
            return self.store.read(f"{self.at}/{what}").decode().strip()
        return ""

    def _beat(self) -> None:
        """Show the job that somebody waits for it."""
        if time.monotonic() - self._beaten >= BEAT_S:
            with suppress(SeawayError):
                self._beats += 1
                self.store.write(f"{self.at}/watched", f"{time.time()} {self._beats}".encode())
                self._beaten = time.monotonic()

    def _get(self) -> dict[str, Any] | None:
        try:
            return self.api.get(self._path())
        except NotFound:
            return None

    def _delete(self) -> None:
        """The RayJob and, as an operator that is away would leave it, its cluster."""
        for path in (self._path(), *([f"{self._folder}/rayclusters/{self._cluster}"] if self._cluster else [])):
            try:
                self.api.delete(path)
            except (NotFound, Conflict):
                continue
            except SeawayError as error:
                self.say(f"{path.rsplit('/', 1)[-1]} could not be deleted, it ends by itself: {error}")

    def _path(self, name: str | None = None) -> str:
        name = self.name if name is None else name
        return f"{self._folder}/rayjobs" + (f"/{name}" if name else "")


class Unseen(SeawayError):
    """The API server did not answer for so long that nothing is known of the job."""


class Gone(SeawayError):
    """Somebody else has deleted the job."""
