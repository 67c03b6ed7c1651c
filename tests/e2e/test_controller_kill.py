"""kill -9 of the real controller, the real servers and the real Envoy, under live traffic, all through a release.

A release that is promoted is killed at least twenty times, a bad one as often as its end allows. It must end in
the right verdict, and no request may fail by the controller's doing: with kills of the controller alone none at
all, with kills of servers and Envoy only those that were on their way when one died or came before it was up again.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from seaway import ledger
from seaway.artifacts import canonical_json
from seaway.config import load, project_root
from seaway.evidence.rates import Rail
from serving import manifests
from serving.rollout import state as states
from serving.rollout.replay import replay
from serving.rollout.rules import Rules
from serving.rollout.state import PROMOTED, ROLLED_BACK, UNDER_WAY
from serving.substrate.base import PREDICTOR_HEADER
from serving.substrate.local import LocalSubstrate
from tests.serving.conftest import Traffic, bundles, message  # noqa: F401

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not (project_root() / ".venv-serving" / "bin" / "python").exists(), reason="needs the serving environment"
    ),
]
NAME = "shop"
KILLS = 20
NEEDED = 1000  # requests to the canary, about, until the tightest guardrail is proven
HEALED_S = 12.0  # from the kill of a server or of Envoy until no request fails any more, on a busy machine
MEMORY_MIB = 160
SETTINGS = {
    "release": {
        "block": "1s",
        "cap": "900s",
        "crashes": 100,  # the servers are killed by us
        "guardrails": {
            "errors": {"margin": 0.02},
            "latency": {"margin": 0.2, "slo_ms": 1000},
            "decisions_up": {"margin": 0.004},  # takes long, so that all kills come before the verdict
            "decisions_down": {"margin": 0.01},
        },
    }
}
HOLDER = """
    import sys, time
    from pathlib import Path
    from serving.substrate.local import LocalSubstrate
    substrate = LocalSubstrate(Path(sys.argv[1]))
    substrate.start()
    print(substrate.wait_ready(sys.argv[2]).url, flush=True)
    time.sleep(3600)
