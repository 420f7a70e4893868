"""Messages of Prometheus, decoded with its schema by Google's library.

The schema is that of `io/prometheus/client/metrics.proto` of github.com/prometheus/client_model,
which is Copyright 2013 Prometheus Team, and licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0). Its names, numbers and types of fields are written
here in short: a line a message, the fields as `number:type:name`, with `*` after the type of a
repeated one.
"""

from __future__ import annotations

import io
import math
from functools import cache
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, proto, timestamp_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "io.prometheus.client"
SCHEMA = {
    "LabelPair": "1:string:name 2:string:value",
    "Gauge": "1:double:value",
    "Counter": "1:double:value 2:Exemplar:exemplar 3:Timestamp:created_timestamp",
    "Quantile": "1:double:quantile 2:double:value",
    "Summary": (
        "1:uint64:sample_count 2:double:sample_sum 3:Quantile*:quantile "
        "4:Timestamp:created_timestamp"
    ),
    "Untyped": "1:double:value",
    "Histogram": (
        "1:uint64:sample_count 4:double:sample_count_float 2:double:sample_sum 3:Bucket*:bucket "
        "15:Timestamp:created_timestamp 5:sint32:schema 6:double:zero_threshold "
        "7:uint64:zero_count 8:double:zero_count_float 9:BucketSpan*:negative_span "
        "10:sint64*:negative_delta 11:double*:negative_count 12:BucketSpan*:positive_span "
        "13:sint64*:positive_delta 14:double*:positive_count 16:Exemplar*:exemplars"
    ),
    "Bucket": (
        "1:uint64:cumulative_count 4:double:cumulative_count_float 2:double:upper_bound "
        "3:Exemplar:exemplar"
    ),
    "BucketSpan": "1:sint32:offset 2:uint32:length",
    "Exemplar": "1:LabelPair*:label 2:double:value 3:Timestamp:timestamp",
    "Metric": (
        "1:LabelPair*:label 2:Gauge:gauge 3:Counter:counter 4:Summary:summary 5:Untyped:untyped "
        "7:Histogram:histogram 6:int64:timestamp_ms"
    ),
    "MetricFamily": "1:string:name 2:string:help 3:MetricType:type 4:Metric*:metric 5:string:unit",
}
TYPES = ("COUNTER", "GAUGE", "SUMMARY", "UNTYPED", "HISTOGRAM", "GAUGE_HISTOGRAM")


def families(page: bytes) -> list[Any]:
    """Decode a page: messages `MetricFamily`, each with its length before it.

    Raises:
        AssertionError: it has fields that the schema does not have.
    """
    stream, found = io.BytesIO(page), []
    while (family := proto.parse_length_prefixed(_kind("MetricFamily"), stream)) is not None:
        _check_known(family)
        found.append(family)
    return found


def labels_of(metric: Any) -> dict[str, str]:
    """Give the labels of a `Metric` or an `Exemplar`."""
    labels = {pair.name: pair.value for pair in metric.label}
    assert len(labels) == len(metric.label), "a label came twice"
    return labels


def type_of(family: Any) -> str:
    """Give the type of a `MetricFamily`."""
    return TYPES[family.type]


def samples_of(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Give the value of each series that Prometheus makes of a page, but for native histograms."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in families(page):
        for metric in family.metric:
            for suffix, more, value in _parts_of(metric):
                key = f"{family.name}{suffix}", frozenset((labels_of(metric) | more).items())
                assert key not in found, f"{key} came twice"
                found[key] = value
    return found


def _parts_of(metric: Any) -> Iterator[tuple[str, dict[str, str], float]]:
    for kind in ("counter", "gauge", "untyped"):
        if metric.HasField(kind):
            yield "", {}, getattr(metric, kind).value
    for kind in ("histogram", "summary"):
        if metric.HasField(kind):
            yield "_count", {}, getattr(metric, kind).sample_count
            yield "_sum", {}, getattr(metric, kind).sample_sum
    for quantile in metric.summary.quantile:
        yield "", {"quantile": str(quantile.quantile)}, quantile.value
    if metric.HasField("histogram"):
        buckets = {b.upper_bound: b.cumulative_count for b in metric.histogram.bucket}
        for bound, count in ({math.inf: metric.histogram.sample_count} | buckets).items():
            yield "_bucket", {"le": "+Inf" if bound == math.inf else str(bound)}, count


def message(kind: str, /, **fields: Any) -> Any:
    """Make a message of the schema."""
    return _kind(kind)(**fields)


def _check_known(message: Any) -> None:
    # What it does not know is kept, and comes out again.
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    assert copy.ByteSize() == message.ByteSize(), "there are unknown fields"


@cache
def _kind(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name="io/prometheus/client/metrics.proto",
        package=PACKAGE,
        syntax="proto2",
        dependency=[timestamp_pb2.DESCRIPTOR.name],
    )
    enum = file.enum_type.add(name="MetricType")
    for number, name in enumerate(TYPES):
        enum.value.add(name=name, number=number)
    for name, fields in SCHEMA.items():
        described = file.message_type.add(name=name)
        for field in fields.split():
            _add(described, *field.split(":"))
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add(described: Any, number: str, kind: str, name: str) -> None:
    of_field = descriptor_pb2.FieldDescriptorProto
    scalar, is_repeated = kind.removesuffix("*"), kind.endswith("*")
    field = described.field.add(name=name, number=int(number))
    field.label = of_field.LABEL_REPEATED if is_repeated else of_field.LABEL_OPTIONAL
    if scalar.islower() or scalar in {"sint32", "sint64", "uint32", "uint64", "int64"}:
        field.type = of_field.Type.Value(f"TYPE_{scalar.upper()}")
    else:
        of_enum = scalar == "MetricType"
        field.type = of_field.TYPE_ENUM if of_enum else of_field.TYPE_MESSAGE
        package = "google.protobuf" if scalar == "Timestamp" else PACKAGE
        field.type_name = f".{package}.{scalar}"
