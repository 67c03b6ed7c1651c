"""A short range of seeds, the faults planted to see whether the checkers notice, and every bug found so far."""

import os

import pytest

from tests.robustness.checks import check
from tests.robustness.history import History
from tests.robustness.planted import PLANTED, replaced
from tests.robustness.play import play
from tests.robustness.regressions import FOUND
from tests.robustness.scenario import FAULTS, PEOPLE, Scenario, draw_scenario

FIRST = int(os.environ.get("SEAWAY_SEED", "100000"))


@pytest.mark.parametrize("first", range(FIRST, FIRST + 30, 10))
def test_ten_random_histories_break_no_invariant(first):
    for seed in range(first, first + 10):
        assert not check(play(seed)), f"again: python -m tests.robustness --count 1 --seed {seed}"


RACES = {"kill after a write": 0.1, "conflict 409": 0.1, "stale object": 0.3, "two controllers": 0.7}
SHOWN_BY = {
    "TwoWrites": {"truth": "good", "faults": RACES},
    "NoPrecondition": {"truth": "good", "faults": RACES},
    "Retries": {"truth": "good", "faults": RACES},
    "KeepsEvidence": {"truth": "good", "people": {"new spec": 0.2}},
    "RollsBackByWeight": {"truth": "bad", "harm": "errors"},
    "CapPromotes": {"truth": "edge", "harm": "errors", "rate": 4.0},
    "IgnoresFreeze": {"truth": "good", "people": {"freeze": 0.3}},
    "LogsAfterwards": {"truth": "good"},
    "SumsTo105": {"truth": "good"},
}


def shown_by(seed, controller):
    """A scenario in which this planted fault can show."""
    return Scenario(seed, **{"rate": 40.0, **SHOWN_BY[controller.__name__]})


@pytest.mark.parametrize("controller", PLANTED, ids=lambda c: c.__name__)
def test_a_planted_fault_is_caught(controller):
    for seed in range(20):
        with replaced(controller):
            found = check(play(seed, shown_by(seed, controller), controller))
        if any(text.startswith(PLANTED[controller]) for text in found):
            break
    else:
        pytest.fail("no history shows it")
    assert not check(play(seed, shown_by(seed, controller))), "the real controller fails there too"


def test_the_same_seed_plays_the_same_history(tmp_path):
    seed = next(s for s in range(1000) if len(draw_scenario(s).faults) > 8 and draw_scenario(s).people)
    one, other = play(seed), play(seed)
    for history, name in ((one, "one"), (other, "other")):
        history.save(tmp_path / f"{name}.json", [])
    texts = [(tmp_path / f"{name}.json").read_text().replace(f"{name}.json", "") for name in ("one", "other")]
    assert _without_times(texts[0]) == _without_times(texts[1])
    assert check(History.load(tmp_path / "one.json")) == check(one) == []


def _without_times(text):
    """The ledger's lines carry the machine's own clock, and hashes of it."""
    return [line for line in text.splitlines() if not any(f'"{key}":' in line for key in ("time", "hash", "previous"))]


def test_every_kind_of_fault_can_strike():
    drawn = [draw_scenario(seed) for seed in range(300)]
    assert {name for scenario in drawn for name in scenario.faults} == set(FAULTS)
    assert {name for scenario in drawn for name in scenario.people} == set(PEOPLE)
    assert any(s.every_write for s in drawn) and any(s.labels and s.pairs for s in drawn)


@pytest.mark.parametrize("bug", FOUND)
def test_a_bug_found_before_stays_away(bug):
    assert not check(play(FOUND[bug].seed, FOUND[bug]))
