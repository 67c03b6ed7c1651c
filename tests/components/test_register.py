"""The register step on a real registry: versions, aliases, the first champion, doing it twice."""

from pathlib import Path

import pytest

from components.register.step import register
from components.steps import registered
from seaway import release_bundle
from seaway.artifacts import content_hash, read_json, write_json
from seaway.config import load
from seaway.errors import SeawayError
from seaway.keys import ensure_keys, public_key
from seaway.registry import IMAGE, RELEASE, SIGNED, Registry


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def config(home, request):
    return load(overrides={"home": str(home), "workload": {"name": request.node.name}})


@pytest.fixture
def step(config, tmp_path):
    """Registers a model that differs by ``text``; gives version.json."""

    def run(text="a", verdict="pass", out="out"):
        model, evaluation = tmp_path / f"model-{text}", tmp_path / "evaluation"
        record = {"params": {"layers": 1}, "text": text, "reasons": {}, "features": {}}
        write_json(model / "model.json", record)
        write_json(model / "baseline" / "model.json", record)
        write_json(evaluation / "verdict.json", {"verdict": verdict, "reasons": []})
        metric = {"auc_roc": {"value": 0.9, "low": 0.8, "high": 1.0}}
        write_json(evaluation / "metrics.json", {"candidate": metric, "baseline": metric, "champion": None})
        lineage = {"model_hash": content_hash(model), "data_hash": "d", "git_dirty": None}
        lineage |= {"feature_hash": "f", "config_hash": "c"}
        register(config, model, evaluation, lineage, tmp_path / out)
        return read_json(tmp_path / out / "version.json")

    return run


def test_the_first_model_meets_its_own_baseline_as_champion(config, step, tmp_path):
    version = step()
    registry = Registry.of(config)
    assert (version["version"], version["alias"], version["champion"]["version"]) == ("2", "candidate", "1")
    assert registry.get("champion").tags["kind"] == "baseline"
    assert registry.get("candidate").version == "2"
    assert registry.get("2").tags["data_hash"] == "d"
    assert "version 2" in (tmp_path / "out" / "model_card.md").read_text()
    assert registry.rival(version["lineage"]["model_hash"]) is None


def test_again_for_the_same_model_is_the_same_version_even_after_its_promotion(config, step):
    first = step()
    registry = Registry.of(config)
    assert step(out="again")["version"] == first["version"]
    registry.promote(first["version"])
    again = step(out="third")
    assert (again["version"], again["champion"]) == (first["version"], {**first["champion"], **_tags(registry)})
    assert registry.find("candidate") is None, "what is champion is no candidate"


def _tags(registry):
    return {"tags": registry.get("1").tags}


def test_the_next_model_meets_the_promoted_one(config, step):
    first = step()
    Registry.of(config).promote(first["version"])
    second = step("b")
    assert (second["version"], second["champion"]["version"]) == ("3", "2")


def test_a_model_that_failed_is_a_version_but_no_candidate(config, step):
    version = step(verdict="fail")
    assert version["alias"] is None
    assert Registry.of(config).find("candidate") is None
    assert Registry.of(config).get(version["version"]).tags["verdict"] == "fail"


def test_the_stored_result_does_not_hold_once_the_bundle_was_changed_and_the_step_mends_it(config, step, tmp_path):
    outputs = {"out": tmp_path / "out"}
    version = step()
    assert registered(config, outputs) == ""
    (Path(version["bundle"]) / "model.json").write_text("{}")
    assert "was changed after it was signed: model.json" in registered(config, outputs)
    assert step()["version"] == version["version"] and registered(config, outputs) == ""


def test_a_version_has_a_release_bundle_that_names_all_by_digest(config, step):
    version = step()
    found = release_bundle.read(release_bundle.store_of(config), version["release"], public_key(config))
    registered = Registry.of(config).get(version["version"])
    assert found.record["model"]["digest"] == registered.tags[SIGNED]
    assert (registered.tags[RELEASE], registered.tags[IMAGE]) == (version["release"], config.serving.image)
    assert found.record["images"]["serve"] == config.serving.image
    assert found.record["infrastructure"] == config.infrastructure.model_dump(mode="json")
    assert step(out="again")["release"] == version["release"], "the same content is the same bundle"
    other = config.model_copy(update={"serving": config.serving.model_copy(update={"image": "serve:2"})})
    assert release_bundle.make(other, registered, version["lineage"]) != version["release"]


def test_a_release_bundle_that_was_changed_or_signed_by_another_is_refused(config, step, tmp_path):
    version = step()
    store, digest = release_bundle.store_of(config), version["release"]
    stranger = load(overrides={"home": str(tmp_path / "stranger")})
    with pytest.raises(SeawayError, match=r"another key|not signed with|signature"):
        release_bundle.read(store, digest, ensure_keys(stranger)[1])
    record = release_bundle.place(store, digest) + "/release.json"
    store.write(record, store.read(record).replace(b"serve", b"evil!"))
    with pytest.raises(SeawayError, match=r"not the file that was published|changed"):
        release_bundle.read(store, digest, public_key(config))
