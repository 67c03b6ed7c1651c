"""Parts of earlier runs are taken over while nothing about them changed, and gone when nobody uses them."""

import json
import os

import polars as pl
import pytest

from seaway.shelf import INDEX, Shelf


@pytest.fixture
def kept(tmp_path):
    """A shelf with the part `a`, closed."""
    shelf = Shelf(tmp_path / "shelf")
    (tmp_path / "made").write_bytes(b"rows")
    shelf.keep("a", tmp_path / "made")
    shelf.close()
    return tmp_path / "shelf"


def test_what_was_kept_is_taken_over_without_a_copy(kept, tmp_path):
    shelf = Shelf(kept)
    assert shelf.take("a", tmp_path / "out" / "part")
    assert (tmp_path / "out" / "part").samefile(tmp_path / "made")
    assert not shelf.take("b", tmp_path / "out" / "other")
    assert not (tmp_path / "out" / "other").exists()
    assert (shelf.taken, shelf.made) == (1, 0)


def test_a_kept_part_that_was_changed_or_cut_is_not_taken_over(kept, tmp_path):
    before = (tmp_path / "made").stat()
    (tmp_path / "made").write_bytes(b"ROWS")
    assert not Shelf(kept).has("a")
    (tmp_path / "made").write_bytes(b"rows")
    os.utime(tmp_path / "made", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Shelf(kept).has("a")
    (tmp_path / "made").write_bytes(b"row")
    os.utime(tmp_path / "made", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not Shelf(kept).has("a")


def test_what_a_run_did_not_use_is_gone_after_it(kept, tmp_path):
    shelf = Shelf(kept)
    (tmp_path / "new").write_bytes(b"new")
    shelf.keep("b", tmp_path / "new")
    shelf.close()
    assert sorted(p.name for p in kept.iterdir()) == ["b.parquet", INDEX]
    assert (Shelf(kept).has("a"), Shelf(kept).has("b")) == (False, True)


def test_a_run_that_failed_leaves_what_was_there(kept, tmp_path):
    shelf = Shelf(kept)
    (tmp_path / "new").write_bytes(b"new")
    shelf.keep("b", tmp_path / "new")  # and no close
    assert Shelf(kept).has("a")
    assert not Shelf(kept).has("b")


@pytest.mark.parametrize("text", ["", "{"])
def test_an_index_that_cannot_be_read_is_an_empty_shelf(kept, tmp_path, text):
    (kept / INDEX).write_text(text)
    shelf = Shelf(kept)
    assert not shelf.take("a", tmp_path / "out")
    shelf.keep("a", tmp_path / "made")
    shelf.close()
    assert Shelf(kept).has("a")


def test_a_hash_is_remembered_only_while_the_file_is_the_same(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    shelf = Shelf(tmp_path / "shelf")
    first = shelf.digest(file)
    shelf.close()
    record = json.loads((tmp_path / "shelf" / INDEX).read_text())
    assert list(record["hashes"].values()) == [first]
    record["hashes"] = dict.fromkeys(record["hashes"], "remembered")
    (tmp_path / "shelf" / INDEX).write_text(json.dumps(record))
    assert Shelf(tmp_path / "shelf").digest(file) == "remembered"
    file.write_bytes(b"two")
    assert Shelf(tmp_path / "shelf").digest(file) not in (first, "remembered")


def test_a_fact_is_found_once_and_kept_while_runs_ask_for_it(kept):
    shelf = Shelf(kept)
    assert shelf.fact("rows of 1", lambda: 7) == 7
    assert shelf.fact("rows of 1", pytest.fail) == 7
    shelf.fact("rows of 2", lambda: [8, "nine"])
    shelf.close()
    shelf = Shelf(kept)
    assert shelf.fact("rows of 2", pytest.fail) == [8, "nine"]
    shelf.close()
    assert Shelf(kept).fact("rows of 1", lambda: "asked again") == "asked again"


def test_the_rows_of_a_file_that_was_changed_are_counted_again(tmp_path):
    file = tmp_path / "rows.parquet"
    for rows in ([1, 2, 3], [1, 2]):
        pl.DataFrame({"x": rows}).write_parquet(file)
        shelf = Shelf(tmp_path / "shelf")
        assert shelf.rows(file) == len(rows)
        shelf.close()
    assert "rows of " + shelf.digest(file) in json.loads((tmp_path / "shelf" / INDEX).read_text())["facts"]


def test_parts_are_taken_together_or_not_at_all(kept, tmp_path):
    shelf = Shelf(kept)
    (tmp_path / "second").write_bytes(b"more")
    assert not shelf.take_all({"a": tmp_path / "one", "b": tmp_path / "two"})
    assert not (tmp_path / "one").exists()
    shelf.keep("b", tmp_path / "second")
    assert shelf.take_all({"a": tmp_path / "one", "b": tmp_path / "two"})
    assert (tmp_path / "two").samefile(tmp_path / "second")


def test_what_another_run_cleared_away_meanwhile_leaves_no_link_to_write_into(kept, tmp_path, monkeypatch):
    shelf = Shelf(kept)
    (tmp_path / "second").write_bytes(b"more")
    shelf.keep("b", tmp_path / "second")
    monkeypatch.setattr(shelf, "has", lambda key: True)
    (kept / "b.parquet").unlink()
    assert not shelf.take_all({"a": tmp_path / "one", "b": tmp_path / "two"})
    assert not (tmp_path / "one").exists()


def test_without_a_folder_nothing_is_kept(tmp_path):
    (tmp_path / "made").write_bytes(b"rows")
    shelf = Shelf(None)
    shelf.keep("a", tmp_path / "made")
    shelf.close()
    assert not shelf.take("a", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made"]
