"""The feature repositories: what they declare, and that Feast's own command takes them."""

import subprocess
import sys

import pytest

from feature_repo.definitions import FEATURES
from seaway.config import load, project_root
from seaway.feast_import import import_feast
from seaway.feast_store import apply, definitions, open_feature_store
from seaway.feast_views import declare


@pytest.fixture
def config(tmp_path):
    return load(overrides={"home": str(tmp_path)})


def open_in(config, folder):
    return open_feature_store(config, folder, folder / "registry.db", {"type": "sqlite", "path": folder / "o.db"})


def test_definitions_load_without_feast():
    code = "import sys, feature_repo.definitions; sys.exit('feast' in sys.modules or 'polars' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_service_a_model_version(config, tmp_path):
    store = open_in(config, tmp_path)
    apply(store, config)
    services = {service.name: service for service in store.list_feature_services()}
    assert set(services) == {"card_fraud_v1", "card_fraud_v1_online"}
    for service in services.values():
        names = [feature.name for view in service.feature_view_projections for feature in view.features]
        assert sorted(names) == sorted(FEATURES.names)
        assert service.tags["feature_hash"] == FEATURES.hash
    online = {view.name for view in store.list_feature_views() if view.online}
    assert online == {"customer_history", "terminal_history"}


def test_everything_has_an_owner_and_a_description(config):
    import_feast()
    for declared in definitions(config):
        assert declared.owner == "card-risk", declared.name
        assert declared.description, declared.name


def test_repository_files_name_every_declared_object_once(config):
    found = definitions(config)
    declared = declare(FEATURES, "card-risk")
    wanted = [*declared.entities, *declared.sources, *declared.views, *declared.histories]
    wanted += [declared.request, declared.online, *declared.services]
    assert {id(o) for o in wanted} == {id(o) for o in found}


def test_a_registry_cut_short_by_a_kill_is_made_anew(config, tmp_path):
    store = open_in(config, tmp_path)
    apply(store, config)
    whole = (tmp_path / "registry.db").read_bytes()
    services = {service.name for service in store.list_feature_services()}
    for size in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        (tmp_path / "registry.db").write_bytes(whole[:size])
        store = open_in(config, tmp_path)
        apply(store, config)
        assert {service.name for service in store.list_feature_services()} == services


def test_feasts_own_apply_takes_the_folder(tmp_path, monkeypatch):
    import_feast()
    from feast.repo_config import load_repo_config
    from feast.repo_operations import apply_total

    folder = project_root() / "feature_repo"
    text = (folder / "feature_store.yaml").read_text().replace("../.seaway", str(tmp_path / "home"))  # not there yet
    (tmp_path / "feature_store.yaml").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    repo = load_repo_config(folder, tmp_path / "feature_store.yaml")
    apply_total(repo, folder, skip_source_validation=False)
    listed = open_registry(repo)
    assert listed == {"card_fraud_v1", "card_fraud_v1_online"}


def open_registry(repo):
    from feast import FeatureStore

    return {service.name for service in FeatureStore(config=repo).list_feature_services()}
