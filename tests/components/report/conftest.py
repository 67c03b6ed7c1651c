"""A workspace as the train leaves it: one run and two releases, one of them of a harmed candidate."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from components.report.step import build

NASTY = "<script>alert('x')</script>&\"quoted\""
KINDS = ("errors", "latency", "decisions_up", "decisions_down", "flips", "score_shift", "loss")
STEPS = ("ingest", "validate", "features", "dataset", "tune", "train", "evaluate", "register", "release")


def write(path: Path, record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


def interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def evaluation(folder: Path) -> None:
    grid = np.linspace(0, 1, 101)
    roc, pr, calibration = {}, {}, {}
    for who, power in (("candidate", 0.10), ("champion", 0.13), ("baseline", 0.16)):
        roc[who] = {"fpr": grid.tolist(), "tpr": (grid**power).tolist()}
        pr[who] = {"recall": grid.tolist(), "precision": (1 - grid ** (0.6 / power)).tolist()}
        calibration[who] = {"predicted": grid[::10].tolist(), "observed": (grid[::10] ** (1 + power)).tolist()}
    kinds = {"roc": roc, "pr": pr, "calibration": calibration}
    write(folder / "curves.json", {who: {kind: kinds[kind][who] for kind in kinds} for who in roc})
    models = {"candidate": (0.884, 0.701), "baseline": (0.868, 0.622), "champion": (0.876, 0.688)}
    metrics = {
        who: {"auc_roc": interval(auc, 0.012), "average_precision": interval(ap, 0.02), "f1": interval(ap - 0.05, 0.02)}
        for who, (auc, ap) in models.items()
    }
    write(folder / "metrics.json", metrics)
    gates = [
        {"name": "minimum auc_roc", "value": 0.884, "low": 0.872, "high": 0.896, "bound": 0.75, "ok": True},
        {
            "name": "regression average_precision",
            "value": 0.013,
            "low": -0.004,
            "high": 0.03,
            "bound": -0.02,
            "ok": True,
        },
    ]
    write(folder / "verdict.json", {"verdict": "pass", "reasons": ["all gates met"], "gates": gates})
    rows = []
    for segment, groups in {"amount": ("< 25", "25 to 75", NASTY), "time of day": ("night", "day")}.items():
        for i, group in enumerate(groups):
            few = i == 2
            difference = 0.02 - 0.018 * i
            rows.append({
                "segment": segment, "group": group, "rows": 90 if few else 21_000 - 5_000 * i,
                "positives": 3 if few else 150, "candidate": 0.7, "champion": 0.7 - difference,
                "difference": None if few else difference, "low": None if few else difference - 0.015,
                "high": None if few else difference + 0.015, "enough": not few,
            })  # fmt: skip
    write(folder / "segments.json", rows)
    names = [f"TERMINAL_ID_RISK_{n}DAY_WINDOW" for n in (1, 7, 30)] + ["TX_AMOUNT", "TX_DURING_NIGHT"]
    reasons = [
        {"feature": n, "text": f"about {n.lower()} raises the score", "value": 3.2, "contribution": 0.31}
        for n in names[:3]
    ]
    sample = [{"id": 1_000 + i, "probability": 0.9 - 0.1 * i, "label": i % 2, "reasons": reasons} for i in range(4)]
    slices(folder)
    write(folder / "attributions.json", {"mean_abs": {n: 0.2 / (i + 1) for i, n in enumerate(names)}, "sample": sample})


def slices(folder: Path, kept: int = 3, left: int = 2) -> None:
    """slices.json of an evaluation: slices with a model of their own, of which one is worse, and some without."""
    parts = [
        {
            "slice": NASTY if i == 0 and not few else f"{'small' if few else 'region'} {i:03d}",
            "kept": not few,
            "reason": ("its fit failed: ValueError: x", f"{i + 20} rows, fewer than minimum_rows 500")[i % 2] * few,
            "learnt": {"rows": 9_000 - 20 * i, "positives": 300 - i, "own": 0.6, "global": 0.5}
            | {"difference": None if few else interval(0.1, 0.05)},
            "test": {"rows": 900, "positives": 4 if i % 7 == 6 else 30, "global": 0.5}
            | {"own": None if few else 0.48 if i == 1 else 0.55 + 0.3 * i / kept},
        }
        for few, count in ((False, kept), (True, left))
        for i in range(count)
    ]
    record = {"by": "region", "metric": "average_precision", "chosen_by": "average_precision", "routed": 0.61}
    record |= {"global": 0.55, "difference": interval(0.06, 0.02), "slices": parts}
    write(folder / "slices.json", record | {"unknown": {"values": 2, "rows": 17}})


def trials(folder: Path) -> None:
    """Eight trials, a core each: some stopped early, and a ninth that failed three times without an epoch."""
    random = np.random.default_rng(3)
    rows = []
    for trial in range(8):
        params = {
            "learning_rate": float(10 ** random.uniform(-3.5, -2)), "hidden": int(random.choice([64, 128, 256])),
            "dropout": float(random.uniform(0, 0.4)), "batch_size": int(random.choice([128, 256, 512])),
        }  # fmt: skip
        top = 0.6 + 0.12 * float(random.random())
        epochs = int(random.choice([4, 8, 20]))
        for epoch in range(1, epochs + 1):
            value = top - 0.3 * math.exp(-epoch / 2)
            rows.append(
                {
                    "trial": f"t{trial}",
                    "epoch": epoch,
                    "average_precision": value,
                    **params,
                    "status": "finished" if epochs == 20 else "stopped early",
                    "seconds": 0.7 * epoch,
                    "error": "",
                    "attempts": 1,
                    "cpu_seconds": 0.8 * epochs,
                    "gpu_seconds": 0.0,
                }
            )
    best = max(rows, key=lambda row: row["average_precision"])
    folder.mkdir(parents=True)
    none = dict.fromkeys(("epoch", "average_precision", "seconds"))
    lost = {"trial": "t8", "status": "failed", "error": f"ValueError: {NASTY}", "attempts": 3, "cpu_seconds": 2.5}
    pl.DataFrame([*rows, rows[0] | none | lost]).write_parquet(folder / "trials.parquet")
    params = {k: best[k] for k in ("learning_rate", "hidden", "dropout", "batch_size")}
    write(
        folder / "best.json",
        {
            "params": params,
            "metric": "average_precision",
            "value": best["average_precision"],
            "trial": best["trial"],
            "epochs": 20,
        },
    )


def release(folder: Path, version: str, harmed: bool) -> None:
    """A release with every kind of guardrail; the sound one goes through both stages: 70 s, then two days."""
    random = np.random.default_rng(int(version))
    evidence, weights, split = [], [], []
    times = (
        [float(t) for t in range(70)]
        if harmed
        else [float(t) for t in range(70)] + [70.0 + 3600 * h for h in range(49)]
    )
    for block, t in enumerate(times):
        if t in (0, 20, 40):
            weights.append({"t": t, "weights": {"stable": 100 - 10 - block, "canary": 10 + block}})
        split.append({"t": t, "n": 60 * (block + 1), "mean": 0.11, "told": 0.1, "log_e": -0.01 * block})
        for guardrail in KINDS:
            if guardrail == "loss" and t < 70:
                continue
            bad = harmed and guardrail in ("errors", "latency")
            drift = (-0.12, 0.1) if bad else (0.055, -0.04)
            jitter = random.normal(0, 0.1)
            n = 6 * (block + 1)
            row = {"t": t, "guardrail": guardrail, "log_e_promote": drift[0] * block + jitter,
                   "log_e_rollback": drift[1] * block - jitter}  # fmt: skip
            if guardrail in ("flips", "score_shift", "loss"):
                row |= {"n": n, "mean": 0.004 if guardrail != "loss" else -0.0012}
            else:
                row |= {"canary": {"n": n, "k": n // 30}, "stable": {"n": 9 * n, "k": n // 4}}
            evidence.append(row)
    events = [{"t": 0.0, "text": "canary at 10 %"}]
    if harmed:
        weights.append({"t": 70.0, "weights": {"stable": 100, "canary": 0}})
        events.append({"t": 70.0, "text": "roll back: errors is worse"})
    else:
        weights.append({"t": 70.0, "weights": {"stable": 5, "canary": 95}})
        weights.append({"t": times[-1], "weights": {"stable": 0, "canary": 100}})
        events.append({"t": 70.0, "text": "promote provisionally: no guardrail is worse by its margin"})
        events.append({"t": times[-1], "text": "confirm: the labels show no loss"})
    verdict = "rolled back" if harmed else "promoted"
    write(folder / "record.json", {
        "release": folder.name, "workload": "card-fraud", "verdict": verdict,
        "reason": f"{NASTY} on errors" if harmed else "every guardrail agrees",
        "candidate": {"version": version, "run": "r1"}, "champion": {"version": "1"},
        "started": "2026-11-22T16:00:00Z", "ended": "2026-11-22T16:01:10Z",
        "weights": weights, "evidence": evidence, "split": split,
        "thresholds": {"promote": 20.0, "rollback": 140.0},
        "traffic": {"sent": 4200, "failed": 9 if harmed else 0, "rate": 60.0, "p50_ms": 6.31, "p99_ms": 14.2,
                    "by_predictor": {
            "stable": {"sent": 3000, "failed": 0, "p50_ms": 6.2, "p99_ms": 13.9},
            "canary": {"sent": 1200, "failed": 9, "p50_ms": 6.5, "p99_ms": 15.0}}},
        "parity": {"checked": 4200, "feature_differences": 31 if harmed else 0, "max_score_difference": 3e-8},
        "events": events,
    })  # fmt: skip
    answers = [("1", 0, float(p)) for p in random.beta(1, 20, 900)]
    answers += [(version, 0, float(p)) for p in random.beta(2 if harmed else 1, 20, 300)]
    pl.DataFrame(answers, schema=["version", "status", "probability"], orient="row").with_columns(
        pl.lit(200).alias("status")
    ).write_parquet(folder / "predictions.parquet")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run and two releases, as the train leaves it."""
    home = tmp_path_factory.mktemp("home")
    outputs = {step: str(home / "cache" / step / "key") for step in STEPS}
    evaluation(Path(outputs["evaluate"]))
    trials(Path(outputs["tune"]))
    lineage = {
        "git": {"revision": "4f1c" * 10, "dirty": True},
        "data_hash": "ab" * 32,
        "feature_hash": "cd" * 32,
        "config_hash": "ef" * 32,
        "lock_hash": "12" * 32,
    }
    write(
        Path(outputs["register"]) / "version.json",
        {
            "name": "card-fraud",
            "version": "2",
            "run_id": "77aa",
            "alias": "candidate",
            "bundle": "/b",
            "lineage": lineage,
        },
    )
    (Path(outputs["register"]) / "model_card.md").write_text(f"# Card\n{NASTY}\n")
    validate = {
        "transactions": {
            "rows_in": 1_754_155,
            "rows_good": 1_754_150,
            "quarantined": 5,
            "reasons": {NASTY: 5},
            "first_time": "2018-04-01T00:00:31",
            "last_time": "2018-09-30T23:59:57",
        }
    }
    splits = {
        name: {"rows": 60_000, "positives": 500, "start": "2018-08-01T00:00:00", "end": "2018-08-08T00:00:00"}
        for name in ("sweep_train", "valid", "train", "test", "replay")
    }
    tuned = {"slots": 2, "seconds": 50.0, "epochs_kept": 0}
    summaries = {"validate": validate, "dataset": {**splits, "join_seconds": 1.2}, "tune": tuned}
    quarantined = pl.DataFrame(
        {
            "source": ["transactions"],
            "file": ["a.csv"],
            "row": [7],
            "field": ["TX_AMOUNT"],
            "value": [NASTY],
            "reason": ["below 0"],
        }
    )
    Path(outputs["validate"]).mkdir(parents=True)
    quarantined.write_parquet(outputs["validate"] + "-quarantine")
    steps = [
        {
            "name": name,
            "status": "skipped" if name == "ingest" else "done",
            "seconds": 3.7 * i,
            "reason": "unchanged" if name == "ingest" else "input content changed",
            "summary": summaries.get(name, {}),
            "cpu_seconds": 0.0 if name == "ingest" else 7.4 * i,
            "gpu_seconds": 0.0,
            "usd": 0.0 if name == "ingest" else 0.074 * i,
            "work_usd": 0.25 if name == "ingest" else 0.074 * i,
            "outputs": {"out": outputs[name], "quarantine": f"{outputs[name]}-quarantine"},
        }
        for i, name in enumerate(STEPS)
    ]
    write(
        home / "runs" / "r1" / "run.json",
        {
            "run": "r1",
            "started": "2026-11-22T15:50:00Z",
            "rates": {"cpu": 36.0, "gpu": 0.0, "shared": False, "source": "budget.cpu_hour"},
            "sweep": {"max_epochs": 20, "scheduler": "asha", "trials": 9, "cpu": 1.0},
            "estimate": {"usd": 2.5, "unknown": []},
            "usd": 2.664,
            "steps": steps,
            "outputs": outputs,
        },
    )
    release(home / "releases" / "good", "2", harmed=False)
    release(home / "releases" / "harmed", "3", harmed=True)
    (home / "ledger.jsonl").write_text(
        json.dumps(
            {"seq": 1, "time": "2026-11-22T16:01:10Z", "hash": "9" * 64, "entry": {"what": "promoted", "why": NASTY}}
        )
        + "\nbroken\n"
    )
    return home


@pytest.fixture(scope="module")
def page(workspace: Path) -> Path:
    releases = [workspace / "releases" / name for name in ("good", "harmed")]
    return build(workspace, releases, workspace / "runs" / "r1" / "run.json", workspace / "reports" / "good.html")
