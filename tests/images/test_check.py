"""The checks of Containerfiles: ours have no fault, and each rule finds its own."""

from __future__ import annotations

import re

import pytest

from images import check
from images.table import Image, containerfile, load

TABLE = load()
IMAGE = Image(group="serving", folders=("seaway", "serving"), entry=())
GOOD = containerfile("serve").read_text()
DIGEST = "sha256:" + "0" * 64


def faults(text, image=TABLE.images["serve"]):
    return check.faults(text, image, TABLE.user)


@pytest.mark.parametrize("name", sorted(TABLE.images))
def test_ours_have_no_fault(name):
    assert check.run(TABLE, [name]) == []


BAD = {
    "a base without a digest": ("FROM ${BASE} AS build", "FROM python:3.11-slim AS build", "not pinned"),
    "latest": ("FROM ${BASE}\n", "FROM debian:latest\n", "not pinned"),
    "a copy from an image without a digest": ("--from=build /src", "--from=ghcr.io/x/y:1 /src", "neither a stage nor"),
    "root": ("USER 8888:8888\n", "", "USER 8888:8888"),
    "an account by name": ("USER 8888:8888", "USER seaway", "USER 8888:8888"),
    "root again": ("USER 8888:8888\n", "USER 8888:8888\nUSER 0:0\n", "USER 8888:8888"),
    "files owned by the account": ("COPY --from=build /src", "COPY --chown=8888 --from=build /src", "--chown"),
    "files made by the account": ("USER 8888:8888\n", "USER 8888:8888\nRUN touch /x\n", "RUN after USER"),
    "a command through a shell": ('CMD ["python", "-m", "serving.microservice"]', "CMD python -m x", "JSON list"),
    "no command": ('CMD ["python", "-m", "serving.microservice"]', "", "one CMD"),
    "an entrypoint": ("WORKDIR /app", 'ENTRYPOINT ["python"]\nWORKDIR /app', "one CMD and no ENTRYPOINT"),
    "versions that the lock does not have": ("uv sync --frozen", "uv sync", "without --frozen"),
    "another image's packages": ("--group serving", "--group train", "without --group serving"),
    "a package by name": ("pip install --no-cache-dir --require-hashes", "pip install", "--require-hashes"),
    "a package beside the lock": ("cd /build && ", "cd /build && /opt/uv/bin/uv pip install x && ", "alone"),
    "a download": ("cd /build && ", "curl -L https://x.example/y | sh && cd /build && ", "no hash checks"),
    "an installation in the last stage": (
        "USER 8888", "RUN python3 -m pip install --require-hashes -r x\nUSER 8888", "last stage installs"),
    "a compiler": (
        "USER 8888",
        "RUN apt-get install -y --no-install-recommends gcc && rm -rf /var/lib/apt/lists/*\nUSER 8888",
        "gcc stays"),
    "pip stays": ("pip uninstall", "pip list", "uninstall pip"),
    "nobody looks for tools": ("|| exit 1; done", "; done", "fail when a tool is left"),
    "recommended packages": (
        "USER 8888", "RUN apt-get install -y x && rm -rf /var/lib/apt/lists/*\nUSER 8888", "--no-install-recommends"),
    "package lists": ("USER 8888", "RUN apt-get install -y --no-install-recommends x\nUSER 8888", "lists stay"),
    "a file that all may write": ("USER 8888", "RUN chmod -R 0777 /app\nUSER 8888", "everyone may write"),
    "ADD": ("COPY pyproject.toml uv.lock /build/", "ADD pyproject.toml uv.lock /build/", "use COPY"),
    "everything": ("COPY seaway/ /src/seaway/", "COPY . /src/", "name the folders"),
    "a folder too few": ("COPY serving/ /src/serving/\n", "", "nothing copies it"),
    "a folder too many": (
        "COPY serving/", "COPY tests/ /src/tests/\nCOPY serving/", "does not give it"),
    "a secret argument": ("ARG REVISION", "ARG REVISION\nARG PYPI_TOKEN", "for everyone to read"),
    "a secret variable": ("HOME=/tmp", "HOME=/tmp DB_PASSWORD=x", "for everyone to read"),
    "bytecode at run time": ("PYTHONDONTWRITEBYTECODE=1", "A=1", "PYTHONDONTWRITEBYTECODE"),
    "a home that is read only": ("HOME=/tmp", "HOME=/app", "HOME must be"),
    "nothing compiled": ("-m compileall", "-m json.tool", "compiles the program"),
    "a hidden volume": ("WORKDIR /app", "WORKDIR /app\nVOLUME /data", "VOLUME"),
    "a relative folder": ("WORKDIR /app", "WORKDIR app", "not absolute"),
    "no revision": ('org.opencontainers.image.revision="${REVISION}"', 'a="b"', "revision is missing"),
    "a fixed revision": ('revision="${REVISION}"', 'revision="abc"', "must be ${REVISION}"),
    "a word that is none": ("WORKDIR /app", "WORKDIRR /app", "no instruction"),
    "an open end": ('"${BASE}"\n', '"${BASE}" \\\n', "middle of an instruction"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_each_fault_is_found_and_named(what):
    old, new, said = BAD[what]
    assert GOOD.count(old) >= 1
    head, _, tail = GOOD.rpartition(old) if what == "an open end" else GOOD.partition(old)
    found = faults(head + new + tail)
    assert any(said in fault for fault in found), found
    assert all(fault.startswith("line ") for fault in found)


def test_the_line_is_the_instructions():
    text = GOOD.replace("USER 8888:8888", "USER root")
    line = text.splitlines().index("USER root") + 1
    assert f"line {line}: the last stage must end as USER 8888:8888: a number, for runAsNonRoot" in faults(text)


def test_pinned_bases_and_other_stages_are_no_fault():
    assert faults(GOOD.replace("FROM ${BASE} AS build", f"FROM python:3.11-slim@{DIGEST} AS build")) == []
    told = GOOD.replace("ARG BASE\nFROM", f"ARG BASE=python:3.11@{DIGEST}\nFROM", 1)
    assert faults(told) == []


def test_a_table_without_a_digest_is_refused(monkeypatch):
    loose = TABLE.model_copy(update={"base": "docker.io/library/python:3.11-slim"})
    assert check.run(loose, []) == ["images.yaml: base docker.io/library/python:3.11-slim has no digest"]


def test_a_large_context_is_refused(monkeypatch):
    monkeypatch.setattr(check, "LARGEST_CONTEXT", 1000)
    [fault] = check.run(TABLE, ["serve"])
    assert re.search(r"images/serve/Containerfile: its context is \d+ MB, more than 0", fault)
