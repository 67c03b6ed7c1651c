"""What a sweep or a run will cost is told before it begins; above budget.ask_above somebody must agree."""

from __future__ import annotations

import argparse
import select
import sys
from typing import Any

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.spend import Estimate, worth


def add(verb: argparse.ArgumentParser) -> None:
    """The option ``--yes``."""
    text = "agree to what it will cost, also above budget.ask_above: for automation, where nobody can be asked"
    verb.add_argument("--yes", "-y", action="store_true", help=text)


def agree(config: Config, yes: bool, until: str = "", fresh: bool = False, pipeline: Any = None) -> dict[str, Any]:
    """Tell the estimate and, where it must be, ask; gives what the run's record says of it.

    ``pipeline``: another one than training.

    SeawayError when somebody says no, or must be asked and cannot be.
    """
    from pipelines.estimate import estimate
    from pipelines.training import training_pipeline

    found = estimate(config, pipeline or training_pipeline(config.pipeline), until, fresh)
    print("\n".join(told(found, config)), flush=True)
    question = found.question(config.budget)
    if question and not yes:
        _ask(question, f"{found.usd:.2f}", config)
    return {"estimate": found.as_record()}


def told(found: Estimate, config: Config) -> list[str]:
    """The estimate in words: a line, and with prices a line for each step that costs much of it."""
    if not found.forecasts:
        return ["estimate: all steps are unchanged, so nothing will run"]
    text = "estimate: "
    if len(found.unknown) < len(found.forecasts):
        text += f"about {_clock(found.seconds)}, {_hours(found)}"
        text += "" if found.rates.free else f", {worth(found.usd)}"
        if not found.rates.free and found.most_usd > 1.05 * found.usd:
            text += f" (at the most {worth(found.most_usd)}, if no trial is stopped early)"
        text += f"; without {', '.join(found.unknown)}, of which there is no earlier run" if found.unknown else ""
    else:
        text += "there is no earlier run of this workload and data to go by"
    if found.unchanged:
        text += f"; {len(found.unchanged)} step{'s' * (len(found.unchanged) > 1)} unchanged"
    if found.rates.free:
        return [text]
    dear = sorted((f for f in found.forecasts if f.usd > 0.05 * found.usd), key=lambda f: -f.usd)
    lines = [f"  {f.step:<9} {_clock(f.seconds or 0.0):>8}  {worth(f.usd):>12}  {f.why}" for f in dear]
    limit = f"; budget.limit ends the sweep at {worth(config.budget.limit)}" if config.budget.limit else ""
    return [text, *lines, f"  prices: {found.rates.source}{limit}"]


def _ask(question: str, usd: str, config: Config) -> None:
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout.isatty()):
        raise SeawayError(
            f"{question}, and there is no terminal to ask at; nothing was run. Add --yes to agree, or raise "
            f"budget.ask_above (--set budget.ask_above={usd}) in config/{config.env}.yaml; budget.limit ends a sweep "
            "before it costs more"
        )
    print(f"{question[0].upper()}{question[1:]}.\nGo on? [y/N] ", end="", flush=True)
    while not select.select([sys.stdin], [], [], 0.2)[0]:  # Ctrl-C is seen between two looks, whatever reads restart
        pass
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise SeawayError("not agreed to, so nothing was run")


def _hours(found: Estimate) -> str:
    use = found.use
    text = f"{use.cpu_seconds / 3600:.2g} core-hours"
    return text + (f" and {use.gpu_seconds / 3600:.2g} GPU-hours" if use.gpu_seconds else "")


def _clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
