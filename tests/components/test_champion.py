"""The champion that a candidate is compared with is the signed bundle that was registered, or nothing is compared."""

from pathlib import Path

import pytest

from components.base import _champion
from seaway.artifacts import content_hash, write_json
from seaway.config import load
from seaway.errors import SeawayError
from seaway.registry import Registry


@pytest.fixture
def config(tmp_path):
    return load(overrides={"home": str(tmp_path / "home")})


def promoted(config, folder):
    write_json(folder / "model.json", {"params": {}})
    registry = Registry.of(config)
    version = registry.register(
        folder, content_hash(folder), params={}, metrics={}, tags={"trained_with": "champion"}, identity={}
    )
    return registry.promote(version.version)


def test_a_champion_is_checked_before_it_is_read(config, tmp_path):
    version = promoted(config, tmp_path / "bundle")
    hashes, paths = {"model": "candidate"}, {"model": tmp_path / "candidate"}
    assert _champion(config, paths, hashes) == Path(version.bundle)
    write_json(Path(version.bundle) / "model.json", {"params": {"worse": 1}})
    with pytest.raises(SeawayError, match="was changed after it was signed"):
        _champion(config, paths, hashes)


def test_before_there_is_one_the_baseline_stands_in(config, tmp_path):
    paths = {"model": tmp_path}
    assert _champion(config, paths, {"model": "candidate"}) is None
    (tmp_path / "baseline").mkdir()
    assert _champion(config, paths, {"model": "candidate"}) == tmp_path / "baseline"
