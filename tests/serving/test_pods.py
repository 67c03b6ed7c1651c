"""What a released object says of bundles, keys and secrets, and that a pod made of it would serve."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from seaway import bundles as remote
from seaway.config import load
from seaway.errors import SeawayError
from seaway.keys import IN_PODS
from seaway.storage import Storage
from serving import bundle_check, fetch_bundle
from serving.controller_manifests import controller
from serving.manifests import Predictor, parameters, predictors, seldon_deployment
from serving.model_server import ModelServer
from serving.pod_parts import BUNDLE
from serving.release_plan import answers_folder, harmed, plan
from serving.signals.objects import ObjectFolder
from tests.serving.conftest import message

SECRETS = {"storage": "seaweed-keys", "password": "redis-secret"}


@pytest.fixture
def config(bundles, tmp_path):
    """A cluster's configuration, with a folder as its object storage."""
    return load(
        "dev",
        overrides={
            "home": str(tmp_path / "home"), "tracking_uri": None,
            "trust": bundles.trust,
            "storage": {"uri": (tmp_path / "store").as_uri(), "endpoint": "http://s3:9000", "region": "r1",
                        "secret": SECRETS["storage"]},
            "online_store": {"type": "redis", "connection": "redis.features:6379",
                             "password_secret": SECRETS["password"]},
            "serving": {"substrate": "kubernetes", "namespace": "serving-x", "trust": "model-key",
                        "service_account": "seaway-serving"},
        }
    )  # fmt: skip


@pytest.fixture
def version(config, bundles):
    def make(number):
        from seaway.signing import digest

        folder = Path(bundles.make(number))
        return {"version": number, "run_id": f"run-{number}", "bundle": remote.publish(config, folder, digest(folder))}

    return make


@pytest.fixture
def made(config, version):
    request = {"name": "r", "candidate": version("3"), "champion": version("2")}
    return plan(config, request), request


def pod_of(obj, predictor="v3"):
    (spec,) = predictors(obj)[predictor]["componentSpecs"]
    return spec["spec"]


