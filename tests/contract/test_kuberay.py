"""The RayJob of a sweep under the real KubeRay operator (1.7), in a namespace of Pod Security level restricted.

The environment says where:
  SEAWAY_KUBECONFIG     a cluster that may be used up for tests, with at least one node that runs pods
  SEAWAY_KUBERAY=1      its KubeRay operator and webhook run
  SEAWAY_RAY_DASHBOARD  base URL of what the operator asks instead of the heads' dashboards, where pods run nothing:
                        it ends every job well after some seconds, and POST /_set/<job id> sets another answer
Without the first two all skip; without the third those that need a job to end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from components.ray import jobs, kuberay, rayjob
from components.ray.kuberay import Job
from components.train.cluster import with_workers
from seaway.config import Training, load, project_root
from seaway.errors import NotFound
from seaway.kube_api import Api
from seaway.storage import Storage
from tests.contract.conftest import Cluster, wait_for
from tests.contract.test_controller_in_cluster import account

pytestmark = pytest.mark.skipif(
    not os.environ.get("SEAWAY_KUBERAY"), reason="SEAWAY_KUBERAY does not say that a KubeRay operator runs"
)
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RAY = "/apis/ray.io/v1"
TOLERATES = {"key": rayjob.GPU, "operator": "Exists", "effect": "NoSchedule"}


class Sweep:
    """A job that the test hands in, follows in a thread of its own, and looks at meanwhile."""

    def __init__(self, cluster, kubeconfig, folder, **ray):
        section = {"substrate": "kuberay", "namespace": cluster.namespace, "poll": "1s", "deadline": "120s"} | ray
        storage = {"uri": f"file://{folder}/objects"}
        self.config = load("local", overrides={"home": str(folder / "home"), "storage": storage, "ray": section})
        self.cluster, self.folder, self.kubeconfig = cluster, folder, kubeconfig
        self.store = Storage.of(self.config)
        self.at = self.store.join("sweeps", "key", "sweep-test")
        self.manifest = rayjob.ray_job(self.config, "sweep-test", "python -m components.tune.job x", {"job": self.at})
        self.said, self.error = [], None

    def start(self, api=None):
        self.job = Job(self.config, self.store, self.at, self.manifest, api or self.cluster.api, self.said.append)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def _run(self):
        try:
            self.job.run()
        except BaseException as error:
            self.error = error

    def end(self, seconds=60):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), self.said
        return str(self.error) if self.error else ""

    def publish(self):
        """What the job would leave: no pod of these tests runs anything."""
        made = self.folder / "made"
        made.mkdir()
        (made / "best.json").write_text("{}")
        self.store.publish(made, f"{self.at}/result")

    def found(self, name="sweep-test"):
        try:
            return self.cluster.api.get(f"{RAY}/namespaces/{self.cluster.namespace}/rayjobs/{name}")
        except NotFound:
            return None

    def patch(self, change):
        self.cluster.api.patch(f"{RAY}/namespaces/{self.cluster.namespace}/rayjobs/sweep-test", change)

    def heard(self, part, seconds=30):
        wait_for(lambda: any(part in text for text in self.said), seconds, f"{part!r} among {self.said}")

    def answers(self, **status):
        """Make the stand-in for the dashboard answer so for this job."""
        base = os.environ.get("SEAWAY_RAY_DASHBOARD") or pytest.skip("SEAWAY_RAY_DASHBOARD names no stand-in")
        job = wait_for(lambda: (self.found() or {}).get("status", {}).get("jobId"), 30, "a job id")
        request = urllib.request.Request(f"{base}/_set/{job}", json.dumps(status).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def nothing_left(self):
        """No job, no cluster and, soon, no pod."""
        ns = self.cluster.namespace
        wait_for(lambda: self.found() is None, 20, "the RayJob's end")
        wait_for(
            lambda: not self.cluster.api.get(f"{RAY}/namespaces/{ns}/rayclusters")["items"], 20, "its cluster's end"
        )
        wait_for(lambda: not self.cluster.all("pods"), 60, "its pods' end")


@pytest.fixture
def sweep(kubeconfig, tmp_path):
    cluster = Cluster(Api(kubeconfig=kubeconfig))
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    cluster.api.patch(f"/api/v1/namespaces/{cluster.namespace}", restricted)
    cluster.api.create(f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts", {"metadata": {"name": "seaway-ray"}})
    yield lambda **ray: Sweep(cluster, kubeconfig, tmp_path, **ray)
    cluster.close()


@pytest.fixture
def gpus(kubeconfig):
    """A node says that it has GPUs."""
    api = Api(kubeconfig=kubeconfig)
    node = api.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
    amount = {"nvidia.com/gpu": "8"}
    api.patch(f"/api/v1/nodes/{node}/status", {"status": {"capacity": amount, "allocatable": amount}})


def pods(sweep, kind):
    return [p for p in sweep.cluster.all("pods") if p["metadata"]["labels"].get("ray.io/node-type") == kind]


def test_pods_have_what_the_configuration_says_and_nothing_is_left_after_success(sweep, gpus):
    made = sweep(queue="sweeps", spot=True, workers=2, worker={"cpu": "1", "memory": "2Gi", "gpu": 1}).start()
    made.publish()
    workers = wait_for(lambda: len(found := pods(made, "worker")) == 2 and found, 30, "two workers")
    (head,) = pods(made, "head")
    for pod in workers:
        assert pod["metadata"]["labels"][rayjob.QUEUE] == "sweeps"
        assert TOLERATES in pod["spec"]["tolerations"]
        assert rayjob.SPOT in [t["key"] for t in pod["spec"]["tolerations"]]
        assert pod["spec"]["containers"][0]["resources"]["limits"][rayjob.GPU] == "1"
        assert pod["spec"]["serviceAccountName"] == "seaway-ray" and not pod["spec"]["automountServiceAccountToken"]
    assert rayjob.SPOT not in [t["key"] for t in head["spec"]["tolerations"]]
    start = next(e for e in head["spec"]["containers"][0]["env"] if e["name"] == "KUBERAY_GEN_RAY_START_CMD")
    assert "--num-cpus=0" in start["value"]  # no trial on the head
    assert any(e["name"] == "RAY_AUTH_TOKEN" for e in head["spec"]["containers"][0]["env"])
    assert made.end() == ""
    assert made.said[0].endswith("handed in") and made.said[-1] == "the sweep's job has ended"
    made.nothing_left()


def test_a_training_has_as_many_pods_as_it_wants_workers_each_with_its_gpu(sweep, gpus):
    made = sweep(queue="training", spot=True, workers=1)  # what sweeps want is not what trainings want
    wanted = Training(workers=3, resources={"cpu": "1", "memory": "2Gi", "gpu": 2})
    made.config = made.config.model_copy(update={"training": wanted})
    made.manifest = jobs.manifest(with_workers(made.config), "train", {"at": made.at, "data": made.store.join("data")})
    made.publish()
    made.start()
    workers = wait_for(lambda: len(found := pods(made, "worker")) == 3 and found, 30, "three workers")
    (head,) = pods(made, "head")
    for pod in workers:
        assert pod["metadata"]["labels"][rayjob.QUEUE] == "training"
        assert pod["metadata"]["labels"][rayjob.WHAT] == "train"
        assert {TOLERATES["key"], rayjob.SPOT} <= {t["key"] for t in pod["spec"]["tolerations"]}
        limits = pod["spec"]["containers"][0]["resources"]["limits"]
        assert (limits["cpu"], limits["memory"], limits[rayjob.GPU]) == ("1", "2Gi", "2")
    assert rayjob.GPU not in head["spec"]["containers"][0]["resources"]["limits"]
    assert len(head["spec"]["containers"]) == 1  # no autoscaler: a training cannot do with fewer or more
    job = made.found()["spec"]
    assert job["entrypoint"].startswith(f"python -m components.train.job {made.at}/job.json")
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 3)
    assert made.end() == "" and made.said[-1] == "the training's job has ended"
    made.nothing_left()


@pytest.mark.infra
def test_the_pipelines_account_may_do_all_of_it(sweep, kubeconfig, tmp_path):
    made = sweep()
    ns, api = made.cluster.namespace, made.cluster.api
    documents = yaml.safe_load_all((project_root() / "infra/manifests/roles.yaml").read_text())
    rules = next(d["rules"] for d in documents if d.get("metadata", {}).get("name") == "seaway-sweeps")
    api.create(f"/api/v1/namespaces/{ns}/serviceaccounts", {"metadata": {"name": "runner"}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sweeps"}
    who = [{"kind": "ServiceAccount", "name": "runner", "namespace": ns}]
    api.create(f"{RBAC}/namespaces/{ns}/roles", {"metadata": {"name": "sweeps"}, "rules": rules})
    api.create(f"{RBAC}/namespaces/{ns}/rolebindings", {"metadata": {"name": "x"}, "roleRef": role, "subjects": who})
    made.publish()
    made.start(account(made.cluster, kubeconfig, tmp_path, "runner"))
    assert made.end() == "", made.said
    made.nothing_left()


def test_a_failed_job_says_why(sweep):
    made = sweep().start()
    made.answers(status="FAILED", message="Job entrypoint command failed\nSeawayError: all 4 trials failed")
    text = made.end()
    assert "AppFailed" in text and "all 4 trials failed" in text and "goes on from them" in text
    made.nothing_left()


def test_the_jobs_own_error_is_told_rather_than_its_log(sweep):
    made = sweep().start()
    made.heard("handed in")
    made.store.write(f"{made.at}/error", b"the label failed has values other than 0 and 1")
    made.answers(status="FAILED", message="a log")
    assert "values other than 0 and 1" in made.end() and "a log" not in str(made.error)


def test_a_job_that_left_no_result_is_no_success(sweep):
    made = sweep().start()
    made.answers(status="SUCCEEDED")
    assert "left no result" in made.end()
    made.nothing_left()


def test_the_deadline_ends_a_job_whose_nodes_cannot_be_had(sweep):
    began = time.monotonic()
    made = sweep(deadline="5s", worker={"cpu": "900", "memory": "2Gi"}).start()
    text = made.end()
    assert "ray.deadline (5s)" in text and "nodes" in text
    assert 4 < time.monotonic() - began < 30
    assert "Insufficient cpu" in text  # the scheduler's own words
    assert any("0 of 1 workers" in line for line in made.said), made.said
    made.nothing_left()


def test_pods_that_are_refused_are_told_of(sweep, monkeypatch):
    monkeypatch.setattr(kuberay, "WARN_S", 1.0)
    made = sweep()
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"limits.memory": "1Gi"}}}
    made.cluster.api.create(f"/api/v1/namespaces/{made.cluster.namespace}/resourcequotas", quota)
    made.start()
    made.heard("exceeded quota")
    made.cluster.api.delete(f"{RAY}/namespaces/{made.cluster.namespace}/rayjobs/sweep-test")
    made.end()


@pytest.mark.infra
def test_a_suspended_job_waits_and_goes_on(sweep):
    made = sweep(queue="sweeps")
    made.manifest["spec"]["suspend"] = True  # as Kueue's webhook does
    made.publish()
    made.start()
    made.heard("waits in the queue sweeps")
    assert not made.cluster.all("pods")
    made.patch({"spec": {"suspend": False}})
    made.heard("running")
    made.patch({"spec": {"suspend": True}})  # Kueue takes its place for a more important one
    wait_for(lambda: not made.cluster.all("pods"), 60, "the pods' end")
    assert made.thread.is_alive()
    made.patch({"spec": {"suspend": False}})
    assert made.end() == ""


def test_a_job_deleted_by_somebody(sweep):
    made = sweep(queue="sweeps").start()
    made.heard("handed in")
    wait_for(lambda: pods(made, "head"), 30, "a head")
    made.cluster.api.delete(f"{RAY}/namespaces/{made.cluster.namespace}/rayjobs/sweep-test")
    assert "was deleted by somebody" in made.end()
    made.nothing_left()


def test_a_job_deleted_after_its_result_was_fetched_by_another_attempt(sweep):
    made = sweep().start()
    made.heard("handed in")
    made.publish()
    made.cluster.api.delete(f"{RAY}/namespaces/{made.cluster.namespace}/rayjobs/sweep-test")
    assert made.end() == ""


@contextmanager
def between(kubeconfig, folder):
    """(api, cut): an API server behind a forwarder; while ``cut`` is set nothing comes through."""
    found = yaml.safe_load(Path(kubeconfig).read_text())
    host, port = found["clusters"][0]["cluster"]["server"].removeprefix("https://").split(":")
    cut, server = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def pump(source, target):
        try:
            while (data := source.recv(65536)) and not cut.is_set():
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def accept():
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            if cut.is_set():
                client.close()
                continue
            back = socket.create_connection((host, int(port)))
            for pair in ((client, back), (back, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    found["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{server.getsockname()[1]}"
    path = folder / "between.kubeconfig"
    path.write_text(yaml.safe_dump(found))
    with closing(server):
        yield Api(kubeconfig=str(path), seconds=(1.0, 2.0)), cut


@pytest.mark.infra
def test_an_api_server_that_is_away_for_a_while(sweep, kubeconfig, tmp_path):
    made = sweep()
    made.publish()
    with between(kubeconfig, tmp_path) as (api, cut):
        cut.set()
        made.start(api)
        made.heard("cannot hand in the sweep yet")
        cut.clear()
        made.heard("handed in")
        cut.set()
        made.heard("the sweep goes on")
        time.sleep(2)
        cut.clear()
        assert made.end() == ""
    assert "the Kubernetes API answers again" in made.said
    assert sum("cannot look" in text for text in made.said) == 1  # said once
    made.nothing_left()


def test_an_api_server_that_stays_away_leaves_the_job_to_end_itself(sweep, kubeconfig, tmp_path, monkeypatch):
    monkeypatch.setattr(kuberay, "GRACE_S", 1.0)
    made = sweep(deadline="1s")
    made.manifest["spec"]["activeDeadlineSeconds"] = 600
    with between(kubeconfig, tmp_path) as (api, cut):
        made.start(api)
        made.heard("handed in")
        cut.set()
        assert "lost from sight" in made.end()
    assert made.found()


RUN = """
import sys
from pathlib import Path
from components.ray.kuberay import Job
from seaway.artifacts import read_json
from seaway.config import Config
from seaway.kube_api import Api
from seaway.storage import Storage

