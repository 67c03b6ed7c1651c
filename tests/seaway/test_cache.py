"""The step cache: what counts as a change, what it says about it, and that a result is whole or absent."""

import json
import os
from dataclasses import replace

import pytest

from seaway.cache import Ingredients, StepCache, hashes, place
from seaway.closure import source_hashes
from seaway.storage import Storage

WHAT = Ingredients("join", {"a.py": "1", "b.py": "2"}, {"scale": "tiny", "delay": "7d"}, {"rows": "r"})


@pytest.fixture
def cache(tmp_path):
    return StepCache(tmp_path / "cache", keep=2)


def run(cache, what, text="result"):
    work = cache.begin(what)
    (work / "outputs" / "out").mkdir()
    (work / "outputs" / "out" / "rows").write_text(text)
    return cache.store(what, work, ["out"], {"rows": 3, "about": [1.5]}, 2.0)


def test_the_same_ingredients_are_found_with_outputs_and_summary(cache):
    assert cache.find(WHAT) is None
    assert cache.explain(WHAT, hit=False) == "first run"
    run(cache, WHAT)
    entry = cache.find(WHAT)
    assert (entry.outputs["out"] / "rows").read_text() == "result"
    assert (entry.summary, entry.seconds) == ({"rows": 3, "about": [1.5]}, 2.0)
    assert cache.explain(WHAT, hit=True) == "unchanged"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"code": {"a.py": "1", "b.py": "3"}}, "code changed: b.py"),
        ({"code": {"a.py": "1"}}, "code changed: b.py"),
        ({"parameters": {"scale": "small", "delay": "7d"}}, "parameter changed: scale tiny -> small"),
        ({"parameters": {"scale": "tiny"}}, "parameter changed: delay 7d -> (none)"),
        ({"inputs": {"rows": "s"}}, "input changed: rows"),
        ({"code": {}, "inputs": {"rows": "s"}}, "code changed: a.py, b.py; input changed: rows"),
    ],
)
def test_each_kind_of_change_is_a_miss_and_is_named(cache, change, reason):
    run(cache, WHAT)
    changed = replace(WHAT, **change)
    assert cache.find(changed) is None
    assert cache.explain(changed, hit=False) == reason


def test_going_back_finds_the_earlier_result(cache):
    run(cache, WHAT)
    run(cache, replace(WHAT, inputs={"rows": "s"}))
    assert cache.find(WHAT)
    assert cache.explain(WHAT, hit=True) == "unchanged since an earlier run"


def test_an_attempt_that_did_not_finish_leaves_no_result_and_is_named(cache):
    work = cache.begin(WHAT)
    (work / "outputs" / "out").write_text("half")
    assert cache.find(WHAT) is None
    assert "did not finish" in cache.explain(WHAT, hit=False)
    assert list((cache.begin(WHAT) / "outputs").iterdir()) == []


def test_a_changed_or_missing_file_makes_a_result_void(cache):
    run(cache, WHAT)
    (cache.find(WHAT).outputs["out"] / "rows").write_text("changed by hand")
    assert cache.find(WHAT) is None
    run(cache, WHAT)
    (cache.find(WHAT).outputs["out"] / "rows").unlink()
    assert cache.find(WHAT) is None


def test_a_manifest_cut_short_is_no_result(cache):
    (run(cache, WHAT).folder / "manifest.json").write_text('{"outp')
    assert cache.find(WHAT) is None


def test_only_the_newest_results_of_a_step_stay(cache):
    for n in range(4):
        entry = run(cache, replace(WHAT, inputs={"rows": str(n)}))
        os.utime(entry.folder, (n, n))
    found = [n for n in range(4) if cache.find(replace(WHAT, inputs={"rows": str(n)}))]
    assert found == [2, 3]


def test_place_links_folders_and_files_without_copying(cache, tmp_path):
    entry = run(cache, WHAT)
    place(entry.outputs["out"], tmp_path / "shown" / "out")
    assert os.path.samefile(tmp_path / "shown" / "out" / "rows", entry.outputs["out"] / "rows")
    place(entry.outputs["out"] / "rows", tmp_path / "file")
    place(entry.outputs["out"] / "rows", tmp_path / "file")  # again: no error
    assert (tmp_path / "file").read_text() == "result"