"""


class Caller(Traffic):
    """Live traffic; ``calls``: (when it was sent, when it ended, status, predictor that Envoy named, version in it)."""

    def __init__(self, url: str, rate: float) -> None:
        super().__init__(url, rate)
        self.calls: list[tuple[float, float, int, str, str]] = []

    async def _one(self, session) -> None:
        import aiohttp

        start, status, predictor, version = time.time(), -1, "", ""
        try:
            async with session.post(self.url, json=message()) as answer:
                status, predictor = answer.status, answer.headers.get(PREDICTOR_HEADER, "")
                if status == 200:
                    version = (await answer.json())["meta"]["tags"]["model_version"]
        except (aiohttp.ClientError, TimeoutError):
            status = -1
        self.calls.append((start, time.time(), status, predictor, version))


@dataclass
class Release:
    """A release under way: who serves it, who decides on it, and what was killed when."""

    home: Path
    holder: subprocess.Popen
    url: str
    controller: subprocess.Popen | None = None
    kills: list[tuple[float, str]] = field(default_factory=list)
    memory: int = 0  # most bytes that a controller held
    seq: int = 0  # of the last decision when the controller started

    def committed(self, seq: int, seconds: float = 90.0) -> None:
        """Wait until a decision after this one is in the object."""
        deadline = time.monotonic() + seconds
        while (state := self.state()).seq <= seq and state.phase in UNDER_WAY:
            assert time.monotonic() < deadline, f"the controller decides nothing\n{self.log()}"
            time.sleep(0.05)

    def control(self) -> None:
        self.seq = self.state().seq
        output = (self.home / "controller.log").open("ab")
        self.controller = subprocess.Popen(
            [sys.executable, "-m", "serving.rollout.controller", "--env", "local", "--home", str(self.home)],
            cwd=project_root(),
            stdout=output,
            stderr=output,
        )

    def kill(self, who: str) -> None:
        if who == "controller":
            self.measure()
            process = self.controller
            process.kill()
            self.kills.append((time.time(), who))
            process.wait()
            self.control()
            return
        victim = self.find(who)
        if victim is not None:
            victim.kill()
            self.kills.append((time.time(), who))

    def find(self, who: str) -> psutil.Process | None:
        operator = psutil.Process(json.loads((self.home / "run" / "operator.json").read_text())["pid"])
        for child in operator.children():
            if who == "envoy" and "envoy" in child.name():
                return child
            if who != "envoy" and child.environ().get("PREDICTOR_ID") == who:
                return child
        return None

    def measure(self) -> None:
        try:
            found = psutil.Process(self.controller.pid).memory_info().rss
        except psutil.NoSuchProcess:
            return
        self.memory = max(self.memory, found)

    def state(self) -> states.State:
        return states.load(LocalSubstrate(self.home).read(NAME))

    def log(self) -> str:
        return (self.home / "controller.log").read_text()[-3000:]


@pytest.fixture
def begin(tmp_path, bundles):  # noqa: F811
    """Starts a release of v2 against v1; ``errors``: that guardrail's margin; ``faults`` harm v2."""
    started = []

    def make(errors: float = 0.02, **faults) -> Release:
        config = load(overrides={**SETTINGS, "home": str(tmp_path)})
        rules = replace(Rules.of(config.release), pairs={}, loss=None, mirror=0)  # what rates alone decide
        rules = replace(rules, rails={**rules.rails, "errors": Rail(errors)})
        kind = "serving.faults.FaultyModelServer" if faults else "serving.model_server.ModelServer"
        first = rules.ramp[0]
        own = replace(bundles, folder=tmp_path)  # signed with the keys of this home, which the controller trusts
        one, two = (own.make(v, bias=-30.0) for v in ("1", "2"))
        listed = [
            manifests.Predictor("v1", 100 - first, one, own.store, "seaway", "1", own.trusted(one)),
            manifests.Predictor("v2", first, two, own.store, "seaway", "2", {**own.trusted(two), **faults}, kind),
        ]
        obj = manifests.seldon_deployment(NAME, "default", listed)
        fresh = states.begin("shop-2", "v1", "v2", states.spec_hash(obj, "v1", "v2"), time.time(), rules.rails)
        obj = states.annotated(obj, {states.RULES: canonical_json(rules.record())})
        LocalSubstrate(tmp_path).create(states.store(obj, fresh))
        holder = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path), NAME],
            stdout=subprocess.PIPE,
            text=True,
            cwd=project_root(),
        )
        url = holder.stdout.readline().strip()
        assert url, "the substrate did not start"
        release = Release(tmp_path, holder, url)
        started.append(release)
        return release

    yield make
    for release in started:
        for process in (release.controller, release.holder):
            if process is not None:
                process.terminate()
        for process in (release.controller, release.holder):
            if process is not None:
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def through(release: Release, draw: random.Random, others: list[str]) -> Caller:
    """Traffic and kills until the verdict is there and settled; ``others``: what is killed besides the controller."""
    start, deadline = time.monotonic(), time.monotonic() + 1000
    release.control()
    release.committed(0)
    cycle = time.monotonic() - start + 1.5  # a busy machine takes longer to start a controller: it gets fewer requests
    with Caller(release.url, min(60.0, max(5.0, NEEDED / (0.4 * 1.6 * KILLS * cycle)))) as caller:
        while release.state().phase in UNDER_WAY:
            assert time.monotonic() < deadline, f"no verdict: {release.state().reason}\n{release.log()}"
            if draw.random() < 0.8:  # else it dies wherever it is, most likely while it starts
                release.committed(release.seq)
            time.sleep(draw.uniform(0, 1.5))
            if release.state().phase not in UNDER_WAY:
                break
            release.kill(others.pop() if others and len(release.kills) % 3 == 2 else "controller")
        decided = time.monotonic()
        while time.monotonic() < decided + 3 or not (release.home / "ledger.jsonl").exists():
            assert time.monotonic() < decided + 60, f"the verdict is not in the ledger\n{release.log()}"
            time.sleep(0.1)
        release.measure()
    return caller


