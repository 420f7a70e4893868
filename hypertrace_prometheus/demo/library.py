"""Library: the root of the application."""

from pathlib import Path

from hypertrace import Tracer, traced

from .documents import (
    TOPICS,
    Catalogue,
    Parser,
    UnreadableVolumeError,
    Volume,
)
from .index import Index
from .ledger import Ledger
from .search import Answers, SearchEngine


class Library:
    """The documentation of the standard library, open to questions.

    `stdlib` is the folder to read, by default that of the running Python; without a source
    file in it there is nothing to open (`NoVolumesError`).
    Every method may be called from any thread.
    """

    def __init__(self, *, stdlib: Path | None = None) -> None:
        self.tracer = Tracer(self)
        self.ledger = Ledger()
        self.catalogue = Catalogue(self.ledger, parent=self.tracer, stdlib=stdlib)
        self.index = Index(TOPICS, self.ledger, parent=self.tracer)
        self._parser = Parser(self.ledger, parent=self.tracer)
        self._engine = SearchEngine(self.index, self.ledger, parent=self.tracer)

    def shelve(self, volume: Volume) -> None:
        """Read `volume` and index it again; one that is unreadable has no documents."""
        self.ledger.add("shelving")
        with self.tracer.span() as span:
            try:
                documents = self._parser.parse(volume)
            except UnreadableVolumeError as error:
                span.fail(error)
                documents = []
            self.index.shards[volume.topic].replace(volume, documents)

    @traced
    def ask(self, question: str) -> Answers:
        """Return the best answers to `question`; raise `SearchError` if there are none."""
        self.ledger.add("question")
        return self._engine.search(question)
