"""Textfile: a file of metrics that node_exporter reads, replaced in one step."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from .exposition.label_texts import ESCAPES
from .runs import LABEL, RunTimes

if TYPE_CHECKING:
    from hypertrace.metrics import Metrics

    from .snapshot import Snapshot

_SUFFIX = ".prom"

_NAME = rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)"
_BARE = re.compile(_NAME + rb"(?:\{\})? ", re.MULTILINE)
"""The begin of a sample without labels."""
_LABELLED = re.compile(_NAME + rb"\{(?!\})", re.MULTILINE)
"""The begin of a sample that has labels."""
_WITHOUT_JOB = re.compile(
    _NAME + rb"\{(?!\})(?!(?:[a-zA-Z0-9_]+=\"(?:[^\"\\]|\\.)*+\",)*+" + LABEL.encode() + rb"=)",
    re.MULTILINE,
)
"""The begin of a sample that has labels, but none of a job."""


def write_textfile(path: str | os.PathLike[str], snapshot: Snapshot, metrics: Metrics) -> None:
    """Write metrics to a file, with the label `job_name`: the name of the file without its end.

    Times of runs that are in the file, and not in the snapshot, stay.

    Args:
        path: of the file; its name ends in `.prom`.
        snapshot: what to write.
        metrics: those whose runs are shown.

    Raises:
        ValueError: the name ends in something else.
        OSError: the file could not be written; it is as it was.
    """
    target = Path(path)
    if target.suffix != _SUFFIX:
        raise ValueError(
            f"path must end in {_SUFFIX}, as 'nightly{_SUFFIX}': node_exporter reads no other "
            f"files; not {str(target)!r}"
        )
    earlier = RunTimes.read(_text_of(target), metrics)
    text = _with_job(snapshot.metrics, target.stem)
    text += snapshot.runs.after(earlier).text().encode(errors="replace")
    _replace(target, text)


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""


def _with_job(page: bytes, job: str) -> bytes:
    """Return a page whose samples have the label of a job; those that have one keep it."""
    label = f'{LABEL}="{job.translate(ESCAPES)}"'.encode(errors="replace").replace(b"\\", rb"\\")
    labelled = _WITHOUT_JOB if f'{LABEL}="'.encode() in page else _LABELLED
    page = labelled.sub(rb"\1{" + label + b",", page)
    return _BARE.sub(rb"\1{" + label + b"} ", page)


def _replace(path: Path, text: bytes) -> None:
    # In the same folder, as a rename is one step only there, and with an end that is not read.
    beside = path.with_name(f".{path.name}.{token_hex(8)}.tmp")
    try:
        with beside.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # else the file could be empty after a power failure
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
