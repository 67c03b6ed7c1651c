"""The three stacks on a real API server: applied, and then asked who may do what and which pods it refuses.

SEAWAY_PLATFORM_KUBECONFIG, or else SEAWAY_KUBECONFIG, names a cluster that may be used up for tests and has none of the
platform's namespaces. Definitions of operators that are not there are stood in for by minimal ones.
"""

from __future__ import annotations

import os

import pytest

from components.ray.rayjob import ray_job
from infra.settings import of_stack
from seaway.config import load
from seaway.keys import IN_PODS
from serving.manifests import Predictor, seldon_deployment
from tests.infra.api_server import Refused, Server, define, remove, wait
from tests.infra.rendering import STACKS, render
from tests.infra.rights import (
    ADMIN_MAY,
    ADMIN_MAY_NOT,
    CONTROLLER,
    ENGINEER_MAY,
    ENGINEER_MAY_NOT,
    MAY,
    MAY_NOT,
    RUNNER,
    VIEWER_MAY,
    VIEWER_MAY_NOT,
    answers,
)
from tests.infra.tried import (
    BAD_PODS,
    BAD_WEIGHTS,
    CONTAINER,
    GOOD_WEIGHTS,
    RESOURCES,
    pod,
    pods_of,
    release,
)

KUBECONFIG = os.environ.get("SEAWAY_PLATFORM_KUBECONFIG") or os.environ.get("SEAWAY_KUBECONFIG")
pytestmark = [
    pytest.mark.infra,
    pytest.mark.skipif(not KUBECONFIG, reason="neither SEAWAY_PLATFORM_KUBECONFIG nor SEAWAY_KUBECONFIG is set"),
]


@pytest.fixture(scope="module")
def server():
    server = Server(KUBECONFIG)
    added = define(server)
    yield server
    remove(server, added)


@pytest.fixture(scope="module", params=STACKS)
def stack(request, server):
    """A stack applied as a whole, in the order in which the engine would; away again afterwards."""
    rendered = render(request.param)
    try:
        for manifest in rendered.manifests():
            server.apply(manifest)
        for space in rendered.of("Namespace"):  # a pod is refused until its namespace has this account
            meta = {"name": "default", "namespace": space.props["metadata"]["name"]}
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
            wait(lambda a=account: server.exists(a), f"{meta} is there")
        yield rendered
    finally:
        remove(server, rendered.manifests())


@pytest.fixture
def serving(stack):
    return next(n for n in stack.outputs["namespaces"] if n.startswith("serving-"))


def refusal(server, manifest):
    with pytest.raises(Refused) as caught:
        server.create(manifest)
    return caught.value.text


def test_everything_is_applied_and_applying_it_again_changes_nothing(server, stack):
    for manifest in stack.manifests():
        found = server.call("GET", server.path(manifest))
        again = server.apply(manifest)
        assert again["metadata"].get("generation") == found["metadata"].get("generation"), manifest["metadata"]


def test_the_expressions_of_the_admission_policies_make_sense_to_the_server(server, stack):
    policies = stack.of("ValidatingAdmissionPolicy")
    assert policies
    for policy in policies:
        path = server.path(policy.manifest)
        wait(lambda p=path: "typeChecking" in server.call("GET", p).get("status", {}), f"{path} is checked")
        assert server.call("GET", path)["status"]["typeChecking"] == {}


def test_every_pod_of_ours_is_admitted(server, stack):
    """Pod Security, quota, limits and admission policies hold for the platform's own pods too."""
    kinds = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
    tried = [one for captured in stack if captured.kind in kinds for one in pods_of(captured.manifest)]
    for one in tried:
        server.create(one)
    assert len(tried) >= 2


def test_pods_of_a_sweep_and_of_a_release_are_admitted(server, stack):
    """What the pipeline's steps write goes through the doors that the platform leaves open."""
    config = load(stack.outputs["env"])
    trust = {"digest": "a" * 64, "public_key": str(IN_PODS)}
    predictor = Predictor(name="stable", traffic=100, bundle="s3://bucket/bundles/1", parameters=trust)
    made = [
        ray_job(config, "sweep", "python -m components.tune.job", {}),
        seldon_deployment("release", config.serving.namespace, [predictor], image=config.serving.image),
    ]
    for manifest in made:
        assert manifest["metadata"]["namespace"] in stack.outputs["namespaces"]
        for one in (pods := list(pods_of(manifest))):
            server.create(one)
        assert pods


def test_accounts_may_do_what_they_need(server, stack, serving):
    for who, verbs, what, namespace in MAY:
        lacking = [k for k, may in answers(server, who, [(verbs, what, namespace)], serving).items() if not may]
        assert lacking == []


def test_accounts_may_do_nothing_else(server, stack, serving):
    for who, verbs, what, namespace in MAY_NOT:
        excess = [k for k, may in answers(server, who, [(verbs, what, namespace)], serving).items() if may]
        assert excess == []


