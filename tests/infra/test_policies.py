"""Each rule finds what it is there to find and passes what is right; the three stacks pass them all."""

import json
from pathlib import Path

import pytest

from infra.policies import rules
from infra.policies.rules import Resource
from tests.infra.rendering import Rendered

POD = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {
        "containers": [
            {
                "name": "main",
                "image": "registry.example.com:5000/team/a:1.2",
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
            }
        ]
    },
}
GPU = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": 1}}
QUEUED = {
    "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "gpu"}},
    "spec": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
}


def merged(base, over):
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{k: merged(base.get(k), v) for k, v in over.items()}}
    if isinstance(base, list) and isinstance(over, dict):  # the first of a list
        return [merged(base[0], over), *base[1:]]
    return over


def thing(kind, name="x", namespace="team", protect=False, type_="kubernetes:some/v1:", **fields):
    meta = {"name": name, "namespace": namespace, **fields.pop("metadata", {})}
    return Resource(f"{type_}{kind}", name, {"kind": kind, "metadata": meta, **fields}, protect)


def pod(**container):
    """A Pod whose container differs from a good one by these keys."""
    changed = merged(POD, {"spec": {"containers": container}})
    return thing("Pod", **changed)


def deployment(**over):
    return thing("Deployment", spec={"replicas": 2, "template": POD, **over})


def chart(**props):
    good = {"chart": "kueue", "version": "v1.2.3", "atomic": True}
    return Resource("kubernetes:helm.sh/v3:Release", "kueue", {**good, **props})


def namespace(level="restricted", workload=True):
    labels = {rules.ENFORCE: level} | ({rules.WORKLOAD: "true"} if workload else {})
    return thing("Namespace", "team", None, metadata={"labels": {k: v for k, v in labels.items() if v}})


def platform(production=True, budget=100, estimate="90"):
    settings = {"production": production, "budget": {"monthly_usd": budget}}
    data = {"settings": json.dumps(settings), **({"estimate": estimate} if estimate else {})}
    return thing("ConfigMap", "seaway-platform", data=data)


