"""What came out, as Markdown tables, and which bars are missed."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.canary.competitors import RIVALS
from benchmarks.canary.gates import ALPHA, HELD, PROMOTED, ROLLED_BACK, Ours
from benchmarks.canary.labels import A_DAY, Verdicts, wait_days
from benchmarks.canary.tally import Tally, wilson

GOOD_PROMOTED, GOOD_MINUTES, WORST_MINUTES, DECISION_MS = 0.97, 20, 6, 1.0
TRUTH = {"good": "good", "edge": "at the margin", "worse": "worse"}


def _rows(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(header)
    lines = ["| " + " | ".join(names) + " |", "|" + "-|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def share(k: int, n: int) -> str:
    low, high = wilson(k, n)
    return f"{100 * k / n:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def _time(pair: tuple[float, float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.0f} ({pair[1]:.0f})"


def _sorted(tallies: list[Tally]) -> list[Tally]:
    """By scenario in the order of the sweep, then by rate and truth."""
    order = {name: i for i, name in enumerate(dict.fromkeys(t.cell.scenario for t in tallies))}
    return sorted(tallies, key=lambda t: (order[t.cell.scenario], t.cell.rate, t.cell.truth))


def _ours(tallies: list[Tally]) -> list[Tally]:
    return _sorted([t for t in tallies if t.gate == Ours.name])


def _canary(t: Tally) -> str:
    return f"{100 * t.cell.truth:.1f} %, {TRUTH[t.cell.null]}" + ("" if t.cell.barred else " (no bar)")


def plain_table(tallies: list[Tally]) -> str:
    """Promoted by each gate, in percent; rows of the plain cells and of the special ones that rivals play."""
    names = [Ours.name, *(gate.name for gate in RIVALS)]
    by_cell: dict[str, dict[str, Tally]] = {}
    for t in _sorted(tallies):
        by_cell.setdefault(t.cell.name, {})[t.gate] = t
    rows = []
    for found in by_cell.values():
        if len(found) == 1:
            continue
        first = next(iter(found.values()))
        told = [first.cell.scenario, str(first.cell.rate), _canary(first)]
        rows.append([*told, *(f"{100 * found[n].count(PROMOTED) / found[n].runs:.1f}" for n in names)])
    return _rows(["scenario", "requests/s", "canary", *names], rows)


def back_table(tallies: list[Tally]) -> str:
    """Good canaries rolled back by each gate, in percent, and unwanted answers of a canary 3 times as bad."""
    names = [Ours.name, *(gate.name for gate in RIVALS)]
    rows = []
    for rate in sorted({t.cell.rate for t in tallies}):
        for what, truth in (
            ("good canaries rolled back, %", 0.005),
            ("of 0.5 %: minutes to promote, median (p95)", 0.005),
            ("of 3 %: minutes to roll back, median (p95)", 0.03),
            ("of 1.5 %: requests failed by it in 240 min, mean", 0.015),
        ):
            found = {
                t.gate: t for t in tallies if (t.cell.scenario, t.cell.rate, t.cell.truth) == ("plain", rate, truth)
            }
            if not found:
                continue
            cells = [_told(found[name], what) if name in found else "–" for name in names]
            rows.append([str(rate), what, *cells])
    return _rows(["requests/s", "", *names], rows)


def _told(t: Tally, what: str) -> str:
    if what.startswith("good"):
        return f"{100 * t.count(ROLLED_BACK) / t.runs:.1f}"
    if "promote" in what:
        return _time(t.minutes(PROMOTED))
    return _time(t.minutes(ROLLED_BACK)) if "roll back" in what else f"{t.result.bad.mean():.0f}"


def ours_table(tallies: list[Tally]) -> str:
    """Our gate in every cell, with intervals and times."""
    rows = []
    for t in _ours(tallies):
        promoted = share(t.count(PROMOTED), t.runs)
        if t.cell.onset:
            promoted += f", {100 * t.early / t.runs:.1f} % before it turned bad"
        causes = {k: v for k, v in t.causes.items() if v}
        caught = ", ".join(f"{k} {100 * v / t.runs:.1f} %" for k, v in sorted(causes.items(), key=lambda i: -i[1]))
        rows.append(
            [
                t.cell.scenario,
                str(t.cell.rate),
                _canary(t),
                promoted,
                share(t.count(ROLLED_BACK), t.runs),
                f"{100 * t.count(HELD) / t.runs:.1f} %",
                _time(t.minutes(PROMOTED)),
                _time(t.minutes(ROLLED_BACK)),
                caught or "–",
                f"{t.result.bad.mean():.0f}",
            ]
        )
    header = ["scenario", "requests/s", "canary", "promoted", "rolled back", "held", "min to promote"]
    return _rows([*header, "min to roll back", "rolled back by", "bad requests"], rows)


def missed(tallies: list[Tally], decision_ms: float) -> list[str]:
    """The bars that our gate misses; a share misses when its whole interval is beyond 5 %."""
    found = []
    for t in _ours(tallies):
        for null, k, word in (("edge", t.count(PROMOTED), "promoted"), ("good", t.for_harm, "rolled back")):
            if t.cell.barred and t.cell.null == null and wilson(k, t.runs)[0] > ALPHA:
                found.append(f"{share(k, t.runs)} {word}: {t.cell.name}")
        if t.same is not None and t.same != t.runs:
            found.append(f"restarts changed {t.runs - t.same:,} of {t.runs:,} runs: {t.cell.name}")
        if (t.cell.scenario, t.cell.rate) == ("plain", 10):
            found += _speed(t)
    return found + ([f"one decision takes {decision_ms:.2f} ms"] if decision_ms > DECISION_MS else [])


def _speed(t: Tally) -> list[str]:
    found, up, down = [], t.minutes(PROMOTED), t.minutes(ROLLED_BACK)
    if t.cell.null == "good":
        if t.count(PROMOTED) < GOOD_PROMOTED * t.runs:
            found.append(f"{share(t.count(PROMOTED), t.runs)} promoted of good canaries, not {GOOD_PROMOTED:.0%}")
        if up is None or up[0] > GOOD_MINUTES:
            found.append(f"good canaries promoted in a median of {_time(up)} min, not {GOOD_MINUTES}")
    if t.cell.truth == 0.03 and (down is None or down[0] > WORST_MINUTES):
        found.append(f"a 6x canary rolled back in a median of {_time(down)} min, not {WORST_MINUTES}")
    return found


def restarts(tallies: list[Tally]) -> str:
    """How many runs ended alike with and without restarts."""
    told = [t for t in _ours(tallies) if t.same is not None]
    same, runs = sum(t.same or 0 for t in told), sum(t.runs for t in told)
    return f"restarts at random blocks: {same:,} of {runs:,} runs ended as without, at the same block"


def labels_table(found: list[Verdicts]) -> str:
    """The second stage."""
    rows, wait = [], wait_days()
    for v in found:
        runs = len(v.verdict)
        rows.append(
            [
                v.canary,
                v.feed.name,
                f"{v.mean:.2f}",
                share(v.share(PROMOTED), runs),
                share(v.share(ROLLED_BACK), runs),
                f"{100 * v.share(PROMOTED, wait) / runs:.1f} %",
                f"{100 * v.share(ROLLED_BACK, wait) / runs:.1f} %",
                _time(v.days(PROMOTED)),
                _time(v.days(ROLLED_BACK)),
            ]
        )
    header = ["canary", f"labels ({A_DAY:,} requests a day)", "mean difference / margin", "CONFIRMED", "rolled back"]
    header += [
        f"CONFIRMED by day {wait:.0f}",
        f"rolled back by day {wait:.0f}",
        "days to CONFIRMED",
        "days to roll back",
    ]
    return _rows(header, rows)


def labels_missed(found: list[Verdicts]) -> list[str]:
    """A worse model CONFIRMED too often, or not rolled back, where the margin was set on labels as they come."""
    out = []
    for v in found:
        worse = v.canary.startswith("AP lower") and not v.feed.complete
        runs, wrong = len(v.verdict), v.share(PROMOTED)
        if worse and wilson(wrong, runs)[0] > ALPHA:
            out.append(f"{share(wrong, runs)} CONFIRMED: {v.canary}, {v.feed.name}")
        if worse and v.share(ROLLED_BACK) < 0.95 * runs:
            out.append(f"only {share(v.share(ROLLED_BACK), runs)} rolled back: {v.canary}, {v.feed.name}")
    return out
