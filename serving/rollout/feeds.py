"""The loop's source of pairs and labels, made anew when its release's evidence starts anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaway.config import Config
from serving.rollout.rules import Rules
from serving.rollout.state import State
from serving.signals.labels import LabelFeed, feed_of, read_key
from serving.signals.objects import ObjectFolder
from serving.signals.pairs import PairFeed


class Pairs:
    """Callable for ``Rollout(pairs=...)``. ``folder``: the deployment's prediction logs."""

    def __init__(
        self,
        folder: Path | ObjectFolder,
        labels: Callable[[], LabelFeed] | None,
        rules: Rules,
        *,
        stable: str,
        canary: str,
        on_event: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.labels, self.rules = folder, labels, rules
        self.stable, self.canary, self.on_event = stable, canary, on_event
        self._feed: tuple[tuple[Any, ...], PairFeed] | None = None
        self._said = ""

    def __call__(self, state: State) -> dict[str, Any]:
        """Cumulative readings since the state's evidence began, and "problem"."""
        key = (state.release, state.started, state.spec)
        if self._feed is None or self._feed[0] != key:
            labels = self.labels() if self.labels else None
            feed = PairFeed(
                self.folder, labels, self.rules, stable=self.stable, canary=self.canary, since=state.started
            )
            self._feed = (key, feed)
        feed = self._feed[1]
        found = feed.read()
        if feed.said != self._said:
            self._said = feed.said
            if self._said:
                self.on_event(f"left out of the comparison on the same requests: {self._said}")
        return found


def pairs_of(
    config: Config,
    rules: Rules,
    deployment: str,
    *,
    stable: str | None,
    canary: str | None,
    folder: Path | ObjectFolder,
    on_event: Callable[[str], None] = print,
) -> Pairs | None:
    """The source for one release; None when its rules compare nothing on pairs. ``folder``: of all answers."""
    if not (rules.pairs or rules.loss) or not stable or not canary:
        return None
    labels = None
    if rules.loss:

        def labels() -> LabelFeed:
            feed, key = feed_of(config)
            return LabelFeed(
                feed, read_key(key, make=config.release.labels is None or not config.release.labels.key_file)
            )

    return Pairs(folder / deployment, labels, rules, stable=stable, canary=canary, on_event=on_event)
