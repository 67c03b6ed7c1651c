"""Register a trained model as a version of the registry, with metrics, figures, lineage and a card."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from components.register import slices
from components.register.figures import draw
from seaway import release_bundle
from seaway.artifacts import atomic_write, content_hash, read_json, write_json
from seaway.config import Config
from seaway.model_card import model_card
from seaway.registry import CANDIDATE, CHAMPION, IMAGE, RELEASE, Registry, Version

_EVALUATION = ("verdict.json", "metrics.json", "curves.json", "segments.json", "attributions.json", "slices.json")
PAGE = 5000  # characters of a description, as MLflow's database has them
SHOWN = 10  # slices with, and without, a model of their own on that page; model_card.md has all


def register(config: Config, model: Path, evaluation: Path, lineage: dict[str, Any], out: Path) -> dict[str, Any]:
    """Register the bundle ``model``; ``out`` gets version.json, model_card.md and, from the curves, curves.png.

    Every trained model becomes a version, with a release bundle, whatever its verdict; the alias candidate
    goes only to one that passed. Doing it again for the same model gives the same version. Where there is no
    champion yet, the baseline trained along becomes the first one, so that a first candidate too has
    something to beat.
    """
    out.mkdir(parents=True, exist_ok=True)
    registry = Registry.of(config)
    verdict = read_json(evaluation / "verdict.json")
    metrics = read_json(evaluation / "metrics.json")
    trained_with = lineage["model_hash"]
    champion, routing = registry.find(CHAMPION), slices.routing(model)
    if champion is None and (model / "baseline" / "model.json").exists():
        champion = registry.promote(_baseline(registry, model / "baseline", metrics, lineage).version)
    record = registry.register(
        model,
        trained_with,
        params=read_json(model / "model.json").get("params", {}),
        metrics=_values(metrics.get("candidate")),
        tags={
            "verdict": verdict["verdict"],
            "trained_with": trained_with,
            "kind": "candidate",
            "rival": champion.version if champion else "",
            **slices.tags(routing),
            **_text(lineage),
        },
        identity=lineage,
        extras=_extras(evaluation, out),
    )
    release = release_bundle.make(config, record, lineage)
    registry.tag(record.version, {RELEASE: release, IMAGE: config.serving.image})
    record = registry.get(record.version)
    passed = verdict["verdict"] == "pass"
    if champion is not None and champion.version == record.version:  # promoted before: keep what it had to beat
        champion = registry.find(record.tags["rival"]) if record.tags.get("rival") else None
    elif passed:
        registry.nominate(record.version)
    version = {
        **record.as_record(),
        "alias": CANDIDATE if passed else None,
        "verdict": verdict,
        "champion": {**champion.as_record(), "image": champion.tags.get(IMAGE)} if champion else None,
        "lineage": lineage,
        "release": release,
        "image": config.serving.image,
        **({"slices": routing} if routing else {}),
    }
    write_json(out / "version.json", version)
    card = partial(_card, record, model, evaluation, metrics, verdict, lineage)
    with atomic_write(out / "model_card.md") as temporary:
        temporary.write_text(card())
    registry.describe(record.version, card(slices_shown=SHOWN)[:PAGE])
    return {"name": record.name, "version": record.version, "verdict": verdict["verdict"], "bundle": record.bundle}


def _baseline(registry: Registry, bundle: Path, metrics: dict[str, Any], lineage: dict[str, Any]) -> Version:
    return registry.register(
        bundle,
        content_hash(bundle),
        params=read_json(bundle / "model.json").get("params", {}),
        metrics=_values(metrics.get("baseline")),
        tags={"trained_with": lineage["model_hash"], "kind": "baseline", **_text(lineage)},
        identity=lineage,
    )


def _extras(evaluation: Path, out: Path) -> list[Path]:
    found = [evaluation / name for name in _EVALUATION if (evaluation / name).exists()]
    if (curves := evaluation / "curves.json").exists():
        draw(read_json(curves), out / "curves.png")
        found.append(out / "curves.png")
    return found


def _card(
    record: Version,
    model: Path,
    evaluation: Path,
    metrics: dict[str, Any],
    verdict: dict[str, Any],
    lineage: dict[str, Any],
    slices_shown: int | None = None,
) -> str:
    segments = evaluation / "segments.json"
    return model_card(
        record.name,
        record.version,
        model=read_json(model / "model.json"),
        metrics=metrics,
        verdict=verdict,
        segments=read_json(segments) if segments.exists() else [],
        lineage=lineage,
        slices=slices.measured(model, evaluation),
        slices_shown=slices_shown,
    )


def _values(metrics: dict[str, Any] | None) -> dict[str, float]:
    pairs = {k: v.get("value") if isinstance(v, dict) else v for k, v in (metrics or {}).items()}
    return {k: float(v) for k, v in pairs.items() if isinstance(v, int | float)}


def _text(record: dict[str, Any]) -> dict[str, str]:
    return {key: "" if value is None else str(value) for key, value in record.items()}
