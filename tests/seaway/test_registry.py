"""The registry on a real MLflow SQLite file; one file for the module, since its migrations take seconds."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from seaway.artifacts import content_hash, read_json, write_json
from seaway.bundles import local_copy
from seaway.config import load
from seaway.errors import SeawayError
from seaway.keys import public_key
from seaway.registry import SIGNED, Registry
from seaway.signing import digest, verify
from seaway.storage import Storage


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def registry(home, request):
    # a model name of its own for each test
    return Registry(f"sqlite:///{home}/mlflow.db", request.node.name, home / "mlartifacts")


def register(registry, tmp_path, text="weights", **tags):
    bundle = tmp_path / f"bundle-{text}"
    write_json(bundle / "model.json", {"text": text})
    (bundle / "baseline").mkdir(exist_ok=True)
    digest = content_hash(bundle)
    return registry.register(
        bundle,
        digest,
        params={"layers": 2},
        metrics={"auc_roc": 0.9},
        tags={"verdict": "pass", "trained_with": digest, **tags},
        identity={"run": "r1", "feature_hash": "f"},
    )


def test_nothing_is_found_before_the_first_registration(tmp_path):
    empty = Registry(f"sqlite:///{tmp_path}/mlflow.db", "m", tmp_path / "mlartifacts")
    assert empty.find("champion") is None
    assert not (tmp_path / "mlflow.db").exists()  # looking does not create
    with pytest.raises(SeawayError, match="no version 'champion' of m"):
        empty.get("champion")


def test_a_version_carries_its_bundle_identity_and_tags(registry, tmp_path):
    record = register(registry, tmp_path, git_revision="abc")
    assert record.version == "1"
    assert read_json(tmp_path / "bundle-weights" / "model.json") == {"text": "weights"}
    assert not (tmp_path / "bundle-weights" / "identity.json").exists()  # the input stays as it was
    identity = read_json(Path(record.bundle) / "identity.json")
    assert identity == {"model": registry._name, "version": "1", "run": "r1", "feature_hash": "f"}
    assert registry.get("1").tags["git_revision"] == "abc"


def test_the_same_model_again_is_the_same_version(registry, tmp_path):
    first = register(registry, tmp_path, verdict="fail")
    again = register(registry, tmp_path, verdict="pass")
    assert (again.version, again.bundle, again.tags["verdict"]) == (first.version, first.bundle, "pass")
    assert register(registry, tmp_path, "others").version == "2"


def test_the_direct_look_up_agrees_with_mlflow(registry, tmp_path):
    record = register(registry, tmp_path)
    registry.nominate(record.version)
    for which in ("candidate", record.version, "champion", "17"):
        assert registry._find_in_file(which) == registry._find_by_client(which)
    assert registry._find_in_file("candidate") == record


def test_promote_moves_the_champion_and_may_be_repeated(registry, tmp_path):
    one, two = register(registry, tmp_path, "one"), register(registry, tmp_path, "two")
    registry.promote(one.version)
    registry.nominate(two.version)
    for _ in range(2):
        registry.promote(two.version)
        assert registry.get("champion").version == two.version
        assert registry.find("candidate") is None
    assert registry.get("champion").tags["decision"] == "promoted"


def test_reject_keeps_the_champion(registry, tmp_path):
    one, two = register(registry, tmp_path, "one"), register(registry, tmp_path, "two")
    registry.promote(one.version)
    registry.nominate(two.version)
    registry.reject(two.version)
    assert registry.find("candidate") is None
    assert registry.get("champion").version == one.version
    assert registry.get(two.version).tags["decision"] == "rejected"


def test_a_model_does_not_compete_with_itself_or_its_own_baseline(registry, tmp_path):
    record = register(registry, tmp_path, "new")
    baseline = register(registry, tmp_path, "plain", trained_with=record.tags["digest"])
    registry.promote(baseline.version)
    assert registry.rival(record.tags["digest"]) is None
    assert registry.rival("another").version == baseline.version


def test_the_champion_evaluated_again_competes_with_what_it_had_to_beat(registry, tmp_path):
    """Else the same run, started again after the promotion, would tell of another comparison."""
    first = register(registry, tmp_path, "plain", trained_with="first")
    second = register(registry, tmp_path, "second", trained_with="second", rival=first.version)
    registry.promote(first.version)
    assert registry.rival("second").version == first.version
    registry.promote(second.version)
    assert registry.rival("second").version == first.version
    assert registry.rival("third").version == second.version
    own = register(registry, tmp_path, "own", trained_with="second")
    registry.tag(second.version, {"rival": own.version})
    assert registry.rival("second") is None


def test_a_registration_that_was_killed_leaves_nothing_behind(registry, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(registry, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            register(registry, tmp_path)
    assert registry.find("1") is None
    record = register(registry, tmp_path)
    assert registry.get(record.version) == record
    assert registry._find_by_client("1") is None


def test_a_version_whose_files_are_gone_is_not_found(registry, tmp_path):
    record = register(registry, tmp_path)
    shutil.rmtree(record.bundle)
    assert registry.find(record.version) is None
    assert register(registry, tmp_path).version == "2"


# signatures


@pytest.fixture
def signing(home, request):
    """The registry as the configuration gives it, with keys of its own; and its configuration."""
    config = load(overrides={"home": str(home), "workload": {"name": request.node.name}})
    return Registry.of(config), config


def test_a_version_is_signed_with_its_identity_and_its_digest_is_kept(signing, tmp_path):
    registry, config = signing
    record = register(registry, tmp_path)
    bundle = Path(record.bundle)
    assert record.tags[SIGNED] == verify(bundle, public_key(config)) == digest(bundle)
    assert registry.unsound(record) == "" and not (tmp_path / "bundle-weights" / "model.sig").exists()
    write_json(bundle / "identity.json", {**read_json(bundle / "identity.json"), "run": "another"})
    assert "was changed after it was signed: identity.json" in registry.unsound(record)


def before_signatures(registry, record):
    """The version as it was registered before there were signatures."""
    (Path(record.bundle) / "model.sig").unlink()
    registry._client.delete_model_version_tag(registry._name, record.version, SIGNED)
    return registry.get(record.version)


def test_a_version_from_before_is_signed_when_it_is_first_needed(signing, tmp_path):
    registry, config = signing
    old = before_signatures(registry, register(registry, tmp_path))
    identity = read_json(Path(old.bundle) / "identity.json")
    assert registry.unsound(old) == f"version {old.version} is not signed"
    new = registry.signed(old)
    assert new.tags[SIGNED] == verify(Path(old.bundle), public_key(config))
    assert read_json(Path(old.bundle) / "identity.json") == identity
    assert registry.signed(new) == new


def test_a_version_from_before_whose_files_have_changed_is_not_signed(signing, tmp_path):
    registry, _ = signing
    old = before_signatures(registry, register(registry, tmp_path))
    (Path(old.bundle) / "model.json").write_text("{}")
    with pytest.raises(SeawayError, match="not those that were trained, so it is not signed: register the model anew"):
        registry.signed(old)
    write_json(Path(old.bundle) / "identity.json", {"version": "17"})
    with pytest.raises(SeawayError, match="does not say that it is version"):
        registry.signed(old)
    assert not (Path(old.bundle) / "model.sig").exists()


def test_a_signature_that_was_taken_away_does_not_make_a_version_one_from_before(signing, tmp_path):
    registry, _ = signing
    record = register(registry, tmp_path)
    (Path(record.bundle) / "model.sig").unlink()
    assert registry.signed(record) == record and "has no signature" in registry.unsound(record)


def damage(bundle):
    (bundle / "model.json").write_text("{}")
    (bundle / "extra").write_text("x")


def rekey(bundle):
    for file in (bundle.parents[3] / "keys").glob("model.*"):
        file.unlink()


@pytest.mark.parametrize("spoil", [damage, rekey])
def test_registering_the_model_anew_mends_its_version(signing, tmp_path, spoil):
    registry, _ = signing
    first = register(registry, tmp_path)
    spoil(Path(first.bundle))
    assert registry.unsound(first)
    again = register(registry, tmp_path)
    assert (again.version, again.tags[SIGNED], registry.unsound(again)) == (first.version, first.tags[SIGNED], "")
    assert read_json(Path(again.bundle) / "model.json") == {"text": "weights"}


def test_a_folder_elsewhere_is_never_replaced(signing, tmp_path):
    """Where a version's files lie is text in a database: mending must not empty whatever it names."""
    registry, _ = signing
    record = register(registry, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(record.bundle, elsewhere)
    (elsewhere / "model.json").write_text("{}")
    with pytest.raises(SeawayError, match="is not ours to replace"):
        registry._mend(replace(record, bundle=str(elsewhere)), tmp_path / "bundle-weights", {})
    assert (elsewhere / "model.json").read_text() == "{}"


def test_what_differs_from_the_trained_model_is_not_registered(signing, tmp_path):
    registry, _ = signing
    write_json(tmp_path / "b" / "model.json", {})
    with pytest.raises(SeawayError, match="are not those that were trained"):
        registry.register(tmp_path / "b", "0" * 64, params={}, metrics={}, tags={}, identity={})
    assert registry.find("1") is None


# bundles in object storage


@pytest.fixture
def storing(tmp_path, home, request):
    """The registry of a configuration with object storage, and that configuration."""
    over = {"home": str(home), "workload": {"name": request.node.name}, "storage": {"uri": (tmp_path / "s").as_uri()}}
    config = load(overrides=over)
    return Registry.of(config), config


def test_a_bundle_is_published_under_its_signed_digest(storing, tmp_path):
    registry, config = storing
    record = register(registry, tmp_path)
    assert record.bundle == f"{config.storage.uri}/bundles/{record.tags[SIGNED]}"
    copy = local_copy(config, record.bundle)
    assert read_json(copy / "identity.json")["version"] == record.version
    assert verify(copy, public_key(config)) == record.tags[SIGNED] and registry.unsound(record) == ""
    assert registry.get(record.version) == registry._shelf.found(registry._find_by_client(record.version)) == record


def test_the_same_model_again_is_published_once(storing, tmp_path):
    registry, config = storing
    first = register(registry, tmp_path)
    assert register(registry, tmp_path).bundle == first.bundle
    assert len({f.uri.split("/bundles/")[1].split("/")[0] for f in Storage.of(config).find(config.storage.uri)}) == 1


def test_a_published_bundle_that_is_spoilt_is_found_and_published_again(storing, tmp_path):
    registry, config = storing
    record = register(registry, tmp_path)
    Storage.of(config).write(f"{record.bundle}/model.json", b"{}")
    shutil.rmtree(config.home / "bundles", ignore_errors=True)
    assert "model.json is not the file that was published" in registry.unsound(record)
    again = register(registry, tmp_path)
    assert again.version == record.version and registry.unsound(again) == ""
    shutil.rmtree(config.home / "bundles")
    assert registry.unsound(again) == ""  # in storage too, not only here


def test_a_killed_registration_in_storage_leaves_no_version(storing, tmp_path, monkeypatch):
    registry, _ = storing
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            register(registry, tmp_path)
    assert registry.find("1") is None
    assert registry.unsound(register(registry, tmp_path)) == ""
