"""What is sent to a builder, how it is asked, and that each image holds what runs in it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib

import pytest
import yaml

from images import build, sbom
from images.table import FOLDER, load, version
from seaway.config import load as configuration
from seaway.config import project_root
from seaway.errors import SeawayError

ROOT = project_root()
TABLE = load()
PACKAGES = ("seaway", "components", "pipelines", "serving", "feature_repo", "workload", "infra", "images", "tests")


def tool(folder, name, script):
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An empty PATH but for git, whose folder tests put builders into."""
    import shutil

    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_the_first_builder_that_works_is_taken(path):
    with pytest.raises(SeawayError, match=r"nothing here builds images .*CHECK=1"):
        build.builder()
    tool(path, "buildah", "exit 1")
    assert build.builder() == "buildah"
    tool(path, "podman", "exit 0")
    assert build.builder() == "podman"
    tool(path, "docker", "echo 'Cannot connect to the daemon' >&2; exit 1")
    assert build.builder() == "podman"
    with pytest.raises(SeawayError, match="docker: Cannot connect to the daemon"):
        build.builder("docker")
    tool(path, "docker", "exit 0")
    assert build.builder() == "docker"


@pytest.mark.parametrize("name", sorted(TABLE.images))
def test_only_tracked_files_of_the_named_folders_are_sent(name, tmp_path):
    image = TABLE.images[name]
    files = build.context_files(image, ROOT)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert set(files) <= set(tracked)
    assert {f.split("/")[0] for f in files} == {*image.folders, "pyproject.toml", "uv.lock", "images"}
    size = build.fill_context(files, ROOT, tmp_path)
    sent = {str(p.relative_to(tmp_path)): p.stat() for p in tmp_path.rglob("*") if p.is_file()}
    assert sent.keys() == set(files) and sum(s.st_size for s in sent.values()) == size < 5e6
    assert {s.st_mode & 0o777 for s in sent.values()} <= {0o644, 0o755}


