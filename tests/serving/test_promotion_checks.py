"""What an environment lacks for a release bundle: each fact alone stops a promotion, and says what to do."""

from dataclasses import replace

import pytest

from serving.promotion.checks import Target, lacking

IMAGE = "registry.example.com/seaway/{}@sha256:" + "a" * 64
RECORD = {
    "workload": "shop",
    "model": {"lineage": {"git_revision": "0123456789abcdef"}},
    "pipeline": "f" * 64,
    "images": {name: IMAGE.format(name) for name in ("train", "serve", "controller")},
    "features": "abc",
}
GUARDRAILS = frozenset({"errors", "latency"})
GOOD = Target(
    env="prod",
    workload="shop",
    features="abc",
    guardrails=GUARDRAILS | {"labels"},
    distrusts="",
    pods=True,
    storage=True,
)


def test_an_environment_with_all_lacks_nothing():
    assert lacking(RECORD, GUARDRAILS, GOOD) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"workload": "other"}, "serves 'other'"),
        ({"distrusts": "signed with another key"}, "trust.public_key of config/prod.yaml"),
        ({"features": "xyz"}, "check out revision 0123456789ab"),
        ({"guardrails": frozenset({"errors"})}, "release.guardrails.latency"),
        ({"storage": False}, "set storage.uri"),
        ({"store": "no connection"}, "online store of prod cannot be used: no connection"),
        ({"platform": ("no namespace",)}, "the platform of prod: no namespace"),
    ],
)
def test_one_thing_that_is_not_there_is_one_reason(changed, said):
    (reason,) = lacking(RECORD, GUARDRAILS, replace(GOOD, **changed))
    assert said in reason


def test_images_must_be_fixed_where_pods_run_them_and_nowhere_else():
    record = {**RECORD, "images": {**RECORD["images"], "serve": "registry.example.com/seaway/serve:v1"}}
    (reason,) = lacking(record, GUARDRAILS, GOOD)
    assert "serve:v1" in reason and "@sha256" in reason
    assert lacking(record, GUARDRAILS, replace(GOOD, pods=False, storage=False)) == []


def test_a_bundle_without_its_pipeline_stays_where_it_is():
    (reason,) = lacking({**RECORD, "pipeline": ""}, GUARDRAILS, GOOD)
    assert "seaway run" in reason


def test_all_reasons_are_told_at_once():
    bad = replace(GOOD, workload="other", features="xyz", storage=False, platform=("a", "b"))
    assert len(lacking(RECORD, GUARDRAILS, bad)) == 5
