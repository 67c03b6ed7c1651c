"""The platform program on a real engine and a real control plane: what it makes, keeps, notices and takes away.

SEAWAY_PLATFORM_KUBECONFIG, or else SEAWAY_KUBECONFIG, names a cluster that has none of the platform's namespaces;
`pulumi` with its Python host and its Kubernetes plugin is on PATH. Charts and Kubeflow Pipelines are stand-ins.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra import settings, versions
from tests.infra import standins
from tests.infra.api_server import Server, remove, wait
from tests.infra.drifts import DRIFTS, patch
from tests.infra.engine import Done, KeyService, Project, Stack, Volumes, everything

KUBECONFIG = os.environ.get("SEAWAY_PLATFORM_KUBECONFIG") or os.environ.get("SEAWAY_KUBECONFIG")
pytestmark = [
    pytest.mark.infra,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("pulumi"), reason="pulumi is not on PATH"),
    pytest.mark.skipif(not KUBECONFIG, reason="neither SEAWAY_PLATFORM_KUBECONFIG nor SEAWAY_KUBECONFIG is set"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(KUBECONFIG)
    there = {i["metadata"]["name"] for i in server.call("GET", "/api/v1/namespaces")["items"]}
    taken = there & {"kubeflow", "features", "tracking", "seaway-system", "seldon-system", "ray-system", "istio-system"}
    if taken:
        pytest.skip(f"the cluster has {', '.join(sorted(taken))}: SEAWAY_PLATFORM_KUBECONFIG must name an empty one")
    with Volumes(server):
        yield server


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """Charts and Kubeflow Pipelines as an air-gapped site has them: in folders."""
    folder = tmp_path_factory.mktemp("sources")
    table = versions.load(settings.Sources()).table
    charts = standins.write_charts(folder / "charts", table.charts.values())
    return {"charts": str(charts), "pipelines": str(standins.write_pipelines(folder / "pipelines"))}


def context() -> str:
    return yaml.safe_load(Path(KUBECONFIG).read_text())["current-context"]


def here() -> dict[str, str]:
    return {"context": context(), "kubeconfig": KUBECONFIG, "identifier": "of-tests"}


@pytest.fixture
def nothing_left(server) -> Iterator[set[str]]:
    """What the cluster held before; the test adds what is meant to stay. Afterwards it holds nothing else."""
    before = everything(server)
    yield (stays := set())
    wait(lambda: everything(server) <= before | stays, "the rest is gone", 60)


def report(what: str, done: Done) -> None:
    print(f"{what}: {done.seconds:.1f} s", file=sys.__stderr__, flush=True)


def ours(data: dict) -> None:
    """Settings of dev, on a cluster that has the operators."""
    data.update(cluster=here(), addons=False)


@pytest.fixture
def operators(server):
    """A cluster that has the kinds and namespaces of third-party operators, as `addons: false` takes for granted."""
    made = [m for m in standins.definitions() if not server.exists(m)]
    made += [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n}} for n in ("istio-system", "monitoring")]
    for manifest in made:
        server.create(manifest, dry=False)
    yield
    remove(server, made)


def test_all_that_is_ours(server, project, operators, nothing_left):
    """Up in 90 s; nothing to do the second time; ten of ten drifts found and mended; destroyed to the last object."""
    with Stack(project, "dev", ours) as stack:
        _all_that_is_ours(server, project, stack)


def _all_that_is_ours(server: Server, project: Project, stack: Stack) -> None:
    up = stack.up()
    report("up of all that is ours", up)
    assert up.seconds <= 90
    again = stack.unchanged()
    report("up again", again)
    assert again.code == 0, again.said

    recorded = _record(project, "dev")
    assert recorded["update"] == "2" and recorded["stack"].endswith("/seaway-platform/dev")
    assert (clean := stack.refresh()).code == 0, clean.said

    for act in DRIFTS.values():
        act(server)
    drift = stack.refresh()
    report("refresh with ten drifts", drift)
    assert drift.code != 0
    assert drift.changed == set(DRIFTS), drift.said
    mended = stack.up("--refresh")
    report("mended", mended)
    assert (clean := stack.refresh()).code == 0, clean.said
    assert _record(project, "dev")["update"] == "3"

    report("destroy", stack.destroy())
    assert stack.resources() == []


def _record(project: Project, env: str) -> dict[str, str]:
    command = [sys.executable, "-m", "infra.record", "--env", env, "--folder", str(project.folder)]
    done = subprocess.run(command, env=project.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    server, data = Server(KUBECONFIG), {}
    for namespace in ("kubeflow", "training", f"serving-{env}", "seaway-system"):
        assert namespace in done.stdout
        found = server.call("GET", f"/api/v1/namespaces/{namespace}/configmaps/seaway-platform")
        assert data in ({}, found["data"])
        data = found["data"]
    return data


# The three stacks, with third-party charts
def air_gapped(sources: dict[str, str], **more: object):
    """Settings of a stack whose charts are in folders, on the test's cluster."""

    def change(data: dict) -> None:
        data.update({"cluster": here(), "sources": {**data.get("sources", {}), **sources}, **more})

    return change


