"""The controller: one loop for every released object of its substrate, until it is told to stop.

    python -m serving.rollout.controller --env prod [--workload FILE] [--once] [--home DIR]

It needs no state of its own: rules, evidence and cursors are in the objects, and any number of controllers
may run at once. The lease only saves them from doing the same work twice. ``--once`` takes one step on every
object and ends. Logs, journals and the ledger go below ``home``.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from seaway.config import Config, load
from seaway.errors import SeawayError
from serving import bundle_check
from serving.release_plan import answers_folder
from serving.rollout import rules as rules_of
from serving.rollout import state as states
from serving.rollout.decisions import NAME, DecisionLog
from serving.rollout.feeds import Pairs, pairs_of
from serving.rollout.gauges import Gauges, serve
from serving.rollout.journal import Journal
from serving.rollout.loop import BEATEN, Rollout
from serving.rollout.policy import LONGEST_BLOCK_S
from serving.rollout.state import UNDER_WAY, State
from serving.substrate.base import Substrate

AGAIN_S = 0.2  # after a write that came second: an operator in a cluster writes its status whenever a pod changes
LIST_S = 5.0  # between two looks for objects, and at those that are decided
LEASE = "seaway-controller"
LEASE_S = 15


class Controller:
    """``say`` gets one line of text for each thing worth saying."""

    def __init__(self, config: Config, substrate: Substrate, say: Callable[[str], None] = print) -> None:
        self.config, self.substrate, self.say = config, substrate, say
        self._loops: dict[str, tuple[tuple[Any, ...], Rollout]] = {}
        self._due: dict[str, float] = {}
        self._said = ""
        self.gauges = Gauges()

    def step(self) -> float:
        """One step on every object that is due; seconds until the next one is."""
        now = time.monotonic()
        try:
            names = self.substrate.names()
        except (OSError, SeawayError) as error:
            self._complain(f"cannot list the objects: {error}")
            return min(LIST_S, 1.0)
        self.gauges.round(names)
        for gone in set(self._due) - set(names):
            self._due.pop(gone), self._loops.pop(gone, None)
        for name in names:
            if self._due.get(name, 0.0) <= now:
                self._due[name] = now + self._step(name)
        return max(0.0, min([LIST_S, *(due - time.monotonic() for due in self._due.values())]))

    def _step(self, name: str) -> float:
        try:
            obj = self.substrate.read(name)
            state = states.load(obj)
            if state is None:
                return LIST_S
            loop = self._loop(obj, state)
            decision = loop.step()
            self.gauges.note(name, obj, decision.state, rules_of.load(obj))
            if decision.reason == BEATEN:
                return AGAIN_S
            if decision.state.phase not in UNDER_WAY:
                return LIST_S
            return min(rules_of.load(obj).block, LONGEST_BLOCK_S)
        except (OSError, SeawayError) as error:
            self._complain(f"{name}: cannot go on yet: {error}")
            return 1.0
        except Exception as error:  # an object that others can write must not end the care of all others
            self._complain(f"{name}: cannot go on, its object is damaged: {type(error).__name__}: {error}")
            return LIST_S

    def _loop(self, obj: dict[str, Any], state: State) -> Rollout:
        name = obj["metadata"]["name"]
        key = (state.release, states.annotations(obj).get(states.CANDIDATE), states.annotations(obj).get(states.RULES))
        if name not in self._loops or self._loops[name][0] != key:
            folder = self.config.home / "releases" / state.release
            loop = Rollout(
                self.substrate,
                name,
                log=DecisionLog(folder / NAME),
                ledger=self.config.home / "ledger.jsonl",
                journal=Journal(folder / "journal.jsonl"),
                pairs=self._pairs(obj, state),
                artifact=bundle_check.checker(self.config),
                on_event=lambda text: self.say(f"{name}: {text}"),
                release=state.release,
            )
            self._loops[name] = (key, loop)
        return self._loops[name][1]

    def _pairs(self, obj: dict[str, Any], state: State) -> Pairs | None:
        identity = states.candidate(obj)
        try:
            rules = rules_of.load(obj)
        except SeawayError:
            return None  # the loop says so
        return pairs_of(
            self.config,
            rules,
            obj["metadata"]["name"],
            stable=identity.get("champion"),
            canary=identity.get("version"),
            folder=answers_folder(self.config),
            on_event=self.say,
        )

    def _complain(self, text: str) -> None:
        self.gauges.failed()
        if text != self._said:
            self._said = text
            self.say(text)


def run(controller: Controller, stop: threading.Event, holds: Callable[[], bool]) -> None:
    """Step until ``stop``, as long as ``holds`` says that the lease is ours."""
    while not stop.is_set():
        try:
            mine = holds()
        except (OSError, SeawayError):
            mine = True  # the lease only saves work: who cannot ask for it goes on
        stop.wait(controller.step() if mine else 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m serving.rollout.controller", description=__doc__.split("\n")[0])
    parser.add_argument("--env", default="local")
    parser.add_argument("--workload", type=Path, metavar="FILE.yaml")
    parser.add_argument("--home", type=Path)
    parser.add_argument("--once", action="store_true", help="one step on every object, then end")
    parser.add_argument("--metrics-port", type=int, default=0, metavar="PORT", help="a page for Prometheus; 0: none")
    args = parser.parse_args(arguments)
    try:
        overrides = {"home": str(args.home)} if args.home else None
        config = load(args.env, workload=args.workload, overrides=overrides)
        return run_controller(config, args.once, args.metrics_port)
    except SeawayError as error:
        print(f"controller: {error}", file=sys.stderr, flush=True)
        return 2


def run_controller(config: Config, once: bool, metrics: int = 0) -> int:
    """The controller of a configuration, until a signal; ``once``: one step. The process's exit code.

    ``metrics``: port of its page for Prometheus; 0: it has none.
    """
    from serving.substrate.choose import substrate_of

    substrate = substrate_of(config)
    controller = Controller(config, substrate, lambda text: print(text, flush=True))
    if once:
        controller.step()
        return 0
    if metrics:
        serve(controller.gauges, metrics)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    lease = _Lease(substrate, config.home)
    alive = config.home / "run" / "alive"  # a probe looks how old it is
    alive.parent.mkdir(parents=True, exist_ok=True)

    def holds() -> bool:
        alive.touch()
        return lease.hold()

    run(controller, stop, holds)
    lease.release()
    return 0


class _Lease:
    """The substrate's lease where it has one, renewed every third of its time; else a lock on a file in ``home``."""

    def __init__(self, substrate: Any, home: Path) -> None:
        make = getattr(substrate, "lease", None)
        self._lease = make(LEASE, f"{socket.gethostname()}-{os.getpid()}", LEASE_S) if make else None
        self._home, self._file = home, None
        self._mine, self._asked = False, 0.0

    def hold(self) -> bool:
        if self._lease is None:
            return self._locked()
        if not self._mine or time.monotonic() - self._asked > LEASE_S / 3:
            self._mine, self._asked = self._lease.hold(), time.monotonic()
        return self._mine

    def release(self) -> None:
        if self._lease is not None and self._mine:
            try:
                self._lease.release()
            except (OSError, SeawayError):
                return  # it runs out by itself

    def _locked(self) -> bool:
        if self._file is None:
            self._file = self._opened()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _opened(self) -> IO[str]:
        path = self._home / "run" / "controller.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")


if __name__ == "__main__":
    raise SystemExit(main())
