"""The three stacks on a real API server: applied, and then asked who may do what and which pods it refuses.

SEAWAY_KUBECONFIG names a kubeconfig of a cluster that may be used up for tests. Definitions of operators that
are not there are stood in for by minimal ones.
"""

from __future__ import annotations

import os

import pytest

from infra.policies.rules import Resource
from tests.infra.api_server import Refused, Server, define, remove, wait
from tests.infra.rendering import STACKS, render

pytestmark = [
    pytest.mark.infra,
    pytest.mark.skipif(
        not os.environ.get("SEAWAY_KUBECONFIG"),
        reason="SEAWAY_KUBECONFIG names no cluster that may be used up for tests",
    ),
]
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESOURCES = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}
CONTAINER = {"name": "main", "image": "registry.example.com/a:1", "securityContext": RESTRICTED, "resources": RESOURCES}


@pytest.fixture(scope="module")
def server():
    server = Server(os.environ["SEAWAY_KUBECONFIG"])
    added = define(server)
    yield server
    remove(server, added)


@pytest.fixture(scope="module", params=STACKS)
def stack(request, server):
    """A stack applied as a whole, in the order in which the engine would; away again afterwards."""
    rendered = render(request.param)
    manifests = rendered.manifests()
    try:
        for manifest in manifests:
            server.apply(manifest)
        for space in rendered.of("Namespace"):  # a pod is refused until its namespace has this account
            meta = {"name": "default", "namespace": space.props["metadata"]["name"]}
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
            wait(lambda a=account: server.exists(a), f"{meta} is there")
        yield rendered
    finally:
        remove(server, manifests)


@pytest.fixture
def serving(stack):
    return next(n for n in stack.outputs["namespaces"] if n.startswith("serving-"))


