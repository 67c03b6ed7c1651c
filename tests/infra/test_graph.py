"""The stacks as the engine gets them: what comes after what, what is protected, under which name and provider."""

from __future__ import annotations

import pytest

from infra.settings import of_stack
from tests.infra.rendering import STACKS, Captured, Rendered, clean, render, run

# who brings the definitions of a group's kinds
OPERATORS = {
    "cert-manager.io": "cert-manager",
    "kueue.x-k8s.io": "kueue",
    "machinelearning.seldon.io": "seldon-core-operator",
    "monitoring.coreos.com": "kube-prometheus-stack",
    "networking.istio.io": "istio-base",
    "ray.io": "kuberay-operator",
}
CLUSTER_WIDE = {
    "ClusterQueue",
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "PriorityClass",
    "ResourceFlavor",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}
BUILT_IN = {"cluster-admin", "admin", "edit", "view"}  # roles


def objects(rendered: Rendered) -> list[Captured]:
    return [r for r in rendered if r.manifest]


def releases(rendered: Rendered) -> dict[str, Captured]:
    return {r.name: r for r in rendered if r.type.endswith(":Release")}


def before(rendered: Rendered, one: Captured) -> set[str]:
    """URNs of all that it comes after, near or far."""
    by_urn = {r.urn: r for r in rendered}
    found: set[str] = set()
    ahead = list(one.dependencies)
    while ahead:
        urn = ahead.pop()
        if urn not in found:
            found.add(urn)
            ahead += by_urn[urn].dependencies if urn in by_urn else ()
    return found


def test_every_object_is_named_once(rendered):
    """Names are fixed: a second `up` finds what the first has made, and a person finds it too."""
    assert [r.name for r in objects(rendered) if not r.props["metadata"].get("name")] == []
    keys = [(r.props["apiVersion"], r.kind, r.namespace, r.props["metadata"]["name"]) for r in objects(rendered)]
    assert sorted({k for k in keys if keys.count(k) > 1}) == []


def test_one_provider_makes_everything(rendered):
    (provider,) = [r for r in rendered if r.type == "pulumi:providers:kubernetes"]
    others = [r.name for r in rendered if r.type.startswith("kubernetes:") and not r.provider.startswith(provider.urn)]
    assert others == []
    assert provider.props["clusterIdentifier"]
    # the engine's protocol has a provider's properties as JSON texts
    for key in ("enableConfigMapMutable", "enableSecretMutable", "enableServerSideApply"):
        assert str(provider.props[key]).lower() == "true", key


def test_everything_belongs_to_a_part(rendered):
    parts = {r.urn for r in rendered if r.type.startswith("seaway:platform:")}
    assert [r.name for r in rendered if r.type.startswith("kubernetes:") and r.parent not in parts] == []


def test_every_object_of_ours_is_labelled(rendered):
    unlabelled = [
        r.name
        for r in objects(rendered)
        if r.props["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") != "seaway"
    ]
    assert unlabelled == []


def test_namespaces_come_before_what_is_in_them(rendered):
    spaces = {r.props["metadata"]["name"]: r.urn for r in rendered.of("Namespace")}
    for r in [*objects(rendered), *releases(rendered).values()]:
        if r.kind not in CLUSTER_WIDE:
            assert r.namespace in spaces, f"{r.name} is in {r.namespace!r}, which nothing makes"
            assert spaces[r.namespace] in before(rendered, r), f"{r.name} does not wait for its namespace"


def test_definitions_come_before_what_is_made_of_them(rendered):
    made = releases(rendered)
    for r in objects(rendered):
        group = r.props["apiVersion"].rpartition("/")[0]
        if group in OPERATORS:
            operator = made[OPERATORS[group]]
            assert operator.urn in before(rendered, r), f"{r.name} does not wait for {operator.name}"
        else:
            assert group in ("", "apps", "batch", "policy") or group.endswith(".k8s.io"), f"who brings {group}?"


def test_the_order_is_one_in_which_all_can_be_applied(rendered):
    place = {r.urn: i for i, r in enumerate(rendered)}
    late = [r.name for r in rendered for d in r.dependencies if d in place and place[d] > place[r.urn]]
    assert late == []


def test_releases_say_how_long_they_may_take(rendered):
    for name, r in releases(rendered).items():
        assert set(r.timeouts) == {"create", "update", "delete"}, name
        assert r.props["timeout"] >= 300, name


