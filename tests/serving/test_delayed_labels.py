"""Labels of replayed events: told once each, after their delay, and never for what has none."""

from __future__ import annotations

import polars as pl

from seaway.config import load
from serving.signals.firsts import key_of
from serving.signals.labels import LabelFeed
from tests.serving.delayed_labels import DelayedLabels, labels_of
from tests.serving.test_pair_feed import KEY, T, line, put


def test_a_label_is_told_so_long_after_its_answer_and_once(tmp_path):
    answers, now = tmp_path / "answers", [T]
    put(answers / "s.jsonl", line("a", 0.1, "1", T - 5), line("b", 0.1, "1", T), line("unlabelled", 0.1, "1", T - 5))

    def teller():
        labels = {"a": 1, "b": 0, "never asked": 1}
        return DelayedLabels(answers, labels, tmp_path / "feed", KEY, after=10.0, clock=lambda: now[0])

    first = teller()
    assert first.step() == 0
    now[0] = T + 6
    put(answers / "c.jsonl", line("a", 0.1, "2", T - 4))  # the shadow's answer to the same request
    assert first.step() == 1 and first.step() == 0
    now[0] = T + 11
    again = teller()  # after a restart
    assert again.step() == 1 and first.step() == 0
    reader = LabelFeed(tmp_path / "feed", KEY, clock=lambda: now[0])
    reader.read()
    known = dict(zip(reader.known.key.tolist(), zip(reader.known.mark, reader.known.rank, strict=True), strict=True))
    assert known == {key_of("a"): (1, T + 5), key_of("b"): (0, T + 10)} and reader.problem == ""


def test_labels_are_by_the_ids_that_the_replay_sends(tmp_path):
    config = load()
    source, label = config.workload.sources[config.workload.source], config.workload.label.column
    times = pl.Series([3, 1, 2]).cast(pl.Datetime("us"))
    table = pl.DataFrame({"event_timestamp": times, label: [1, 0, None], source.id: [30, 10, 20]})
    table.write_parquet(tmp_path / "replay.parquet")
    assert labels_of(config, tmp_path / "replay.parquet") == {"10": 0, "30": 1}
    without = config.workload.model_copy(
        update={"sources": {config.workload.source: source.model_copy(update={"id": None})}}
    )
    config = config.model_copy(update={"workload": without})
    assert labels_of(config, tmp_path / "replay.parquet") == {"0": 0, "2": 1}
