"""What people do to a release meanwhile: through the same annotations as the commands, or by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from seaway.artifacts import canonical_json
from serving import manifests
from serving.rollout import state as states
from serving.substrate.base import Conflict, NotFound
from tests.robustness.client import Faults
from tests.robustness.scenario import RATE_KINDS, Scenario
from tests.robustness.world import CANARY, NAME, STABLE, World

SHADOW = f"{CANARY}-shadow"


def begun(scenario: Scenario, now: float, release: str = "shop-2") -> dict[str, Any]:
    """The object at a release's start, as `seaway release start` writes it."""
    rules, share = scenario.rules, scenario.rules.ramp[0]
    listed = [
        manifests.Predictor(STABLE, 100 - share, "/bundles/1", version="1"),
        manifests.Predictor(CANARY, share, "/bundles/2", version="2"),
    ]
    if rules.mirror:
        listed.append(manifests.Predictor(SHADOW, rules.mirror, "/bundles/2", version="2", shadow=True))
    obj = manifests.seldon_deployment(NAME, "default", listed)
    state = states.begin(release, STABLE, CANARY, states.spec_hash(obj, STABLE, CANARY), now, rules.rails)
    return states.store(states.annotated(obj, {states.RULES: canonical_json(rules.record())}), state)


class People:
    def __init__(self, world: World, faults: Faults) -> None:
        self.world, self.faults = world, faults
        self.draw = np.random.default_rng([world.scenario.seed, 4])
        self.specs = 0

    def wanted(self) -> list[str]:
        """What they will do in this period."""
        return [what for what, share in self.world.scenario.people.items() if self.draw.random() < share]

    def act(self, what: str) -> None:
        """One thing, as a read and a write between which a controller may move; a Conflict makes them give up."""
        try:
            obj = self.world.read(NAME)
            state = states.load(obj)
            if state is None or state.phase not in states.UNDER_WAY:
                return
            self.world.history.add("fault", self.world.now, "person", what=what, where="person")
            self.faults.turns.pause()
            if what.startswith("recreated"):
                self._recreate(obj, state, what)
            else:
                self.world.write(self._changed(obj, what))
        except (Conflict, NotFound):
            return

    def calm(self) -> None:
        """Lift a freeze, so that the release can end."""
        obj = self.world.objects.get(NAME)
        if obj and states.is_frozen(obj):
            self.world.write(states.annotated(self.world.read(NAME), {states.FREEZE: None}))

    def _changed(self, obj: dict[str, Any], what: str) -> dict[str, Any]:
        if what == "freeze":
            return states.annotated(obj, {states.FREEZE: None if states.is_frozen(obj) else "ada"})
        if what in ("abort", "promote"):
            return states.annotated(obj, {{"abort": states.ABORT, "promote": states.PROMOTE}[what]: "ada asks"})
        if what == "weight edit" and {STABLE, CANARY} <= set(manifests.weights(obj)):
            share = int(self.draw.integers(0, 101))
            return manifests.with_traffic(obj, {STABLE: 100 - share, CANARY: share})
        if what == "canary removed" and STABLE in manifests.weights(obj):
            return manifests.with_traffic(obj, {STABLE: 100})
        if what == "new spec":
            return self._other_bundle(obj)
        return states.annotated(obj, {"note": str(self.draw.integers(1000))})

    def _other_bundle(self, obj: dict[str, Any]) -> dict[str, Any]:
        self.specs += 1
        bundle, scenario = f"/bundles/2-{self.specs}", self.world.scenario
        truth = str(self.draw.choice(["good", "edge", "bad"]))
        self.world.truths[bundle] = scenario.rates(truth, "" if truth == "good" else str(self.draw.choice(RATE_KINDS)))
        changed = copy.deepcopy(obj)
        for predictor in changed["spec"]["predictors"]:
            if predictor["name"] in (CANARY, SHADOW):
                for parameter in predictor["graph"]["parameters"]:
                    if parameter["name"] == "bundle":
                        parameter["value"] = bundle
        return changed

    def _recreate(self, obj: dict[str, Any], state: states.State, what: str) -> None:
        self.world.delete(NAME)
        self.faults.turns.pause()
        if "without" in what:
            obj = states.annotated(obj, {states.STATE: None})
            if self.draw.random() < 0.5:  # they start a release again
                obj = begun(self.world.scenario, self.world.now, f"{state.release}-again")
        self.world.create(obj)
