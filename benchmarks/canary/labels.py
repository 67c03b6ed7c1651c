"""The second stage: labels that arrive days later, some of them never.

``python -m benchmarks.canary.labels [--runs N]``. Two models score the same requests (score_model.py), 1 % of them
positive; labels arrive after a lognormal delay; the loss difference of each labelled pair goes into
seaway.evidence.means. A canary is CONFIRMED when E_promote reaches 1/alpha, rolled back when E_rollback reaches
K/alpha, and after the configured wait. The margin is the mean loss difference of the worse model (AP lower by 0.05),
so that this one stands exactly at the edge: measured on labels of the past, which are as selective as those to
come; in the cells "margin from complete labels", on labels that nobody has in production.

Vectorised: requests come as a Poisson process, so the labels that arrive in a step are independent Poisson counts
by kind of pair, and the evidence is linear in these counts.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, field

import numpy as np

from benchmarks.canary.cells import CAP, MARGIN
from benchmarks.canary.gates import ALPHA, HELD, PROMOTED, RAMP, ROLLED_BACK
from benchmarks.canary.score_model import Scores, scores
from seaway.config import Labels, duration
from seaway.evidence import means
from seaway.evidence.mixing import log_mean_exp
from seaway.evidence.rates import Rail
from serving.rollout.rules import LossRules, Rules

A_DAY, HORIZON, STEPS = 10_000, 60, 2  # requests, days, looks a day
WATCHED = ("errors", "latency", "decisions_up", "decisions_down")  # with the loss they share the rollback's alpha
CHAMPION_AP, LOWER = 0.60, 0.05
FLAGGED = 0.01
MISSING = 0.30
DELAY, LATE = (3.0, 1.0), (6.0, 1.0)  # days: median of the lognormal, and its sigma in logarithms


@dataclass(frozen=True)
class Feed:
    """How labels come: which never arrive, and the positives' delay."""

    name: str
    missing: float = 0.0  # share of all labels
    mark: str = ""  # "label" or "flagged": of what has it, ``often`` never arrives; of the rest, what makes ``missing``
    often: float = 0.0
    positives: tuple[float, float] = DELAY
    complete: bool = False  # the margin was set on complete labels

    def kept(self, pairs: Scores) -> np.ndarray:
        """The chance of each kind of pair that its label arrives."""
        marked = np.zeros(len(pairs.label)) if not self.mark else getattr(pairs, self.mark)
        weight = float((pairs.probability * marked).sum())
        return np.where(marked > 0, 1 - self.often, 1 - (self.missing - self.often * weight) / (1 - weight))

    def margin(self) -> float:
        """The mean loss difference of the model whose AP is lower by 0.05, on the labels that the margin is set on."""
        pairs = pairs_of(CHAMPION_AP - LOWER)
        return pairs.mean() if self.complete else pairs.mean(self.kept(pairs))


_OUTCOME = {"missing": MISSING, "mark": "label", "often": 0.6}
_DECISION = {"missing": MISSING, "mark": "flagged", "often": 0.8}
FEEDS = (
    Feed("all arrive"),
    Feed("30 % never, at random", MISSING),
    Feed("30 % never, 60 % of the positives", **_OUTCOME),
    Feed("30 % never, 80 % of what was flagged", **_DECISION),
    Feed("the same, positives come twice as late", **_DECISION, positives=LATE),
    Feed("60 % of the positives, margin from complete labels", **_OUTCOME, complete=True),
    Feed("80 % of what was flagged, margin from complete labels", **_DECISION, complete=True),
)
CANARIES = {"AP lower by 0.05": CHAMPION_AP - LOWER, "equal AP": CHAMPION_AP, "AP higher by 0.05": CHAMPION_AP + LOWER}


def settings(margin: float = 0.5) -> Labels:
    """The configuration's defaults; only the margin has none."""
    return Labels(margin=margin)


def rules(margin: float) -> Rules:
    """Of a release with the usual guardrails and labels."""
    told = settings(margin)
    loss = LossRules(
        means.Bound(told.margin, told.tolerance, -1.0, 1.0),
        told.loss,
        told.clip,
        told.positive_weight,
        told.holdback,
        duration(told.wait).total_seconds(),
    )
    return Rules(RAMP, 60.0 * CAP, ALPHA, ALPHA, dict.fromkeys(WATCHED, Rail(MARGIN)), loss=loss)


