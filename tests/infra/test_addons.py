"""The parts beside tenancy: what they make of the settings, and that what they hand to others is taken."""

import json
import re
import subprocess
import time
from shutil import which

import pytest
import yaml

from infra import versions
from infra.addons import kubeflow
from infra.addons.info import NAME, digest
from infra.addons.online import connection, size
from infra.addons.operators import words
from infra.settings import FOLDER, PROJECT, Sources, of_stack
from seaway.config import load
from seaway.errors import SeawayError
from tests.infra.rendering import CONFIG, render, run


def releases(rendered):
    return {r.props["name"]: r for r in rendered if r.type.endswith(":Release")}


def found(rendered, kind, name, namespace=""):
    (one,) = [r for r in rendered.of(kind) if r.manifest["metadata"]["name"] == name and namespace in ("", r.namespace)]
    return one


def changed(env, **sections):
    settings = of_stack(env)
    more = {k: getattr(settings, k).model_copy(update=v) if isinstance(v, dict) else v for k, v in sections.items()}
    return settings.model_copy(update=more)


def test_every_chart_of_the_table_is_installed_somewhere_and_none_with_an_open_word(env, rendered):
    table = versions.load(of_stack(env).sources).table.charts
    always = set(table) - {"kueue", "nvidia-device-plugin", "opencost"}
    made = releases(rendered)
    assert always <= set(made)
    left = set(re.findall(r"\$\{\w[^}]*\}", json.dumps([r.props for r in rendered])))
    assert left == {"${SEAWAY_REDIS_PASSWORD}"}  # which Feast fills in
    gpu, costs = of_stack(env).gpu, of_stack(env).monitoring.opencost
    assert ({"kueue", "nvidia-device-plugin"} <= set(made)) == bool(gpu) and ("opencost" in made) == costs
    for name, release in made.items():
        assert release.props["version"] == table[name].version and not release.secrets
        assert release.props["namespace"] == table[name].namespace


def test_values_that_releases_of_models_stand_on(rendered):
    made = releases(rendered)
    seldon = made["seldon-core-operator"].props["values"]
    assert seldon["usageMetrics"] == {"enabled": False}
    gateway = found(rendered, "Gateway", "seldon-gateway")
    assert seldon["istio"]["gateway"] == f"{gateway.namespace}/seldon-gateway"
    # the chart labels the gateway's pods with the release's name less `istio-`
    assert f"istio-{gateway.props['spec']['selector']['istio']}" in made
    spec = made["kube-prometheus-stack"].props["values"]["prometheus"]["prometheusSpec"]
    assert spec["replicas"] == 1 and not spec["podMonitorSelectorNilUsesHelmValues"]
    assert made["kuberay-operator"].props["values"]["watchNamespace"] == ["training"]


def test_what_is_many_and_may_be_drained_is_so_where_it_is_asked_for(env, rendered):
    wanted = of_stack(env).availability
    values = {name: r.props["values"] for name, r in releases(rendered).items()}
    assert values["istio-ingressgateway"]["autoscaling"]["minReplicas"] == wanted.replicas
    assert ("podDisruptionBudget" in values["istio-ingressgateway"]) == wanted.disruption_budgets
    assert found(rendered, "Deployment", "feature-server").props["spec"]["replicas"] == wanted.replicas
    budgets = {r.manifest["metadata"]["name"] for r in rendered.of("PodDisruptionBudget")}
    assert budgets == ({"feature-server", "mlflow"} if wanted.disruption_budgets else set())


@pytest.mark.parametrize(
    ("sources", "place", "repository"),
    [
        ({}, "istiod", "https://istio-release.storage.googleapis.com/charts"),
        ({"charts": "oci://mirror.example.com/charts/"}, "oci://mirror.example.com/charts/istiod", None),
        ({"charts": "https://mirror.example.com"}, "istiod", "https://mirror.example.com"),
        ({"charts": "/charts"}, "/charts/istiod", None),
        ({"charts": "/charts", "chart": {"istiod": "/own/istiod.tgz"}}, "/own/istiod.tgz", None),
    ],
)
def test_charts_may_come_from_a_mirror_or_a_folder(sources, place, repository):
    table = versions.load(Sources(**sources))
    assert table.locate(table.chart("istiod")) == (place, repository)


def test_without_add_ons_only_what_is_ours_is_made():
    rendered = render("staging", changed("staging", addons=False))
    assert not releases(rendered) and not [r for r in rendered if "kustomize" in r.type]
    kinds = {r.kind for r in rendered}
    assert {"Gateway", "PodMonitor", "PrometheusRule", "ClusterQueue", "StatefulSet"} <= kinds
    assert not {"grafana", "mysql-secret"} & {r.manifest["metadata"]["name"] for r in rendered.of("Secret")}


# credentials


