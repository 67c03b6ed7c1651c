"""One release from request to verdict: replayed traffic through the proxy, evidence, promotion or rollback.

The verdict is in the released object before anything else happens. A release that is killed anywhere
goes on from there when it is run again: the object has the weights, evidence and cursors, the prediction
log has what was sent. Run again after the verdict it returns the stored record.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seaway.config import Config, duration
from seaway.errors import SeawayError
from serving import bundle_check, release_record, smoke
from serving.release_enter import begin_journal, enter
from serving.release_follow import follow
from serving.release_guard import alone, interrupts
from serving.release_plan import Plan, answers_folder, harmed, plan
from serving.rollout import state as states
from serving.rollout.decisions import NAME, DecisionLog
from serving.rollout.feeds import pairs_of
from serving.rollout.journal import Journal
from serving.rollout.loop import Rollout
from serving.rollout.state import HELD, PROMOTED, UNDER_WAY, State
from serving.substrate.base import Substrate
from serving.substrate.choose import substrate_of
from serving.traffic_process import TrafficProcess, job_record

READY_S = 90.0
SMOKE = 60  # requests to a first version that has nothing to be compared with

__all__ = ["harmed", "run_release"]


def run_release(
    config: Config,
    request: Mapping[str, Any],
    *,
    run: Mapping[str, Any] | None = None,
    dataset: Path | None = None,
    features: Path | None = None,
    traffic: bool = True,
    faults: Mapping[str, Any] | None = None,
    offset: int = 0,
    limit: int | None = None,
    on_event: Callable[[str], None] = print,
    promote: Callable[[str], Any] | None = None,
    rollback: Callable[[str], Any] | None = None,
    substrate: Substrate | None = None,
) -> dict[str, Any]:
    """Release the request's candidate and return the record (also in home/releases/<name>/record.json).

    ``run``: the training run's record, whose ``outputs`` name the data set and features folders; or give
    ``dataset`` and ``features``. ``traffic``: replay held-out events at ``config.release.rate`` (without it
    the release waits for requests from elsewhere). ``offset`` and ``limit`` choose rows of the replay.
    On a cluster nothing is sent or started here: the controller there decides, and this follows it.
    With labels configured, the traffic may end before they have told: the verdict is then "provisional",
    and the same call later, or a controller, goes on.
    ``promote`` and ``rollback`` get the version; by default the registry's aliases follow the verdict, but
    never for a candidate harmed on purpose. Ctrl-C and SIGTERM stop everything and leave the release to be
    gone on with. Raises SeawayError for what a person must mend.
    """
    wanted = plan(config, {**request, **({"faults": dict(faults)} if faults else {})})
    if promote is None and rollback is None and not wanted.faults:
        promote, rollback = _aliases(config, wanted)
    with alone(config.home):
        known = release_record.stored(wanted)
        if known:
            on_event(f"{wanted.name} was decided before: {known['verdict']}")
            return known
        place = substrate or substrate_of(config)
        if config.serving.substrate != "local":
            state = follow(place, wanted, on_event)
            return release_record.conclude(config, wanted, state, {}, None, promote=promote, rollback=rollback)
        outputs = (run or {}).get("outputs", {})
        dataset, features = Path(dataset or outputs["dataset"]), Path(features or outputs["features"])
        release = _Release(config, wanted, place, on_event, dataset, features)
        state = release.run(traffic, offset, limit)
        numbers = release_record.traffic_summary(wanted.folder, config, release.sent)
        parity = smoke.parity(config, wanted, dataset, wanted.folder / "predictions.parquet", offset)
        return release_record.conclude(config, wanted, state, numbers, parity, promote=promote, rollback=rollback)


class _Release:
    """The processes of one release, started and stopped in order."""

    def __init__(
        self,
        config: Config,
        wanted: Plan,
        substrate: Any,
        on_event: Callable[[str], None],
        dataset: Path,
        features: Path,
    ) -> None:
        self.config, self.plan, self.substrate, self.on_event = config, wanted, substrate, on_event
        self.dataset, self.features = dataset, features
        self.sent: dict[str, Any] = {}
        self.journal: Journal | None = None

    def run(self, traffic: bool, offset: int, limit: int | None) -> State:
        """To the verdict; returns the final state."""
        state = enter(self.substrate, self.plan, self.on_event)
        self.journal = begin_journal(self.plan, state)
        if state.phase in UNDER_WAY:
            state = self._decided(traffic, offset, limit)
        return state

    def _decided(self, traffic: bool, offset: int, limit: int | None) -> State:
        first = self.plan.champion is None
        sender = TrafficProcess(
            job_record(
                self.config,
                folder=self.plan.folder,
                dataset=self.dataset,
                features=self.features,
                store=self.plan.store,
                predictors=self.plan.predictors,
                offset=offset,
                limit=(SMOKE if first else limit) if traffic else 1,
            )
        )
        try:
            with interrupts() as stop:
                self.on_event("filling the online store as of the first event to replay, and starting the predictors")
                if self.plan.store["type"] == "sqlite":  # predictors may open it before it is filled
                    path = Path(self.plan.store["path"])
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
                sender.start()
                start = getattr(self.substrate, "start", None)
                if start:
                    start()
                sender.wait_filled()
                url = self._ready()
                stop.gentle = True
                return self._first(sender, url, stop) if first else self._compared(sender, url, traffic, stop)
        finally:
            self.sent = sender.stop()
            end = getattr(self.substrate, "stop", None)
            if end:
                end()

    def _ready(self) -> str:
        """The deployment's URL once it serves; a canary that does not come up is the loop's business."""
        name = self.plan.obj["metadata"]["name"]
        try:
            status = self.substrate.wait_ready(name, READY_S)
        except SeawayError as error:
            status = self.substrate.status(name)
            if self.plan.champion is None or not status.ready.get(self.plan.stable) or not status.url:
                raise
            self.on_event(f"going on without a ready canary: {error}")
        smoke.warm(status.url, self.config, self.dataset)
        return str(status.url)

    def _compared(self, sender: TrafficProcess, url: str, traffic: bool, stop: threading.Event) -> State:
        name = self.plan.obj["metadata"]["name"]
        loop = self._loop(name)
        period = duration(self.config.release.block).total_seconds()
        loop.step()  # what the counters hold by now is the warm-up's: it becomes the cursor
        if traffic:
            rate = self.config.release.rate
            self.on_event(f"{rate:g} requests/s: {self.plan.stable} and, with a first share, {self.plan.canary}")
            sender.go(url)
        state = loop.run(stop, period, ended=sender.ended if traffic else lambda: False)
        if state.phase in UNDER_WAY and stop.is_set():
            raise SeawayError(f"{self.plan.name} was stopped before a verdict; run it again to go on from there")
        if state.phase != HELD:
            self.substrate.wait_ready(name, READY_S)  # while requests still come
        return state

    def _loop(self, name: str) -> Rollout:
        config, plan = self.config, self.plan
        pairs = pairs_of(
            config,
            plan.rules,
            name,
            stable=str(plan.champion["version"]) if plan.champion else None,
            canary=str(plan.candidate["version"]),
            folder=answers_folder(config),
            on_event=self.on_event,
        )
        return Rollout(
            self.substrate,
            name,
            plan.rules,
            log=DecisionLog(plan.folder / NAME),
            ledger=config.home / "ledger.jsonl",
            journal=self.journal,
            pairs=pairs,
            artifact=bundle_check.checker(config),
            on_event=self.on_event,
        )

    def _first(self, sender: TrafficProcess, url: str, stop: threading.Event) -> State:
        """No champion to compare with: some real requests must all be answered."""
        sender.go(url)
        deadline = time.monotonic() + 60
        while sender.alive() and time.monotonic() < deadline and not stop.wait(0.1):
            pass
        if stop.is_set():
            raise SeawayError(f"{self.plan.name} was stopped before a verdict; run it again to go on from there")
        self.sent = sender.stop()
        numbers = release_record.traffic_summary(self.plan.folder, self.config, self.sent)
        good = numbers["sent"] > 0 and numbers["failed"] == 0
        text = (
            f"first release: no champion to compare with; {numbers['sent']} requests sent, {numbers['failed']} failed"
        )
        obj = self.substrate.read(self.plan.obj["metadata"]["name"])
        state = states.load(obj) or self.plan.begun(time.time())
        state = replace(state, phase=PROMOTED if good else HELD, reason=text, now=time.time())
        self.substrate.write(states.store(obj, state))
        self.journal.add("event", [{"t": state.now, "text": text}])
        self.on_event(text)
        return state


def _aliases(config: Config, wanted: Plan) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    from seaway.registry import Registry

    registry, bundle = Registry.of(config), str(wanted.candidate.get("release") or "")
    return lambda version: registry.promote(version, release=bundle), registry.reject
