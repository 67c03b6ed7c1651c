"""The released object at the start of a release: begun, or gone on with where it is there already."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from serving import manifests, release_record
from serving.release_plan import Plan
from serving.rollout import state as states
from serving.rollout.journal import Journal
from serving.rollout.state import State
from serving.substrate.base import Conflict, NotFound, Substrate

TRIES = 5  # beside the first


def enter(substrate: Substrate, plan: Plan, on_event: Callable[[str], None]) -> State:
    """The state in the object, which has this release afterwards; Conflict when others keep on writing it.

    One write beside ours is looked at and tried again: an operator in a cluster writes its status at any time.
    The decision log stays in any case: the ledger refers to it.
    """
    for _ in range(TRIES):
        try:
            return _entered(substrate, plan, on_event)
        except Conflict:
            time.sleep(0.2)
    return _entered(substrate, plan, on_event)


def _entered(substrate: Substrate, plan: Plan, on_event: Callable[[str], None]) -> State:
    name, fresh = plan.obj["metadata"]["name"], plan.begun(time.time())
    wanted = states.store(states.annotated(plan.obj, plan.annotations), fresh)
    try:
        found = substrate.read(name)
    except NotFound:
        found = None
    known = states.load(found) if found else None
    if known and known.release == plan.name and states.candidate(found).get("spec") == plan.spec:
        on_event(f"{plan.name} goes on from where it was: {known.phase}, {known.reason or 'just begun'}")
        current = states.annotated(found, plan.annotations)
        if current != found and known.phase in states.UNDER_WAY:
            substrate.write(current)  # other rules than when it was begun: whoever goes on with it uses these
        return known
    for leftover in ("predictions", "journal.jsonl", "predictions.parquet", release_record.RECORD):
        path = plan.folder / leftover
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if found is None:
        substrate.create(wanted)
    else:
        kept = {k: found["metadata"][k] for k in ("uid", "resourceVersion", "generation") if k in found["metadata"]}
        substrate.write({**wanted, "metadata": {**wanted["metadata"], **kept}})
    return fresh


def begin_journal(plan: Plan, state: State) -> Journal:
    """The release's journal, which starts with its first weights."""
    journal = Journal(plan.folder / "journal.jsonl")
    if not journal.path.exists():
        weights = manifests.weights(plan.obj)
        by_role = {"stable": weights[plan.stable], "canary": weights[plan.canary]}
        journal.add("weights", [{"t": state.started, **by_role, "predictors": weights}])
    return journal