def test_a_pod_fetches_its_bundle_before_it_serves(made):
    obj, candidate = made[0].obj, made[0].candidate
    pod = pod_of(obj)
    (init,), (server,) = pod["initContainers"], pod["containers"]
    assert init["command"][:4] == ["python", "-m", "serving.fetch_bundle", "--uri"]
    assert init["command"][4] == candidate["bundle"] == parameters(predictors(obj)["v3"])["bundle"]
    assert init["image"] == server["image"] and init["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(init["resources"]) == {"requests", "limits"}
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in (init, server):
        assert {m["name"] for m in container["volumeMounts"]} <= volumes
        assert {"name": "trust", "mountPath": str(IN_PODS.parent), "readOnly": True} in container["volumeMounts"]
    assert {"name": "bundle", "mountPath": "/bundle"} in init["volumeMounts"]
    assert {"name": "bundle", "mountPath": "/bundle", "readOnly": True} in server["volumeMounts"]
    assert pod["serviceAccountName"] == "seaway-serving" and pod["automountServiceAccountToken"] is False
    assert len({m["mountPath"] for m in init["volumeMounts"]}) == len(init["volumeMounts"])


@pytest.mark.parametrize("missing", ["digest", "public_key"])
def test_a_bundle_that_no_pod_could_check_is_refused_before_there_is_a_pod(missing):
    trust = {"digest": "a" * 64, "public_key": str(IN_PODS)}
    fetched = Predictor("v1", 100, "s3://bucket/bundles/1", parameters={**trust, missing: ""})
    with pytest.raises(SeawayError, match=f"s3://bucket/bundles/1 .* parameter {missing}"):
        seldon_deployment("shop", "default", [fetched])


def test_secrets_are_named_where_they_are_needed_and_nowhere_held(made, config, monkeypatch):
    pod = pod_of(made[0].obj)
    by_name = {c["name"]: {e["name"]: e for e in c["env"]} for c in (*pod["initContainers"], *pod["containers"])}
    password = by_name["model"]["SEAWAY_REDIS_PASSWORD"]
    assert password["valueFrom"] == {"secretKeyRef": {"name": SECRETS["password"], "key": "password"}}
    assert "SEAWAY_REDIS_PASSWORD" not in by_name["bundle"]
    keys = by_name["bundle"]["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]
    assert keys == {"name": SECRETS["storage"], "key": "AWS_SECRET_ACCESS_KEY"}
    assert by_name["bundle"]["AWS_ENDPOINT_URL"]["value"] == "http://s3:9000"
    assert "AWS_SECRET_ACCESS_KEY" not in by_name["model"]  # it logs nothing there and fetches nothing
    store = json.loads(parameters(predictors(made[0].obj)["v3"])["online_store"])
    assert store == {"type": "redis", "connection": "redis.features:6379"}
    monkeypatch.setenv("SEAWAY_REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    assert "hunter" not in json.dumps(plan(config, made[1]).obj)


def test_a_password_in_the_connection_is_refused(config):
    with pytest.raises(SeawayError, match=r"online_store.*SEAWAY_REDIS_PASSWORD") as caught:
        load(overrides={"online_store": {"type": "redis", "connection": "h:1,ssl=true,password=hunter2"}})
    assert "hunter2" not in str(caught.value)


def test_what_the_init_container_fetches_is_what_the_server_serves(made, config, bundles, tmp_path, monkeypatch):
    """Both as in the pod, but for paths: the volume is a folder here, and the key lies elsewhere."""
    pod = pod_of(made[0].obj)
    arguments = pod["initContainers"][0]["command"][3:]
    arguments[arguments.index("--key") + 1] = bundles.trust["public_key"]
    arguments[arguments.index("--folder") + 1] = str(tmp_path / "volume" / "model")
    assert fetch_bundle.main(arguments) == 0
    assert fetch_bundle.main(arguments) == 0  # a container that starts again
    named = parameters(predictors(made[0].obj)["v3"])
    named |= {"online_store": json.dumps(bundles.store), "project": "seaway", "public_key": bundles.trust["public_key"]}
    with pytest.raises(SeawayError, match="is not here"):
        ModelServer(**named)
    monkeypatch.setenv(BUNDLE, str(tmp_path / "volume" / "model"))
    server = ModelServer(**named)
    server.load(CollectorRegistry())
    assert server.predict_raw(message())["meta"]["tags"]["model_version"] == "3"


def test_a_bundle_that_is_not_the_released_one_does_not_start(made, config, bundles, version, tmp_path, capsys):
    arguments = pod_of(made[0].obj)["initContainers"][0]["command"][3:]
    arguments[arguments.index("--key") + 1] = bundles.trust["public_key"]
    arguments[arguments.index("--folder") + 1] = str(tmp_path / "volume" / "model")
    arguments[arguments.index("--uri") + 1] = made[1]["champion"]["bundle"]
    assert fetch_bundle.main(arguments) == 1
    assert "is not the bundle that was registered or released" in capsys.readouterr().err
    assert not (tmp_path / "volume" / "model").exists()


def test_the_controller_checks_the_bundle_in_storage_with_its_own_key(made, config, tmp_path):
    check = bundle_check.checker(config)
    state = made[0].begun(0.0)
    assert check(made[0].obj, state) == ""
    shutil.rmtree(config.home / "bundles")
    store = Storage.of(config)
    store.write(f"{made[0].candidate['bundle']}/model.onnx", b"other")
    assert "model.onnx is not the file that was published" in check(made[0].obj, state)
    other = config.model_copy(
        update={"trust": load(overrides={"home": str(tmp_path / "o")}).trust, "home": tmp_path / "o"}
    )
    assert "keys/model.pub cannot be read" in bundle_check.checker(other)(made[0].obj, state)


def test_a_bundle_that_is_not_in_storage_does_not_begin(config, made):
    request = dict(made[1])
    request["candidate"] = {**request["candidate"], "bundle": Storage.of(config).join("bundles", "0" * 64)}
    with pytest.raises(SeawayError, match="is gone"):
        plan(config, request)


def test_on_one_machine_a_bundle_in_storage_is_served_from_a_copy(config, made, bundles):
    serving = config.serving.model_copy(update={"substrate": "local", "trust": None})
    found = plan(config.model_copy(update={"serving": serving}), made[1])
    folder = Path(parameters(predictors(found.obj)["v3"])["bundle"])
    assert folder.is_relative_to(config.home / "bundles") and (folder / "model.onnx").exists()
    assert "initContainers" not in pod_of(found.obj)
    assert parameters(predictors(found.obj)["v3"])["public_key"] == bundles.trust["public_key"]


def test_a_harmed_copy_is_published_too(config, made):
    wanted = harmed(config, made[1], {"error_rate": 0.1})
    assert wanted["candidate"]["bundle"].startswith(config.storage.uri)
    assert wanted["candidate"]["bundle"] != made[1]["candidate"]["bundle"]
    assert plan(config, wanted).obj


def test_answers_are_logged_to_storage_where_they_are_compared(config, made):
    folder = answers_folder(config)
    assert isinstance(folder, ObjectFolder) and str(folder) == f"{config.storage.uri}/answers"
    logging = config.model_copy(update={"release": config.release.model_copy(update={"mirror": 50})})
    obj = plan(logging, made[1]).obj
    assert parameters(predictors(obj)["v3"])["log"] == str(folder)
    (server,) = pod_of(obj)["containers"]
    assert "AWS_SECRET_ACCESS_KEY" in {e["name"] for e in server["env"]}


def test_the_controllers_pod_reaches_storage_and_the_key():
    objects = controller("image:1", "ns", storage_secret="storage", trust="model-key")
    (pod,) = [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]
    (container,) = pod["containers"]
    secret = {e["name"]: e.get("valueFrom") for e in container["env"]}["AWS_ACCESS_KEY_ID"]
    assert secret == {"secretKeyRef": {"name": "storage", "key": "AWS_ACCESS_KEY_ID"}}
    mount = next(m for m in container["volumeMounts"] if m["mountPath"] == str(IN_PODS.parent))
    volume = next(v for v in pod["volumes"] if v["name"] == mount["name"])
    assert mount["readOnly"] is True and volume["configMap"] == {"name": "model-key"}