def judged(release: Release, caller: Caller, phase: str, kills: int = KILLS) -> None:
    """The verdict, what the callers got, and what the controller left behind."""
    state = release.state()
    assert state.phase == phase, f"{state.reason}\n{release.log()}"
    winner = "v2" if phase == PROMOTED else "v1"
    assert manifests.weights(LocalSubstrate(release.home).read(NAME)) == {winner: 100}
    answered = [call for call in caller.calls if call[2] == 200]
    # Envoy names the predictor that it gave the request to, the answer the version that answered: another one only
    # when the first was dead
    assert {call[3] for call in answered} <= {"v1", "v2"} and {call[4] for call in answered} <= {"1", "2"}
    crossed = [call for call in answered if call[3] != f"v{call[4]}"]
    assert all(after_a_kill(release, start, end) for start, end, *_ in crossed), crossed[:5]
    lines = ledger.read(release.home / "ledger.jsonl")
    assert ledger.verify(release.home / "ledger.jsonl")["entries"] == len(lines)
    assert [line["entry"]["what"] for line in lines] == [phase]
    chain = chain_of(release, state.head)
    assert chain and all(step.same for step in replay(chain))
    assert len(release.kills) >= kills, f"{len(release.kills)} kills before the verdict"
    assert release.memory <= MEMORY_MIB << 20
    took = written(release) - chain[-1]["at"]
    assert took <= 5
    kinds = {who: sum(w == who for _, w in release.kills) for who in sorted({w for _, w in release.kills})}
    failed = [call for call in caller.calls if call[2] != 200]
    print(
        f"\n{phase}: {len(release.kills)} kills {kinds}, {len(caller.calls)} requests, {len(failed)} failed; "
        f"controller {release.memory / 2**20:.0f} MiB; decided and written {took * 1000:.0f} ms after the look"
    )


def chain_of(release: Release, head: str) -> list[dict]:
    from serving.rollout.decisions import DecisionLog

    return DecisionLog(release.home / "releases" / "shop-2" / "decisions.jsonl").chain(head)


def written(release: Release) -> float:
    """When the object was last written: its resourceVersion comes from the clock."""
    return int(LocalSubstrate(release.home).read(NAME)["metadata"]["resourceVersion"]) / 1e9


def seed() -> random.Random:
    return random.Random(int(os.environ.get("SEAWAY_SEED", "20261122")))


def test_a_controller_killed_twenty_times_promotes_a_good_canary_and_fails_no_request(begin):
    release = begin()
    caller = through(release, seed(), [])
    judged(release, caller, PROMOTED)
    assert {call[2] for call in caller.calls} == {200}


def test_controller_servers_and_envoy_killed_the_good_canary_is_promoted(begin):
    release = begin(errors=0.3)  # what is lost with a killed server is its predictor's error
    others = ["v1", "envoy", "v2", "envoy", "v1", "v2"]
    caller = through(release, seed(), others)
    judged(release, caller, PROMOTED)
    assert {who for _, who in release.kills} == {"controller", "v1", "v2", "envoy"}
    failed_only_after_kills(release, caller)


def test_controller_killed_the_bad_canary_is_rolled_back_and_fails_only_what_it_fails_itself(begin):
    release = begin(error_rate=0.03, seed=1)  # more than the margin of 2 %
    caller = through(release, seed(), [])
    judged(release, caller, ROLLED_BACK)
    assert {call[3] for call in caller.calls if call[2] != 200} == {"v2"}
    gone = written(release) + 5
    assert {call[3] for call in caller.calls if call[0] > gone} <= {"v1"}


def failed_only_after_kills(release: Release, caller: Caller) -> None:
    for start, end, status, predictor, _ in caller.calls:
        if status != 200:
            assert after_a_kill(release, start, end), f"status {status} of {predictor!r}, and nothing was killed before"


def after_a_kill(release: Release, start: float, end: float) -> bool:
    """Whether a call may have met a server or an Envoy that was killed."""
    moments = [when for when, who in release.kills if who != "controller"]
    return any(start - 0.5 <= when + HEALED_S and end >= when for when in moments)
