"""What follows a verdict is whole after a kill anywhere: it is repeated in the same order."""

from dataclasses import replace

import pytest

from seaway import ledger
from seaway.artifacts import read_json
from seaway.config import load
from serving.release_enter import begin_journal
from serving.release_plan import plan
from serving.release_record import RECORD, conclude
from serving.rollout.state import PROMOTED, ROLLED_BACK
from tests.serving.conftest import Bundles


@pytest.mark.parametrize("phase", [PROMOTED, ROLLED_BACK])
def test_killed_before_the_alias_follows_the_verdict_is_in_the_ledger_already(tmp_path, phase):
    bundles = Bundles(tmp_path, {})
    config = load(overrides={"home": str(tmp_path), "trust": bundles.trust})
    candidate = {"name": "m", "version": "2", "run_id": "r2", "bundle": bundles.make("2")}
    wanted = plan(config, {"name": "release", "candidate": candidate})
    state = replace(wanted.begun(1.0), phase=phase, reason="decided")
    begin_journal(wanted, state)

    def killed(version):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conclude(config, wanted, state, {}, None, promote=killed, rollback=killed)
    (line,) = ledger.read(config.home / "ledger.jsonl")
    assert line["entry"]["what"] == phase and not (wanted.folder / RECORD).exists()

    moved = []
    record = conclude(config, wanted, state, {}, None, promote=moved.append, rollback=moved.append)
    assert moved == ["2"] and record == read_json(wanted.folder / RECORD)
    assert record["ledger"]["hash"] == line["hash"] and len(ledger.read(config.home / "ledger.jsonl")) == 1
