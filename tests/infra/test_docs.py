"""What the two pages of operations say is there: alerts, verbs, targets, secrets, links, settings."""

from __future__ import annotations

import importlib.util
import re
import shlex

import pytest
import yaml

from infra.base import manifests
from seaway.cli.main import parser
from seaway.config import project_root

ROOT = project_root()
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("laptop-to-prod", "runbook")}
BLOCKS = [b for text in PAGES.values() for b in re.findall(r"```sh\n(.*?)```", text, re.S)]
COMMANDS = [line.strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def words(line: str) -> list[str]:
    """The words of one command, without its comment and what follows it."""
    found = shlex.split(line, comments=True)
    ends = [i for i, word in enumerate(found) if word in ("&", "&&", ";", "|")]
    return found[: ends[0]] if ends else found


def commands(first: str) -> list[list[str]]:
    inline = [c for text in PAGES.values() for c in re.findall(rf"`({first} [^`]+)`", text.replace("\n", " "))]
    told = [c for line in COMMANDS for c in re.split(r" && ", line) if c.strip().startswith(f"{first} ")]
    return [words(c.strip()) for c in (*told, *inline)]


def test_every_alert_is_in_the_runbook():
    (rule,) = [d for d in yaml.safe_load_all((ROOT / "infra/manifests/rules.yaml").read_text()) if d]
    alerts = [r["alert"] for group in rule["spec"]["groups"] for r in group["rules"] if "alert" in r]
    assert len(alerts) > 10
    assert [a for a in alerts if a not in PAGES["runbook"]] == []


@pytest.mark.parametrize("command", commands("seaway"), ids=" ".join)
def test_every_verb_is_one(command):
    try:
        parser().parse_args(command[1:])
    except SystemExit as ended:
        assert ended.code == 0  # of --help


def test_every_target_of_make_is_one():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    asked = commands("make")
    assert len(asked) >= 8
    assert [c for c in asked if c[1] not in targets] == []


def test_every_module_that_is_run_is_there():
    modules = [c[2] for c in commands("python") if c[1] == "-m"]
    assert modules and all(importlib.util.find_spec(name) for name in modules)


def test_every_secret_is_one_that_the_platform_asks_for():
    make = set(manifests("credentials")[0]["make"])
    text = PAGES["laptop-to-prod"]
    assert {name for name in make if name not in text} == set()
    assert set(re.findall(r"--secret (\w+)", "".join(PAGES.values()))) <= make


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        file, _, anchor = target.partition("#")
        if file.startswith("http"):
            continue
        page = (ROOT / "docs" / file) if file else ROOT / "docs" / f"{name}.md"
        assert page.exists(), target
        heads = [h.lower() for h in re.findall(r"^#+ (.+)$", page.read_text(), re.M)]
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", h).replace(" ", "-") for h in heads], target


def test_files_and_settings_that_are_named_are_there():
    text = "".join(PAGES.values())
    for path in set(re.findall(r"`((?:infra|config)/[\w./-]+\.(?:yaml|py|txt))`", text)):
        assert (ROOT / path).exists(), path
    from infra.cluster import settings as clusters
    from infra.settings import Settings

    dotted = set(re.findall(r"`((?:redis|database|objects|gateway|gpu|monitoring|tenancy|availability)\.\w+)", text))
    dotted |= {"cluster.stack"}
    assert len(dotted) >= 6
    for key in dotted:
        section, _, field = key.partition(".")
        kind = Settings.model_fields[section].annotation
        models = [m for m in (kind, *getattr(kind, "__args__", ())) if hasattr(m, "model_fields")]
        assert any(field in m.model_fields for m in models), key
    for key in re.findall(r"`(access|alerts|network)\.(\w+)", text):
        assert key[1] in clusters.Settings.model_fields[key[0]].annotation.model_fields, key
