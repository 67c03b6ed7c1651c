"""The start of a release by a pipeline: the released object gets the candidate, and the controller there decides.

It stands here and not among the components because it needs serving, which they do not know. On one machine a
release replays requests at that machine's own expense, so that a person starts it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seaway.artifacts import read_json, write_json
from seaway.config import Config
from seaway.errors import NotFound, SeawayError
from seaway.progress import say


def start(config: Config, request: Path, features: Path, out: Path) -> dict[str, Any]:
    """Enter the release of ``request``/release.json and write ``out``/started.json: release, phase, object, namespace.

    Before the first release of all, the online store gets the state after the newest event of ``features``; from
    then on the stream of events writes it. Again for the same release it changes nothing. Raises SeawayError while
    another release is under way: it keeps its traffic, and this step can be tried again after its verdict.
    """
    wanted = read_json(request / "release.json")
    record: dict[str, Any] = {"release": wanted["name"], "started": config.serving.substrate != "local"}
    if record["started"]:
        record |= _entered(config, wanted, features)
    else:
        say(f"`seaway release start` replays {wanted['name']} on this machine")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "started.json", record)
    return record


def _entered(config: Config, wanted: dict[str, Any], features: Path) -> dict[str, Any]:
    from serving.caught_up import catch_up
    from serving.fill_store import fill
    from serving.release_enter import enter
    from serving.release_follow import follow
    from serving.release_plan import plan
    from serving.rollout.state import PROMOTED
    from serving.substrate.choose import substrate_of

    place = substrate_of(config)
    catch_up(config, substrate=place, on_event=say)
    made = plan(config, wanted)
    name = made.obj["metadata"]["name"]
    if not _served(place, name, made.name):
        written = fill(config, features)
        say(f"online store filled: {', '.join(f'{count:,} entities of {view}' for view, count in written.items())}")
    if made.champion:
        state = enter(place, made, say)
    else:  # nothing to compare with: it has to serve
        state = follow(place, made, say)
        if state.phase == PROMOTED:
            _promote(config, made)
    say(f"{made.name} is {state.phase} in {config.serving.namespace}/{name}: `seaway release watch` shows it")
    return {"phase": state.phase, "object": name, "namespace": config.serving.namespace}


def _served(place: Any, name: str, release: str) -> bool:
    """Whether there is a released object already; SeawayError when it is under another release."""
    from serving.rollout import state as states

    try:
        known = states.load(place.read(name))
    except NotFound:
        return False
    if known and known.phase == states.RUNNING and known.release != release:
        raise SeawayError(
            f"{name!r} is under the release {known.release}, which has no verdict yet, so {release} was not started: "
            "wait for it (`seaway release watch`) or end it (`seaway release abort REASON`), and resume this run"
        )
    return True


def _promote(config: Config, made: Any) -> None:
    from seaway.registry import Registry

    Registry.of(config).promote(str(made.candidate["version"]), release=str(made.candidate.get("release") or ""))