WALLS = (
    thing("ResourceQuota"),
    thing("LimitRange"),
    thing("NetworkPolicy", spec={"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
)
SERVICE = thing("Service", spec={"selector": {"app": "a"}})
BUDGET = thing("PodDisruptionBudget", spec={"selector": {"matchLabels": {"app": "a"}}})
WORKER = {"template": merged(POD, {"spec": {"containers": {"image": "ray"}}})}
RAYJOB = {"rayClusterSpec": {"workerGroupSpecs": [WORKER]}}
ON_GPU = merged(POD, {"spec": {"containers": {"resources": GPU}}})
TOLERANT = merged(ON_GPU, {"spec": QUEUED["spec"]})
QUEUEING = merged(ON_GPU, {"metadata": QUEUED["metadata"]})
ALL = {"verbs": ["*"], "resources": ["*"], "apiGroups": ["*"]}
INIT = merged(POD["spec"], {"initContainers": [{**POD["spec"]["containers"][0], "image": "busybox"}]})

# rule, what it must refuse, and a word of what it must say
BAD_ONE = [
    ("pinned_images", pod(image="team/a"), "team/a"),
    ("pinned_images", pod(image="registry.example.com:5000/a"), "not pinned"),
    ("pinned_images", pod(image="a:latest"), "latest"),
    ("pinned_images", thing("RayJob", spec=RAYJOB), "'ray'"),
    ("pinned_images", thing("Pod", spec=INIT), "busybox"),
    ("requests_and_limits", pod(resources=None), "requests.cpu, requests.memory, limits.memory"),
    ("requests_and_limits", pod(resources={"limits": None}), "limits.memory"),
    ("requests_and_limits", pod(resources={"requests": None}), "requests.cpu, requests.memory"),
    ("requests_and_limits", deployment(template={"spec": {"containers": [{"name": "n", "image": "a:1"}]}}), "'n'"),
    ("nothing_of_the_host", pod(securityContext={"privileged": True}), "privileged"),
    ("nothing_of_the_host", thing("Pod", spec={**POD["spec"], "volumes": [{"name": "v", "hostPath": {}}]}), "'v'"),
    ("nothing_of_the_host", thing("Pod", spec={**POD["spec"], "hostNetwork": True}), "hostNetwork"),
    ("nothing_of_the_host", thing("Pod", spec={**POD["spec"], "hostPID": True}), "hostPID"),
    ("gpu_pods_wait_in_a_queue", thing("Pod", **QUEUEING), "tolerate"),
    ("gpu_pods_wait_in_a_queue", thing("Pod", **TOLERANT), "queue"),
    ("pod_security", namespace(level=None), "None"),
    ("pod_security", namespace(level="lax"), "'lax'"),
    ("pod_security", namespace(level="privileged"), "privileged"),
    ("pinned_charts", chart(version=None), "None"),
    ("pinned_charts", chart(version="^1.2"), "^1.2"),
    ("pinned_charts", chart(version="1.x"), "1.x"),
    ("pinned_charts", chart(atomic=False), "atomic"),
    ("no_almighty_roles", thing("ClusterRole", rules=[ALL]), "everything"),
]
GOOD_ONE = [
    pod(),
    pod(image="a@sha256:0123"),
    deployment(),
    thing("Pod", **merged(ON_GPU, QUEUED)),
    namespace(),
    namespace("privileged", workload=False),
    chart(),
    chart(chart="/charts/kueue", version=None),
    thing("ClusterRole", rules=[ALL | {"apiGroups": ["ray.io"]}]),
    thing("CustomResourceDefinition", spec={"containers": [{"name": "in a schema"}]}),
]
STATEFUL = thing("StatefulSet", spec={"template": POD, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]})
WAITING = thing("Pod", **merged(ON_GPU, QUEUED))
BAD_ALL = [
    ("workloads_have_walls", [namespace(), *WALLS[1:]], "ResourceQuota"),
    ("workloads_have_walls", [namespace(), WALLS[0], WALLS[2]], "LimitRange"),
    ("workloads_have_walls", [namespace(), *WALLS[:2]], "NetworkPolicy"),
    (
        "workloads_have_walls",
        [namespace(), *WALLS[:2], thing("NetworkPolicy", spec={"podSelector": {}, "policyTypes": ["Ingress"]})],
        "in and out",
    ),
    (
        "workloads_have_walls",
        [
            namespace(),
            *WALLS[:2],
            thing("NetworkPolicy", spec={"policyTypes": ["Ingress", "Egress"], "ingress": [{}]}),
        ],
        "denies all",
    ),
    ("queues_exist", [WAITING], "'gpu'"),
    ("queues_exist", [WAITING, thing("LocalQueue", "gpu", "other")], "'team'"),
    ("production_outlives_mistakes", [platform(), STATEFUL], "not protected"),
    ("production_outlives_mistakes", [platform(), thing("PersistentVolumeClaim")], "not protected"),
    ("production_outlives_mistakes", [platform(), deployment(replicas=1), SERVICE, BUDGET], "one replica"),
    ("production_outlives_mistakes", [platform(), deployment(), SERVICE], "PodDisruptionBudget"),
    ("production_outlives_mistakes", [thing("PersistentVolumeClaim")], "not protected"),  # nothing says it is not
    ("within_budget", [platform(estimate="101")], "101"),
    ("within_budget", [platform(estimate=None)], "not told"),
]
GOOD_ALL = [
    [namespace(), *WALLS, platform()],
    [namespace(workload=False), platform()],
    [WAITING, thing("LocalQueue", "gpu"), platform()],
    [platform(), Resource(STATEFUL.type, "x", STATEFUL.props, protect=True)],
    [platform(), deployment(), SERVICE, BUDGET],
    [platform(), deployment(replicas=1)],  # nobody calls it
    [platform(production=False), STATEFUL, deployment(replicas=1), SERVICE],
]


@pytest.mark.parametrize(("rule", "bad", "says"), BAD_ONE)
def test_a_rule_refuses_a_bad_resource(rule, bad, says):
    said = list(getattr(rules, rule)(bad))
    assert said
    assert any(says in text for text in said)


@pytest.mark.parametrize("good", GOOD_ONE, ids=lambda r: f"{r.kind or r.type}")
def test_every_rule_passes_a_good_resource(good):
    assert [text for rule in rules.OF_ONE for text in rule(good)] == []


@pytest.mark.parametrize(("rule", "bad", "says"), BAD_ALL)
def test_a_rule_refuses_a_bad_stack(rule, bad, says):
    said = list(getattr(rules, rule)(bad))
    assert said
    assert any(says in text for text in said)


@pytest.mark.parametrize("good", GOOD_ALL)
def test_every_rule_passes_a_good_stack(good):
    assert [text for rule in rules.OF_ALL for text in rule(good)] == []


def test_every_rule_is_tried():
    tried = {row[0] for row in (*BAD_ONE, *BAD_ALL)}
    assert tried == {rule.__name__ for rule in (*rules.OF_ONE, *rules.OF_ALL)}


def as_resources(rendered: Rendered) -> list[Resource]:
    return [Resource(c.type, c.name, c.props, c.protect) for c in rendered]


def test_the_stack_passes_every_rule(rendered):
    assert rules.check(as_resources(rendered)) == []


def test_the_rules_see_the_stacks_pods(rendered):
    seen = [pod for r in as_resources(rendered) for pod in r.pods()]
    assert seen


def test_the_pack_needs_no_more_than_its_requirements():
    """It runs in an environment of its own: of this project it may import rules.py alone, and that nothing."""
    folder = Path(rules.__file__).parent
    imported = [
        line.split()[1]
        for name in ("rules.py", "__main__.py")
        for line in (folder / name).read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert {name.split(".")[0] for name in imported} <= {
        "__future__", "collections", "dataclasses", "json", "re", "typing", "pulumi_policy", "rules",
    }  # fmt: skip
    pinned = (folder / "requirements.txt").read_text()
    assert "pulumi-policy==1.21.0" in pinned
    assert all("--hash=" in block for block in pinned.replace("\\\n", "").splitlines() if "==" in block)
