"""What a release decided, when and why: its decision log, replayed, in plain words with numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from serving.rollout.replay import Step
from serving.rollout.rules import Rules
from serving.rollout.view import clock, full_name, number, seen
from serving.rollout.words import kind

QUIET = ("hold", "freeze")
_IDS = (("spec", "spec"), ("model", "digest"), ("bundle", "bundle"), ("run", "run"), ("rules", "rules"))


def explained(steps: Sequence[Step], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of text about a whole release; ``rows``: its last evidence, as ``commands.evidence`` has it."""
    state, rules = steps[-1].decision.state, steps[-1].rules
    yield f"{state.release}: {state.canary} against {state.stable}, {steps[-1].entry['phase']}"
    yield _rules(rules)
    yield ""
    yield from _story(steps)
    yield ""
    yield f"Evidence at the end ({clock(state.observed)} observed)"
    for row in rows:
        yield from _guardrail(row)
    yield ""
    yield _agreement(steps)


def _rules(rules: Rules) -> str:
    ramp = ", ".join(f"{share} %" for share in rules.ramp)
    text = f"ramp {ramp}; promoted when every E promote reaches {number(rules.promote_at)}, rolled back when any "
    text += f"E roll back reaches {number(rules.rollback_at)}; at most {clock(rules.cap)} observed"
    if rules.loss:
        text += f"; then {rules.loss.holdback} % stay with the old version until labels confirm, at most "
        text += clock(rules.loss.wait)
    return text


def _story(steps: Sequence[Step]) -> Iterator[str]:
    """Each decision that changed something, with what was waited for in between."""
    start = steps[0].decision.state.started
    waiting: list[Step] = []
    for step in steps:
        if step.entry["action"] in QUIET and step is not steps[-1]:
            waiting.append(step)
            continue
        yield from _waited(waiting, start)
        waiting = []
        yield _stamp(step, start) + f"{step.entry['action']}: {step.entry['reason']}" + _shares(step)


def _waited(steps: Sequence[Step], start: float) -> Iterator[str]:
    """Holds, grouped by the kind of their reason (what comes before its first number)."""
    kinds = Counter(_group(step.entry["reason"]) for step in steps)
    last = {_group(step.entry["reason"]): step for step in steps}
    for text, times in kinds.items():
        step = last[text]
        yield f"{'':19}held {times} times, the last time at {_after(step, start)}: {step.entry['reason']}"


def _group(reason: str) -> str:
    """A reason's kind without the numbers in it."""
    head = kind(reason)
    return " ".join(word for word in head.split() if not any(c.isdigit() for c in word)) or head


def _stamp(step: Step, start: float) -> str:
    at = datetime.fromtimestamp(float(step.entry["at"]), UTC)
    return f"{at:%H:%M:%S} {'+' + _after(step, start):>9} "


def _after(step: Step, start: float) -> str:
    return clock(float(step.entry["at"]) - start)


def _shares(step: Step) -> str:
    weights = step.entry.get("weights")
    return f" -> {', '.join(f'{name} {share} %' for name, share in weights.items())}" if weights else ""


def _guardrail(row: Mapping[str, Any]) -> Iterator[str]:
    promote, rollback = row["log_e_promote"], row["log_e_rollback"]
    yield f"  {full_name(row)}: {'; '.join(words for words in seen(row) if words)}"
    said = f"    E promote {number(promote)} of {number(row['promote_at'])}"
    yield said + (": shown to be no worse by its margin" if promote >= row["promote_at"] else f": {needed(row)}")
    said = f"    E roll back {number(rollback)} of {number(row['rollback_at'])}"
    yield said + (": harm proven" if rollback >= row["rollback_at"] else ": no proof of harm")


def needed(row: Mapping[str, Any]) -> str:
    """What was missing for a promotion, and how much more of the same it would have taken."""
    gap = row["promote_at"] - row["log_e_promote"]
    text = f"{number(gap)} times too little"
    n = row["canary"]["n"] if "canary" in row else row.get("n", 0)
    if not n:
        return text + ", for want of data"
    what = "requests to the canary" if "canary" in row else "pairs"
    if row["log_e_promote"] <= 0:
        return text + f"; {n:,} {what} point to no proof at all"
    more = n * gap / row["log_e_promote"]
    return text + f"; like the first {n:,}, about {_round(more):,} more {what} would have been needed"


def _round(value: float) -> int:
    """To two significant digits: it is an estimate."""
    return int(float(f"{value:.2g}")) or 1


def _agreement(steps: Iterable[Step]) -> str:
    counted = list(steps)
    wrong = [step for step in counted if not step.same]
    if not wrong:
        return f"Replayed {len(counted)} decisions from the log: each came out the same."
    return (
        f"Replayed {len(counted)} decisions from the log: {len(wrong)} came out differently, the first is "
        f"entry {wrong[0].entry['seq']} (stored {wrong[0].entry['action']}, replayed {wrong[0].decision.action})."
    )


def ledger_line(line: Mapping[str, Any]) -> str:
    """One line of the ledger for people."""
    entry = line["entry"]
    version = f"version {entry['version']}" if entry.get("version") else "a version"
    against = f" against {entry['champion']}" if entry.get("champion") else ""
    ids = [f"{name} {str(entry[key])[:12]}" for name, key in _IDS if entry.get(key)]
    ids += [f"{entry['log']['seq']} decisions"] if (entry.get("log") or {}).get("seq") else []
    text = f"{line['seq']:>4}  {str(line['time'])[:19].replace('T', ' ')}  {entry['release']}: {version}{against} "
    text += f"{entry['what']}, by {entry['who']}\n      {entry['why']}"
    return text + (f"\n      {', '.join(ids)}" if ids else "")
