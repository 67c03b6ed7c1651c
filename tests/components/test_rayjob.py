"""The RayJob's manifest, and what is read from its status; no cluster."""

import importlib.metadata
import re

import pytest
import yaml

from components.ray.look import look
from components.ray.needs import slots_of_job as slots
from components.ray.rayjob import GPU, QUEUE, SPEC, SPOT, WHAT, ray_job
from pipelines import pods
from seaway.config import load, project_root
from seaway.errors import SeawayError


def config_of(storage=None, **ray):
    return load(overrides={"ray": {"substrate": "kuberay", **ray}, "storage": storage or {}})


def made(**ray):
    return ray_job(config_of(**ray), "sweep-x", "python -m x", {"result": "s3://b/r"})


def pods_of(job):
    cluster = job["spec"]["rayClusterSpec"]
    return cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]


def test_the_same_settings_give_the_same_manifest_and_others_another_hash():
    def hash_of(**ray):
        return made(**ray)["metadata"]["annotations"][SPEC]

    assert made() == made()
    assert len({hash_of(), hash_of(workers=2), hash_of(image="x:2"), hash_of(deadline="1h")}) == 4


def test_it_ends_with_its_cluster_whatever_happens():
    spec = made(deadline="30m")["spec"]
    assert spec["shutdownAfterJobFinishes"] and spec["activeDeadlineSeconds"] == 1800 and spec["backoffLimit"] == 0
    assert made()["metadata"]["annotations"]["seaway.dev/result"] == "s3://b/r"


@pytest.mark.parametrize("side", [0, 1])
def test_pods_are_restricted_and_have_no_token(side):
    pod = pods_of(made())[side]["spec"]
    (container,) = pod["containers"]
    assert pod["serviceAccountName"] == "seaway-ray" and pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 8888
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    safe = container["securityContext"]
    assert safe["readOnlyRootFilesystem"] and not safe["allowPrivilegeEscalation"]
    assert safe["capabilities"] == {"drop": ["ALL"]}
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/home/seaway", "/tmp"}  # what may be written
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_gpu_spot_and_queue_are_the_workers_and_the_head_only_queues():
    job = made(worker={"cpu": "4", "memory": "8Gi", "gpu": 2}, spot=True, queue="sweeps", workers=3)
    head, worker = pods_of(job)
    assert job["metadata"]["labels"][QUEUE] == "sweeps"
    assert head["metadata"]["labels"][QUEUE] == worker["metadata"]["labels"][QUEUE] == "sweeps"
    assert worker["spec"]["containers"][0]["resources"]["limits"][GPU] == "2"
    assert [t["key"] for t in worker["spec"]["tolerations"]] == [GPU, SPOT]
    assert head["spec"]["tolerations"] == [] and "affinity" not in head["spec"]
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)


def test_the_names_of_taint_and_queue_are_everywhere_the_same():
    assert (pods.SPOT, pods.QUEUE) == (SPOT, QUEUE)
    taint = re.search(r"SPOT_TAINT = {\"(.+?)\"", (project_root() / "infra/cluster/settings.py").read_text())
    assert taint and taint.group(1) == SPOT
    roles = (project_root() / "infra/manifests/roles.yaml").read_text()
    accounts = next(d for d in yaml.safe_load_all(roles) if d.get("accounts"))["accounts"]
    assert load().ray.service_account in [a["name"] for a in accounts]


@pytest.mark.parametrize("env", ["dev", "staging", "prod"])
def test_every_environment_has_a_job(env):
    job = ray_job(load(env), "sweep-x", "x", {})
    head, worker = pods_of(job)
    limits = [pod["spec"]["containers"][0]["resources"]["limits"] for pod in (head, worker)]
    assert GPU not in limits[0] and (GPU in limits[1]) == bool(load(env).ray.worker.gpu)


def test_more_workers_come_by_the_autoscaler_whose_head_has_a_token():
    job = made(workers=1, max_workers=4)
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] and cluster["workerGroupSpecs"][0]["maxReplicas"] == 4
    assert cluster["autoscalerOptions"]["securityContext"]["runAsNonRoot"]
    head, worker = pods_of(job)
    assert head["spec"]["automountServiceAccountToken"] and not worker["spec"]["automountServiceAccountToken"]


@pytest.mark.parametrize(
    ("ray", "count"),
    [
        ({}, 2),
        ({"workers": 3}, 6),
        ({"workers": 1, "max_workers": 4}, 8),
        ({"worker": {"cpu": "500m"}}, 1),
        ({"worker": {"cpu": "8", "gpu": 2}, "workers": 2}, 4),
    ],
)
def test_trials_at_a_time(ray, count):
    assert slots(config_of(**ray)) == count


