"""Index: the documents in which each word occurs."""

import random
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from hypertrace import Tracer, traced

from .documents import Document, Volume
from .ledger import Ledger

_WORD = re.compile(r"[a-z][a-z0-9_]{2,}")
_STOP_WORDS = frozenset(
    ("and", "are", "can", "for", "from", "has", "not", "that", "the", "this", "with")
)


class Tokenizer:
    """Splits a text into the words worth indexing."""

    def __init__(self, *, parent: Tracer) -> None:
        self.tracer = Tracer(self, parent=parent)

    def words(self, text: str) -> list[str]:
        """Return the words of `text` in order, in lower case, without the very common ones."""
        self.tracer.trace()
        return [word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]


class Shard:
    """The part of the index that holds one topic. Every method may be called from any thread."""

    def __init__(self, topic: str, ledger: Ledger, *, parent: Tracer) -> None:
        self.topic = topic
        self.tracer = Tracer(self, {"topic": topic}, parent=parent)
        self._ledger = ledger
        self._tokenizer = Tokenizer(parent=self.tracer)
        self._lock = threading.Lock()
        self._holdings: dict[str, list[Document]] = {}
        self._words: dict[Document, Counter[str]] = {}
        self._postings: dict[str, dict[Document, int]] = {}

    def __contains__(self, word: str) -> bool:
        return word in self._postings

    def __len__(self) -> int:
        return len(self._words)

    @traced
    def replace(self, volume: Volume, documents: Sequence[Document]) -> None:
        """Hold `documents` in place of those that `volume` had before."""
        self._ledger.add("replacement", self.topic)
        words = [Counter(self._tokenizer.words(document.text)) for document in documents]
        with self._lock:
            for document in self._holdings.get(volume.name, ()):
                self._remove(document)
            self._holdings[volume.name] = list(documents)
            for document, counts in zip(documents, words, strict=True):
                self._insert(document, counts)

    def lookup(self, word: str) -> dict[Document, int]:
        """Return the documents in which `word` occurs, each with how often it does."""
        with self._lock:
            found = self._postings.get(word, {}).copy()
        outcome = "hit" if found else "miss"
        self.tracer.trace("lookup", outcome=outcome)
        self._ledger.add(f"lookup {outcome}", self.topic)
        return found

    def sample(self, rng: random.Random) -> Document | None:
        """Return any document, or None as long as there is none."""
        with self._lock:
            documents = tuple(self._words)
        return rng.choice(documents) if documents else None

    def _insert(self, document: Document, counts: Counter[str]) -> None:
        self.tracer.trace("insert")
        self._ledger.add("insert", self.topic)
        self._words[document] = counts
        for word, count in counts.items():
            self._postings.setdefault(word, {})[document] = count

    def _remove(self, document: Document) -> None:
        self.tracer.trace("remove")
        self._ledger.add("remove", self.topic)
        for word in self._words.pop(document):
            postings = self._postings[word]
            del postings[document]
            if not postings:
                del self._postings[word]


class Index:
    """All topics together, each in its own shard."""

    def __init__(self, topics: Iterable[str], ledger: Ledger, *, parent: Tracer) -> None:
        self.tracer = Tracer(self, parent=parent)
        self.shards: Mapping[str, Shard] = {
            topic: Shard(topic, ledger, parent=self.tracer) for topic in topics
        }

    def __contains__(self, word: str) -> bool:
        return any(word in shard for shard in self.shards.values())

    def __len__(self) -> int:
        return sum(len(shard) for shard in self.shards.values())

    @traced
    def lookup(self, word: str) -> dict[Document, int]:
        """Return the documents in which `word` occurs, whatever the topic, as a shard does."""
        found: dict[Document, int] = {}
        for shard in self.shards.values():
            found |= shard.lookup(word)
        return found
