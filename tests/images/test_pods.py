"""The images in real pods: restricted, read only, without root. `make test-pod` (.ci/pod) makes what this needs.

SEAWAY_KUBECONFIG: a cluster with a real kubelet and the real Seldon operator; SEAWAY_SERVE_IMAGE and
SEAWAY_CONTROLLER_IMAGE: images that its node has. Only with SEAWAY_TRAIN_IMAGE is that one run too.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from seaway.config import load
from seaway.keys import IN_PODS
from seaway.kube_api import Api
from seaway.storage import Storage
from serving import manifests
from serving.controller_manifests import controller
from serving.manifests import Predictor
from serving.pod_parts import Parts
from tests.images.pods import api_server, ask, ready, there, until, volume
from tests.serving import conftest as serving

pytestmark = pytest.mark.infra
bundles = serving.bundles  # a fixture
SDEPS = "/apis/machinelearning.seldon.io/v1"
PORT = 9000  # of Seldon's server


def wanted(variable: str) -> str:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: `make test-pod` builds the image and runs a kubelet")
    return os.environ[variable]


@pytest.fixture(scope="module")
def kubectl():
    kubeconfig = wanted("SEAWAY_KUBECONFIG")

    def run(*words, ok=True, **given):
        done = subprocess.run(["kubectl", "--kubeconfig", kubeconfig, *words], capture_output=True, text=True, **given)
        assert not ok or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def api():
    return Api(kubeconfig=wanted("SEAWAY_KUBECONFIG"))


@pytest.fixture(scope="module")
def namespace(api):
    name = f"pods-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture(scope="module")
def model(api, namespace, bundles, tmp_path_factory):
    """Mounts and a predictor of a signed bundle that its pod must fetch: storage is a folder, seen as /models."""
    folder = tmp_path_factory.mktemp("models")
    bundle = bundles.make("7")
    digest = bundles.trusted(bundle)["digest"]
    Storage(folder.as_uri()).publish(Path(bundle), f"{folder.as_uri()}/bundles/{digest}")
    shutil.copy(bundles.store["path"], folder / "online.db")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    key = {"metadata": {"name": "model-key"}, "data": {"model.pub": Path(bundles.trust["public_key"]).read_text()}}
    api.create(f"/api/v1/namespaces/{namespace}/configmaps", key)
    predictor = Predictor(
        "main",
        100,
        f"file:///models/bundles/{digest}",
        {"type": "sqlite", "path": "/models/online.db"},
        version="7",
        parameters={"digest": digest, "public_key": str(IN_PODS)},
    )
    yield {"/models": volume(api, namespace, "models", folder)}, predictor
    api.delete(f"/api/v1/persistentvolumes/{namespace}-models")


@pytest.fixture(scope="module")
def served(api, namespace, model, kubectl):
    """The pod that the real operator makes of what a release writes, once it answers."""
    image, (mounts, predictor) = wanted("SEAWAY_SERVE_IMAGE"), model
    parts = Parts(trust="model-key")
    made = manifests.seldon_deployment("shop", namespace, [predictor], image=image, mounts=mounts, parts=parts)
    path = f"{SDEPS}/namespaces/{namespace}/seldondeployments"
    started = time.monotonic()
    api.create(path, made)

    def told():
        where = ["-n", namespace, "logs", "-l", "seldon-deployment-id=shop", "--all-containers", "--tail=30"]
        return "".join(kubectl(*words, ok=False).stdout for words in (["-n", namespace, "get", "pods"], where))

    pod = until(120, lambda: ready(api, namespace, "seldon-deployment-id=shop"), told)
    until(30, lambda: api.get(f"{path}/shop").get("status", {}).get("state") == "Available", told)
    print(f"\nserve: Ready and Available {time.monotonic() - started:.1f} s after it was asked for")
    return pod


def test_a_restricted_pod_answers_a_prediction(served):
    address = f"{served['status']['podIP']}:{PORT}"
    answer = ask(address, serving.message())
    [[probability, decision]] = answer["data"]["ndarray"]
    assert math.isclose(probability, 1 / (1 + math.exp(-(-1.0 + 0.1 * 12.5))), rel_tol=1e-5) and decision == 1
    assert answer["meta"]["tags"]["model_version"] == "7"


def test_it_fetched_its_bundle_and_checked_the_signature(served, namespace, kubectl):
    said = kubectl("-n", namespace, "logs", served["metadata"]["name"], "-c", "bundle").stdout
    assert "/bundle/model holds file:///models/bundles/" in said and "signed" in said


def test_the_server_can_do_nothing_but_serve(served, namespace, kubectl):
    def inside(command):
        where = ["-n", namespace, "exec", served["metadata"]["name"], "-c", "model", "--"]
        return kubectl(*where, "/bin/sh", "-c", command, ok=False)

    assert inside("id -u; id -g").stdout.split() == ["8888", "8888"]
    assert "Read-only file system" in inside("echo x > /app/x").stderr
    assert inside("echo x > /tmp/x && cat /tmp/x").stdout.strip() == "x"
    status = inside("cat /proc/1/status").stdout
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    for tool in ("pip", "uv", "gcc", "make", "git", "curl", "wget"):
        assert inside(f"command -v {tool}").returncode, f"{tool} is in the image"
    assert "python -m serving.microservice" in inside("tr '\\0' ' ' < /proc/1/cmdline").stdout
    assert inside("python -m pip --version").returncode
    # compiled when the image was built: nothing is compiled at a start, when it could not be kept
    assert inside("python -c 'import seaway, os; print(os.path.exists(seaway.__cached__))'").stdout.strip() == "True"


def test_it_ends_in_order_after_seldons_pause(api, namespace, served, kubectl):
    """Last: Seldon's preStop sleeps ten seconds by /bin/sh, then SIGTERM reaches the server, not a shell."""
    name = served["metadata"]["name"]
    hook = served["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[:2] == ["/bin/sh", "-c"]
    api.delete(f"{SDEPS}/namespaces/{namespace}/seldondeployments/shop")
    log = subprocess.Popen(
        ["kubectl", "--kubeconfig", os.environ["SEAWAY_KUBECONFIG"], "-n", namespace, "logs", "-f", name],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    started = time.monotonic()
    until(60, lambda: not there(api, namespace, name), lambda: "the pod is still there")
    took = time.monotonic() - started
    print(f"\nserve: gone {took:.1f} s after it was deleted")
    assert took < 25, "it had to be killed"
    assert "FailedPreStopHook" not in kubectl("-n", namespace, "get", "events").stdout
    log.communicate(timeout=10)


def test_the_controller_runs_and_holds_its_lease(api, kubectl):
    """Its own manifests, but for the network: this kubelet's pods reach the API on the node's loopback alone."""
    image, env = wanted("SEAWAY_CONTROLLER_IMAGE"), "staging"
    home, releases = f"pods-{uuid.uuid4().hex[:8]}", load(env).serving.namespace
    for name in (home, releases):
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    objects = controller(image, home, env=env, releases=[releases])
    [pod] = [obj["spec"]["template"]["spec"] for obj in objects if obj["kind"] == "Deployment"]
    host, port = api_server().removeprefix("https://").split(":")
    pod["hostNetwork"] = True
    pod["containers"][0]["env"] += [
        {"name": "KUBERNETES_SERVICE_HOST", "value": host},
        {"name": "KUBERNETES_SERVICE_PORT", "value": port},
    ]
    started = time.monotonic()
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def told():
        return kubectl("-n", home, "logs", "deploy/seaway-controller", ok=False).stdout[-2000:]

    running = until(90, lambda: ready(api, home, "app.kubernetes.io/name=seaway-controller"), told)
    print(f"\ncontroller: Ready after {time.monotonic() - started:.1f} s")
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{releases}/leases"
    held = until(30, lambda: [x["spec"].get("holderIdentity") for x in api.get(leases)["items"]], told)
    assert len(held) == 1 and held[0]
    assert not running["status"]["containerStatuses"][0]["restartCount"]
    assert "forbidden" not in told() and "Traceback" not in told(), told()
    for name in (home, releases):
        api.delete(f"/api/v1/namespaces/{name}")


def test_the_training_image_has_ray_torch_and_the_steps(namespace, kubectl):
    image = wanted("SEAWAY_TRAIN_IMAGE")
    code = (
        "import torch, ray, kfp, feast, mlflow, os; from pipelines.training import *; "
        "import components.tune.sweep, kfp.dsl.executor_main; from seaway.config import load; load('staging'); "
        "print(torch.__version__, torch.version.cuda, ray.__version__, os.getuid())"
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "train", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 8888, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "train",
                    "image": image,
                    "command": ["python", "-c", code],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        {"name": "tmp", "mountPath": "/tmp"},
                        {"name": "home", "mountPath": "/home/seaway"},
                    ],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "home", "emptyDir": {}}],
        },
    }
    kubectl("apply", "-f", "-", input=json.dumps(pod))

    def phase():
        return kubectl("-n", namespace, "get", "pod", "train", "-o", "jsonpath={.status.phase}").stdout

    def told():
        return kubectl("-n", namespace, "logs", "train", ok=False).stdout[-3000:]

    until(180, lambda: phase() in ("Succeeded", "Failed"), told)
    assert phase() == "Succeeded", told()
    assert told().split()[-2:] == ["2.60.0", "8888"]
