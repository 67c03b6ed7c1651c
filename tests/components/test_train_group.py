"""Several workers train what one trains: the loop itself, by processes of torch.distributed without Ray."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from components.train.group import Group, check_rows_are_judged_alone
from components.train.loop import Rows, Training
from seaway.errors import SeawayError

PARAMS = {"learning_rate": 0.01, "batch_size": 64, "negative_share": 0.5}


def build(params, mean, std):
    torch.set_num_threads(1)
    return Plain(len(mean))


class Plain(torch.nn.Module):
    """No dropout; one parameter that nothing uses."""

    def __init__(self, width):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self.idle = torch.nn.Parameter(torch.ones(3))

    def forward(self, rows):
        return self.body(rows).squeeze(1)


def rows(seed, number=331):
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(number, 4)).astype(np.float32)
    return Rows(features, (features[:, 0] + draw.normal(size=number) > 0.8).astype(np.float32))


def training(group=None, epochs=4):
    return Training(build, PARAMS, rows(0), rows(1), max_epochs=epochs, device="cpu", group=group)


def _worker(rank, size, port, until, file, folder):
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    group = Group.joined()
    run = training(group)
    mine = file if rank == 0 else folder / f"copy-{size}-{rank}"
    group.share_file(mine, "cpu")
    run.load(mine)
    while len(run.history) < until:
        run.epoch()
    run.save(file if rank == 0 else folder / f"end-{size}-{rank}")
    torch.distributed.destroy_process_group()


def together(size, until, file, free_port):
    # a fork of this process would not do: earlier tests may have left threads of torch's in it
    multiprocessing.set_forkserver_preload([__name__])
    mp.start_processes(_worker, (size, free_port, until, file, file.parent), nprocs=size, start_method="forkserver")


@pytest.fixture
def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def weights(file):
    run = training()
    assert run.load(file)
    return run.history, {name: value.numpy() for name, value in run.model.state_dict().items()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run = training()
    while not run.finished:
        run.epoch()
    file = tmp_path_factory.mktemp("alone") / "state.safetensors"
    run.save(file)
    return weights(file)


def assert_equal(found, alone):
    (history, mine), (known, theirs) = found, alone
    assert [r["epoch"] for r in history] == [1, 2, 3, 4]
    for name, value in theirs.items():
        assert np.abs(mine[name] - value).max() < 1e-5, name
    for a, b in zip(history, known, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-6)
        assert a["average_precision"] == pytest.approx(b["average_precision"], abs=1e-4)
    assert (mine["idle"] == 1).all()  # no gradient, no decay, as with one worker


@pytest.mark.parametrize("size", [2, 3])
def test_several_workers_come_to_the_weights_of_one(size, alone, tmp_path, free_port):
    file = tmp_path / "state.safetensors"
    together(size, 4, file, free_port)
    assert_equal(weights(file), alone)
    for rank in range(1, size):  # and all of them hold the same bits
        _, other = weights(tmp_path / f"end-{size}-{rank}")
        assert all((other[name] == value).all() for name, value in weights(file)[1].items())


def test_fewer_and_more_workers_go_on_where_others_stood(alone, tmp_path):
    import socket

    file = tmp_path / "state.safetensors"
    for size, until in ((2, 1), (3, 3)):
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        together(size, until, file, port)
    run = training()
    assert run.load(file) and len(run.history) == 3
    run.epoch()
    run.save(file)
    assert_equal(weights(file), alone)


def test_a_part_may_be_empty_and_all_rows_are_taken_once():
    batch = torch.arange(2)
    parts = [Group(rank, 3).part(batch) for rank in range(3)]
    assert [len(p) for p in parts] == [1, 1, 0] and torch.cat(parts).tolist() == [0, 1]


def test_a_model_that_looks_at_the_batch_is_refused():
    with pytest.raises(SeawayError, match="LayerNorm"):
        check_rows_are_judged_alone(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_one_worker_of_a_group_trains_as_one_alone(free_port):
    torch.distributed.init_process_group("nccl", init_method=f"tcp://127.0.0.1:{free_port}", rank=0, world_size=1)
    try:
        runs = [
            Training(build, PARAMS, rows(0), None, max_epochs=2, device="cuda", precision="float32", group=group)
            for group in (None, Group.joined())
        ]
        losses = []
        for run in runs:
            while not run.finished:
                run.epoch()
            losses.append(run.history[-1]["loss"])
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    finally:
        torch.distributed.destroy_process_group()