def pod(namespace, name="tried", labels=None, **spec):
    container = {**CONTAINER, **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


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
    tried = 0
    for captured in stack:
        if captured.kind in ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"):
            for one in Resource(captured.type, captured.name, captured.props).pods():
                meta = {"name": "tried", "namespace": captured.namespace, "labels": dict(one.labels)}
                server.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": dict(one.spec)})
                tried += 1
    assert tried


RUNNER, RAY, CONTROLLER = "kubeflow/pipeline-runner", "training/seaway-ray", "seaway-system/seaway-controller"
SELDON, RAYJOBS, SECRETS = "machinelearning.seldon.io/seldondeployments", "ray.io/rayjobs", "/secrets"
MAY = [
    (RUNNER, ["create", "get", "list", "watch", "delete"], RAYJOBS, "training"),
    (RUNNER, ["get", "list", "watch", "delete"], "ray.io/rayclusters", "training"),
    (RUNNER, ["get", "list"], "/pods", "training"),
    (RUNNER, ["get"], "/pods/log", "training"),
    (RUNNER, ["create", "get", "list", "update"], SELDON, "SERVING"),
    (RUNNER, ["get", "list"], "networking.istio.io/virtualservices", "SERVING"),
    (RUNNER, ["get", "list"], "apps/deployments", "SERVING"),
    (RUNNER, ["get", "list"], "/pods", "SERVING"),
    (RAY, ["get", "list", "watch"], "/pods", "training"),
    (CONTROLLER, ["get", "list", "update"], SELDON, "SERVING"),
    (CONTROLLER, ["get", "list"], "networking.istio.io/virtualservices", "SERVING"),
]
MAY_NOT = [
    (RUNNER, ["get", "list"], SECRETS, "training"),
    (RUNNER, ["get", "list"], SECRETS, "SERVING"),
    (RUNNER, ["delete"], SELDON, "SERVING"),
    (RUNNER, ["create", "delete"], "/pods", "SERVING"),
    (RUNNER, ["create"], "/pods", "training"),
    (RUNNER, ["create"], "/pods/exec", "training"),
    (RUNNER, ["create"], RAYJOBS, "SERVING"),
    (RUNNER, ["create", "update"], "networking.istio.io/virtualservices", "SERVING"),
    (RUNNER, ["list"], "/nodes", ""),
    (RUNNER, ["create", "bind"], "rbac.authorization.k8s.io/rolebindings", "training"),
    (RAY, ["create", "delete", "patch"], "/pods", "training"),
    (RAY, ["get"], SECRETS, "training"),
    (RAY, ["get"], "/pods", "SERVING"),
    (RAY, ["create"], RAYJOBS, "training"),
    (CONTROLLER, ["create", "delete"], SELDON, "SERVING"),
    (CONTROLLER, ["get", "list"], SECRETS, "SERVING"),
    (CONTROLLER, ["get", "list"], SECRETS, "seaway-system"),
    (CONTROLLER, ["get"], SELDON, "training"),
    (CONTROLLER, ["get", "list"], "/pods", "kubeflow"),
    ("SERVING/seaway-serving", ["get", "list"], "/pods", "SERVING"),
    ("SERVING/default", ["get"], SECRETS, "SERVING"),
    ("training/default", ["get", "list"], "/pods", "training"),
]
VIEWER_MAY = [
    (["get", "list", "watch"], "/pods", "training"),
    (["get"], "/pods/log", "SERVING"),
    (["get", "list"], SELDON, "SERVING"),
    (["get", "list"], RAYJOBS, "training"),
    (["get", "list"], "/resourcequotas", "SERVING"),
    (["get", "list"], "/namespaces", ""),
    (["list"], "apiextensions.k8s.io/customresourcedefinitions", ""),
]
VIEWER_MAY_NOT = [
    (["get", "list"], SECRETS, "SERVING"),
    (["create", "delete"], "/pods", "training"),
    (["create", "update"], SELDON, "SERVING"),
    (["create"], "/pods/portforward", "kubeflow"),
    (["get", "list"], "/pods", "kube-system"),
]
ENGINEER_MAY = [
    *VIEWER_MAY,
    (["create", "patch", "delete"], RAYJOBS, "training"),
    (["create", "update", "patch"], SELDON, "SERVING"),
    (["create"], "/pods/portforward", "kubeflow"),
    (["delete"], "/pods", "training"),
]
ENGINEER_MAY_NOT = [
    (["get", "list"], SECRETS, "SERVING"),
    (["get", "list"], SECRETS, "kubeflow"),
    (["delete"], SELDON, "SERVING"),
    (["create"], "/pods/exec", "SERVING"),
    (["create"], "/pods", "SERVING"),
    (["update", "patch"], "/resourcequotas", "training"),
    (["update", "patch"], "/namespaces", ""),
    (["delete"], "apps/statefulsets", "features"),
]
ADMIN_MAY = [
    *ENGINEER_MAY,
    (["get", "create", "update"], SECRETS, "features"),
    (["create"], "/pods/exec", "SERVING"),
    (["delete"], SELDON, "SERVING"),
    (["patch"], "apps/statefulsets", "features"),
]
ADMIN_MAY_NOT = [  # those come from the program
    (["update", "patch", "delete"], "/resourcequotas", "training"),
    (["update", "delete"], "networking.k8s.io/networkpolicies", "SERVING"),
    (["create", "update"], "rbac.authorization.k8s.io/rolebindings", "SERVING"),
    (["update", "delete"], "/namespaces", ""),
    (["get"], SECRETS, "kube-system"),
    (["update"], "admissionregistration.k8s.io/validatingadmissionpolicies", ""),
]


def answers(server, who, rows, serving):
    """{"who verb what namespace": may}"""
    made = {}
    for verbs, what, namespace in rows:
        for verb in verbs:
            subject, place = (text.replace("SERVING", serving) for text in (who, namespace))
            made[f"{subject} {verb} {what} {place}"] = server.may(subject, verb, what, place)
    return made


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
    from infra.settings import of_stack

    return lambda rendered: of_stack(rendered.outputs["env"])


def test_a_good_pod_is_admitted_and_gets_defaults(server, stack, serving):
    for namespace in (serving, "training", "kubeflow", "features", "tracking", "seaway-system"):
        made = server.create(pod(namespace, container={"resources": {}}))
        resources = made["spec"]["containers"][0]["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert set(resources["limits"]) == {"memory"}  # a limit of processor time would slow a server down


BAD_PODS = [
    ({"container": {"securityContext": {**RESTRICTED, "runAsNonRoot": False}}}, "violates PodSecurity"),
    ({"container": {"securityContext": {}}}, "violates PodSecurity"),
    ({"container": {"securityContext": {"privileged": True}}}, "privileged"),
    ({"hostNetwork": True}, "host"),
    ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "hostPath"),
    ({"container": {"image": "registry.example.com/a"}}, "images must be pinned"),
    ({"container": {"image": "registry.example.com/a:latest"}}, "images must be pinned"),
    ({"initContainers": [{**CONTAINER, "name": "init", "image": "a"}]}, "images must be pinned"),
    ({"container": {"resources": {"requests": {"cpu": "9999"}}}}, "exceeded quota"),
    ({"container": {"resources": {"requests": {"memory": "9Ti"}, "limits": {"memory": "9Ti"}}}}, "exceeded quota"),
]


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
    """Quotas count what is there, so this one is not a dry run."""
    for kind in ("NodePort", "LoadBalancer"):
        meta = {"name": f"tried-{kind.lower()}", "namespace": serving}
        spec = {"type": kind, "ports": [{"port": 80}], "selector": {"a": "b"}}
        assert "exceeded quota" in refusal(
            server, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
        )


def release(namespace, *predictors):
    graph = {"name": "model", "type": "MODEL"}
    specs = [{"spec": {"containers": [CONTAINER]}}]
    listed = [{"name": f"p{i}", "graph": graph, "componentSpecs": specs, **p} for i, p in enumerate(predictors)]
    return {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "tried", "namespace": namespace},
        "spec": {"predictors": listed},
    }


SHADOW = {"shadow": True, "traffic": 20}


@pytest.mark.parametrize(
    "good",
    [
        [{"traffic": 100}],
        [{}],
        [{"traffic": 90}, {"traffic": 10}],
        [{"traffic": 100}, {"traffic": 0}],
        [{"traffic": 100}, SHADOW],
        [{"traffic": 60}, {"traffic": 40}, SHADOW],
    ],
)
def test_good_weights_are_admitted(server, stack, serving, good):
    server.create(release(serving, *good))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([{"traffic": -10}, {"traffic": 110}], "0 to 100"),
        ([{"traffic": 200}, {"traffic": -100}], "0 to 100"),
        ([{"traffic": 90}, {"traffic": 20}], "sum to 100"),
        ([{"traffic": 90}, {"traffic": 5}], "sum to 100"),
        ([{"traffic": 90}], "sum to 100"),
        ([{"traffic": 80}, SHADOW], "sum to 100"),
        ([{"traffic": 100, "shadow": True}], "no shadow"),
        ([], "no shadow"),
        ([{"traffic": 100}, {"shadow": True}], "1 to 100"),
        ([{"traffic": 100}, SHADOW, SHADOW], "at most one"),
    ],
)
def test_bad_weights_are_refused(server, stack, serving, bad, says):
    assert says in refusal(server, release(serving, *bad))


def test_weights_that_are_no_whole_numbers_are_refused(server, stack, serving):
    assert refusal(server, release(serving, {"traffic": 99.5}, {"traffic": 0.5}))
    assert refusal(server, release(serving, {"traffic": "100"}))
