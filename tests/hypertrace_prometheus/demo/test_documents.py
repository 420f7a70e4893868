"""Documents of the demo: what cannot be parsed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hypertrace import Tracer
from hypertrace_prometheus.demo.documents import Parser, UnreadableVolumeError, Volume
from hypertrace_prometheus.demo.ledger import Ledger


@pytest.mark.parametrize("error", [SyntaxError, SystemError, ValueError])
def test_a_volume_that_cannot_be_parsed_is_unreadable(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where CPython itself fails, since another thread parses at the same time."""

    def fail(_: str) -> ast.AST:
        raise error("recursion depth mismatch")

    monkeypatch.setattr(ast, "parse", fail)
    library = Tracer("Library")
    volume = Volume(Path(__file__), "documents", "tests", parent=library)
    ledger = Ledger()
    with pytest.raises(UnreadableVolumeError, match="recursion depth mismatch"):
        Parser(ledger, parent=library).parse(volume)
    assert ledger.details("parsing") == {"unreadable": 1}
