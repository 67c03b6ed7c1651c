"""What a model server counts about itself, for its Prometheus page."""

from __future__ import annotations

from typing import Any

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
ANSWERED = "seaway_rows_answered_total"
DECISIONS = "seaway_rows_decided_total"


class ServerMetrics:
    """Counters and histograms of one server process; made after the fork, in the process that uses them."""

    def __init__(self, registry: Any = None):
        from prometheus_client import REGISTRY, Counter, Histogram

        registry = registry or REGISTRY
        self.answered = Counter("seaway_rows_answered", "Rows scored", registry=registry)
        self.decisions = Counter("seaway_rows_decided", "Rows decided positive", registry=registry)
        self.refused = Counter("seaway_requests_refused", "Requests refused", ["reason"], registry=registry)
        self.failed = Counter("seaway_requests_failed", "Requests that failed here", registry=registry)
        self.lost = Counter("seaway_log_lines_lost", "Prediction log lines not written", registry=registry)
        self.lookup = Histogram(
            "seaway_lookup_seconds", "Features of a row from the online store", buckets=_SECONDS, registry=registry
        )
        self.model = Histogram("seaway_model_seconds", "Scores of a request", buckets=_SECONDS, registry=registry)
        self.total = Histogram("seaway_request_seconds", "A request in the class", buckets=_SECONDS, registry=registry)


def page(texts: list[tuple[dict[str, str], str]]) -> str:
    """One Prometheus text page from several, each sample with its page's labels added; families stay whole.

    ``texts``: (labels to add, page). Of a family's HELP and TYPE lines the first page's are kept.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for labels, text in texts:
        family = ""
        for line in text.splitlines():
            if line.startswith(("# TYPE ", "# HELP ")):
                name = line.split(" ", 3)[2]
                seen = heads.setdefault(name, [])
                if not any(head.startswith(line[:6]) for head in seen):
                    seen.append(line)
                family = name
            elif line.strip() and not line.startswith("#"):
                name = line.split("{", 1)[0].split(" ", 1)[0]
                family = family if family and name.startswith(family) else name
                samples.setdefault(family, []).append(_labelled(line, labels))
    lines = [line for family, found in samples.items() for line in (*sorted(heads.get(family, [])), *found)]
    return "\n".join(lines) + "\n"


def _labelled(line: str, labels: dict[str, str]) -> str:
    if not labels:
        return line
    added = ",".join(f'{key}="{value}"' for key, value in labels.items())
    brace, space = line.find("{"), line.find(" ")
    if 0 <= brace < space:
        rest = line[brace + 1 :]
        return f"{line[:brace]}{{{added}{'' if rest.startswith('}') else ','}{rest}"
    return f"{line[:space]}{{{added}}}{line[space:]}"


def total(text: str, name: str) -> int:
    """Sum of a counter's samples on a page."""
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
    return round(sum(float(v) for v in values))
