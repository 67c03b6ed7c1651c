"""A bundle that cannot be trusted is neither served nor promoted, and no key leaves its file."""

import json
import shutil
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from seaway.artifacts import canonical_json, read_json
from seaway.config import load, project_root
from seaway.errors import SeawayError
from seaway.keys import ensure_keys
from seaway.signature import SIGNATURE
from serving import bundle_check, manifests
from serving.manifests import Predictor, seldon_deployment, with_traffic
from serving.model_server import ModelServer
from serving.release_plan import harmed, plan
from serving.rollout import state as states
from serving.rollout.rules import Rules
from serving.substrate.local import LocalSubstrate

SERVING = project_root() / ".venv-serving" / "bin" / "python"


@pytest.fixture
def bundle(bundles):
    """A signed bundle that the test may spoil."""
    made = Path(bundles.make("1"))
    yield made
    shutil.rmtree(made)


def served(bundles, bundle, **parameters):
    server = ModelServer(str(bundle), json.dumps(bundles.store), "seaway", **parameters)
    server.load(CollectorRegistry())
    return server


def flip(bundle):
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(data)


def swap(bundle):
    (bundle / "model.json").write_text(
        (bundle / "model.json").read_text().replace('"threshold": 0.5', '"threshold": 1')
    )


def link(bundle):
    shutil.move(bundle / "model.onnx", bundle.parent / "elsewhere.onnx")
    (bundle / "model.onnx").symlink_to(bundle.parent / "elsewhere.onnx")


def extra(bundle):
    (bundle / "sitecustomize.py").write_text("raise SystemExit")


def unsigned(bundle):
    (bundle / SIGNATURE).unlink()


def oversize(bundle):
    (bundle / SIGNATURE).write_bytes(b"{" + b" " * (2 << 20) + b"}")


SPOILED = {
    flip: "was changed after it was signed: model.onnx",
    swap: "was changed after it was signed: model.json",
    link: "is a symbolic link",
    extra: "holds what was not signed: sitecustomize.py",
    unsigned: "has no signature",
    oversize: "longer than 1,048,576 bytes",
}


@pytest.fixture(params=SPOILED, ids=lambda f: f.__name__)
def spoiled(request, bundles, bundle):
    """(parameters of the predictor, words of the refusal) of a bundle that was spoiled after the release began."""
    trusted = bundles.trusted(str(bundle))
    request.param(bundle)
    return trusted, SPOILED[request.param]


def test_the_signed_bundle_is_served(bundles, bundle, ask):
    server = served(bundles, bundle, **bundles.trusted(str(bundle)))
    assert server.predict_raw(ask())["meta"]["tags"]["model_version"] == "1"


def test_a_spoiled_bundle_is_not_served(bundles, bundle, spoiled):
    trusted, words = spoiled
    with pytest.raises(RuntimeError, match=r"cannot be served: ") as caught:
        served(bundles, bundle, **trusted)
    assert words in str(caught.value)


def test_nothing_of_the_bundle_is_read_before_it_was_checked(bundles, bundle, monkeypatch):
    """A wrong bundle must not reach a parser: neither JSON nor ONNX."""
    trusted = bundles.trusted(str(bundle))
    (bundle / "model.json").write_text("{")
    monkeypatch.setattr(json, "loads", _refuse_bundle(json.loads))
    with pytest.raises(RuntimeError, match=r"was changed after it was signed: model\.json"):
        served(bundles, bundle, **trusted)


def _refuse_bundle(loads):
    def checked(text, *rest, **more):
        assert text not in ("{", b"{"), "the unchecked model.json was parsed"
        return loads(text, *rest, **more)

    return checked


def test_another_signed_bundle_or_key_is_not_served(bundles, bundle, tmp_path):
    trusted = bundles.trusted(str(bundle))
    other = Path(bundles.make("1-other", bias=0.0))
    for file in other.iterdir():
        shutil.copy(file, bundle)  # a whole other bundle, with its own valid signature
    with pytest.raises(RuntimeError, match="is signed, but is not the bundle that was registered or released"):
        served(bundles, bundle, **trusted)
    thief = ensure_keys(load(overrides={"home": str(tmp_path)}))[1]
    with pytest.raises(RuntimeError, match="was made with another key than"):
        served(bundles, bundle, **{**trusted, "public_key": str(thief)})
    with pytest.raises(RuntimeError, match="the parameters digest and public_key go together"):
        served(bundles, bundle, public_key=trusted["public_key"])


# at promotion


def released(bundles, bundle, **changes):
    """The object of a release of ``bundle`` against another, and its state."""
    stable = bundles.make("0")
    listed = [
        Predictor("v0", 90, stable, bundles.store, version="0", parameters=bundles.trusted(stable)),
        Predictor(
            "v1", 10, str(bundle), bundles.store, version="1", parameters={**bundles.trusted(str(bundle)), **changes}
        ),
    ]
    obj = seldon_deployment("m", "default", listed)
    return obj, states.begin("r", "v0", "v1", states.spec_hash(obj, "v0", "v1"), 0.0, Rules.of(load().release).rails)


def test_a_canary_may_be_promoted_while_its_bundle_is_the_one_compared(bundles, bundle):
    obj, state = released(bundles, bundle)
    key = Path(bundles.trust["public_key"])
    assert bundle_check.check(obj, state) == bundle_check.check(obj, state, key) == ""
    flip(bundle)
    assert "was changed after it was signed: model.onnx" in bundle_check.check(obj, state)
    assert (
        bundle_check.check(with_traffic(obj, {"v0": 100}), state) == "the object has no canary, so no bundle to check"
    )


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda f: f.__name__)
def test_a_spoiled_canary_is_not_promoted(bundles, bundle, spoil):
    obj, state = released(bundles, bundle)
    spoil(bundle)
    assert SPOILED[spoil] in bundle_check.check(obj, state)


