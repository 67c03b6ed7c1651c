"""Which platform a release runs on, as its cluster says it."""

import pytest

from seaway.config import load
from seaway.errors import NotFound
from serving.platform_info import with_infrastructure


class Cluster:
    def __init__(self, found):
        self.found = found

    def get(self, path):
        if self.found is None:
            raise NotFound(path)
        return self.found


@pytest.mark.parametrize(
    ("found", "stack", "update"),
    [
        (
            {"data": {"stack": "organization/seaway-platform/prod", "update": "7"}},
            "organization/seaway-platform/prod",
            "7",
        ),
        (None, "unknown", ""),
        ({}, "unknown", ""),  # a ConfigMap without any key has no data
        ({"data": None}, "unknown", ""),
    ],
)
def test_what_the_cluster_says_is_recorded(tmp_path, found, stack, update):
    config = load("prod", overrides={"home": str(tmp_path), "serving": {"namespace": "seaway"}, "tracking_uri": None})
    made = with_infrastructure(config, Cluster(found), on_event=lambda text: None).infrastructure
    assert (made.stack, made.update) == (stack, update)
