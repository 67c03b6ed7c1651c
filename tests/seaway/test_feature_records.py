"""A feature definition that went through a file is the same one, the order of its features included."""

import json

from seaway.features import FeatureSpec, Latest, Request, Window


def test_the_order_of_features_survives_a_file_with_sorted_keys():
    spec = FeatureSpec(
        version="v1",
        time="at",
        inputs=("thing", "size", "at"),
        requests=(Request("size_now", column="size"),),
        windows=(Window("w", "thing", "thing", "size", "n_{n}", "mean_{n}", windows=("1d", "7d")),),
        latest=(Latest("l", "thing", "thing", "visits", {"z_first": "a", "a_second": "b"}),),
    )
    back = FeatureSpec.from_record(json.loads(json.dumps(spec.as_record(), sort_keys=True)))
    assert back == spec
    assert back.names == spec.names
    assert back.hash == spec.hash
