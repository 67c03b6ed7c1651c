from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seaway import cost
from seaway.cli.main import main
from seaway.errors import SeawayError

CLOUD = {
    "sources": ["a price page"],
    "regions": {"here": 1.0, "there": 1.5},
    "machines": {"small.x": 0.1, "gpu.x": 1.0},
    "accelerators": {"t4": 0.5},
    "spot": {"low": 0.2, "expected": 0.4, "high": 1.0},
    "hourly": {"control plane": 0.1},
    "disk": 0.1,
}
PRICES = cost.Prices.model_validate({"date": date(2026, 1, 1), "hours": 700, "clouds": {"aws": CLOUD}})


def month(*pools: cost.Pool, region: str = "here", **more) -> cost.Estimate:
    return cost.estimate(pools, PRICES, cloud="aws", region=region, **more)


def test_a_fixed_pool_costs_its_hours():
    assert month(cost.Pool("p", "small.x", 2, 2)).monthly == pytest.approx(2 * 700 * 0.1)


def test_nodes_above_the_minimum_cost_the_hours_that_the_pool_says():
    made = month(cost.Pool("p", "small.x", 1, 3, hours=50))
    assert made.monthly_low == pytest.approx(70)
    assert made.monthly == pytest.approx((700 + 2 * 50) * 0.1)
    assert made.monthly_high == pytest.approx(3 * 70)
    assert made.lines[0].what == "1–3 x small.x, 50 h above 1"


def test_spot_is_a_share_of_the_price_and_disks_and_gpus_come_on_top():
    made = month(cost.Pool("p", "small.x", 1, 1, spot=True, disk_gb=100, accelerator="t4", accelerators=2))
    for total, share in ((made.monthly_low, 0.2), (made.monthly, 0.4), (made.monthly_high, 1.0)):
        assert total == pytest.approx(700 * (0.1 + 2 * 0.5) * share + 100 * 0.1)


def test_fees_and_claims_are_lines_and_the_region_is_a_factor_on_all():
    here = month(fixed={"control plane": 2}, disks={"claims": 30})
    assert [(line.name, round(line.expected, 6)) for line in here.lines] == [("control plane", 140), ("claims", 3)]
    assert month(region="there", fixed={"control plane": 2}, disks={"claims": 30}).monthly == pytest.approx(
        1.5 * here.monthly
    )


@given(
    minimum=st.integers(0, 5), more=st.integers(0, 5), hours=st.none() | st.floats(0, 744), spot=st.booleans(),
    disk=st.floats(0, 500),
)  # fmt: skip
def test_expected_is_never_outside_least_and_most(minimum, more, hours, spot, disk):
    made = month(cost.Pool("p", "gpu.x", minimum, minimum + more, hours, spot, disk))
    assert made.monthly_low <= made.monthly + 1e-9 and made.monthly <= made.monthly_high + 1e-9


@pytest.mark.parametrize(
    ("pool", "region", "cloud", "told"),
    [
        (cost.Pool("p", "smal.x", 1, 1), "here", "aws", r"no 'smal.x' below clouds.aws.machines .*it has: small.x"),
        (cost.Pool("p", "small.x", 1, 1), "hre", "aws", r"no 'hre' below clouds.aws.regions"),
        (cost.Pool("p", "small.x", 1, 1), "here", "gcp", r"no cloud 'gcp'; it has: aws"),
        (
            cost.Pool("p", "small.x", 1, 1, accelerator="a100"),
            "here",
            "aws",
            r"no 'a100' below clouds.aws.accelerators",
        ),
    ],
)
def test_what_has_no_price_is_named_with_the_file_to_edit(pool, region, cloud, told):
    with pytest.raises(SeawayError, match=f"config/prices.yaml has {told}"):
        cost.estimate([pool], PRICES, cloud=cloud, region=region)


def test_a_budget_is_refused_with_the_dearest_line():
    made = month(cost.Pool("cheap", "small.x", 1, 1), cost.Pool("dear", "gpu.x", 1, 1))
    assert made.excess(770) == ""
    assert month(cost.Pool("p", "gpu.x", 0, 1, hours=100)).excess(99) and not month(
        cost.Pool("p", "gpu.x", 0, 1, hours=100)
    ).excess(100)
    assert "dearest is dear: 1 x gpu.x, 700" in made.excess(769) and "Raise the budget" in made.excess(769)


def test_the_shipped_table_is_valid_dated_and_names_its_sources():
    prices = cost.load()
    assert {"aws", "gcp"} <= set(prices.clouds)
    for cloud in prices.clouds.values():
        assert all(price > 0 for price in cloud.machines.values()) and len(cloud.sources) >= 5
        assert cloud.regions and {"control plane", "NAT gateway", "load balancer", "public address"} == set(
            cloud.hourly
        )
    assert not prices.stale(prices.date + timedelta(days=prices.stale_after_days))
    assert prices.stale(prices.date + timedelta(days=prices.stale_after_days + 1))


def test_a_wrong_table_names_file_and_key(tmp_path):
    file = tmp_path / "prices.yaml"
    with pytest.raises(SeawayError, match="does not exist"):
        cost.load(file)
    file.write_text(yaml.safe_dump({"date": "2026-01-01", "clouds": {"aws": {**CLOUD, "disk": "cheap"}}}))
    with pytest.raises(SeawayError, match=r"prices.yaml is no table.*\n.*clouds.aws.disk"):
        cost.load(file)


def test_the_verb_tells_each_environment_and_each_line(capsys):
    assert main(["cost"]) == 0
    text = capsys.readouterr().out
    assert all(env in text for env in ("dev", "staging", "prod"))
    assert main(["cost", "--env", "prod"]) == 0
    text = capsys.readouterr().out
    assert "gpu" in text and "together" in text and "budget" in text and "Not in it" in text
    assert max(map(len, text.splitlines())) <= 120
    assert main(["cost", "--env", "prod", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["within_budget"] and document["monthly_usd"]["expected"] == pytest.approx(
        sum(line["expected"] for line in document["lines"]), abs=0.1
    )
    assert main(["cost", "--env", "nowhere"]) == 2
    assert "there is no stack 'nowhere'" in capsys.readouterr().err


def test_the_verb_says_no_where_the_budget_is_too_small_and_when_prices_are_old(capsys, monkeypatch):
    from infra import settings

    read = settings.of_stack("prod")
    small = read.model_copy(update={"budget": settings.Budget(monthly_usd=10)})
    monkeypatch.setattr(settings, "of_stack", lambda env: small)
    old = cost.load().model_copy(update={"date": date(2020, 1, 1)})
    monkeypatch.setattr(cost, "load", lambda: old)
    assert main(["cost", "--env", "prod"]) == 1
    text = capsys.readouterr().out
    assert "10 is below the estimate" in text and "The prices are of 2020-01-01" in text
