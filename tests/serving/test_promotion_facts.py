"""What is asked of a target's cluster, with an API that answers what each test says."""

import pytest

from seaway.config import load
from seaway.errors import NotFound, SeawayError
from seaway.keys import ensure_keys
from seaway.kube_api import Unavailable
from serving.promotion.facts import target_of


class Cluster:
    """An API server; ``answers``: by the end of a path, what is found there, or what is raised."""

    def __init__(self, **answers):
        self.answers, self.calls = answers, []

    def get(self, path, **query):
        return self._answer(path)

    def create(self, path, body):
        return self._answer(path)

    def _answer(self, path):
        self.calls.append(path)
        found = self.answers.get(path.rpartition("/")[2].replace("-", "_"), NotFound(f"no {path}"))
        if isinstance(found, Exception):
            raise found
        return found


@pytest.fixture
def config(tmp_path):
    serving = {"namespace": "seaway", "trust": "model-key", "service_account": None}
    store = {"type": "redis", "connection": "redis.features:6379"}
    return load("prod", overrides={"home": str(tmp_path), "serving": serving, "online_store": store,
                                   "storage": {"uri": "s3://bucket"}, "tracking_uri": None})  # fmt: skip


def whole(**changes):
    known = {
        "v1": {},
        "seaway_platform": {},
        "seaway_controller": {"status": {"readyReplicas": 1}},
        "model_key": {"data": {"model.pub": "a key"}},
        "selfsubjectaccessreviews": {"status": {"allowed": True}},
        "endpointslices": {"items": [{"endpoints": [{"conditions": {"ready": True}}]}]},
    }
    return Cluster(**{**known, **changes})


def platform(config, cluster):
    return target_of(config, "", cluster).platform


def with_key(config, cluster):
    cluster.answers["model_key"] = {"data": {"model.pub": ensure_keys(config)[1].read_text()}}
    return cluster


def test_a_whole_cluster_lacks_nothing(config):
    assert platform(config, with_key(config, whole())) == ()


def test_without_a_key_here_the_other_reasons_are_told_too(config):
    lacks = platform(config, whole(seaway_controller={}, endpointslices={"items": []}))
    assert len(lacks) == 3, lacks
    assert "controller is not ready" in lacks[0] and "model.pub" in lacks[1] and "no pod that is ready" in lacks[2]


def test_an_account_that_may_not_even_ask_gets_the_other_reasons_too(config):
    refused = SeawayError("this account may not do that (403)")
    lacks = platform(config, with_key(config, whole(selfsubjectaccessreviews=refused, endpointslices={})))
    assert lacks[0] == str(refused) and "no pod that is ready" in lacks[1] and len(lacks) == 2


@pytest.mark.parametrize("silent", ["v1", "model_key", "selfsubjectaccessreviews", "endpointslices"])
def test_a_cluster_that_does_not_answer_is_asked_no_more(config, silent):
    cluster = with_key(config, whole(seaway_platform=NotFound("")))
    cluster.answers[silent] = Unavailable("the Kubernetes API did not answer")
    lacks = platform(config, cluster)
    assert lacks[-1] == "the Kubernetes API did not answer"
    assert cluster.calls[-1].endswith(silent.replace("_", "-"))
    assert [call.rpartition("/")[2] for call in cluster.calls].count(silent.replace("_", "-")) == 1


@pytest.mark.parametrize(
    ("conditions", "ready"), [({"ready": None}, True), ({}, True), (None, True), ({"ready": False}, False)]
)
def test_an_endpoint_that_does_not_say_whether_it_is_ready_is(config, conditions, ready):
    found = {"items": [{"endpoints": [{"conditions": conditions}]}]}
    assert (platform(config, with_key(config, whole(endpointslices=found))) == ()) == ready
