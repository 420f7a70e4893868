"""Measured requests: an exporter, and an application that counts its requests itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypertrace import set_trace_function
from hypertrace.integrations import install_all
from hypertrace_prometheus import PrometheusExporter

if TYPE_CHECKING:
    from collections.abc import Iterator

exporter = PrometheusExporter()
set_trace_function(exporter)
install_all(event_of=str)  # a text is the name of its message

PARTS = 10_000
PART = b"x" * 65_536


class OwnError(Exception):
    """What a view raises."""


def count(*labels: object) -> None:
    """Append the labels of a request to the tally, and the process that answers it."""
    line = " ".join(map(str, (os.getpid(), *labels)))
    file = os.open(f"{os.environ['FOLDER']}/requests", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def endless(*labels: object) -> Iterator[bytes]:
    """Give more than any client reads, and count how that ends."""
    end = "cancelled"
    try:
        for _ in range(PARTS):
            yield PART
        end = ""
    finally:
        count(*labels, end)
