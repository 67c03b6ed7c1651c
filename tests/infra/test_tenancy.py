"""What tenancy, access and admission make of settings: walls round each namespace, and doors where they are needed."""

from __future__ import annotations

import pytest

from infra import settings, versions
from infra.access import identity
from infra.base import manifests
from infra.policies.rules import Resource
from infra.tenancy import SECURITY, WORKLOAD, Namespace, Network, namespaces
from tests.infra.reach import World

OUTSIDE = "198.51.100.7"  # somewhere in the world
API_SERVER = "10.1.2.3"


def given(**over):
    base = {
        "env": "dev",
        "cluster": {"context": "c", "identifier": "i"},
        "tenancy": {
            "serving": ["serving-dev", "serving-more"],
            "quotas": {"training": {}, "serving-dev": {}, "serving-more": {"pods": 7}},
            "api_server": ["10.1.0.0/16"],
        },
        "budget": {"monthly_usd": 100},
    }
    return settings.Settings.model_validate({**base, **over})


def world(**over):
    chosen = given(**over)
    return World(Network(chosen, namespaces(chosen, versions.load(chosen.sources))).policies())


GATEWAY = {"istio": "ingressgateway"}
NEEDED = [
    ("serving-dev", "kube-system", 53),
    ("istio-system", "serving-dev", 9000),
    ("monitoring", "serving-more", 6000),
    ("serving-dev", "features", 6379),
    ("features", "features", 6379),  # the feature server reads the store
    ("kubeflow", "features", 6379),
    ("kubeflow", "features", 6566),
    ("training", "kubeflow", 8333),  # objects
    ("serving-dev", "kubeflow", 8333),
    ("tracking", "kubeflow", 8333),
    ("seaway-system", "kubeflow", 8333),
    ("kubeflow", "kubeflow", 3306),
    ("training", "training", 6379),  # Ray's head and workers
    ("training", "training", 41234),
    ("training", API_SERVER, 443),
    ("kubeflow", API_SERVER, 6443),
    ("seaway-system", API_SERVER, 443),
    ("training", "tracking", 5000),
    ("kubeflow", "tracking", 5000),
    ("tracking", "tracking", 5432),
    ("seaway-system", "monitoring", 9090),
    ("ray-system", "training", 8265),
    (API_SERVER, "seldon-system", 4443),  # webhooks
    (API_SERVER, "istio-system", 15017),
    (API_SERVER, "cert-manager", 10250),
    (API_SERVER, "monitoring", 10250),
    ("istio-system", "istio-system", 15012),  # the gateway asks istiod
    ("seldon-system", API_SERVER, 443),
]
FORBIDDEN = [
    ("serving-dev", "serving-more", 9000),
    ("serving-dev", "training", 8265),
    ("serving-dev", "tracking", 5432),
    ("serving-dev", "tracking", 5000),
    ("serving-dev", "kubeflow", 3306),
    ("serving-dev", API_SERVER, 443),  # a model has no business there
    ("serving-dev", OUTSIDE, 443),  # what a model is asked stays in
    ("training", OUTSIDE, 443),
    ("training", "features", 6379),
    ("training", "serving-dev", 9000),
    ("kubeflow", "serving-dev", 9000),
    ("kubeflow", "tracking", 5432),
    ("features", API_SERVER, 443),
    ("default", "serving-dev", 9000),
    ("default", "features", 6379),
    ("default", "monitoring", 9090),
    (OUTSIDE, "serving-dev", 9000),
    (OUTSIDE, "kubeflow", 8888),
    (OUTSIDE, "istio-system", 15017),
    ("kubeflow", "169.254.169.254", 443),  # the node's own keys
]


@pytest.mark.parametrize(("caller", "listener", "port"), NEEDED)
def test_what_is_needed_may_pass(caller, listener, port):
    assert world().may(caller, listener, port)


@pytest.mark.parametrize(("caller", "listener", "port"), FORBIDDEN)
def test_what_is_not_needed_may_not(caller, listener, port):
    assert not world().may(caller, listener, port, caller_pods=GATEWAY, listener_pods={})


def test_names_are_asked_for_in_both_protocols():
    assert world().may("serving-dev", "kube-system", 53, protocol="UDP")
    assert world().may("serving-dev", "169.254.20.10", 53, protocol="UDP")
    assert not world().may("serving-dev", "kube-system", 54)


def test_the_world_reaches_the_gateway_and_nothing_beside_it():
    assert world().may(OUTSIDE, "istio-system", 8080, listener_pods=GATEWAY)
    assert not world().may(OUTSIDE, "istio-system", 8080, listener_pods={"app": "istiod"})
    assert not world().may(OUTSIDE, "istio-system", 15012, listener_pods=GATEWAY)


def test_objects_outside_are_reached_and_those_inside_no_longer():
    moved = world(objects={"uri": "s3://bucket/prefix"})
    assert moved.may("serving-dev", OUTSIDE, 443)
    assert moved.may("serving-dev", "169.254.170.23", 80)  # the pod's own keys
    assert not moved.may("serving-dev", "169.254.169.254", 80)  # the node's
    assert not moved.may("training", "kubeflow", 8333)
    own = world(objects={"uri": "s3://bucket", "endpoint": "https://minio.example.com:9443"})
    assert own.may("training", OUTSIDE, 9443)
    assert not own.may("training", OUTSIDE, 443)
    assert world(objects={"uri": "gs://bucket"}).may("serving-dev", "169.254.169.254", 80)


