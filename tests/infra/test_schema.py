"""Every object of Kubernetes' own kinds against its published schema: no unknown field, no wrong type. No server."""

from __future__ import annotations

import json
from functools import cache

import kubernetes_validate
import pytest
from kubernetes_validate import utils

VERSION = "1.34"


@pytest.fixture(scope="module", autouse=True)
def schemas_are_read_once():
    """The package reads a megabyte of definitions for every object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


def check(manifest):
    """False for a kind that Kubernetes does not have itself; ValidationError for what is not valid."""
    try:
        kubernetes_validate.validate(json.loads(json.dumps(manifest)), VERSION, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return False
    return True


def test_objects_are_valid(rendered):
    checked, unknown, wrong = 0, set(), []
    for manifest in rendered.manifests():
        try:
            known = check(manifest)
        except kubernetes_validate.ValidationError as error:
            where = f"{manifest['kind']} {manifest['metadata']['name']}"
            wrong.append(f"{where}: {'.'.join(map(str, error.path))}: {error.message[:200]}")
            continue
        checked += known
        unknown |= set() if known else {manifest["apiVersion"].partition("/")[0]}
    assert wrong == []
    assert checked > 50
    assert [group for group in unknown if group.endswith(".k8s.io") and group != "kueue.x-k8s.io"] == []


def test_what_is_not_valid_is_found(rendered):
    policy = next(m for m in rendered.manifests() if m["kind"] == "NetworkPolicy")
    with pytest.raises(kubernetes_validate.ValidationError):
        check({**policy, "spec": {**policy["spec"], "podSelecter": {}}})
    quota = next(m for m in rendered.manifests() if m["kind"] == "ResourceQuota")
    with pytest.raises(kubernetes_validate.ValidationError):
        check({**quota, "spec": {"hard": ["pods"]}})
