"""The storage format is Feast's, byte for byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.feast_import import import_feast
from seaway.features import MICRO
from seaway.online_format import decode_timestamp, decode_value, encode_int64_list, entity_key

INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def protos():
    import_feast()
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types import EntityKey_pb2, Value_pb2

    return serialize_entity_key, EntityKey_pb2.EntityKey, Value_pb2


@given(name=st.text(min_size=1, max_size=20), value=INT64)
@settings(deadline=None)
def test_entity_keys_are_feasts(protos, name, value):
    serialize, key, types = protos
    message = key(join_keys=[name], entity_values=[types.Value(int64_val=value)])
    assert entity_key(name, value) == serialize(message, entity_key_serialization_version=3)


@given(st.lists(INT64, max_size=60))
@settings(deadline=None)
def test_lists_are_feasts(protos, numbers):
    message = protos[2].Value(int64_list_val=protos[2].Int64List(val=numbers)).SerializeToString()
    assert encode_int64_list(np.array(numbers, dtype=np.int64)) == message
    decoded = decode_value(message)
    assert decoded.dtype == np.int64
    assert decoded.tolist() == numbers


def test_single_values_are_feasts(protos):
    value = protos[2].Value
    cases = [
        (value(float_val=1.1), float(np.float32(1.1))),
        (value(double_val=-0.0), -0.0),
        (value(int64_val=-3), -3),
        (value(int32_val=9), 9),
        (value(float_val=0.0), 0.0),
        (value(null_val=0), None),
        (value(), None),
    ]
    assert [decode_value(message.SerializeToString()) for message, _ in cases] == [number for _, number in cases]


def test_other_and_damaged_values_are_refused(protos):
    types = protos[2]
    text = types.Value(string_val="x").SerializeToString()
    numbers = types.Value(int64_list_val=types.Int64List(val=[1, 2**40])).SerializeToString()
    for blob in (text, numbers[:-1], numbers + b"\x00", numbers[:3], b"\x72", b"\x35\x00"):
        with pytest.raises(ValueError):
            decode_value(blob)


def test_timestamps_are_protobufs():
    from google.protobuf.timestamp_pb2 import Timestamp

    for seconds, nanos in ((0, 0), (1_700_000_000, 123_456_000), (1, 0), (-5, 0)):
        assert decode_timestamp(Timestamp(seconds=seconds, nanos=nanos).SerializeToString()) == (
            seconds * MICRO + nanos // 1000
        )