@pytest.mark.parametrize(
    ("worker", "trial", "count"),
    [
        ({"cpu": "8", "memory": "16Gi"}, {"cpu": "2"}, 4),
        ({"cpu": "8", "memory": "4Gi"}, {"memory": "2Gi"}, 2),  # what it has least of decides
        ({"cpu": "8", "memory": "64Gi", "gpu": 2}, {"gpu": 1}, 2),
        ({"cpu": "8", "memory": "64Gi", "gpu": 2}, {"cpu": "500m"}, 2),  # none asked for: one each
        ({"cpu": "2", "memory": "64Gi"}, {"cpu": "500m"}, 4),
    ],
)
def test_trials_at_a_time_follow_from_what_each_needs(worker, trial, count):
    def config(trial):
        ray = {"substrate": "kuberay", "worker": worker, "workers": 1}
        return load(overrides={"ray": ray, "workload": {"sweep": {"resources": trial}}})

    assert slots(config(trial)) == count
    with pytest.raises(SeawayError, match=r"workload\.sweep\.resources"):
        slots(config({"cpu": "99"}))


def test_credentials_come_from_the_secret_and_stand_nowhere():
    storage = {"uri": "s3://b/x", "secret": "storage"}
    job = ray_job(config_of(storage), "sweep-x", "x", {})
    for pod in pods_of(job):
        found = {e["name"]: e.get("valueFrom") for e in pod["spec"]["containers"][0]["env"]}
        wanted = {"secretKeyRef": {"name": "storage", "key": "AWS_SECRET_ACCESS_KEY"}}
        assert found["AWS_SECRET_ACCESS_KEY"] == wanted and found["AWS_ACCESS_KEY_ID"]
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize(
    ("ray", "said"),
    [
        ({"workers": 3, "max_workers": 2}, "ray.max_workers is 2, below ray.workers"),
        ({"workers": 1, "max_workers": 2, "queue": "sweeps"}, "Kueue admits a job with a fixed number"),
        ({"worker": {"gpu": 1}}, "set ray.queue to a LocalQueue"),
    ],
)
def test_settings_that_the_operator_would_take_and_that_could_not_work(ray, said):
    with pytest.raises(SeawayError, match=said):
        made(**ray)


def status(deployment="", job="", **more):
    found = {"metadata": {"labels": more.pop("labels", {})}, "spec": more.pop("spec", {})}
    if more.pop("deleted", False):
        found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {**found, "status": {"jobDeploymentStatus": deployment, "jobStatus": job, **more}}


WAITS = {"conditions": [{"type": "HeadPodReady", "status": "False", "message": "0/3 nodes are available"}]}


@pytest.mark.parametrize(
    ("found", "state", "said"),
    [
        (status(), "waiting", "no operator"),
        (status("Initializing"), "waiting", "the Ray cluster starts"),
        (status("Initializing", rayClusterStatus=WAITS), "waiting", "0/3 nodes are available"),
        (status("Initializing", rayClusterStatus={"desiredWorkerReplicas": 2}), "waiting", "0 of 2 workers"),
        (status("Running", "PENDING"), "waiting", "the job starts"),
        (status("Complete", "SUCCEEDED"), "succeeded", "the sweep's job"),
        (status("Complete", "SUCCEEDED", labels={WHAT: "train"}), "succeeded", "the training's job"),
        (status("Running", "RUNNING"), "running", "running"),
        (status("Retrying"), "waiting", ""),
        (status("Complete", "SUCCEEDED"), "succeeded", ""),
        (status("Complete", "STOPPED"), "failed", "STOPPED"),
        (status("Failed", "FAILED", reason="AppFailed", message="a\nb"), "failed", "a\nb"),
        (status("Failed", reason="DeadlineExceeded"), "failed", "Failed"),
        (status("ValidationFailed", message="no"), "failed", "no"),
        (status("Suspended"), "suspended", "somebody"),
        (status(spec={"suspend": True}, labels={QUEUE: "q"}), "suspended", "queue q"),
        (status("Complete", "SUCCEEDED", spec={"suspend": True}), "succeeded", ""),
        (status("Running", "RUNNING", deleted=True), "ending", "deleted"),
    ],
)
def test_what_a_status_says(found, state, said):
    seen = look(found)
    assert seen.state == state and said in seen.text
    assert seen.taken == bool(found["status"]["jobDeploymentStatus"] or found["spec"])


def test_of_a_long_message_the_end_is_told():
    text = look(status("Failed", "FAILED", message="\n".join(f"line {n}" for n in range(500)))).text
    assert text.splitlines()[-1] == "line 499" and len(text.splitlines()) == 12


def test_the_operator_is_told_the_version_of_ray_that_the_image_has():
    assert load().ray.version == importlib.metadata.version("ray")
