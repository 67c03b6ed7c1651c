"""The report step: the records of a run and of its releases become one HTML file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError

from components.report import (
    cost_parts,
    evidence_parts,
    model_parts,
    release_parts,
    run_parts,
    slice_parts,
    sweep_parts,
)
from components.report.dag import clock
from components.report.records import NotRun, Records, load, moment
from components.report.svg import short, words
from seaway.artifacts import atomic_write
from seaway.spend import worth

_HERE = Path(__file__).parent
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError, OSError, UndefinedError)


@dataclass(frozen=True)
class Part:
    """One section: its anchor, its title, what fills it, and the template with a macro of the anchor's name."""

    id: str
    title: str
    fill: Callable[[Records], dict[str, Any]]
    template: str = "sections.html"


PARTS = (
    Part("headline", "Verdict", run_parts.headline),
    Part("pipeline", "Pipeline", run_parts.pipeline),
    Part("data", "Data", run_parts.data),
    Part("sweep", "Sweep", sweep_parts.sweep, "sweep.html"),
    Part("cost", "Cost", cost_parts.cost, "sweep.html"),
    Part("curves", "Curves", model_parts.curves),
    Part("metrics", "Metrics and gates", model_parts.metrics),
    Part("segments", "Segments", model_parts.segments),
    Part("slices", "Slices", slice_parts.slices, "slices.html"),
    Part("attributions", "Attributions", model_parts.attributions),
    Part("canary", "Canary evidence", evidence_parts.canary, "released.html"),
    Part("traffic", "Traffic", release_parts.traffic, "released.html"),
    Part("parity", "Parity", release_parts.parity, "released.html"),
    Part("lineage", "Lineage", release_parts.lineage, "released.html"),
    Part("further", "Further", release_parts.further, "released.html"),
)


def build(home: Path, releases: list[Path], run: Path, out: Path) -> Path:
    """Write the report of a run and its releases to ``out`` and return it.

    ``home``: the workspace; ``releases``: folders with a record.json each, oldest first; ``run``: the
    run's run.json. A part without a record becomes a note that says so; nothing missing is an error.
    """
    records = load(home, releases, run)
    environment = _environment()
    sections = [_section(environment, part, records) for part in PARTS]
    page = environment.get_template("page.html").render(
        sections=sections,
        name=_name(records),
        run=records.run,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        style=(_HERE / "style.css").read_text(),
        script=(_HERE / "hover.js").read_text(),
    )
    with atomic_write(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    out.chmod(0o644)
    return out


def _section(environment: Environment, part: Part, records: Records) -> dict[str, Any]:
    section: dict[str, Any] = {"id": part.id, "title": part.title, "body": None, "note": None}
    try:
        macro = getattr(environment.get_template(part.template).module, part.id)
        section["body"] = macro(part.fill(records))
    except NotRun as missing:
        section["note"] = f"Not run. {missing}"
    except _BROKEN as error:  # a record of another shape than agreed must not cost the reader the other parts
        section["note"] = f"This part's record could not be read ({type(error).__name__}: {error})."
    return section


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"number": _number, "fixed": _fixed, "count": _count, "percent": _percent}
    environment.filters |= filters | {"clock": clock, "when": _when, "words": words, "usd": worth}
    return environment


def _name(records: Records) -> str:
    for release in records.releases:
        if release.get("workload"):
            return str(release["workload"])
    return "Release"


def _number(value: Any) -> str:
    if value is None or isinstance(value, str | bool):
        return "–" if value is None else str(value)
    return short(float(value))


def _count(value: Any) -> str:
    return "–" if value is None else f"{int(value):,}"


def _fixed(value: Any) -> str:
    """Three decimals, so that numbers of one column compare at a glance."""
    return "–" if value is None else f"{float(value):.3f}"


def _percent(value: Any) -> str:
    """A share as a percentage with two significant digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{float(f'{100 * value:.2g}'):g} %"


def _when(value: Any) -> str:
    time = moment(value)
    return str(value if value is not None else "–") if time is None else time.strftime("%Y-%m-%d %H:%M:%S")
