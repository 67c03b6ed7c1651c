"""The policy pack in the environment of its own, asked as the engine asks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.policies import rules
from tests.infra.rendering import STACKS, render

pytestmark = pytest.mark.infra
FOLDER = Path(rules.__file__).parent


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Its analyzer, on a port of its own."""
    import grpc
    from pulumi.runtime.proto import analyzer_pb2_grpc

    home = tmp_path_factory.mktemp("pack")
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    python = home / "venv/bin/python"
    made = subprocess.run([uv, "venv", "-q", "--python", sys.executable, home / "venv"])
    install = [uv, "pip", "install", "-q", "--python", python, "--require-hashes", "-r", FOLDER / "requirements.txt"]
    made = made.returncode or subprocess.run(install).returncode
    if made:
        pytest.skip("the packages of infra/policies/requirements.txt cannot be had here")
    process = subprocess.Popen([python, "-u", "."], cwd=FOLDER, stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield analyzer_pb2_grpc.AnalyzerStub(channel)
    finally:
        process.terminate()
        process.wait(10)


def properties(one):
    from google.protobuf import struct_pb2

    made = struct_pb2.Struct()
    made.update({k: v for k, v in one.props.items() if v is not None})
    return made


def of_stack(captured):
    from pulumi.runtime.proto import analyzer_pb2

    made = []
    for one in captured:
        options = analyzer_pb2.AnalyzerResourceOptions(protect=one.protect)
        made.append(
            analyzer_pb2.AnalyzerResource(
                type=one.type, properties=properties(one), urn=one.urn, name=one.name, options=options
            )
        )
    return analyzer_pb2.AnalyzeStackRequest(resources=made)


def said(answer):
    return [f"{d.policyName}: {d.message}" for d in answer.diagnostics]


def test_every_rule_is_in_it_and_binds(pack):
    from google.protobuf import empty_pb2
    from pulumi.runtime.proto import analyzer_pb2

    info = pack.GetAnalyzerInfo(empty_pb2.Empty())
    names = {rule.__name__.replace("_", "-") for rule in (*rules.OF_ONE, *rules.OF_ALL)}
    assert {p.name for p in info.policies} == names
    assert {p.enforcementLevel for p in info.policies} == {analyzer_pb2.MANDATORY}


@pytest.mark.parametrize("env", STACKS)
def test_a_stack_passes(pack, env):
    from pulumi.runtime.proto import analyzer_pb2

    rendered = render(env)
    found = said(pack.AnalyzeStack(of_stack(rendered)))
    for one in rendered:
        asked = analyzer_pb2.AnalyzeRequest(type=one.type, properties=properties(one), urn=one.urn, name=one.name)
        found += said(pack.Analyze(asked))
    assert found == []


def test_what_is_wrong_is_found(pack):
    from pulumi.runtime.proto import analyzer_pb2

    rendered = render("dev")
    lacking = [one for one in rendered if not (one.kind == "ResourceQuota" and one.namespace == "training")]
    assert any("'training' has no ResourceQuota" in text for text in said(pack.AnalyzeStack(of_stack(lacking))))
    space = next(one for one in rendered.of("Namespace"))
    bad = properties(space)
    bad["metadata"]["labels"][rules.ENFORCE] = "lax"
    asked = analyzer_pb2.AnalyzeRequest(type=space.type, properties=bad, urn=space.urn, name=space.name)
    assert any("'lax'" in text for text in said(pack.Analyze(asked)))


def test_production_is_protected(pack):
    from dataclasses import replace

    rendered = render("prod")
    bare = [replace(one, protect=False) for one in rendered]
    holders = [one for one in rendered if one.kind == "PersistentVolumeClaim"]
    assert holders
    assert any("is not protected" in text for text in said(pack.AnalyzeStack(of_stack(bare))))
