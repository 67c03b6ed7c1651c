"""Bugs that these histories have found, each with a scenario that showed it; `test_robustness.py` plays them all."""

from __future__ import annotations

from tests.robustness.scenario import Scenario, draw_scenario

FOUND: dict[str, Scenario] = {
    # two readings in a row from a metrics server that lags were taken for a reset of the counter: when the other
    # server answered again, all requests since then were counted a second time
    "a lagging replica of the metrics server": Scenario(0, "good", rate=12.0, faults={"signals stuck": 0.5}),
    # a release that began between two reads of the object had its first decision in the log of the one before it
    "a new release between two reads": Scenario(
        35,
        "good",
        rate=40.0,
        faults={"two controllers": 0.3},
        people={"recreated without annotations": 0.3},
    ),
    # counts of the old spec's pods, taken just before the spec changed and read just after, were evidence about the
    # new one
    "old counts after a new spec": draw_scenario(745),
}