def wait_days() -> float:
    """How long a release may be provisional."""
    return duration(settings().wait).total_seconds() / 86_400


def pairs_of(canary_ap: float) -> Scores:
    told = settings()
    return scores(CHAMPION_AP, canary_ap, FLAGGED, told.loss, told.clip, told.positive_weight)


@dataclass
class Verdicts:
    """One cell: arrays (runs,)."""

    canary: str
    feed: Feed
    mean: float  # loss difference among the labels that arrive in the end, as a share of the margin
    verdict: np.ndarray = field(repr=False)
    day: np.ndarray = field(repr=False)

    def share(self, verdict: int, by: float = HORIZON) -> int:
        return int(((self.verdict == verdict) & (self.day <= by)).sum())

    def days(self, verdict: int) -> tuple[float, float] | None:
        """Median and 95th percentile of the days to this verdict."""
        found = self.day[self.verdict == verdict]
        return (float(np.median(found)), float(np.quantile(found, 0.95))) if len(found) else None


def simulate(canary: str, feed: Feed, runs: int, seed: tuple[int, ...], a_day: int = A_DAY) -> Verdicts:
    """The evidence of ``runs`` releases, twice a day, until a verdict or the horizon."""
    pairs, told = pairs_of(CANARIES[canary]), rules(feed.margin())
    assert told.loss is not None
    bound = told.loss.bound
    gains = {name: np.array([_gain(bound, v)[name] for v in pairs.difference]) for name in ("promote", "rollback")}
    arriving = a_day / STEPS * pairs.probability * feed.kept(pairs)
    arrived = np.stack([_arrived(DELAY), _arrived(feed.positives)])  # (label, step)
    rng, rows = np.random.default_rng(seed), np.arange(runs)
    out = Verdicts(
        canary, feed, pairs.mean(feed.kept(pairs)) / bound.margin, np.full(runs, HELD), np.full(runs, float(HORIZON))
    )
    logs = {name: np.zeros((runs, len(means.BETS))) for name in gains}
    for step in range(HORIZON * STEPS):
        counts = rng.poisson(arriving * arrived[pairs.label, step], (len(rows), len(arriving)))
        logs = {name: logs[name] + counts @ gains[name] for name in gains}
        bad = log_mean_exp(logs["rollback"]) >= told.rollback_at
        verdict = np.where(bad, ROLLED_BACK, (log_mean_exp(logs["promote"]) >= told.promote_at) * PROMOTED)
        done = verdict != 0
        out.verdict[rows[done]], out.day[rows[done]] = verdict[done], (step + 1) / STEPS
        rows, logs = rows[~done], {name: values[~done] for name, values in logs.items()}
        if not len(rows):
            break
    return out


def _gain(bound: means.Bound, value: float) -> dict[str, list[float]]:
    """What one value adds to the cumulative record."""
    return means.update(means.new_state(), bound, [value])


def _arrived(delay: tuple[float, float]) -> np.ndarray:
    """For each step the share of one step's requests whose labels come in it, over all requests so far."""
    ages = np.arange(HORIZON * STEPS + 1) / STEPS
    with np.errstate(divide="ignore"):
        z = (np.log(ages) - math.log(delay[0])) / delay[1]
    share = 0.5 * np.vectorize(math.erfc)(-z / math.sqrt(2))  # arrived at this age or sooner
    return 0.5 * (share[1:] + share[:-1])  # requests of a step are half a step old, on average


def sweep(runs: int, seed: int = 0) -> list[tuple[str, Feed, int, tuple[int, ...]]]:
    """The arguments of `simulate`, by cell."""
    cells = [(canary, feed) for canary in CANARIES for feed in FEEDS]
    return [(canary, feed, runs, (seed, 7, i)) for i, (canary, feed) in enumerate(cells)]


def main() -> int:
    from benchmarks.canary.table import labels_missed, labels_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = [simulate(*cell) for cell in sweep(args.runs, args.seed)]
    print(labels_table(found))
    missed = labels_missed(found)
    print("labels: " + ("ok" if not missed else "MISSED: " + "; ".join(missed)))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
