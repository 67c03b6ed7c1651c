"""The promotion gate against what others do, in simulation: who is promoted, and how soon.

``python -m benchmarks.canary [--runs 1000]``. One guardrail (errors), stable at 0.5 %, margin 0.5 points, both
alphas 5 %, blocks of a minute, ramp 5/10/25/50 % of at least 10 minutes a step, cap 240 minutes; all gates
see the same canaries. Argo Rollouts and Flagger decide as in their documentation's examples (success >= 0.95
each 5 minutes, failureLimit 3, weights 20/40/60/80 of 10 minutes; success >= 99 % each minute, threshold 10,
steps of 5 up to 50). The z-test compares both arms each minute at 5 %, for 40 minutes of our ramp. Then the
time of one decision. Exit 1 when a bound is missed: promotions at the margin or rollbacks of a good canary
significantly above 5 %.
"""

from __future__ import annotations

import argparse
import math
import sys
import time

import numpy as np

from seaway.evidence import rates
from seaway.evidence.rates import Rail

STABLE, MARGIN, ALPHA = 0.005, 0.005, 0.05
TRUTHS = {"equal": 0.005, "at the margin": 0.010, "3x": 0.015, "6x": 0.030}
RATES = (1, 10, 100)
RAMP, STEP, CAP = (0.05, 0.10, 0.25, 0.50), 10, 240


def drawn(rng: np.random.Generator, rate: float, weight: np.ndarray, p_c: float) -> tuple[np.ndarray, ...]:
    """One minute of every run: requests and errors (n_s, k_s, n_c, k_c)."""
    n = rng.poisson(rate * 60, len(weight))
    n_c = rng.binomial(n, weight)
    return n - n_c, rng.binomial(n - n_c, STABLE), n_c, rng.binomial(n_c, p_c)


def ours(rng: np.random.Generator, runs: int, rate: float, p_c: float) -> tuple[np.ndarray, np.ndarray]:
    """(1 promoted, -1 rolled back, 0 held; minute of the decision) of each run."""
    rail, limit = Rail(MARGIN), math.log(1 / ALPHA)
    past = [np.zeros(runs) for _ in range(4)]
    logs, step, since = np.zeros((runs, 11)), np.zeros(runs, dtype=int), np.zeros(runs, dtype=int)
    verdict, when = np.zeros(runs, dtype=int), np.full(runs, CAP)
    for minute in range(1, CAP + 1):
        block = drawn(rng, rate, np.array(RAMP)[step], p_c)
        logs += rates.increments(rail, past, block)
        past = [a + b for a, b in zip(past, block, strict=True)]
        promote, rollback = rates.log_mean_exp(logs[:, :5]), rates.log_mean_exp(logs[:, 5:])
        still = verdict == 0
        verdict[still & (promote >= limit) & (step == len(RAMP) - 1)] = 1
        verdict[still & (rollback >= limit)] = -1
        when[still & (verdict != 0)] = minute
        since += 1
        up = (since >= STEP) & (step < len(RAMP) - 1) & (rollback < limit / 2)
        step, since = step + up, np.where(up, 0, since)
        if (verdict != 0).all():
            break
    return verdict, when


def argo(rng: np.random.Generator, runs: int, rate: float, p_c: float) -> np.ndarray:
    failed = np.zeros(runs, dtype=int)
    for weight in (0.2, 0.4, 0.6, 0.8):
        for _ in range(2):
            minutes = [drawn(rng, rate, np.full(runs, weight), p_c) for _ in range(5)]
            n, k = sum(m[2] for m in minutes), sum(m[3] for m in minutes)
            failed += (n > 0) & (k > 0.05 * n)
    return failed <= 3


def flagger(rng: np.random.Generator, runs: int, rate: float, p_c: float) -> np.ndarray:
    weight, failed, done = np.full(runs, 0.05), np.zeros(runs, dtype=int), np.zeros(runs, dtype=bool)
    for _ in range(CAP):
        _, _, n, k = drawn(rng, rate, weight, p_c)
        good = (n > 0) & (k <= 0.01 * n)
        failed += ~good & ~done
        done |= good & (weight >= 0.5 - 1e-9) & (failed < 10)
        weight = np.where(good & ~done, np.minimum(0.5, weight + 0.05), weight)
    return done


def z_test(rng: np.random.Generator, runs: int, rate: float, p_c: float) -> np.ndarray:
    past, alive = [np.zeros(runs) for _ in range(4)], np.ones(runs, dtype=bool)
    for minute in range(len(RAMP) * STEP):
        block = drawn(rng, rate, np.full(runs, RAMP[minute // STEP]), p_c)
        past = [a + b for a, b in zip(past, block, strict=True)]
        n_s, k_s, n_c, k_c = (np.maximum(v, 1e-9) if i in (0, 2) else v for i, v in enumerate(past))
        pooled = (k_s + k_c) / (n_s + n_c)
        spread = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n_s + 1 / n_c), 1e-18))
        alive &= (k_c / n_c - k_s / n_s) / spread < 1.6449
    return alive


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def one_decision(rounds: int = 500) -> float:
    """Milliseconds of processor time of one update of both e-processes of a guardrail, median."""
    state, took = rates.new_state(), []
    for i in range(rounds):
        start = time.thread_time()
        state = rates.update(state, Rail(MARGIN), 540, int(i % 3 == 0), 60, 0)
        took.append(time.thread_time() - start)
    return float(np.median(took)) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="simulated releases a cell")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    runs, missed, start = args.runs, [], time.perf_counter()
    print(f"share promoted of {runs} runs a cell [95 % interval]; stable {STABLE:.1%}, margin {MARGIN:.1%}")
    print(
        "req/s  canary          Argo  Flagger  z peeked  ours                 ours rolled back     minutes median (p95)"
    )
    for rate in RATES:
        for name, p_c in TRUTHS.items():
            rng = np.random.default_rng([args.seed, rate, int(p_c * 1e4)])
            others = [float(gate(rng, runs, rate, p_c).mean()) for gate in (argo, flagger, z_test)]
            verdict, when = ours(rng, runs, rate, p_c)
            up, down = int((verdict == 1).sum()), int((verdict == -1).sum())
            cells = [
                f"{k / runs:6.1%} [{low:5.1%}, {high:5.1%}]" for k in (up, down) for low, high in [wilson(k, runs)]
            ]
            median, late = np.quantile(when[verdict != 0], [0.5, 0.95]) if up + down else (CAP, CAP)
            print(
                f"{rate:5d}  {p_c:.1%} {name:13s} {others[0]:5.1%}  {others[1]:6.1%}  {others[2]:7.1%}  "
                f"{cells[0]}  {cells[1]}  {median:.0f} ({late:.0f})",
                flush=True,
            )
            if name == "at the margin" and wilson(up, runs)[0] > ALPHA:
                missed.append(f"{up / runs:.1%} promoted at the margin, {rate} requests/s")
            if name == "equal" and wilson(down, runs)[0] > ALPHA:
                missed.append(f"{down / runs:.1%} of good canaries rolled back, {rate} requests/s")
    milliseconds = one_decision()
    if milliseconds > 1:
        missed.append(f"one decision takes {milliseconds:.2f} ms")
    print(f"one decision a guardrail: {milliseconds:.2f} ms (at most 1); all in {time.perf_counter() - start:.0f} s")
    print("canary: " + ("ok" if not missed else "MISSED: " + "; ".join(missed)))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