def test_what_git_does_not_track_stays_here(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for file in (*build.SHARED, "seaway/a.py", "serving/b.py", "seaway/model.pem"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("x")
    subprocess.run(["git", "add", *build.SHARED, "seaway/a.py", "serving/b.py"], cwd=tmp_path, check=True)
    assert set(build.context_files(TABLE.images["serve"], tmp_path)) == {*build.SHARED, "seaway/a.py", "serving/b.py"}
    assert build.left_out(TABLE.images["serve"], tmp_path) == ["seaway/model.pem"]
    with pytest.raises(SeawayError, match="names 'config', where git tracks no file"):
        build.context_files(TABLE.images["controller"], tmp_path)


@pytest.mark.parametrize("builder", build.BUILDERS)
def test_the_builder_is_told_base_revision_and_version(builder, tmp_path):
    told = build.build_command(builder, "serve", "seaway-serve:x", tmp_path, {"BASE": "b", "REVISION": "r"})
    assert told[:2] == [builder, "build"] and told[-1] == str(tmp_path)
    assert told[told.index("--tag") + 1] == "seaway-serve:x"
    arguments = [told[i + 1] for i, word in enumerate(told) if word == "--build-arg"]
    assert arguments[:2] == ["BASE=b", "REVISION=r"]
    # docker has no --timestamp, the others no use for the argument
    assert ("--timestamp" in told) == (builder != "docker") == (not any("SOURCE_DATE" in a for a in arguments))


def test_a_push_gives_the_reference_by_digest(path, capfd):
    digest = "sha256:" + "a" * 64
    log = path / "log"
    push = f'echo "$@" >> {log}; [ "$1" = push ] && echo {digest} > "$3"; exit 0'
    tool(path, "podman", push)
    made = build.build(TABLE, ["serve"], "podman", tag="7", registry="registry.example.com/seaway/")
    assert made == [f"registry.example.com/seaway/serve:7@{digest}"]
    built, pushed = log.read_text().splitlines()
    assert f"BASE={TABLE.base}" in built and f"VERSION={version()}" in built
    assert f"REVISION={build.revision(ROOT)}" in built
    assert pushed.endswith("registry.example.com/seaway/serve:7")
    tool(path, "podman", "exit 0")
    with pytest.raises(SeawayError, match="told no digest"):
        build.push("podman", "x")
    tool(path, "podman", "exit 3")
    with pytest.raises(SeawayError, match="podman build failed"):
        build.build(TABLE, ["serve"], "podman", tag="7", registry=None)


def test_of_several_registries_the_pushed_ones_digest_is_told(path):
    known = [
        f"{place}/serve@sha256:{letter * 64}" for place, letter in (("old.example.com", "b"), ("new.example.com", "c"))
    ]
    tool(path, "docker", f"[ $1 = push ] || echo '{json.dumps(known)}'")
    assert build.push("docker", "new.example.com/serve:7") == "new.example.com/serve:7@sha256:" + "c" * 64
    with pytest.raises(SeawayError, match="told no digest"):
        build.push("docker", "other.example.com/serve:7")


def test_what_is_pushed_has_a_pinned_base(path, capsys):
    tool(path, "podman", "exit 0")
    assert build.main(["serve", "--push", "registry.example.com/x", "--base", "mirror/python:3.12"]) == 1
    assert "--base mirror/python:3.12 has no digest" in capsys.readouterr().err


def test_without_git_it_says_so(path):
    (path / "git").unlink()
    with pytest.raises(SeawayError, match="from a git clone, with git on PATH"):
        build.revision(ROOT)


def test_without_a_registry_the_names_are_the_configurations():
    """A laptop's defaults name what `make images` builds, every environment's file what PUSH= pushes."""
    local = configuration("local")
    assert {image.partition(":")[0] for image in used(local)} == {f"seaway-{name}" for name in TABLE.images}
    for env in ("dev", "staging", "prod"):
        names = {
            reference.partition("@")[0].rpartition("/")[2].partition(":")[0] for reference in used(configuration(env))
        }
        assert names == set(TABLE.images), env


def used(config):
    return config.pipeline.image, config.ray.image, config.serving.image, config.serving.controller_image


def test_the_command_line_names_what_is_wrong(path, capsys):
    assert build.main(["bogus"]) == 1
    assert capsys.readouterr().err.strip() == "no image bogus: there are train, serve, controller"


def imports(module, seen):
    """Project modules that a module reaches, lazily or not."""
    place = ROOT / module.replace(".", "/")
    file = next((f for f in (place.with_suffix(".py"), place / "__init__.py") if f.exists()), None)
    if file is None or file in seen:
        return
    seen.add(file)
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                imports(name, seen)


@pytest.mark.parametrize("name", sorted(TABLE.images))
def test_what_runs_in_an_image_is_in_it(name):
    image, seen = TABLE.images[name], set()
    for entry in image.entry:
        place = ROOT / entry.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__init__.py").exists(), f"{entry} does not exist"
        for file in sorted(place.rglob("*.py")) or [place.with_suffix(".py")]:
            imports(".".join(file.relative_to(ROOT).with_suffix("").parts), seen)
    assert {file.relative_to(ROOT).parts[0] for file in seen} <= set(image.folders)


def test_the_pods_commands_are_the_images():
    """Seldon gives the model server no command; the controller's manifests do, and train's steps their own."""
    from serving.controller_manifests import controller
    from serving.manifests import Predictor, seldon_deployment

    def command(name):
        text = (FOLDER / name / "Containerfile").read_text()
        return json.loads(text.partition("\nCMD ")[2].partition("\n")[0])

    obj = seldon_deployment("shop", "default", [Predictor("main", 100, "/bundle")])
    container = obj["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]
    assert "command" not in container and container["securityContext"]["runAsUser"] == TABLE.user
    assert command("serve") == ["python", "-m", "serving.microservice"]
    pod = controller("x:1", "default")[-1]["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][: len(command("controller"))] == command("controller")
    assert pod["securityContext"]["runAsUser"] == TABLE.user


def test_uv_is_the_locks():
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    [package] = [p for p in lock["package"] if p["name"] == "uv"]
    text = (FOLDER / "uv.txt").read_text()
    assert f"uv=={package['version']} " in text
    hashes = {w["hash"] for w in package["wheels"]}
    listed = {w.removeprefix("--hash=") for w in text.split() if w.startswith("--hash=")}
    assert listed and listed <= hashes


@pytest.mark.parametrize("name", sorted(TABLE.images))
def test_the_bill_lists_what_uv_installs(name, tmp_path):
    file, count = sbom.write(TABLE, name, tmp_path)
    bill = json.loads(file.read_text())
    assert bill["bomFormat"] == "CycloneDX" and bill["specVersion"] == "1.5"
    listed = {(c["name"], c["version"]) for c in bill["components"] if c["type"] == "library"}
    group = TABLE.images[name].group
    command = [ROOT / ".venv/bin/uv", "export", "--frozen", "-q", "--no-emit-project", "--no-hashes", "--group", group]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    from packaging.requirements import Requirement

    linux = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    linux |= {"python_full_version": TABLE.python, "python_version": "3.11"}
    wanted = [Requirement(line) for line in told.splitlines() if line and line[0] not in " #"]
    wanted = [r for r in wanted if r.marker is None or r.marker.evaluate(linux)]
    assert listed == {(r.name, str(r.specifier).removeprefix("==")) for r in wanted} and len(listed) == count
    container = bill["components"][0]
    assert container["type"] == "container" and container["version"] == TABLE.base.partition("@")[2]
    assert container["purl"].startswith("pkg:oci/python@sha256%3A")
    assert all(c["purl"].startswith("pkg:pypi/") for c in bill["components"][1:])
    hashed = [c for c in bill["components"][1:] if c.get("externalReferences")]
    assert len(hashed) == count and all(f["hashes"] for c in hashed for f in c["externalReferences"])
    references = {c["bom-ref"] for c in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert all(d["ref"] in references and set(d["dependsOn"]) <= references for d in bill["dependencies"])
    again, _ = sbom.write(TABLE, name, tmp_path / "again")
    assert again.read_bytes() == file.read_bytes()


def test_the_serving_image_has_no_training(tmp_path):
    names = {c["name"] for c in json.loads(sbom.write(TABLE, "serve", tmp_path)[0].read_text())["components"]}
    assert not names & {"torch", "ray", "kfp", "feast", "mlflow", "pulumi", "kubernetes"}
    names = {c["name"] for c in json.loads(sbom.write(TABLE, "controller", tmp_path)[0].read_text())["components"]}
    assert not names & {"torch", "ray", "kfp", "feast", "mlflow", "pulumi", "seldon-core"}


def test_the_base_is_of_the_python_that_the_bill_says():
    place = TABLE.base.partition("@")[0]
    assert f":{TABLE.python}-slim" in place
    assert yaml.safe_load((FOLDER / "images.yaml").read_text())["python"] == TABLE.python
    assert sys.version_info[:2] == tuple(int(n) for n in TABLE.python.split(".")[:2]) or sys.version_info >= (3, 12)
