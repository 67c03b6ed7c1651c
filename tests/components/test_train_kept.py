"""A training's state here and in object storage, and what is told while workers train; without Ray."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from components.train import step
from components.train.distributed import Progress, _attended
from components.train.kept import epochs, fetch, forget, note_of, remote_of
from components.train.state import write
from components.train.step import train
from seaway.errors import SeawayError

PARAMS = {"learning_rate": 0.01, "batch_size": 256, "width": 8}


@pytest.fixture
def stored(toy, tmp_path):
    config, spec = toy()
    storage = config.storage.model_copy(update={"uri": f"file://{tmp_path}/objects"})
    (tmp_path / "best").mkdir()
    (tmp_path / "best/best.json").write_text(json.dumps({"params": PARAMS, "epochs": 5, "threshold": 0.4}))
    return config.model_copy(update={"storage": storage}), spec


def state(file, number):
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, {}, {"history": [{"epoch": n + 1} for n in range(number)]})


@pytest.mark.parametrize(
    ("here", "there", "kept"), [(2, 3, 3), (3, 2, 3), (None, 2, 2), (1, None, 1), (None, None, -1)]
)
def test_the_state_that_has_gone_further_is_taken(stored, tmp_path, here, there, kept):
    file = tmp_path / "home/key.safetensors"
    file.parent.mkdir()
    remote = remote_of(stored[0], file)
    if here is not None:
        state(file, here)
    if there is not None:
        state(tmp_path / "objects/training/key" / file.name, there)
    fetch(remote, file)
    assert epochs(file) == kept
    note_of(file).write_text("{}")
    forget(remote, file)
    assert not list(tmp_path.rglob("key.*"))


def test_a_state_that_is_cut_short_is_none(tmp_path):
    file = tmp_path / "key.safetensors"
    state(file, 3)
    file.write_bytes(file.read_bytes()[:20])
    assert epochs(file) == -1


def test_one_worker_goes_on_on_another_machine(stored, toy_dataset, tmp_path, monkeypatch):
    config, spec = stored
    whole = train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "whole")
    monkeypatch.setattr(step, "KEEP_SECONDS", 0.0)
    from components.train.loop import Training

    epoch = Training.epoch

    def taken_away(self):
        if len(self.history) == 3:
            raise KeyboardInterrupt
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", taken_away)
    with pytest.raises(KeyboardInterrupt):
        train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "first")
    monkeypatch.setattr(Training, "epoch", epoch)
    other = config.model_copy(update={"home": tmp_path / "another"})
    again = train(other, spec, toy_dataset, tmp_path / "best", tmp_path / "again")
    assert (again["resumed_at_epoch"], again["loss"]) == (3, whole["loss"])
    a, b = (np.frombuffer((tmp_path / f / "weights.safetensors").read_bytes(), np.uint8) for f in ("whole", "again"))
    assert np.array_equal(a, b)
    assert not list((tmp_path / "objects").rglob("*.safetensors"))


def test_epochs_are_told_once_each_and_a_fresh_start_is_named(tmp_path):
    said = []
    job = {"file": str(tmp_path / "key.safetensors"), "remote": None, "epochs": 9, "every": 0.0}
    progress = Progress(job, said.append)
    progress.look()  # nothing yet
    for resumed, number in ((0, 1), (0, 1), (0, 4), (3, 5)):
        note_of(tmp_path / "key.safetensors").write_text(json.dumps({"resumed": resumed, "epoch": number, "loss": 0.5}))
        progress.look()
    assert said == [
        "train: epoch 1/9, loss 0.5000",
        "train: epoch 4/9, loss 0.5000",
        "train: epoch 5/9, loss 0.5000, gone on after epoch 3",
    ]


class Silent:
    def look(self):
        pass


def test_what_trains_is_left_when_ray_has_ended():
    never, lost = threading.Event(), []
    threading.Timer(0.1, lost.append, ["raylet"]).start()
    with pytest.raises(SeawayError, match="Ray's raylet has ended; finished epochs are kept"):
        _attended(never.wait, lost, Silent())
    never.set()
    assert _attended(lambda: 3, [], Silent()) == 3
    with pytest.raises(ZeroDivisionError):
        _attended(lambda: 1 / 0, [], Silent())