record = read_json(Path(sys.argv[1]))
config = Config.model_validate(record["config"])
Job(config, Storage.of(config), record["at"], record["manifest"], Api(kubeconfig=record["kubeconfig"])).run()
"""


def spawn(made):
    record = {"config": made.config.model_dump(mode="json"), "at": made.at, "manifest": made.manifest}
    file = made.folder / "record.json"
    file.write_text(json.dumps(record | {"kubeconfig": made.kubeconfig}))
    process = subprocess.Popen([sys.executable, "-c", RUN, str(file)], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: made.found() or process.poll() is not None, 60, "the RayJob")
    assert process.poll() is None, process.stderr.read()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_early_it_takes_the_job_along(sweep, number):
    made = sweep(worker={"cpu": "900", "memory": "2Gi"})  # never to be had: the job does not end by itself
    process = spawn(made)
    wait_for(lambda: pods(made, "head"), 30, "a head")
    process.send_signal(number)
    assert process.wait(30) != 0
    made.nothing_left()


@pytest.mark.infra
def test_killed_the_next_attempt_follows_the_same_job(sweep):
    made = sweep()
    made.publish()
    made.manifest["spec"]["suspend"] = True
    process = spawn(made)
    found = made.found()
    process.kill()
    process.wait()
    made.start()
    made.heard("handed in before: following it")
    assert made.found()["metadata"]["uid"] == found["metadata"]["uid"]
    made.patch({"spec": {"suspend": False}})
    assert made.end() == ""
    made.nothing_left()


@pytest.mark.infra
def test_another_configuration_replaces_what_an_earlier_attempt_left(sweep):
    first = sweep(worker={"cpu": "900", "memory": "2Gi"})
    first.cluster.api.create(f"{RAY}/namespaces/{first.cluster.namespace}/rayjobs", first.manifest)
    old = first.found()["metadata"]["uid"]
    made = sweep()
    made.publish()
    made.start()
    assert made.end() == "" and not any("before" in text for text in made.said)
    assert old != (first.found() or {"metadata": {"uid": None}})["metadata"]["uid"]


def test_no_namespace_and_no_rights_are_named(sweep, kubeconfig, tmp_path):
    made = sweep()
    made.manifest["metadata"]["namespace"] = "seaway-nowhere"
    assert "no namespace 'seaway-nowhere'" in made.start().end()
    again = sweep()
    assert "(403)" in again.start(account(made.cluster, kubeconfig, tmp_path, "seaway-ray")).end()