def test_a_canary_that_says_too_little_or_trusts_another_key_is_not_promoted(bundles, bundle, tmp_path):
    for name in ("digest", "public_key", "bundle"):
        obj, state = released(bundles, bundle)
        listed = obj["spec"]["predictors"][1]["graph"]["parameters"]
        listed[:] = [p for p in listed if p["name"] != name]
        assert f"lacks the parameter {name}" in bundle_check.check(obj, state)
    thief = ensure_keys(load(overrides={"home": str(tmp_path)}))
    obj, state = released(bundles, bundle, public_key=str(thief[1]))
    assert "was made with another key" in bundle_check.check(obj, state)
    assert f"trusts the key {thief[1]}, the controller" in bundle_check.check(
        obj, state, Path(bundles.trust["public_key"])
    )
    obj, state = released(bundles, bundle)
    obj["metadata"]["annotations"][states.CANDIDATE] = canonical_json({"version": "1", "digest": "0" * 64})
    assert "not the candidate's" in bundle_check.check(obj, state)


def test_the_controller_trusts_the_key_of_its_own_configuration(bundles, bundle, config, tmp_path):
    obj, state = released(bundles, bundle)
    assert bundle_check.checker(config)(obj, state) == ""
    stranger = load(overrides={"home": str(tmp_path / "stranger")})
    assert "cannot be read" in bundle_check.checker(stranger)(obj, state)
    ensure_keys(stranger)
    assert "the canary trusts the key" in bundle_check.checker(stranger)(obj, state)


@pytest.mark.parametrize("spoil", [lambda o: o.clear(), lambda o: o.update(spec=None), lambda o: o["spec"].clear()])
def test_an_object_that_cannot_be_read_is_a_reason_not_a_crash(bundles, bundle, spoil):
    obj, state = released(bundles, bundle)
    spoil(obj)
    assert "cannot be checked" in bundle_check.check(obj, state)


# in a release


@pytest.fixture
def request_of(bundles):
    def made(*versions):
        named = [
            {"name": "m", "version": v, "run_id": f"run-{v}", "bundle": bundles.make(v, bias=-1.0 - int(v))}
            for v in versions
        ]
        return {"name": "r", "candidate": named[0], "champion": named[1] if len(named) > 1 else None}

    return made


@pytest.fixture
def config(bundles, tmp_path):
    return load(overrides={"home": str(tmp_path / "home"), "trust": bundles.trust})


def test_a_release_binds_digest_and_key_and_never_holds_a_key(config, request_of):
    made = plan(config, request_of("3", "2"))
    for predictor in made.obj["spec"]["predictors"]:
        found = manifests.parameters(predictor)
        assert len(found["digest"]) == 64 and found["public_key"] == config.trust.public_key
    text = json.dumps(made.obj)
    for file in (config.trust.private_key, config.trust.public_key):
        body = Path(file).read_text().splitlines()[1]
        assert "PRIVATE KEY" not in text and "PUBLIC KEY" not in text and body not in text
    assert config.trust.private_key not in text  # nor where it lies: a server has no use for it


def test_what_is_bound_is_in_the_spec_hash(config, request_of, bundles):
    request = request_of("3", "2")
    before = plan(config, request).spec
    assert plan(config, request).spec == before
    identity = Path(request["candidate"]["bundle"]) / "identity.json"
    identity.write_text(identity.read_text().replace("run-3", "run-4"))
    bundles.sign(identity.parent)
    assert plan(config, request).spec != before


def test_a_release_of_a_spoiled_bundle_does_not_begin(config, request_of):
    request = request_of("3", "2")
    flip(Path(request["champion"]["bundle"]))
    with pytest.raises(SeawayError, match=r"was changed after it was signed: model\.onnx"):
        plan(config, request)


def test_a_spoiled_bundle_does_not_get_a_signature_by_being_copied(config, request_of):
    request = request_of("3", "2")
    flip(Path(request["candidate"]["bundle"]))
    with pytest.raises(SeawayError, match="was changed after it was signed"):
        harmed(config, request, {"error_rate": 0.1})


def test_the_harmed_copy_is_signed_anew_and_is_the_same_each_time(config, request_of):
    request = request_of("3", "2")
    first, second = (plan(config, harmed(config, request, {"error_rate": 0.1})) for _ in range(2))
    assert first.spec == second.spec != plan(config, request).spec
    copy = Path(first.candidate["bundle"])
    assert read_json(copy / "identity.json")["version"] == "3-harmed"
    assert bundle_check.check(first.obj, first.begun(0.0)) == ""


@pytest.mark.skipif(not SERVING.exists(), reason="needs the serving environment")
def test_a_real_server_refuses_it_with_a_plain_reason_and_the_other_goes_on(bundles, bundle, ask, tmp_path):
    obj, _ = released(bundles, bundle)
    flip(bundle)
    with LocalSubstrate(tmp_path / "home") as substrate:
        substrate.create(obj)
        with pytest.raises(SeawayError, match=r"was changed after it was signed: model\.onnx"):
            substrate.wait_ready("m")
        deadline = time.monotonic() + 30
        while not substrate.status("m").ready.get("v0") and time.monotonic() < deadline:
            time.sleep(0.1)
        ready = substrate.status("m").ready
        assert ready["v0"] and not ready["v1"]
    log = "".join(file.read_text() for file in (tmp_path / "home" / "logs").rglob("*.log"))
    secret = Path(bundles.trust["private_key"]).read_text().splitlines()[1]
    assert "cannot be served" in log and secret not in log and "PRIVATE" not in log
