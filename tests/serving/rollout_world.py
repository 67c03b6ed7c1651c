"""A small world for the rollout's tests: objects with compare-and-swap and predictors with set rates."""

from __future__ import annotations

import copy

import numpy as np

from seaway.artifacts import canonical_json
from seaway.evidence.rates import Rail
from serving import manifests
from serving.rollout import state as states
from serving.rollout import words
from serving.rollout.rules import Rules
from serving.substrate.base import Conflict, Counters, NotFound, Status

RULES = Rules(
    ramp=(10, 25, 50),
    cap=240.0,
    alpha_promote=0.05,
    alpha_rollback=0.05,
    rails={
        "errors": Rail(0.02, cluster=1),
        "latency": Rail(0.05, 0.025, cluster=1),
        "decisions_up": Rail(0.02, 0.01, cluster=1),
        "decisions_down": Rail(0.02, 0.01, cluster=1),
    },
    slo_ms=100,
)

GOOD = {"v1": (0.001, 0.01, 0.01), "v2": (0.001, 0.01, 0.01)}
BAD = {"v1": (0.001, 0.01, 0.01), "v2": (0.03, 0.01, 0.01)}


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the loop runs after it."""


class World:
    """A substrate in memory. ``rates``: by predictor (errors, slow, decisions); ``pass_time`` sends requests."""

    metrics_url = ""

    def __init__(self, rates, seed=0, name="shop"):
        self.name, self.rates, self.now = name, rates, 1_000_000.0
        self.objects, self.version = {}, 0
        self.ready, self.restarts = dict.fromkeys(rates, True), dict.fromkeys(rates, 0)
        self.draw = np.random.default_rng(seed)
        self.writes = []  # every stored object's weights and phase
        self.fail_counters = None
        self.sources = {p: {"a": np.zeros(5, dtype=int)} for p in rates}  # by predictor and pod
        self.events = []

    def begin(self, release="shop-2", ramp=10, rules=RULES, shadow=False):
        listed = [
            manifests.Predictor("v1", 100 - ramp, "/bundles/1", version="1"),
            manifests.Predictor("v2", ramp, "/bundles/2", version="2"),
        ]
        if shadow:
            listed.append(manifests.Predictor("v2-shadow", 100, "/bundles/2", version="2", shadow=True))
        obj = manifests.seldon_deployment(self.name, "default", listed)
        spec = states.spec_hash(obj, "v1", "v2")
        obj = states.annotated(obj, {states.RULES: canonical_json(rules.record())})
        self.create(states.store(obj, states.begin(release, "v1", "v2", spec, self.now, rules.rails)))
        return self

    def create(self, obj):
        manifests.validate(obj)
        if obj["metadata"]["name"] in self.objects:
            raise Conflict("exists")
        return self._put(obj)

    def read(self, name):
        if name not in self.objects:
            raise NotFound(name)
        return copy.deepcopy(self.objects[name])

    def write(self, obj):
        manifests.validate(obj)
        if obj["metadata"].get("resourceVersion") != self.read(obj["metadata"]["name"])["metadata"]["resourceVersion"]:
            raise Conflict("changed")
        return self._put(obj)

    def delete(self, name):
        self.objects.pop(name, None)

    def status(self, name):
        wanted = manifests.weights(self.read(name))
        return Status(
            ready={p: self.ready[p] for p in wanted},
            weights=wanted,
            url=None,
            restarts={p: self.restarts[p] for p in wanted},
        )

    def wait_ready(self, name, timeout=60.0):
        return self.status(name)

    def counters(self, name):
        if self.fail_counters:
            raise self.fail_counters
        found = {}
        for predictor in manifests.weights(self.read(name)):
            found[predictor] = {}
            for pod, totals in self.sources[predictor].items():
                n, errors, slow, decisions, answered = (int(v) for v in totals)
                found[predictor][pod] = Counters(n, errors, {100: slow}, decisions, answered, at=self.now)
        return found

    def names(self):
        return sorted(name for name, obj in self.objects.items() if states.annotations(obj).get(states.STATE))

    def event(self, name, reason, text, warning=False):
        self.events.append((name, reason, text, warning))

    def pass_time(self, seconds=1.0, rate=60):
        weights = manifests.weights(self.read(self.name))
        self.now += seconds
        total = self.draw.poisson(rate * seconds)
        for predictor, n in zip(
            weights, self.draw.multinomial(total, [w / 100 for w in weights.values()]), strict=True
        ):
            errors, slow, decisions = self.rates[predictor]
            failed = self.draw.binomial(n, errors)
            pods = self.sources[predictor]
            pods[sorted(pods)[self.version % len(pods)]] += np.array(
                [n, failed, self.draw.binomial(n, slow), self.draw.binomial(n - failed, decisions), n - failed]
            )

    def requests(self):
        return int(sum(totals[0] for pods in self.sources.values() for totals in pods.values()))

    def clock(self):
        return self.now

    def state(self):
        return states.load(self.read(self.name))

    def weights(self):
        return manifests.weights(self.read(self.name))

    def _put(self, obj):
        self.version += 1
        stored = copy.deepcopy(obj)
        stored["metadata"].setdefault("uid", f"uid-{self.version}")
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.objects[obj["metadata"]["name"]] = stored
        text = states.annotations(stored).get(states.STATE, "")
        self.writes.append((manifests.weights(stored), states.load(stored).phase if text.endswith("}") else None))
        return copy.deepcopy(stored)


def check(world):
    """What holds of every object ever stored."""
    share = None
    for weights, phase in world.writes:
        assert sum(weights.values()) == 100 and min(weights.values()) >= 0
        if phase == states.ROLLED_BACK:
            share = weights.get("v2", 0) if share is None else share
            assert weights.get("v2", 0) <= share
        if phase == states.PROMOTED:
            assert weights == {"v2": 100}
    if world.state().phase == states.PROMOTED:
        assert all(r["log_e_promote"] >= RULES.promote_at for r in words.rows(world.state()))


def play_killed(world, make_loop, steps=300):
    """Play with two of three writes killed, one before it and one after it; a new loop goes on each time."""
    write, turn = world.write, 0

    def dying(obj):
        nonlocal turn
        turn += 1
        if turn % 3 == 1:
            raise Killed  # before the write: the step is lost
        stored = write(obj)
        if turn % 3 == 2:
            raise Killed  # after it: only the answer is lost
        return stored

    world.write = dying
    for _ in range(steps):
        world.pass_time()
        while True:
            try:
                state = make_loop().step().state
                break
            except Killed:
                continue
        if state.phase != states.RUNNING:
            break
