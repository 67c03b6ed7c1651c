"""What must hold of the ledger and the decision log as they are on disk at the end."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from serving.rollout.replay import replay
from tests.robustness import commits as c
from tests.robustness.commits import Commit, commits
from tests.robustness.history import History

Found = Iterator[str]
LEDGER = "ledger.jsonl"


def the_ledger_is_whole(history: History) -> Found:
    """Each line follows the one before, and every line that was ever acknowledged is there, in order."""
    lines, previous = history.end.get(LEDGER, []), "0" * 64
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, dict):
            if number < len(lines):
                yield f"ledger line {number} is torn, and lines follow it"
            continue
        if line["previous"] != previous or line["seq"] != number or line["hash"] != _hash(line, "hash"):
            yield f"ledger line {number} does not follow the one before it"
        previous = line["hash"]
    kept = [line["hash"] for line in lines if isinstance(line, dict)]
    written = [event["line"]["hash"] for event in history.of("ledger")]
    if kept != written:
        yield f"the ledger has {len(kept)} lines; {len(written)} were written"


def each_verdict_is_in_the_ledger_once(history: History) -> Found:
    reached = [m for m in commits(history) if m.state["phase"] not in (m.old["phase"], "running")]
    lines = [line["entry"] for line in history.end.get(LEDGER, []) if isinstance(line, dict)]
    told = Counter((entry["what"], entry["release"], entry["spec"], _second(entry["started"])) for entry in lines)
    for commit in reached:
        state = commit.state
        times = told.pop((state["phase"], state["release"], state["spec"], round(state["started"], 3)), 0)
        if times > 1 or (times == 0 and _stayed(history, commit)):
            yield f"{commit.where}: {commit.state['phase']} is in the ledger {times} times"
    for what, times in told.items():
        yield f"the ledger says {what} {times} times, which no object ever was"


def _stayed(history: History, commit: Commit) -> bool:
    """Whether controllers could still see this verdict: its object was not deleted."""
    return all(event["i"] < commit.event["i"] for event in history.of("deleted"))


def _second(text: str) -> float:
    return round(datetime.fromisoformat(text).timestamp(), 3)


def nothing_written_to_the_log_is_lost(history: History) -> Found:
    for path in {event["path"] for event in history.of("logged")}:
        whole = [line for line in _log(history, path) if isinstance(line, dict)]
        kept = {line["head"]: line for line in whole}
        for event in history.of("logged"):
            if event["path"] == path and kept.get(event["line"]["head"]) != event["line"]:
                yield f"event {event['i']}: this line of {path}'s decision log is gone"
        for line in whole:
            if line["head"] != _hash(line, "head"):
                yield f"{path}'s decision log, seq {line['seq']}: its hash does not fit"


def replay_gives_the_same_decisions(history: History) -> Found:
    """Of each chain that an object ended with, in its release's own log; and each commit is the entry it names."""
    entries = {
        release: {line["head"]: line for line in _log(history, release) if isinstance(line, dict)}
        for release in _logs(history)
    }
    heads = {}
    for commit in commits(history):
        release = commit.state["release"]
        heads[commit.obj["metadata"]["uid"], release] = commit.state["head"]
        entry = entries.get(release, {}).get(commit.state["head"])
        wanted = entry["weights"] if entry and commit.state["head"] != commit.old["head"] else None
        if wanted and c.shares(commit.obj) != wanted:
            yield f"{commit.where}: the log says {wanted}, the object has {c.shares(commit.obj)}"
    for (uid, release), head in heads.items():
        known, chain = entries.get(release, {}), []
        while head in known:
            chain.insert(0, known[head])
            head = known[head]["previous"]
        if not chain or chain[0]["seq"] != 0:
            yield f"{uid}: the entry {head[:12]} is missing in the decision log of {release}"
            continue
        for step in replay(chain):
            if not step.same:
                yield f"{uid}: entry {step.entry['seq']} says {step.entry['action']}, replayed {step.decision.action}"


def _logs(history: History) -> set[str]:
    return {event["path"] for event in history.of("logged")}


def _log(history: History, release: str) -> list[Any]:
    return history.end.get(f"releases/{release}/decisions.jsonl", [])


def _hash(record: dict[str, Any], without: str) -> str:
    kept = {key: value for key, value in record.items() if key != without}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


FILE_CHECKS = (
    the_ledger_is_whole,
    each_verdict_is_in_the_ledger_once,
    nothing_written_to_the_log_is_lost,
    replay_gives_the_same_decisions,
)
