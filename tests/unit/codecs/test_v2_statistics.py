"""Triton's statistics out of our counts."""

from __future__ import annotations

import json

from google.protobuf.json_format import MessageToDict

from batchproxy.codecs.v2_statistics import Statistics, encode_document, encode_message
from batchproxy.core.counts import Counts, Times
from batchproxy.protos import v2_pb2 as pb

COUNTS = Counts(13, Times(5, 6.5), Times(5, 1.625), Times(1, 3.5), {6: Times(2, 0.75), 1: Times(1, 0.125)}, 7.125)
NONE = {"count": 0, "ns": 0}


def test_a_document() -> None:
    """Its names are Triton's; times are those of all together, in nanoseconds; sizes in order."""
    (model,) = json.loads(encode_document([Statistics("m", 3, COUNTS, 1234)]))["model_stats"]

    assert ("m", "3", 1234, 13, 3) == tuple(list(model.values())[:5])
    assert {
        "success": {"count": 5, "ns": 8_125_000_000},
        "fail": {"count": 1, "ns": 3_500_000_000},
        "queue": {"count": 5, "ns": 6_500_000_000},
        "compute_input": NONE,
        "compute_infer": {"count": 5, "ns": 1_625_000_000},
        "compute_output": NONE,
        "cache_hit": NONE,
        "cache_miss": NONE,
    } == model["inference_stats"]
    assert [(1, 1, 125_000_000), (6, 2, 750_000_000)] == [
        (size["batch_size"], size["compute_infer"]["count"], size["compute_infer"]["ns"])
        for size in model["batch_stats"]
    ]


def test_a_message() -> None:
    """It says what the document says."""
    stats = [Statistics("m", 3, COUNTS, 1234), Statistics("m", 4, Counts(), 0)]
    message = pb.ModelStatisticsResponse.FromString(encode_message(stats))
    said = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    document = json.loads(encode_document(stats), parse_int=lambda text: text)

    assert [model["name"] for model in document["model_stats"]] == [model["name"] for model in said["model_stats"]]
    assert document == said
