"""The controller's objects on a real API server: its account does a whole release and may do nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import yaml

from seaway.config import project_root
from seaway.errors import SeawayError
from seaway.kube_api import Api
from serving.controller_manifests import HOME, controller, main
from serving.rollout import state as states
from serving.substrate.kubernetes import KubernetesSubstrate
from tests.contract.conftest import wait_for
from tests.contract.test_release_in_cluster import begin, drive, rollout

WHERE = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
}


def apply(cluster, objects):
    for obj in objects:
        cluster.api.create(WHERE[obj["kind"]].format(obj["metadata"]["namespace"]), obj)


def account(cluster, kubeconfig, tmp_path, name="seaway-controller"):
    """The API as that service account sees it, by a token of its own."""
    path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts/{name}/token"
    token = cluster.api.create(path, {"spec": {"expirationSeconds": 600}})["status"]["token"]
    with open(kubeconfig) as stream:
        found = yaml.safe_load(stream)
    found["users"] = [{"name": "controller", "user": {"token": token}}]
    found["contexts"] = [{**c, "context": {**c["context"], "user": "controller"}} for c in found["contexts"]]
    path = tmp_path / "controller.kubeconfig"
    path.write_text(json.dumps(found))
    return Api(kubeconfig=str(path))


def test_its_account_does_a_whole_release_and_sees_no_secret(kube, kubeconfig, tmp_path):
    apply(kube.cluster, controller("seaway-controller:dev", kube.namespace))
    api = account(kube.cluster, kubeconfig, tmp_path)
    signals = begin(kube)
    substrate = KubernetesSubstrate(api, kube.namespace, signals=signals)
    assert substrate.lease("seaway-controller", "me").hold() and substrate.names() == ["shop"]
    state = drive(kube, rollout(kube, signals, tmp_path, substrate), signals)
    assert state.phase == states.PROMOTED, state.reason
    assert any("r1" in text for kind, reason, text in kube.events("shop"))
    substrate.lease("seaway-controller", "me").release()
    assert substrate.lease("seaway-controller", "other").hold()
    for path in (f"/api/v1/namespaces/{kube.namespace}/secrets", "/api/v1/namespaces/kube-system/secrets"):
        with pytest.raises(SeawayError, match="may not do that \\(403\\)"):
            api.get(path)
    with pytest.raises(SeawayError, match="may not do that \\(403\\)"):
        substrate.delete("shop")
    with pytest.raises(SeawayError, match="may not do that \\(403\\)"):
        KubernetesSubstrate(api, "default").names()


def test_what_its_account_may_do_is_the_list_and_no_more(kube, kubeconfig, tmp_path):
    apply(kube.cluster, controller("seaway-controller:dev", kube.namespace))
    api = account(kube.cluster, kubeconfig, tmp_path)
    review = {"spec": {"namespace": kube.namespace}}
    answer = api.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)["status"]["resourceRules"]
    allowed = {
        (group, resource, verb)
        for rule in answer
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not resource.startswith("selfsubject")
    }
    role = next(o for o in controller("seaway-controller:dev", kube.namespace) if o["kind"] == "Role")
    assert allowed == {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert not any("*" in part or part == "secrets" for right in allowed for part in right)


@pytest.mark.parametrize("schedule", [None, "*/5 * * * *"])
def test_its_pod_passes_the_restricted_standard(kube, schedule):
    path = f"/api/v1/namespaces/{kube.namespace}"
    kube.cluster.api.patch(path, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    objects = controller("seaway-controller:dev", kube.namespace, claim=None, schedule=schedule)
    apply(kube.cluster, objects)
    if schedule:  # a job made from it by hand, as `kubectl create job --from` does
        job = {"metadata": {"name": "now"}, "spec": objects[-1]["spec"]["jobTemplate"]["spec"]}
        kube.cluster.api.create(f"/apis/batch/v1/namespaces/{kube.namespace}/jobs", job)
    pod = wait_for(lambda: kube.cluster.all("pods"), what="the controller's pod")[0]
    assert pod["spec"]["serviceAccountName"] == "seaway-controller"
    command = pod["spec"]["containers"][0]["command"]
    assert ("--once" in command) == bool(schedule) and HOME in command


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on PATH")
def test_kubectl_takes_the_list_as_it_is_printed(kube, kubeconfig):
    command = [sys.executable, "-m", "serving.controller_manifests", "--env", "local", "--claim", "ledger"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=project_root()).stdout
    text = text.replace('"default"', f'"{kube.namespace}"')
    apply = ["kubectl", "--kubeconfig", kubeconfig, "apply", "-f", "-"]
    said = subprocess.run(apply, input=text, capture_output=True, text=True, check=True).stdout
    assert said.count(" created") == 4, said
    assert "Warning" not in said


def test_releases_of_other_namespaces_are_bound_there_and_a_bad_image_is_refused():
    keys = {"/keys": {"configMap": {"name": "keys"}}}
    objects = controller(
        "r/c:1", "ops", releases=["shop", "shop", "bank"], claim="ledger", workload="/w.yaml", mounts=keys
    )
    found = [(o["kind"], o["metadata"]["namespace"]) for o in objects]
    assert found == [
        ("ServiceAccount", "ops"),
        ("Role", "shop"),
        ("RoleBinding", "shop"),
        ("Role", "bank"),
        ("RoleBinding", "bank"),
        ("Deployment", "ops"),
    ]
    assert all(o["subjects"][0]["namespace"] == "ops" for o in objects if o["kind"] == "RoleBinding")
    volumes = objects[-1]["spec"]["template"]["spec"]["volumes"]
    assert volumes[0] == {"name": "home", "persistentVolumeClaim": {"claimName": "ledger"}}
    mounted = {m["name"]: m for m in objects[-1]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    where = {v["configMap"]["name"]: mounted[v["name"]] for v in volumes if "configMap" in v}
    assert where["keys"]["mountPath"] == "/keys" and where["keys"]["readOnly"]
    with pytest.raises(SeawayError, match="controller_image"):
        controller("", "ops")


def test_what_is_mounted_can_be_said_on_the_command_line(capsys):
    main(["--mount", "/models=claim:models", "--mount", "/keys=secret:label-key"])
    pod = json.loads(capsys.readouterr().out)["items"][-1]["spec"]["template"]["spec"]
    places = {m["mountPath"]: m["name"] for m in pod["containers"][0]["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert volumes[places["/keys"]]["secret"] == {"secretName": "label-key", "defaultMode": 0o440}
    assert volumes[places["/models"]]["persistentVolumeClaim"]["claimName"] == "models"
    for wrong in ("models=claim:m", "/models=folder:m", "/models", "/m=claim:../x"):
        with pytest.raises(SeawayError, match="is not FOLDER=KIND:NAME"):
            main(["--mount", wrong])