def test_the_platforms_record_is_read_and_no_other(server, stack, serving):
    for account, namespace in ((RUNNER, "kubeflow"), (RUNNER, "training"), (RUNNER, serving), (CONTROLLER, serving)):
        assert server.may(account, "get", "/configmaps", namespace, "seaway-platform"), (account, namespace)
        assert not server.may(account, "update", "/configmaps", namespace, "seaway-platform")
        assert not server.may(account, "list", "/configmaps", serving)


@pytest.mark.parametrize(
    ("role", "yes", "no"),
    [
        ("viewers", VIEWER_MAY, VIEWER_MAY_NOT),
        ("engineers", ENGINEER_MAY, ENGINEER_MAY_NOT),
        ("admins", ADMIN_MAY, ADMIN_MAY_NOT),
    ],
)
def test_people_may_do_what_their_role_says(server, stack, serving, role, yes, no, settings_of):
    groups = getattr(settings_of(stack).tenancy, role)
    for group in groups:
        assert [k for k, may in answers(server, group, yes, serving).items() if not may] == []
        assert [k for k, may in answers(server, group, no, serving).items() if may] == []
    assert groups or role == "viewers"


@pytest.fixture
def settings_of():
    return lambda rendered: of_stack(rendered.outputs["env"])


def test_a_good_pod_is_admitted_and_gets_defaults(server, stack, serving):
    for namespace in (serving, "training", "kubeflow", "features", "tracking", "seaway-system"):
        made = server.create(pod(namespace, container={"resources": {}}))
        resources = made["spec"]["containers"][0]["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}  # a limit of processor time would slow a server down


@pytest.mark.parametrize(("bad", "says"), BAD_PODS)
def test_a_bad_pod_is_refused(server, stack, serving, bad, says):
    for namespace in (serving, "training"):
        assert says in refusal(server, pod(namespace, **bad))


def test_the_host_is_out_of_bounds_even_without_the_label_of_pod_security(server, stack):
    """Kubeflow's namespace is less strict; the admission policy speaks where Pod Security does not."""
    space = next(n for n in stack.of("Namespace") if n.props["metadata"]["name"] == "training")
    labels = dict(space.props["metadata"]["labels"]) | {"pod-security.kubernetes.io/enforce": "privileged"}
    server.apply({**space.manifest, "metadata": {**space.props["metadata"], "labels": labels}})
    try:
        assert "hostPath volumes" in refusal(
            server, pod("training", volumes=[{"name": "v", "hostPath": {"path": "/"}}])
        )
        assert "privileged containers" in refusal(
            server, pod("training", container={"securityContext": {"privileged": True}})
        )
        assert "host's network" in refusal(server, pod("training", hostPID=True))
    finally:
        server.apply(space.manifest)


def test_a_pod_with_a_gpu_waits_in_a_queue_on_nodes_that_have_one(server, stack, settings_of):
    gpu = {
        "requests": {**RESOURCES["requests"], "nvidia.com/gpu": "1"},
        "limits": {"memory": "16Mi", "nvidia.com/gpu": "1"},
    }
    tolerations = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    queue = {"kueue.x-k8s.io/queue-name": "gpu"}
    assert "must tolerate" in refusal(server, pod("training", labels=queue, container={"resources": gpu}))
    assert "must name its queue" in refusal(
        server, pod("training", container={"resources": gpu}, tolerations=tolerations)
    )
    good = pod("training", labels=queue, container={"resources": gpu}, tolerations=tolerations)
    if settings_of(stack).tenancy.quotas["training"].gpu:
        server.create(good)
    else:
        assert "exceeded quota" in refusal(server, good)  # there is no pool


def test_who_writes_a_deployment_says_what_it_needs(server, stack):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{**CONTAINER, "resources": {}}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    meta = {"name": "tried", "namespace": "training"}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    assert "limit of memory" in refusal(server, deployment)
    template["spec"]["containers"][0]["resources"] = RESOURCES
    server.create(deployment)


def test_a_way_in_beside_the_gateway_is_refused(server, stack, serving):
    for kind in ("NodePort", "LoadBalancer"):
        meta = {"name": f"tried-{kind.lower()}", "namespace": serving}
        spec = {"type": kind, "ports": [{"port": 80}], "selector": {"a": "b"}}
        assert "exceeded quota" in refusal(
            server, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
        )


@pytest.mark.parametrize("good", GOOD_WEIGHTS)
def test_good_weights_are_admitted(server, stack, serving, good):
    server.create(release(serving, *good))


@pytest.mark.parametrize(("bad", "says"), BAD_WEIGHTS)
def test_bad_weights_are_refused(server, stack, serving, bad, says):
    assert says in refusal(server, release(serving, *bad))


def test_weights_that_are_no_whole_numbers_are_refused(server, stack, serving):
    assert refusal(server, release(serving, {"traffic": 99.5}, {"traffic": 0.5}))
    assert refusal(server, release(serving, {"traffic": "100"}))