def test_passwords_are_secrets_of_pulumi_in_the_namespaces_that_need_them(env, rendered):
    serving = of_stack(env).tenancy.serving
    places = {}
    for secret in rendered.of("Secret"):
        places.setdefault(secret.manifest["metadata"]["name"], set()).add(secret.namespace)
        assert secret.secrets, f"{secret.name} is plain text in the state"
    assert places["redis"] == {"features", "kubeflow", *serving} and places["model-key"] == {"kubeflow"}
    assert ("storage" in places) == (of_stack(env).objects.uri is None)
    assert found(rendered, "ConfigMap", "model-key", serving[0]).props["data"]["model.pub"] == "of-tests-modelPublicKey"
    assert "of-tests-modelKey" not in json.dumps([r.props for r in rendered if r.kind != "Secret"])


def test_missing_secrets_are_named_together_with_what_makes_them(monkeypatch):
    from infra.program import deploy
    from tests.infra import rendering

    kept = {k: v for k, v in CONFIG.items() if k not in (f"{PROJECT}:redisPassword", f"{PROJECT}:labelsKey")}
    monkeypatch.setattr(rendering, "CONFIG", kept)
    with pytest.raises(SeawayError, match="redisPassword, labelsKey") as refused:
        run(lambda: deploy(of_stack("dev")), "dev")
    assert "pulumi config set --secret redisPassword" in str(refused.value)


# the online store


@pytest.mark.skipif(not which("redis-server"), reason="redis-server is not on PATH")
def test_redis_takes_the_settings_and_the_password(tmp_path):
    import socket

    import redis

    rendered = render("dev")
    conf = found(rendered, "ConfigMap", "redis").props["data"]["redis.conf"]
    auth = found(rendered, "Secret", "redis", "features").props["stringData"]["auth.conf"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "auth.conf").write_text(auth)
    (tmp_path / "redis.conf").write_text(
        conf.replace("/etc/redis-auth", str(tmp_path)).replace("dir /data", f"dir {tmp_path}") + f"port {port}\n"
    )
    server = subprocess.Popen(["redis-server", str(tmp_path / "redis.conf")], stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port, password="of-tests-redisPassword")
        deadline = time.monotonic() + 20
        while True:
            try:
                assert client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert int(client.config_get("maxmemory")["maxmemory"]) == size(of_stack("dev").redis.memory)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
    finally:
        server.terminate()
        server.wait()


def test_a_store_of_the_clouds_is_not_made_here_and_is_named_to_feast():
    rendered = render("prod")
    assert not [r for r in rendered.of("StatefulSet") if r.namespace == "features"]
    text = found(rendered, "ConfigMap", "feature-server").props["data"]["feature_store.yaml"]
    store = yaml.safe_load(text)["online_store"]["connection_string"]
    assert store == f"{connection(of_stack('prod'))},password=${{SEAWAY_REDIS_PASSWORD}}" and ",ssl=true," in store


def test_quantities_are_bytes():
    assert size("256Mi") == 268435456 and size("1G") == 10**9 and size("512") == 512


# Kubeflow Pipelines

STAND_IN = """
apiVersion: v1
kind: Namespace
metadata: {name: kubeflow}
---
apiVersion: v1
kind: Secret
metadata: {name: mlpipeline-minio-artifact, namespace: kubeflow}
stringData: {accesskey: minio, secretkey: minio123}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cache-server, namespace: kubeflow}
spec:
  selector: {matchLabels: {app: c}}
  template: {metadata: {labels: {app: c}}, spec: {containers: [{name: c, image: "c:1"}]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kubeflow-pipelines-cache-deployer-clusterrole}
rules: []
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: mysql, namespace: kubeflow}
spec:
  selector: {matchLabels: {app: m}}
  template:
    metadata: {labels: {app: m}}
    spec: {containers: [{name: mysql, image: "m:1", env: [{name: MYSQL_ALLOW_EMPTY_PASSWORD, value: "true"}]}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kfp-launcher, namespace: kubeflow}
data: {defaultPipelineRoot: ""}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: pipeline-runner, namespace: kubeflow}
"""


