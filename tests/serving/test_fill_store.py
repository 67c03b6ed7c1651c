from __future__ import annotations

import shutil

import polars as pl
import pytest

from seaway.errors import SeawayError
from seaway.online import OnlineReader, project_name, request_of
from serving import fill_store
from tests.feature_repo import world
from tests.feature_repo.toy.definitions import SPEC


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return world.made_features(tmp_path_factory.mktemp("fill"), rows=600)


def test_every_entity_of_the_features_is_written_and_again_the_same(features, tmp_path):
    config = world.config(tmp_path)
    store = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    written = fill_store.fill(config, features, store)
    assert written and all(count > 0 for count in written.values())
    assert fill_store.fill(config, features, store) == written


def test_the_store_then_answers_the_next_event_as_the_offline_table_does(features, tmp_path):
    table = pl.read_parquet(features / "features.parquet").sort("event_timestamp", maintain_order=True)
    last = table.row(-1, named=True)
    before = tmp_path / "features"
    shutil.copytree(features, before)
    table.filter(pl.col("at") < last["at"]).write_parquet(before / "features.parquet")
    store = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    fill_store.fill(world.config(tmp_path), before, store)
    found = OnlineReader(store, project_name("toy-visits"), SPEC).features(request_of(SPEC, last))
    offline = {name: last[name] for name in SPEC.names if name in last}
    assert len(offline) >= 3 and sum(value > 0 for value in offline.values()) >= 2
    assert {name: found[SPEC.names.index(name)] for name in offline} == pytest.approx(offline, abs=0)


@pytest.mark.parametrize("what", ["absent", "empty"])
def test_what_is_no_features_folder_is_refused(what, features, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    if what == "empty":
        pl.read_parquet(features / "features.parquet").clear().write_parquet(folder / "features.parquet")
    with pytest.raises(SeawayError, match=r"no features\.parquet|has no rows"):
        fill_store.fill(world.config(tmp_path), folder, {"type": "sqlite", "path": str(tmp_path / "o.db")})


@pytest.mark.parametrize("own", [True, False])
def test_an_entry_of_the_shared_step_cache_is_fetched_and_taken(features, tmp_path, monkeypatch, capsys, own):
    """Also by an environment without storage of its own, from that of another."""
    import seaway.config
    from seaway.config import Storage as Section
    from seaway.storage import Storage

    entry = tmp_path / "entry"
    shutil.copytree(features, entry / "outputs" / "out")
    uri = (tmp_path / "objects").as_uri()
    Storage(uri).publish(entry, f"{uri}/cache/features/k1")
    config = world.config(tmp_path).model_copy(update={"storage": Section(uri=uri if own else None)})
    monkeypatch.setattr(seaway.config, "load", lambda *_, **__: config)
    assert fill_store.main(["--features", f"{uri}/cache/features/k1"]) == 0
    assert "entities" in capsys.readouterr().out
    assert (config.home / "online" / "serve.db").exists()


def test_the_command_names_what_is_missing(tmp_path, capsys):
    assert fill_store.main(["--env", "local", "--features", str(tmp_path)]) == 2
    assert "holds no features.parquet" in capsys.readouterr().err
    assert fill_store.main(["--env", "nowhere", "--features", str(tmp_path)]) == 2
    assert "nowhere" in capsys.readouterr().err
