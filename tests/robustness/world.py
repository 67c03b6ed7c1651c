"""A simulated place to run releases: a virtual clock, objects with resourceVersion and uid, predictors with pods
that count, shadow pairs and labels that come later. Nothing here fails; faults are injected in ``client.py``."""

from __future__ import annotations

import copy
import json
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from seaway.evidence import means
from serving import manifests
from serving.substrate.base import AVAILABLE, CREATING, Conflict, Counters, NotFound, Status
from tests.robustness.history import History
from tests.robustness.scenario import BOUNDS, LOSS, PERIOD, Scenario

NAME, STABLE, CANARY = "shop", "v1", "v2"
BOOT_S = 10.0  # until a new pod is ready
LABEL_DELAY_S = 30.0  # mean


@dataclass
class Pod:
    bundle: str
    ready_at: float
    totals: np.ndarray = field(default_factory=lambda: np.zeros(5, dtype=np.int64))  # n, errors, slow, decisions, rows


class World:
    def __init__(self, scenario: Scenario, history: History) -> None:
        self.scenario, self.history = scenario, history
        self.draw = np.random.default_rng([scenario.seed, 2])
        self.now = 1_000_000.0
        self.version, self.made = 0, 0
        self.lines: set[bytes] = set()  # of decision logs and the ledger
        self.objects: dict[str, dict[str, Any]] = {}
        self.past: list[dict[str, Any]] = []  # every object ever stored, oldest first
        self.truths = {"/bundles/1": scenario.rates(), "/bundles/2": scenario.rates(scenario.truth, scenario.harm)}
        self.pods: dict[str, dict[str, Pod]] = {}
        self.gateway: dict[str, np.ndarray] = {}
        self.restarts = {STABLE: 0, CANARY: 0}
        self.readings: deque[dict[str, dict[str, Counters]]] = deque(maxlen=30)
        self.pairs: dict[str, dict[str, Any]] = {}  # bundle -> guardrail -> cumulative record of its pairs
        self.labels: list[tuple[float, str, float]] = []  # those to come: when, bundle, loss difference
        self.since: dict[tuple[str, ...], dict[str, Any]] = {}  # what the pairs held when an evidence began
        self.older_pairs: dict[str, Any] = {}  # the last reading but one
        self.newer_pairs: dict[str, Any] = {}
        self.served: dict[str, int] = {}  # bundle -> requests it ever got: no evidence may have more
        self.split: dict[str, int] | None = None  # how the gateway splits when not as told
        self.never_ready: set[str] = set()
        self.outage = 1.0

    # objects
    def create(self, obj: dict[str, Any], actor: str = "person") -> dict[str, Any]:
        if obj["metadata"]["name"] in self.objects:
            raise Conflict("it exists")
        self.made += 1
        kept = {k: v for k, v in obj["metadata"].items() if k not in ("resourceVersion", "uid")}
        return self._put({**obj, "metadata": {**kept, "uid": f"uid-{self.made}"}}, actor, None)

    def read(self, name: str) -> dict[str, Any]:
        if name not in self.objects:
            raise NotFound(f"there is no released object {name!r}")
        return copy.deepcopy(self.objects[name])

    def write(self, obj: dict[str, Any], actor: str = "person") -> dict[str, Any]:
        """As Kubernetes: a resourceVersion or uid that is given must be the current one; none given is no condition."""
        current = self.read(obj["metadata"]["name"])["metadata"]
        for key in ("resourceVersion", "uid"):
            if obj["metadata"].get(key, current[key]) != current[key]:
                raise Conflict(f"{key} is {current[key]}, written {obj['metadata'][key]}")
        carried = [obj["metadata"].get("resourceVersion"), obj["metadata"].get("uid")]
        return self._put({**obj, "metadata": {**obj["metadata"], "uid": current["uid"]}}, actor, carried)

    def delete(self, name: str, actor: str = "person") -> None:
        before = self.objects.pop(name, None)
        self.history.add("deleted", self.now, actor, before=before)

    def names(self) -> list[str]:
        return [n for n, o in self.objects.items() if "seaway.dev/rollout" in (o["metadata"].get("annotations") or {})]

    def _put(self, obj: dict[str, Any], actor: str, carried: Any) -> dict[str, Any]:
        before = self.objects.get(obj["metadata"]["name"])
        if before is not None and before == obj:
            return copy.deepcopy(before)
        self.version += 1
        stored = json.loads(json.dumps(obj))
        generation = before["metadata"]["generation"] if before else 0
        changed = before is None or before["spec"] != stored["spec"]
        stored["metadata"] |= {"resourceVersion": str(self.version), "generation": generation + int(changed)}
        self.objects[obj["metadata"]["name"]] = stored
        self.past.append(stored)
        self.history.add(
            "stored", self.now, actor, obj=stored, before=before, carried=carried, served=dict(self.served)
        )
        self._follow(stored)
        return copy.deepcopy(stored)

    def note_lines(self, kind: str, path: Path, actor: str) -> None:
        """Whole lines of a log that were not there before, into the history."""
        for text in path.read_bytes().split(b"\n")[:-1]:
            if text in self.lines:
                continue
            self.lines.add(text)
            try:
                line = json.loads(text)
            except ValueError:
                continue  # torn before
            self.history.add(kind, self.now, actor, line=line, path="" if kind == "ledger" else path.parent.name)

    # what runs
    def _follow(self, obj: dict[str, Any]) -> None:
        """Pods as the object asks for them: another bundle gets pods of other names, which count from zero."""
        asked = manifests.predictors(obj)
        for name in [n for n in self.pods if n not in asked]:
            self.pods.pop(name), self.gateway.pop(name)
        for name, spec in asked.items():
            bundle = manifests.parameters(spec)["bundle"]
            if name not in self.pods or next(iter(self.pods[name].values())).bundle != bundle:
                first = not self.readings and not self.pods.get(name)
                self.pods[name] = {}
                for _ in range(self.scenario.pods):
                    self._pod(name, bundle, self.now if first else self.now + BOOT_S)
                self.gateway[name] = np.zeros(5, dtype=np.int64)

    def _pod(self, name: str, bundle: str, ready_at: float) -> None:
        self.made += 1
        self.pods[name][f"{name}-{self.made:03d}"] = Pod(bundle, ready_at)

    def ready(self, name: str) -> bool:
        pods = self.pods.get(name, {}).values()
        if name in self.never_ready and any(p.bundle != "/bundles/1" for p in pods):
            return False
        return bool(pods) and all(pod.ready_at <= self.now for pod in pods)

    def routed(self) -> dict[str, int]:
        """Percent by predictor as requests really go: to those that are ready."""
        obj = self.objects.get(NAME)
        if obj is None:
            return {}
        told = manifests.weights(obj)
        share = self.split if self.split and set(self.split) == set(told) else told
        share = {name: weight for name, weight in share.items() if self.ready(name)}
        return share if sum(share.values()) else {}

    def crash(self, name: str) -> None:
        """One pod dies and comes again under its name, counting from zero; restarts are counted."""
        pods = self.pods.get(name)
        if pods:
            source = sorted(pods)[int(self.draw.integers(len(pods)))]
            pods[source] = replace(pods[source], ready_at=self.now + 2.0, totals=np.zeros(5, dtype=np.int64))
            self.restarts[name] = self.restarts.get(name, 0) + 1

    def reset(self, name: str) -> None:
        for pod in self.pods.get(name, {}).values():
            pod.totals[:] = 0
        if name in self.gateway:
            self.gateway[name][:] = 0

    def replace_pod(self, name: str) -> None:
        """A pod is moved elsewhere: a new name, counting from zero; the old one is seen no more."""
        pods = self.pods.get(name)
        if pods:
            source = sorted(pods)[0]
            self._pod(name, pods.pop(source).bundle, self.now)

    # time
    def pass_time(self, seconds: float = PERIOD) -> None:
        share = self.routed()
        self.now += seconds
        if share:
            total, sum_ = self.draw.poisson(self.scenario.rate * seconds), sum(share.values())
            for name, n in zip(share, self.draw.multinomial(total, [w / sum_ for w in share.values()]), strict=True):
                self._serve(name, int(n))
        self.history.add("served", self.now, "world", value=dict(self.served))
        self._mirror(share, seconds)
        self._arrive()
        if not self.scenario.scrape or not self.readings or self.now >= self._last_at() + self.scenario.scrape:
            self.readings.append(self._scrape())

    def _serve(self, name: str, n: int) -> None:
        pods = self.pods[name]
        for pod, part in zip(pods.values(), self.draw.multinomial(n, [1 / len(pods)] * len(pods)), strict=True):
            rates, part = self.truths[pod.bundle], int(part)
            failed = self.draw.binomial(part, min(1.0, rates["errors"] * self.outage))
            slow = self.draw.binomial(part, min(1.0, rates["slow"] * self.outage))
            gained = np.array(
                [part, failed, slow, self.draw.binomial(part - failed, rates["decisions"]), part - failed]
            )
            pod.totals += gained
            self.gateway[name] += gained
            self.served[pod.bundle] = self.served.get(pod.bundle, 0) + part

    def _mirror(self, share: dict[str, int], seconds: float) -> None:
        obj = self.objects.get(NAME)
        shadow = next((p for p in obj["spec"]["predictors"] if p.get("shadow")), None) if obj else None
        if not shadow or not self.ready(shadow["name"]) or STABLE not in share:
            return
        bundle = manifests.parameters(shadow)["bundle"]
        truth = self.truths[bundle]
        n = int(self.draw.poisson(self.scenario.rate * seconds * share[STABLE] / 100 * shadow["traffic"] / 100))
        self._learn(bundle, "flips", (self.draw.random(n) < truth["flips"]).astype(float))
        self._learn(bundle, "score_shift", np.clip(self.draw.exponential(truth["score_shift"], n), 0, 1))
        losses = np.clip(self.draw.normal(truth["loss"], 0.15, n), -1, 1)
        late = self.now + self.draw.exponential(LABEL_DELAY_S, n)
        self.labels += [(at, bundle, loss) for at, loss in zip(late.tolist(), losses.tolist(), strict=True)]

    def _arrive(self) -> None:
        """Labels whose time has come, in the order of their arrival."""
        come = sorted(label for label in self.labels if label[0] <= self.now)
        self.labels = [label for label in self.labels if label[0] > self.now]
        for bundle in {label[1] for label in come}:
            self._learn(bundle, "loss", np.array([loss for _, b, loss in come if b == bundle]))

    def _learn(self, bundle: str, kind: str, values: np.ndarray) -> None:
        known = self.pairs.setdefault(bundle, {})
        known[kind] = means.update(known.get(kind, means.new_state()), {**BOUNDS, "loss": LOSS}[kind], values)

    def pair_states(self, state: Any) -> dict[str, Any]:
        """Cumulative records since this evidence began, as a feed that reads its logs from the start has them."""
        obj = self.objects.get(NAME)
        found = manifests.predictors(obj).get(CANARY) if obj else None
        known = self.pairs.get(manifests.parameters(found)["bundle"], {}) if found else {}
        before = self.since.setdefault((state.uid, state.spec, str(state.started)), dict(known))
        wanted = (*(BOUNDS if self.scenario.pairs else ()), *(["loss"] if self.scenario.labels else ()))
        return {k: _less(known.get(k, means.new_state()), before.get(k, means.new_state())) for k in wanted}

    # what can be asked
    def counters(self, name: str) -> dict[str, dict[str, Counters]]:
        self.read(name)
        return self.readings[-1] if self.scenario.scrape and self.readings else self._scrape()

    def status(self, name: str) -> Status:
        obj = self.read(name)
        told = manifests.weights(obj)
        ready = {predictor: self.ready(predictor) for predictor in told}
        state = AVAILABLE if all(ready.values()) else CREATING
        restarts = {predictor: self.restarts.get(predictor, 0) for predictor in told}
        return Status(ready, told, None, state, "", obj["metadata"]["generation"], restarts)

    def _scrape(self) -> dict[str, dict[str, Counters]]:
        obj = self.objects.get(NAME)
        found: dict[str, dict[str, Counters]] = {}
        for name in manifests.weights(obj) if obj else ():
            rows = {source: pod.totals.tolist() for source, pod in self.pods[name].items()}
            if self.scenario.layout == "pods":
                found[name] = {s: Counters(n, e, {100: w}, d, a, self.now) for s, (n, e, w, d, a) in rows.items()}
                continue
            n, e, w, _, _ = self.gateway[name].tolist()
            found[name] = {s: Counters(None, None, None, d, a, self.now) for s, (_, _, _, d, a) in rows.items()}
            found[name]["gateway"] = Counters(n, e, {100: w}, None, None, self.now)
        return found

    def _last_at(self) -> float:
        return max((c.at for sources in self.readings[-1].values() for c in sources.values()), default=0.0)


def _less(total: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What came to a cumulative record since it was ``before``."""
    return {
        key: [t - b for t, b in zip(value, before[key], strict=True)]
        if isinstance(value, list)
        else value - before[key]
        for key, value in total.items()
    }