@pytest.mark.skipif(not which("kubectl"), reason="kubectl is not on PATH")
def test_the_overlay_takes_out_public_passwords_and_parts_of_version_1(tmp_path):
    base = tmp_path / "pipelines/manifests/kustomize"
    for folder, text in (("cluster-scoped-resources", ""), ("env/platform-agnostic", STAND_IN)):
        (base / folder).mkdir(parents=True)
        (base / folder / "all.yaml").write_text(text)
        listed = yaml.safe_dump({"resources": ["all.yaml"] if text else []})
        (base / folder / "kustomization.yaml").write_text(listed)
    settings = changed("prod", sources={"pipelines": str(tmp_path / "pipelines")})
    settings = settings.model_copy(
        update={"objects": settings.objects.model_copy(update={"role": "arn:aws:iam::1:role/r"})}
    )
    folder = kubeflow.resolve(settings, versions.load(settings.sources).table, target=tmp_path / "resolved")
    built = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    made = {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(built.stdout)}
    assert set(made) == {("Deployment", "mysql"), ("ConfigMap", "kfp-launcher"), ("ServiceAccount", "pipeline-runner")}
    (mysql,) = made["Deployment", "mysql"]["spec"]["template"]["spec"]["containers"]
    assert [e["name"] for e in mysql["env"]] == ["MYSQL_ROOT_PASSWORD"]
    data = made["ConfigMap", "kfp-launcher"]["data"]
    assert data["defaultPipelineRoot"] == "s3://seaway-prod-111122223333/pipelines"
    assert json.loads(data["providers"])["s3"]["default"]["region"] == "eu-central-1"
    account = made["ServiceAccount", "pipeline-runner"]["metadata"]
    assert account["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}


def test_upstream_is_asked_for_at_the_version_of_the_table(tmp_path):
    settings = of_stack("dev")
    table = versions.load(settings.sources).table
    text = (kubeflow.resolve(settings, table, target=tmp_path) / "kustomization.yaml").read_text()
    assert re.findall(r"^  - (\S+)$", text, re.M) == [
        f"{table.pipelines}/manifests/kustomize/{part}?ref={table.pipelines_version}&timeout=180s"
        for part in ("cluster-scoped-resources", "env/platform-agnostic")
    ]


# queue, controller, record


def test_who_needs_no_gpu_is_not_sent_to_a_node_that_has_one(rendered):
    if not (queues := rendered.of("ClusterQueue")):
        return
    groups = queues[0].props["spec"]["resourceGroups"]
    flavors = {f.props["metadata"]["name"]: f.props["spec"] for f in rendered.of("ResourceFlavor")}
    of_gpu = [g for g in groups if "nvidia.com/gpu" in g["coveredResources"]]
    assert len(of_gpu) == 1 and of_gpu[0]["coveredResources"] == ["nvidia.com/gpu"]
    plain = [f["name"] for g in groups if g not in of_gpu for f in g["flavors"]]
    assert not any(flavors[name].get("nodeLabels") for name in plain)
    assert flavors[of_gpu[0]["flavors"][0]["name"]]["nodeLabels"]
    assert {q.namespace for q in rendered.of("LocalQueue")} == {"training", "kubeflow"}


def test_the_controller_may_change_releases_and_read_no_secret(env, rendered):
    deployment = found(rendered, "Deployment", "seaway-controller")
    pod = deployment.props["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == load(env).serving.controller_image
    assert container["ports"] == [{"name": "metrics", "containerPort": 8000}]
    volumes = {v["name"]: v for v in pod["volumes"]}
    mounts = {m["mountPath"]: volumes[m["name"]] for m in container["volumeMounts"]}
    assert mounts["/var/run/seaway/trust"]["configMap"] == {"name": "model-key"}
    assert mounts["/home/seaway"]["persistentVolumeClaim"] == {"claimName": "seaway-controller"}
    named = [v for v in container["env"] if v["name"].startswith("AWS_")]
    assert bool(named) == (of_stack(env).objects.uri is None)
    roles = [r for r in rendered.of("Role") if r.manifest["metadata"]["name"] == "seaway-controller"]
    assert {r.namespace for r in roles} == set(of_stack(env).tenancy.serving)
    resources = {name for r in roles for rule in r.props["rules"] for name in rule["resources"]}
    assert "seldondeployments" in resources and not {"secrets", "*"} & resources


def test_the_platform_tells_what_it_is_where_work_runs(env, rendered):
    told = [r for r in rendered.of("ConfigMap") if r.manifest["metadata"]["name"] == NAME]
    assert {r.namespace for r in told} == {"kubeflow", "training", *of_stack(env).tenancy.serving, "seaway-system"}
    data = told[0].props["data"]
    assert data["stack"] == f"organization/{PROJECT}/{env}" and data["digest"] == digest(of_stack(env))
    assert json.loads(data["settings"])["env"] == env and not any(r.secrets for r in told)
    assert rendered.outputs["digest"] == data["digest"]


def test_another_setting_or_manifest_is_another_platform(tmp_path):
    settings = of_stack("dev")
    assert digest(settings) == digest(of_stack("dev")) != digest(changed("dev", gateway={"host": "a.example.com"}))
    (tmp_path / "manifests").mkdir()
    file = tmp_path / "manifests/redis.yaml"
    file.write_text((FOLDER / "manifests/redis.yaml").read_text())
    before = digest(settings, tmp_path)
    file.write_text(file.read_text() + "\n")
    assert digest(settings, tmp_path) != before


def test_callers_from_outside_get_tls_where_there_is_a_certificate(env, rendered):
    servers = found(rendered, "Gateway", "seldon-gateway").props["spec"]["servers"]
    secret = of_stack(env).gateway.tls_secret
    assert [s["port"]["number"] for s in servers] == ([80, 443] if secret else [80])
    if secret:
        assert servers[0]["tls"] == {"httpsRedirect": True} and servers[1]["tls"]["credentialName"] == secret


def test_every_word_of_the_values_is_one_that_the_program_gives():
    text = (FOLDER / "manifests/charts.yaml").read_text()
    assert set(re.findall(r"\$\{([\w-]+)\}", text)) == set(words(of_stack("dev")))
