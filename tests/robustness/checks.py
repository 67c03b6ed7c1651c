"""What must hold of every history; pure, and on the recorded events alone. A check yields its violations as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.robustness import commits as c
from tests.robustness.commits import Commit, commits
from tests.robustness.fold import Known, fold
from tests.robustness.history import History

LIMIT = 65_536
Found = Iterator[str]


def weights_are_whole_and_sum_to_100(history: History) -> Found:
    for event in history.of("stored"):
        values = list(c.shares(event["obj"]).values())
        if any(type(v) is not int or v < 0 for v in values) or sum(values) != 100:
            yield f"event {event['i']} ({event['actor']}): weights {c.shares(event['obj'])}"


def at_most_one_canary(history: History) -> Found:
    for event in history.of("stored"):
        listed = event["obj"]["spec"]["predictors"]
        shadows = [p["name"] for p in listed if p.get("shadow")]
        if len(listed) - len(shadows) > 2 or len(shadows) > 1 or (shadows and len(listed) < 3):
            yield f"event {event['i']} ({event['actor']}): predictors {[p['name'] for p in listed]}"


def a_controller_changes_weights_and_nothing_else(history: History) -> Found:
    """What is promoted is what was tested."""
    for commit in commits(history):
        old, new = c.specs(commit.before), c.specs(commit.obj)
        changed = [name for name, text in new.items() if old.get(name) != text]
        if changed:
            yield f"{commit.where}: it changed the spec of {changed}"


def no_write_by_a_stale_actor_succeeds(history: History) -> Found:
    logged: dict[str, dict] = {}
    stored = {e["i"]: commit for commit in commits(history) for e in [commit.event]}
    for event in history.of("logged", "stored"):
        if event["kind"] == "logged":
            logged[event["line"]["head"]] = event["line"]
            continue
        commit = stored.get(event["i"])
        if commit is None:
            continue
        held = [commit.before["metadata"][key] for key in ("resourceVersion", "uid")]
        if event["carried"] != held:
            yield f"{commit.where}: it wrote over {held} and had asked for {event['carried']}"
        if commit.seen.get("read") != held:
            yield f"{commit.where}: it wrote over {held} and had decided on {commit.seen.get('read')}"
        if commit.state["head"] == commit.old["head"]:
            continue
        entry = logged.get(commit.state["head"])
        if entry is None:
            yield f"{commit.where}: its decision was not in the log before the object was written"
        elif not commit.old["head"] and logged.get(entry["previous"], {}).get("seq") == 0:
            if logged[entry["previous"]]["state"] != commit.old:
                yield f"{commit.where}: the log does not begin with the state that was there"
        elif entry["previous"] != commit.old["head"]:
            yield f"{commit.where}: its decision does not follow the one that it replaced"
        elif entry["phase"] != commit.state["phase"]:
            yield f"{commit.where}: the log says {entry['phase']}, the object {commit.state['phase']}"


def promoted_only_with_proof(commit: Commit, known: Known) -> Found:
    """With the evidence of exactly this object, these specs and these rules, added up again from what was seen."""
    if not commit.promotes:
        return
    rules = c.rules_of(commit.obj)
    wanted = [*rules["rails"], *rules["pairs"]]
    if commit.state["phase"] == "promoted" and rules["loss"]:
        wanted.append("loss")
        if commit.old["phase"] != "provisional":
            yield f"{commit.where}: promoted without the stage of labels, from {commit.old['phase']}"
    if commit.state["phase"] == "provisional" and not rules["loss"]:
        yield f"{commit.where}: provisional without labels to wait for"
    for name in wanted:
        e = known.e_promote(name)
        if e < 1 / rules["alpha_promote"]:
            yield f"{commit.where}: {commit.state['phase']} with E_promote of {name} = {e:.4g}"
    if known.split_e() >= 1000:
        yield f"{commit.where}: {commit.state['phase']} though the gateway does not split as told"
    if commit.seen.get("artifact"):
        yield f"{commit.where}: {commit.state['phase']} though {commit.seen['artifact']}"


def the_cap_never_promotes(commit: Commit, known: Known) -> Found:
    rules = c.rules_of(commit.obj)
    if commit.promotes and commit.old["phase"] == "running" and known.observed >= rules["cap"]:
        yield f"{commit.where}: {commit.state['phase']} after {known.observed:.0f} of {rules['cap']:.0f} s"


def evidence_is_what_was_seen(commit: Commit, known: Known) -> Found:
    """The stored evidence never has more than was really served, and is that of the readings, added up again."""
    if commit.told_to_stop:
        return  # what it had learnt about what there was before stays as it was
    for name, kept in commit.state["evidence"].items():
        exchanged = name == "decisions_down"
        counts = {"stable": kept["n_c" if exchanged else "n_s"], "canary": kept["n_s" if exchanged else "n_c"]}
        for role, n in counts.items():
            bundle = c.bundle_of(commit.before, commit.state[role])
            served = commit.event["served"].get(bundle, 0)
            if n > served:
                yield f"{commit.where}: {name} counts {n} requests of the {role}, which got {served}"
        again = known.counts(name)
        held = kept["n_s"], kept["k_s"], kept["n_c"], kept["k_c"]
        if again != held:
            yield f"{commit.where}: {name} holds {held}, seen was {again}"


def no_request_counts_twice(history: History) -> Found:
    """Since the evidence began (and some time before it: the first reading may be old) no more than was served."""
    periods = [(event["t"], event["value"]) for event in history.of("served")]
    began: dict[str, float] = {}
    for commit in commits(history):
        key, now = c.compared(commit.before, commit.state), commit.event["t"]
        kept = commit.state["evidence"]["errors"]
        began.setdefault(key, now)
        if commit.told_to_stop:
            continue
        since = began[key] - c.rules_of(commit.obj)["stale_s"] - 10
        before = next((served for t, served in reversed(periods) if t <= since), {})
        for role, n in (("stable", kept["n_s"]), ("canary", kept["n_c"])):
            bundle = c.bundle_of(commit.before, commit.state[role])
            most = commit.event["served"].get(bundle, 0) - before.get(bundle, 0)
            if n > most:
                yield f"{commit.where}: {n} requests of the {role} are counted, it got {most} since"


def evidence_does_not_outlive_its_spec(history: History) -> Found:
    for commit in commits(history):
        if commit.state["phase"] not in c.UNDER_WAY:
            continue
        if not any(kept["n_s"] or kept["n_c"] for kept in commit.old["evidence"].values()):
            continue
        key = c.compared(commit.before, commit.state)
        was = _decided_for(history, commit)
        if was is not None and was != key:
            held = [n for n, kept in commit.state["evidence"].items() if kept["n_s"] or kept["n_c"]]
            held += [n for n, kept in commit.state["pairs"].items() if kept.get("n")]
            if held or commit.state["phase"] != "running":
                yield f"{commit.where}: the spec, object or rules changed, and {held or commit.state['phase']} stayed"


def _decided_for(history: History, commit: Commit) -> str | None:
    """What the evidence in the replaced object was about: the object that a controller last wrote."""
    for event in reversed(history.events[: commit.event["i"]]):
        if event["kind"] == "stored" and c.by_controller(event) and c.state_of(event["obj"]):
            return c.compared(event["obj"], commit.old)
    return None


def after_a_rollback_the_share_never_rises(history: History) -> Found:
    for commit in commits(history):
        canary = commit.state["canary"]
        old, new = (c.shares(o).get(canary, 0) for o in (commit.before, commit.obj))
        if commit.state["phase"] == "rolled back" and canary in c.shares(commit.obj):
            yield f"{commit.where}: rolled back, and {canary} still gets {new} %"
        if commit.old["phase"] in c.FINAL:
            if commit.state["phase"] != commit.old["phase"]:
                yield f"{commit.where}: {commit.old['phase']} became {commit.state['phase']}"
            if new > old:
                yield f"{commit.where}: the share went from {old} to {new} % after it was {commit.old['phase']}"


def weights_are_those_of_the_plan(history: History) -> Found:
    """What a controller leaves is a step of the ramp, the holdback or a verdict; hand-made weights do not last."""
    for commit in commits(history):
        rules, phase, share = c.rules_of(commit.obj), commit.state["phase"], c.shares(commit.obj)
        canary, stable = commit.state["canary"], commit.state["stable"]
        if c.frozen(commit.before) or phase == "held":
            continue
        allowed = {"running": [*rules["ramp"]], "promoted": [100], "rolled back": [0]}.get(phase)
        allowed = [100 - rules["loss"]["holdback"]] if phase == "provisional" else allowed
        if share.get(canary, 0) not in allowed or set(share) - {canary, stable}:
            yield f"{commit.where}: {phase} with weights {share}"


def people_win(history: History) -> Found:
    for commit in commits(history):
        if commit.old["phase"] not in c.UNDER_WAY:
            continue
        aborted = c.notes(commit.before).get(c.ABORT)
        gone = {commit.old["stable"], commit.old["canary"]} - set(c.shares(commit.before))
        if aborted and not gone and commit.state["phase"] != "rolled back":
            yield f"{commit.where}: a person aborted, and it is {commit.state['phase']}"
        if c.frozen(commit.before) and not aborted and c.shares(commit.obj) != c.shares(commit.before):
            yield f"{commit.where}: frozen, and weights went to {c.shares(commit.obj)} ({commit.state['phase']})"
        for name, text in c.notes(commit.before).items():
            if name != c.STATE and c.notes(commit.obj).get(name) != text:
                yield f"{commit.where}: the annotation {name} of a person was lost"


def the_state_stays_small(history: History) -> Found:
    for event in history.of("stored"):
        size = len(c.notes(event["obj"]).get(c.STATE, "").encode())
        if size > LIMIT:
            yield f"event {event['i']}: the state has {size} bytes"


def a_controller_fails_in_known_ways_only(history: History) -> Found:
    for event in history.of("raised"):
        yield f"event {event['i']} ({event['actor']}): {event['error']}"


def it_ends(history: History) -> Found:
    last = next((e for e in reversed(history.events) if e["kind"] in ("stored", "deleted")), None)
    if last and last["kind"] == "stored":
        state = c.state_of(last["obj"])
        if state and state["phase"] in c.UNDER_WAY:
            yield f"still {state['phase']} long after the cap: {state['reason']}"


CHECKS: tuple[Callable[[History], Found], ...] = (
    weights_are_whole_and_sum_to_100,
    at_most_one_canary,
    a_controller_changes_weights_and_nothing_else,
    no_write_by_a_stale_actor_succeeds,
    no_request_counts_twice,
    evidence_does_not_outlive_its_spec,
    after_a_rollback_the_share_never_rises,
    weights_are_those_of_the_plan,
    people_win,
    the_state_stays_small,
    a_controller_fails_in_known_ways_only,
    it_ends,
)


ON_EVIDENCE: tuple[Callable[[Commit, Known], Found], ...] = (
    promoted_only_with_proof,
    the_cap_never_promotes,
    evidence_is_what_was_seen,
)


def check(history: History) -> list[str]:
    """All violations, each with the name of what it violates."""
    from tests.robustness.file_checks import FILE_CHECKS

    found = [f"{one.__name__}: {text}" for one in (*CHECKS, *FILE_CHECKS) for text in one(history)]
    for commit, known in fold(history):
        found += [f"{one.__name__}: {text}" for one in ON_EVIDENCE for text in one(commit, known)]
    return found