def holds_data(r: Captured) -> bool:
    claims = r.kind == "StatefulSet" and r.props["spec"].get("volumeClaimTemplates")
    return bool(claims) or r.kind == "PersistentVolumeClaim"


def test_what_holds_data_is_kept_where_the_settings_protect(rendered, env):
    protects = of_stack(env).availability.protect
    holders = [r for r in rendered if holds_data(r)]
    assert holders
    spaces = {r.namespace for r in holders} | {"kubeflow"}  # its claims are Kubeflow's own
    holders += [r for r in rendered.of("Namespace") if r.props["metadata"]["name"] in spaces]
    for r in holders:
        assert (r.protect, r.retain) == (protects, protects), r.name
    if not protects:
        assert [r.name for r in rendered if r.protect or r.retain] == []


def test_one_stack_protects():
    assert [env for env in STACKS if of_stack(env).availability.protect] == ["prod"]


def test_what_is_secret_is_secret_to_the_engine_too(rendered):
    for r in rendered.of("Secret"):
        paths = {path.split(".")[0].split("[")[0] for path in r.secrets}
        assert paths & {"data", "stringData"}, f"{r.name} would stand in the state in plain text"


def test_no_secret_is_in_the_values_of_a_chart_or_an_object_that_all_may_read(rendered):
    from tests.infra.rendering import CONFIG

    for r in rendered:
        if r.kind != "Secret" and not r.secrets:
            assert not [v for v in CONFIG.values() if v in str(r.props)], r.name


def test_accounts_have_no_token_unless_a_pod_asks(rendered):
    assert [
        r.name for r in rendered.of("ServiceAccount") if r.props.get("automountServiceAccountToken") is not False
    ] == []


def test_bindings_bind_roles_that_are_there(rendered):
    roles = {r.props["metadata"]["name"] for r in rendered.of("ClusterRole")} | BUILT_IN
    local = {(r.namespace, r.props["metadata"]["name"]) for r in rendered.of("Role")}
    bindings = [*rendered.of("RoleBinding"), *rendered.of("ClusterRoleBinding")]
    assert bindings
    for r in bindings:
        ref = r.props["roleRef"]
        assert ref["name"] in roles if ref["kind"] == "ClusterRole" else (r.namespace, ref["name"]) in local, r.name


@pytest.mark.parametrize("env", ["prod"])
def test_a_stacks_name_decides_nothing(env):
    """The same settings under another name make the same platform."""

    def shape(rendered: Rendered):
        return sorted(
            (r.type, r.name.replace("other", env), r.protect, str(r.props))
            for r in objects(rendered)
            if r.props["metadata"]["name"] != "seaway-platform"  # which tells the name, and the commit of this minute
        )

    assert shape(render("other", of_stack(env))) == shape(render(env))


def test_without_add_ons_there_are_none():
    settings = of_stack("dev")
    settings = settings.model_copy(
        update={"addons": False, "monitoring": settings.monitoring.model_copy(update={"opencost": False})}
    )
    bare = render("dev", settings)
    assert not releases(bare)
    assert not [r for r in bare if "kustomize" in r.type]
    assert {r.kind for r in bare} >= {"Namespace", "ResourceQuota", "NetworkPolicy", "RoleBinding"}


def test_production_has_at_least_what_the_others_have():
    small, large = render("dev"), render("prod")
    of_pool = {"LocalQueue", "ClusterQueue", "ResourceFlavor"}
    assert {r.kind for r in small} - {"StatefulSet", "Secret", *of_pool} <= {r.kind for r in large}
    assert set(releases(small)) <= set(releases(large))


def test_what_a_program_raises_is_raised_here():
    """Else a test that asserts within the program could pass without having run."""
    import pulumi

    def program():
        pulumi.Output.from_input(1).apply(lambda _: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run(program, "dev")


def test_properties_are_made_plain():
    marked = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": {"b": "hidden"}}
    secrets: list[str] = []
    raw = {"replicas": 2.0, "ratio": 0.5, "list": [{"a": 1.0}], "data": marked}
    assert clean(raw, secrets) == {"replicas": 2, "ratio": 0.5, "list": [{"a": 1}], "data": {"b": "hidden"}}
    assert secrets == ["data"]
