"""Work on tables in parts, spread over the processes of a Ray: the same tables, and what is said when a task fails."""

import os

import pytest

from components.dataset import by_day
from components.ray import spread
from seaway.config import load
from seaway.errors import SeawayError
from tests.feature_repo import world

from .test_by_day import built, config, same, write_days


@pytest.fixture(autouse=True, scope="module")
def small_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_day, "ROWS", 400)  # three days a join
        patch.setattr(spread, "workers", lambda: 2)
        yield


def test_ray_of_a_kind_that_cannot_do_it_is_named(tmp_path):
    cfg = load(overrides={"home": str(tmp_path), "data": {"engine": "ray"}, "ray": {"substrate": "kuberay"}})
    with pytest.raises(SeawayError, match=r"ray.substrate to local.*data.engine to partitions"):
        list(spread.spread(cfg, process, [0, 1]))


def test_a_ray_that_does_not_answer_is_named(tmp_path):
    address = {"substrate": "address", "address": "127.0.0.1:9"}
    cfg = load(overrides={"home": str(tmp_path), "data": {"engine": "ray"}, "ray": address})
    with pytest.raises(SeawayError, match=r"no Ray answers at '127\.0\.0\.1:9'"):
        list(spread.spread(cfg, process, [0, 1]))


@pytest.fixture(scope="module")
def ray():
    from components.ray.local import local_ray

    with local_ray(2, 0, 80_000_000) as module:
        yield module


def test_on_ray_all_tables_are_the_same(tmp_path, ray):
    raw = tmp_path / "raw"
    write_days(raw, world.events(), world.ratings())
    built(config(tmp_path / "memory home", "memory", raw), tmp_path / "memory")
    found = built(config(tmp_path / "home", "ray", raw), tmp_path / "ray")
    same(tmp_path / "ray", tmp_path / "memory")
    assert (found["features"]["days_computed"], found["dataset"]["days_computed"]) == (24, 15)
    cfg = config(tmp_path / "home", "ray")
    workers = set(spread.spread(cfg, process, range(8)))
    assert os.getpid() not in workers, "not on Ray"


def process(_):
    return os.getpid()


def test_what_a_task_on_ray_says_is_told_and_a_lost_one_too(tmp_path, ray):
    cfg = config(tmp_path / "home", "ray")
    with pytest.raises(SeawayError, match="this is wrong: 1"):
        list(spread.spread(cfg, refuse, [0, 1]))
    with pytest.raises(SeawayError, match="a task was lost"):
        list(spread.spread(cfg, die, [0, 1]))


def refuse(number):
    if number:
        raise SeawayError(f"this is wrong: {number}")


def die(_):
    os.kill(os.getpid(), 9)