def test_dev(server, project, sources, nothing_left):
    nothing_left |= kept_definitions()
    with Stack(project, "dev", air_gapped(sources)) as stack:
        _life(server, stack, "kubeflow/pipeline-install-config", {"data": {"BLOCK_V1_PIPELINES": "false"}})
        _destroyed(stack)


def test_staging_on_a_cluster_of_the_other_program(server, project, sources, nothing_left):
    """Its kubeconfig and identity are outputs of a stack of the cluster program, for a cluster that exists."""
    nothing_left |= kept_definitions()
    _cluster_stack(project, "staging")
    change = air_gapped(sources, cluster={"stack": "organization/seaway-cluster/staging"})
    with Stack(project, "staging", change) as stack:
        _life(server, stack, "seaway-system/model-key", {"data": {"model.pub": "another"}})
        assert _record(project, "staging")["stack"] == "organization/seaway-platform/staging"
        _destroyed(stack)


def test_prod_with_a_key_service(server, project, sources, nothing_left, key_service):
    """Its secrets are under a key of a key service; what holds data is refused to `destroy`, and outlives it."""
    project.env |= key_service.env
    nothing_left |= kept_definitions()
    with Stack(project, "prod", air_gapped(sources), provider=key_service.key) as stack:
        _life(server, stack, "features/feature-server", {"data": {"feature_store.yaml": ""}})
        before = stack.resources()
        keeps = {r["urn"] for r in before if r.get("retainOnDelete")}
        assert keeps == {r["urn"] for r in before if r.get("protect")}
        assert any("PersistentVolumeClaim" in urn for urn in keeps), keeps
        refused = stack.destroy(check=False)
        assert refused.code != 0 and "protected" in refused.said
        assert {r["urn"] for r in stack.resources()} >= keeps
        stack.run("state", "unprotect", "--all", "--yes")
        _destroyed(stack)
        kept = [r["outputs"] for r in before if r.get("retainOnDelete")]
        assert all(server.exists(manifest) for manifest in kept)
        remove(server, kept)


def _life(server: Server, stack: Stack, drifted: str, body: dict) -> None:
    preview = stack.run("preview")
    assert stack.resources() == []
    up = stack.up()
    report(f"up of {stack.name}", up)
    assert up.changed == preview.changed
    again = stack.unchanged()
    assert again.code == 0, again.said
    namespace, name = drifted.split("/")
    patch("v1", "ConfigMap", namespace, name, body)(server)
    drift = stack.refresh()
    assert drift.code != 0
    assert len(drift.changed) == 1 and name in drift.changed.pop(), drift.said
    stack.up("--refresh")
    assert (clean := stack.refresh()).code == 0, clean.said


def _destroyed(stack: Stack) -> None:
    report(f"destroy of {stack.name}", stack.destroy())
    assert stack.resources() == []


def kept_definitions() -> set[str]:
    """What Helm leaves behind by its own rule: the definitions of a chart's folder crds/."""
    rows = [standins.definition(*row) for chart in standins.KEPT for row in standins.KINDS[chart]]
    return {f"customresourcedefinitions /{row['metadata']['name']}" for row in rows}


def _cluster_stack(project: Project, name: str) -> None:
    """A stack of infra/cluster by the name of the shipped one, for the test's cluster."""
    file = project.folder / "cluster" / f"Pulumi.{name}.yaml"
    data = {"provider": "existing", "name": "of-tests", "context": context(), "kubeconfig": KUBECONFIG}
    file.write_text(yaml.safe_dump({"config": {"seaway-cluster:settings": data}}))
    project.pulumi("stack", "init", name, part="cluster")
    project.pulumi("up", "--yes", "--skip-preview", "--stack", name, part="cluster")


@pytest.fixture(scope="module")
def key_service() -> Iterator[KeyService]:
    with KeyService() as service:
        yield service


# What is refused
def test_what_is_refused_is_told_without_a_traceback(project, sources):
    change = air_gapped(sources, budget={"monthly_usd": -1}, gatway={})
    with Stack(project, "dev", change) as stack:
        for words in (("preview",), ("up", "--yes", "--skip-preview")):
            refused = stack.run(*words, check=False)
            assert refused.code != 0 and "Traceback" not in refused.said
            assert "'budget.monthly_usd'" in refused.said and "did you mean gateway?" in refused.said
        assert stack.resources() == []


def test_production_refuses_a_passphrase(project, sources):
    with Stack(project, "prod", air_gapped(sources)) as stack:
        refused = stack.up(check=False)
        assert refused.code != 0 and "pulumi stack change-secrets-provider" in refused.said
        assert "Traceback" not in refused.said and stack.resources() == []
