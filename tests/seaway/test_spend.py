"""What compute costs: prices of an hour, and what trials have used."""

import pytest

from seaway import cost
from seaway.config import Budget, StepResources
from seaway.errors import SeawayError
from seaway.spend import Rates, Use, cores, price, rates, spent, used, worth

ONE = StepResources(cpu="1", memory="1Gi")
PRICES = cost.load()
M7I = PRICES.clouds["aws"].machines["m7i.2xlarge"]


def machine(**more):
    return Budget(**{"machine": "m7i.2xlarge", "cloud": "aws", "region": "us-east-1", "cpus": 8, **more})


def test_cores_are_read_from_every_form():
    assert [cores(StepResources(cpu=text)) for text in ("2", "1.5", "500m")] == [2.0, 1.5, 0.5]


def test_without_a_price_everything_is_free():
    found = rates(Budget(), None)
    assert found.free and found.source == "" and price(ONE, Budget(), None) == 0


def test_two_plain_prices_add_up():
    budget = Budget(cpu_hour=0.05, gpu_hour=2.0)
    assert price(StepResources(cpu="4", gpu=1), budget, None) == pytest.approx(4 * 0.05 + 2.0)
    assert "budget.cpu_hour and budget.gpu_hour" in rates(budget, None).source


def test_a_machines_core_costs_its_part():
    assert price(ONE, machine(), PRICES) == pytest.approx(M7I / 8)
    assert price(StepResources(cpu="8"), machine(), PRICES) == pytest.approx(M7I)
    assert "2026" in rates(machine(), PRICES).source


def test_spot_and_region_change_a_machines_price():
    aws = PRICES.clouds["aws"]
    assert price(ONE, machine(spot=True), PRICES) == pytest.approx(M7I / 8 * aws.spot.expected)
    assert price(ONE, machine(region="eu-central-1"), PRICES) == pytest.approx(M7I / 8 * aws.regions["eu-central-1"])


def test_of_a_machine_with_gpus_the_larger_part_counts():
    budget = Budget(machine="g5.xlarge", cloud="aws", region="us-east-1", cpus=4, gpus=1)
    hour = PRICES.clouds["aws"].machines["g5.xlarge"]
    assert price(StepResources(cpu="1", gpu=1), budget, PRICES) == pytest.approx(hour)  # nothing is left for others
    assert price(StepResources(cpu="1"), budget, PRICES) == pytest.approx(hour / 4)


def test_an_accelerator_that_is_sold_beside_its_machine_is_paid_too():
    where = {"machine": "n1-standard-4", "cloud": "gcp", "region": "us-central1", "cpus": 4, "gpus": 2}
    gcp = PRICES.clouds["gcp"]
    hour = gcp.machines["n1-standard-4"] + 2 * gcp.accelerators["nvidia-tesla-t4"]
    budget = Budget(**where, accelerator="nvidia-tesla-t4")
    assert price(StepResources(gpu=1), budget, PRICES) == pytest.approx(hour / 2)


def test_a_machine_without_a_price_is_named():
    with pytest.raises(SeawayError, match="m9z"):
        rates(Budget(machine="m9z", cloud="aws", region="us-east-1"), PRICES)
    with pytest.raises(SeawayError, match="no cloud 'azure'"):
        rates(Budget(machine="m9z", cloud="azure", region="x"), PRICES)
    with pytest.raises(ValueError, match="accelerator needs machine"):
        Budget(accelerator="nvidia-tesla-t4")


def test_a_trials_use_is_what_its_record_tells_or_its_epochs_seconds():
    two = StepResources(cpu="2", gpu=1)
    assert used({"epochs": [{"seconds": 3.0}, {"seconds": 5.0}]}, two) == Use(10.0, 5.0)
    assert used({"epochs": [{"seconds": 3.0}], "cpu_seconds": 7.5, "gpu_seconds": 2.5}, two) == Use(7.5, 2.5)
    assert used({"epochs": []}, two) == Use()


def test_what_trials_have_spent_is_the_sum_of_each():
    trials = [{"epochs": [], "cpu_seconds": 3600.0, "gpu_seconds": 0.0},
              {"epochs": [], "cpu_seconds": 0.0, "gpu_seconds": 1800.0}]  # fmt: skip
    assert spent(trials, ONE, Rates(0.1, 2.0)) == pytest.approx(0.1 + 1.0)
    # of one machine: the two did not hold it together, so each pays its own part
    assert spent(trials, ONE, Rates(0.1, 2.0, shared=True)) == pytest.approx(0.1 + 1.0)


def test_rates_are_kept_as_a_record():
    known = rates(machine(), PRICES)
    assert Rates.read(known.as_record()) == known and Rates.read(None).free


def test_amounts_read_well():
    amounts = (0, 0.00001, 0.0042, 0.374, 12.5, 1240.4)
    assert [worth(a) for a in amounts] == [
        "0 USD", "< 0.0001 USD", "0.0042 USD", "0.37 USD", "12.50 USD", "1,240 USD"]  # fmt: skip