def test_stores_outside_are_reached_on_their_ports():
    moved = world(redis={"host": "redis.example.com:6390"}, database={"host": "db.example.com:5433"})
    assert moved.may("serving-dev", OUTSIDE, 6390)
    assert moved.may("tracking", OUTSIDE, 5433)
    assert not moved.may("serving-dev", OUTSIDE, 5433)


def test_every_number_that_is_scraped_may_be_asked_for(rendered):
    policies = {}
    for policy in rendered.of("NetworkPolicy"):
        policies.setdefault(policy.namespace, []).append(policy.manifest)
    asked = set()
    for monitor in rendered.of("PodMonitor"):
        wanted = monitor.props["spec"]["selector"].get("matchLabels")
        ports = {end["port"] for end in monitor.props["spec"]["podMetricsEndpoints"]}
        spaces = monitor.props["spec"].get("namespaceSelector", {}).get("matchNames", [monitor.namespace])
        for made in rendered:
            for pod in Resource(made.type, made.name, made.props).pods() if made.namespace in spaces and wanted else ():
                if wanted.items() <= pod.labels.items():
                    named = [port for c in pod.containers for port in c.get("ports", ()) if port.get("name") in ports]
                    asked |= {(made.namespace, port["containerPort"]) for port in named}
    assert ("seaway-system", 8000) in asked
    for namespace, port in asked:
        assert World(policies).may("monitoring", namespace, port), (namespace, port)


def test_every_end_of_a_flow_is_known():
    """A misspelt namespace would be a door to nowhere."""
    chosen = given(gpu={"count": 1}, monitoring={"opencost": True})
    made = namespaces(chosen, versions.load(chosen.sources))
    network = Network(chosen, made)
    (table,) = manifests("network", **dict.fromkeys(("redis-port", "database-port", "objects-port"), "1"))
    known = {*network.groups, *network.places, *(n.name for n in made), "same"}
    facts = {f"{n}-outside" for n in ("redis", "database", "objects")} | {"objects-s3", "objects-gs"}
    for flow in table["flows"]:
        assert {flow["from"], flow["to"]} <= known, flow
        assert set(flow) <= {"from", "to", "ports", "pods", "when", "udp"}, flow
        assert flow.get("when", "redis-outside").removeprefix("not ") in facts, flow


def test_namespaces_are_ours_the_users_and_the_add_ons():
    chosen = given()
    table = versions.load(chosen.sources)
    names = {n.name: n for n in namespaces(chosen, table)}
    assert {"kubeflow", "features", "tracking", "seaway-system", "training", "serving-dev", "serving-more"} <= set(
        names
    )
    assert {"monitoring", "istio-system", "seldon-system", "ray-system", "cert-manager"} <= set(names)
    assert not {"kueue-system", "gpu-system", "opencost"} & set(names)  # no pool, no flag
    assert {n for n, it in names.items() if it.workload} == {
        "kubeflow", "features", "tracking", "seaway-system", "training", "serving-dev", "serving-more",
    }  # fmt: skip
    gpu = {n.name for n in namespaces(given(gpu={"count": 1}), table)}
    assert {"kueue-system", "gpu-system"} <= gpu
    bare = {n.name for n in namespaces(given(addons=False), table)}
    assert "monitoring" not in bare
    assert "kubeflow" in bare


def test_users_pods_are_restricted_and_only_two_add_ons_go_near_the_host():
    chosen = given(gpu={"count": 1}, monitoring={"opencost": True})
    made = namespaces(chosen, versions.load(chosen.sources))
    assert {n.name for n in made if n.workload and n.security != "restricted"} == {"kubeflow"}
    assert {n.name for n in made if n.security == "privileged"} == {"monitoring", "gpu-system"}
    labels = Namespace("x", workload=True).manifest()["metadata"]["labels"]
    assert labels == {**{f"{SECURITY}{m}": "restricted" for m in ("enforce", "audit", "warn")}, **WORKLOAD}


def test_settings_go_before_the_table_in_a_quota():
    chosen = given()
    tenancy = chosen.tenancy.model_copy(update={"quotas": {**chosen.tenancy.quotas, "kubeflow": settings.Quota(gpu=2)}})
    chosen = chosen.model_copy(update={"tenancy": tenancy})
    made = {n.name: n for n in namespaces(chosen, versions.load(chosen.sources))}
    hard = made["kubeflow"].limits()[0]["spec"]["hard"]
    assert hard["requests.nvidia.com/gpu"] == "2"
    assert made["serving-more"].limits()[0]["spec"]["hard"]["pods"] == "7"
    (limit,) = made["kubeflow"].limits()[1]["spec"]["limits"]
    assert limit == {
        "type": "Container",
        "default": {"memory": "2Gi"},  # the table's, which the settings do not speak of
        "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
    }


def test_accounts_get_the_clouds_rights_where_there_is_a_role():
    bucket = {"uri": "s3://b", "role": "arn:aws:iam::1:role/seaway"}
    assert identity(given(objects=bucket)) == {"eks.amazonaws.com/role-arn": bucket["role"]}
    mail = {"uri": "gs://b", "role": "seaway@project.iam.gserviceaccount.com"}
    assert identity(given(objects=mail)) == {"iam.gke.io/gcp-service-account": mail["role"]}
    assert identity(given(objects={**bucket, "workload_identity": False})) == {}
    assert identity(given()) == {}
