"""The label feed: what is signed counts once, the first label stands, and nothing else is believed."""

from __future__ import annotations

import json
import stat
import threading
import time

import pytest

from seaway.artifacts import canonical_json
from seaway.errors import SeawayError
from serving.signals.firsts import key_of
from serving.signals.labels import LabelFeed, key_name, read_key, sign, tell

KEY = b"k" * 32
NOW = 1_700_000_000.0


def feed(folder, key=KEY, now=NOW):
    return LabelFeed(folder, key, clock=lambda: now)


def read(reader):
    """All keys that got a label, and whether a known one changed."""
    put = reader.read()
    return set(put.new.tolist()), put.replaced


def known(reader):
    return dict(zip(reader.known.key.tolist(), reader.known.mark.tolist(), strict=True))


def write(path, *entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        for entry in entries:
            stream.write(entry if isinstance(entry, bytes) else json.dumps(entry).encode() + b"\n")


def test_what_is_told_is_known_and_only_that(tmp_path):
    assert tell(tmp_path, KEY, [("a", 1, NOW - 9), ("b/1", 0, NOW - 8)]) == 2
    reader = feed(tmp_path)
    assert read(reader)[0] == {key_of("a"), key_of("b/1")}
    assert known(reader) == {key_of("a"): 1, key_of("b/1"): 0} and reader.problem == ""
    assert read(reader) == (set(), False)
    tell(tmp_path, KEY, [("a", 1, NOW - 5), ("c", 1, NOW - 5)])
    assert read(reader)[0] == {key_of("c")} and reader.problem == ""


def test_the_mac_is_over_the_canonical_json():
    import hashlib
    import hmac

    entry = sign(KEY, 'x "ü"', 1, 1700000000.25)
    rest = {k: v for k, v in entry.items() if k != "mac"}
    assert rest == {"id": 'x "ü"', "label": 1, "time": 1700000000.25, "key": key_name(KEY)}
    assert entry["mac"] == hmac.new(KEY, canonical_json(rest).encode(), hashlib.sha256).hexdigest()


def test_another_program_may_write_whole_seconds(tmp_path):
    import hashlib
    import hmac

    entry = {"id": "a", "label": 1, "time": int(NOW), "key": key_name(KEY)}
    mac = hmac.new(KEY, canonical_json(entry).encode(), hashlib.sha256).hexdigest()
    write(tmp_path / "other.jsonl", {**entry, "mac": mac})
    reader = feed(tmp_path)
    read(reader)
    assert known(reader) == {key_of("a"): 1}


def test_whoever_has_the_key_and_a_json_library_can_sign(tmp_path):
    """Whole seconds, as most other systems would write them."""
    import hashlib
    import hmac

    entry = {"id": "a", "label": 1, "time": int(NOW) - 5, "key": key_name(KEY)}
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    write(tmp_path / "theirs.jsonl", entry | {"mac": hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()})
    reader = feed(tmp_path)
    reader.read()
    assert known(reader) == {key_of("a"): 1} and reader.problem == ""


GOOD = sign(KEY, "a", 0, NOW - 10)
REFUSED = {
    "unsigned": {k: v for k, v in GOOD.items() if k not in ("mac", "key")},
    "unsigned, with the key's name": {k: v for k, v in GOOD.items() if k != "mac"},
    "forged": GOOD | {"mac": "0" * 64},
    "forged: another label under a real signature": GOOD | {"label": 1},
    "forged: another id under a real signature": GOOD | {"id": "b"},
    "forged: another time under a real signature": GOOD | {"time": NOW - 11},
    "forged: no hex": GOOD | {"mac": "\ud800ü"},
    "of another key": sign(b"o" * 32, "a", 0, NOW - 10),
    "damaged: no json": b"{not json\n",
    "damaged: half a line": json.dumps(GOOD).encode()[:40] + b"\n",
    "damaged: a list": [1, 2],
    "damaged: label 2": GOOD | {"label": 2},
    "damaged: label true": GOOD | {"label": True},
    "damaged: label null": GOOD | {"label": None},
    "damaged: time nan": json.dumps(GOOD | {"time": float("nan")}).encode() + b"\n",
    "damaged: time endless": GOOD | {"time": 10**400},
    "damaged: id 7": GOOD | {"id": 7},
    "damaged: a field more": GOOD | {"x": 1},
    "damaged: deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_signed_for_is_refused_counted_and_named(tmp_path, case):
    write(tmp_path / "feed.jsonl", REFUSED[case], sign(KEY, "z", 1, NOW - 1))
    reader = feed(tmp_path)
    read(reader)
    assert known(reader) == {key_of("z"): 1}
    reason = case.split(":")[0].split(",")[0]
    assert reader.refused[reason] == 1 and f"1 {reason} (first in feed.jsonl)" in reader.problem


def test_the_first_label_by_time_stands_wherever_and_whenever_it_is_read(tmp_path):
    write(tmp_path / "b.jsonl", sign(KEY, "a", 1, NOW - 20))
    reader = feed(tmp_path)
    read(reader)
    write(tmp_path / "a.jsonl", sign(KEY, "a", 0, NOW - 10), sign(KEY, "c", 0, NOW - 5), sign(KEY, "c", 1, NOW - 4))
    assert not read(reader)[1]
    again = feed(tmp_path)
    read(again)
    for each in (reader, again):
        assert known(each) == {key_of("a"): 1, key_of("c"): 0}
        assert each.refused["conflicting"] == 2 and "2 conflicting" in each.problem
    write(tmp_path / "c.jsonl", sign(KEY, "a", 0, NOW - 30))  # told late, known earlier
    assert read(reader)[1] and known(reader)[key_of("a")] == 0


def test_a_label_from_the_future_waits_for_its_time(tmp_path):
    write(tmp_path / "a.jsonl", sign(KEY, "a", 1, NOW + 60), sign(KEY, "b", 1, NOW + 2))
    now = [NOW]
    reader = LabelFeed(tmp_path, KEY, clock=lambda: now[0])
    read(reader)
    assert known(reader) == {key_of("b"): 1}  # clocks differ a little
    assert reader.refused["future"] == 1 and "1 future (first in a.jsonl)" in reader.problem
    now[0] = NOW + 61
    assert read(reader)[0] == {key_of("a")} and reader.problem == ""


def test_a_torn_last_line_waits_and_is_ended_by_the_next_writer(tmp_path):
    line = json.dumps(sign(KEY, "a", 1, NOW - 1)).encode()
    write(tmp_path / "labels.jsonl", line[:30])
    reader = feed(tmp_path)
    read(reader)
    assert not known(reader) and reader.problem == ""
    write(tmp_path / "labels.jsonl", line[30:] + b"\n")
    read(reader)
    assert known(reader) == {key_of("a"): 1}
    write(tmp_path / "labels.jsonl", line[:30])  # the writer is killed here
    tell(tmp_path, KEY, [("b", 0, NOW - 1)])
    read(reader)
    assert known(reader) == {key_of("a"): 1, key_of("b"): 0} and reader.refused["damaged"] == 1


def test_a_replaced_file_and_a_line_without_end_harm_nothing(tmp_path):
    path = tmp_path / "labels.jsonl"
    tell(tmp_path, KEY, [(f"r{i}", i % 2, NOW - 9) for i in range(50)])
    reader = feed(tmp_path)
    read(reader)
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    write(path, *lines[:10], sign(KEY, "new", 1, NOW - 1))
    read(reader)
    assert len(known(reader)) == 51 and reader.problem == ""
    write(path, b"x" * (9 << 20), b"\n", sign(KEY, "last", 1, NOW - 1))
    read(reader)
    assert len(known(reader)) == 52


def test_what_is_no_label_cannot_be_signed():
    for identity, label, at in (("a", 2, NOW), ("a", True, NOW), ("", 1, NOW), (7, 1, NOW), ("a", 1, float("inf"))):
        with pytest.raises(SeawayError):
            sign(KEY, identity, label, at)


def test_a_key_is_made_once_for_its_owner_only(tmp_path):
    path, keys = tmp_path / "keys" / "labels.key", []
    with pytest.raises(SeawayError, match="cannot be read"):
        read_key(path)
    makers = [threading.Thread(target=lambda: keys.append(read_key(path, make=True))) for _ in range(8)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(keys) == 8 and len(set(keys)) == 1 and read_key(path) == keys[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [p.name for p in path.parent.iterdir()] == ["labels.key"]
    path.chmod(0o604)
    with pytest.raises(SeawayError, match="can be read by every user"):
        read_key(path)
    path.chmod(0o600)
    path.write_bytes(b"short\n")
    with pytest.raises(SeawayError, match="has 5 bytes"):
        read_key(path)


def test_a_hundred_thousand_labels_in_seconds(tmp_path):
    tell(tmp_path, KEY, ((f"request-{i}", i % 2, NOW - 9) for i in range(100_000)))
    reader = feed(tmp_path)
    start = time.process_time()
    read(reader)
    first = time.process_time() - start
    assert len(reader.known) == 100_000 and first < 8, first
    tell(tmp_path, KEY, [("one more", 1, NOW - 1)])
    start = time.process_time()
    assert len(read(reader)[0]) == 1
    assert time.process_time() - start < 0.1