def test_hashes_see_names_and_bytes_of_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    before = hashes({"a": tmp_path / "a", "none": tmp_path / "none"})
    assert before["none"] == ""
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert hashes({"a": tmp_path / "a"})["a"] != before["a"]


def project(tmp_path, **files):
    for name, text in files.items():
        file = tmp_path / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "__init__.py").touch()
    return tmp_path


def test_the_closure_follows_imports_of_the_project_only(tmp_path):
    root = project(
        tmp_path,
        steps__one="import json\nimport numpy\nfrom core import tools\nfrom . import beside\n",
        steps__beside="def f():\n    from core.deep import x\n",
        core__tools="try:\n    pass\nexcept E:\n    match x:\n        case 1:\n            import core.deeper\n",
        core__deeper="",
        core__deep="x = 1",
        core__other="",
        steps__two="",
    )
    found = set(source_hashes(["steps.one"], [root]))
    assert {"steps/one.py", "steps/beside.py", "core/tools.py", "core/deep.py", "core/deeper.py"} <= found
    assert not {"core/other.py", "steps/two.py"} & found
    assert not any("numpy" in name or "json" in name for name in found)


def test_a_change_in_an_imported_file_changes_its_hash_alone(tmp_path):
    root = project(tmp_path, steps__one="from core.tools import f", core__tools="f = 1")
    before = source_hashes(["steps.one"], [root])
    (root / "core" / "tools.py").write_text("f = 2")
    after = source_hashes(["steps.one"], [root])
    assert [name for name in before if before[name] != after[name]] == ["core/tools.py"]


def test_the_manifest_can_be_read_by_a_person(cache):
    manifest = json.loads((run(cache, WHAT).folder / "manifest.json").read_text())
    assert manifest["ingredients"]["parameters"] == WHAT.parameters


# results in object storage


@pytest.fixture
def store(tmp_path):
    return Storage((tmp_path / "store").as_uri())


def test_another_machine_finds_what_one_has_stored(tmp_path, store):
    here, there = (StepCache(tmp_path / name, remote=store) for name in ("here", "there"))
    assert there.find(WHAT) is None
    run(here, WHAT)
    entry = there.find(WHAT)
    assert (entry.outputs["out"] / "rows").read_text() == "result" and entry.folder.is_relative_to(tmp_path / "there")
    assert (entry.summary, entry.seconds) == ({"rows": 3, "about": [1.5]}, 2.0)
    assert there.find(replace(WHAT, parameters={"scale": "small"})) is None
    here.discard(WHAT)
    assert StepCache(tmp_path / "third", remote=store).find(WHAT) is None


def test_an_empty_folder_of_a_result_comes_along(tmp_path, store):
    here, there = (StepCache(tmp_path / name, remote=store) for name in ("here", "there"))
    work = here.begin(WHAT)
    (work / "outputs" / "out").mkdir()
    here.store(WHAT, work, ["out"], {}, 1.0)
    assert list(there.find(WHAT).outputs["out"].iterdir()) == []


def test_a_result_that_is_spoilt_in_storage_is_made_again(tmp_path, store):
    said = []
    here, there = (StepCache(tmp_path / name, remote=store, warn=said.append) for name in ("here", "there"))
    run(here, WHAT)
    store.write(store.join("cache", WHAT.step, WHAT.key, "outputs/out/rows"), b"other")
    assert there.find(WHAT) is None and "outputs/out/rows is not the file" in said[0]
    run(there, WHAT)
    assert StepCache(tmp_path / "third", remote=store).find(WHAT)


def test_storage_that_is_away_costs_time_and_no_run(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    said = []
    away = Storage("s3://bucket", "http://127.0.0.1:9", "us-east-1")
    cache = StepCache(tmp_path / "cache", remote=away, warn=said.append)
    assert cache.find(WHAT) is None
    run(cache, WHAT)
    assert cache.find(WHAT) and len(said) == 2
    assert "so the step runs" in said[0] and "kept here only" in said[1]
