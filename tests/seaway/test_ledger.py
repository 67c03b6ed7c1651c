"""The promotion log: append-only, chained, recovered after a crash."""

import json
import multiprocessing

import pytest

from seaway import ledger
from seaway.errors import SeawayError


@pytest.fixture
def filled(tmp_path):
    path = tmp_path / "home" / "ledger.jsonl"
    for i in range(4):
        ledger.append(path, {"what": "promoted", "n": i, "e": 1.5e-7 * i, "text": "größer\nzwei"})
    return path


def test_lines_are_chained_and_verified(filled):
    lines = ledger.read(filled)
    assert [line["seq"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["previous"] == ledger.START
    assert [line["previous"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert ledger.verify(filled) == {"entries": 4, "last": lines[-1]["hash"], "torn": False}
    assert lines[2]["entry"] == {"what": "promoted", "n": 2, "e": 3e-7, "text": "größer\nzwei"}


def test_no_file_is_an_empty_ledger(tmp_path):
    assert ledger.read(tmp_path / "none") == []
    assert ledger.verify(tmp_path / "none")["entries"] == 0


@pytest.mark.parametrize("size", [1, 40, 5000])
def test_a_torn_last_line_is_set_aside_and_nothing_else_is_lost(filled, size):
    whole = filled.read_bytes()
    torn = (b'{"seq":5,"time":"' + b"x" * 6000)[:size]
    filled.write_bytes(whole + torn)
    assert len(ledger.read(filled)) == 4
    assert ledger.verify(filled)["torn"]
    assert ledger.append(filled, {"what": "rolled back"})["seq"] == 5
    assert ledger.verify(filled) == {"entries": 5, "last": ledger.read(filled)[-1]["hash"], "torn": False}
    assert filled.with_name("ledger.jsonl.torn").read_bytes() == torn + b"\n"
    assert filled.read_bytes().startswith(whole)


def edited(lines):
    record = json.loads(lines[1])
    record["entry"]["n"] = 99
    lines[1] = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def rehashed(lines):
    record = json.loads(lines[1])
    record["entry"]["n"] = 99
    record.pop("hash")
    record["hash"] = ledger.record_hash(record)
    lines[1] = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (edited, 2),
        (rehashed, 3),
        (lambda lines: lines.pop(1), 2),
        (lambda lines: lines.pop(0), 1),
        (lambda lines: lines.insert(2, lines[1]), 3),
        (lambda lines: lines.reverse(), 1),
        (lambda lines: lines.__setitem__(1, b"not json"), 2),
    ],
)
def test_every_change_is_noticed_at_its_line(filled, change, line):
    lines = filled.read_bytes().splitlines()
    change(lines)
    filled.write_bytes(b"".join(part + b"\n" for part in lines))
    with pytest.raises(SeawayError, match=rf"line {line}\b"):
        ledger.verify(filled)


def test_nothing_is_built_on_a_damaged_last_line(filled):
    lines = filled.read_bytes().splitlines()
    edited_last = json.loads(lines[-1]) | {"time": "1970"}
    filled.write_bytes(b"\n".join([*lines[:-1], json.dumps(edited_last).encode()]) + b"\n")
    with pytest.raises(SeawayError, match="was changed"):
        ledger.append(filled, {})


def _write(path, who):
    for i in range(20):
        ledger.append(path, {"who": who, "i": i})


def test_writers_at_the_same_time_keep_the_chain(tmp_path):
    path = tmp_path / "ledger.jsonl"
    workers = [multiprocessing.get_context("fork").Process(target=_write, args=(path, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert ledger.verify(path)["entries"] == 60


def test_nan_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with pytest.raises(ValueError):
        ledger.append(path, {"e": float("nan")})
    assert ledger.read(path) == []
