"""What `seaway promote` says before it moves anything."""

import json

import pytest

from seaway.cli.main import main
from seaway.errors import SeawayError
from serving import caught_up
from serving.caught_up import Verdict
from serving.rollout.state import PROMOTED, ROLLED_BACK


@pytest.fixture
def command(tmp_path):
    """Two empty environments on this machine."""
    said = ["promote", "--from", "staging", "--to", "prod"]
    for name in ("from", "to"):
        keys = {"home": tmp_path / name, "tracking_uri": "null", "storage.uri": "null",
                "online_store.type": "sqlite", "serving.substrate": "local"}  # fmt: skip
        said += [part for key, value in keys.items() for part in (f"--set-{name}", f"{key}={value}")]
    return said


def behind(monkeypatch, env, phase):
    def found(config, **rest):
        return Verdict("7", phase, "shop-7", "b" * 64) if config.env == env else None

    monkeypatch.setattr(caught_up, "behind", found)


@pytest.mark.parametrize("env", ["staging", "prod"])
def test_a_look_at_a_registry_that_is_behind_says_so(command, monkeypatch, capsys, env):
    behind(monkeypatch, env, PROMOTED)
    assert main([*command, "--dry-run"]) == 1
    said = f"{env}'s registry is behind: version 7 was promoted meanwhile"
    assert said in capsys.readouterr().out
    assert main([*command, "--dry-run", "--json"]) == 1
    assert said in json.loads(capsys.readouterr().out)["behind"]


def test_a_rollback_that_the_registry_does_not_know_of_changes_no_champion(command, monkeypatch, capsys):
    behind(monkeypatch, "staging", ROLLED_BACK)
    assert main([*command, "--dry-run"]) == 2
    assert "no version 'champion'" in capsys.readouterr().err


def test_a_cluster_that_cannot_be_looked_at_does_not_end_the_look(command, monkeypatch, capsys):
    def unreachable(config, **rest):
        raise SeawayError("the Kubernetes API did not answer")

    monkeypatch.setattr(caught_up, "behind", unreachable)
    assert main([*command, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "registry of staging is behind cannot be seen" in said and "no version 'champion'" in said


def test_a_document_is_only_of_a_look(command, capsys):
    assert main([*command, "--json"]) == 2
    assert "add --dry-run" in capsys.readouterr().err
