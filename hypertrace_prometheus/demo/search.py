"""Search: from a question to its answers."""

import heapq
import math
import string
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hypertrace import Tracer, traced

from .documents import Document
from .index import Index, Tokenizer
from .ledger import Ledger

_BEST = 5
_SNIPPET_LENGTH = 80

Words = tuple[str, ...]


class SearchError(Exception):
    """A question has no answer."""


class EmptyQuestionError(SearchError):
    """A question has no word that is worth looking up."""


class NotFoundError(SearchError):
    """No document holds all the words.

    `suggestion` is the question with its spelling corrected, or None.
    """

    def __init__(self, question: str, suggestion: str | None) -> None:
        super().__init__(f"nothing found for {question!r}")
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Answer:
    """A document that was found, with the piece of its text that shows why."""

    name: str
    snippet: str


Answers = tuple[Answer, ...]


class QueryCache:
    """The answers given last. Every method may be called from any thread.

    `on_evict` is called with the words whose answers it removes.
    """

    def __init__(
        self, size: int, on_evict: Callable[[Words], None], ledger: Ledger, *, parent: Tracer
    ) -> None:
        self.tracer = Tracer(self, parent=parent)
        self._size = size
        self._on_evict = on_evict
        self._ledger = ledger
        self._lock = threading.Lock()
        self._answers: OrderedDict[Words, Answers] = OrderedDict()

    def get(self, words: Words) -> Answers | None:
        """Return the answers kept for `words`, or None."""
        with self._lock:
            answers = self._answers.get(words)
            if answers is not None:
                self._answers.move_to_end(words)
        outcome = "miss" if answers is None else "hit"
        self.tracer.trace(outcome=outcome)
        self._ledger.add("cache", outcome)
        return answers

    def put(self, words: Words, answers: Answers) -> None:
        """Keep `answers`, in place of the least recently used ones where there is no room."""
        self.tracer.trace()
        with self._lock:
            self._answers[words] = answers
            full = len(self._answers) > self._size
            evicted = self._answers.popitem(last=False)[0] if full else None
        if evicted is not None:
            self._ledger.add("eviction")
            self._on_evict(evicted)


class Ranker:
    """Decides which documents answer best: those where rare words occur often."""

    def __init__(self, index: Index, *, parent: Tracer) -> None:
        self.tracer = Tracer(self, parent=parent)
        self._index = index

    @traced
    def best(self, words: Words) -> list[Document]:
        """Return the best of the documents that hold all `words`, the best first."""
        postings = [self._index.lookup(word) for word in words]
        weights = [math.log(1 + len(self._index) / (1 + len(found))) for found in postings]
        candidates = set(postings[0]).intersection(*postings[1:])

        def score(document: Document) -> float:
            counts = (found[document] for found in postings)
            return sum(
                weight * count / (1 + count) for weight, count in zip(weights, counts, strict=True)
            )

        return heapq.nlargest(_BEST, candidates, key=score)


class Highlighter:
    """Cuts the piece out of a document that shows why it was found."""

    def __init__(self, ledger: Ledger, *, parent: Tracer) -> None:
        self.tracer = Tracer(self, parent=parent)
        self._ledger = ledger

    def snippet(self, document: Document, words: Words) -> str:
        """Return about a line of the text of `document`, around the first of `words`."""
        self.tracer.trace()
        self._ledger.add("snippet")
        text = " ".join(document.text.split())
        start = max(text.lower().find(words[0]) - _SNIPPET_LENGTH // 4, 0)
        return text[start : start + _SNIPPET_LENGTH]


class Speller:
    """Corrects words with one typing error."""

    def __init__(self, index: Index, ledger: Ledger, *, parent: Tracer) -> None:
        self.tracer = Tracer(self, parent=parent)
        self._index = index
        self._ledger = ledger

    def correct(self, words: Words) -> str | None:
        """Return `words` with the unknown ones corrected, or None if that changes nothing."""
        with self.tracer.span() as span:
            corrected = tuple(self._correct(word) for word in words)
            outcome = "same" if corrected == words else "corrected"
            span.set(outcome=outcome)
        self._ledger.add("spelling", outcome)
        return None if corrected == words else " ".join(corrected)

    def _correct(self, word: str) -> str:
        if word in self._index:
            return word
        return next(
            (candidate for candidate in _neighbours(word) if candidate in self._index), word
        )


class SearchEngine:
    """Answers questions. Every method may be called from any thread."""

    def __init__(
        self, index: Index, ledger: Ledger, *, cache_size: int = 200, parent: Tracer
    ) -> None:
        self.tracer = Tracer(self, parent=parent)
        self._ledger = ledger
        self._tokenizer = Tokenizer(parent=self.tracer)
        self._ranker = Ranker(index, parent=self.tracer)
        self._highlighter = Highlighter(ledger, parent=self.tracer)
        self._speller = Speller(index, ledger, parent=self.tracer)
        # The cache reports each eviction to the engine: the lambda counts as a separate function.
        self._cache = QueryCache(
            cache_size, lambda _words: self.tracer.trace("forget"), ledger, parent=self.tracer
        )

    def search(self, question: str) -> Answers:
        """Return the best answers to `question`, the best first.

        Raises `EmptyQuestionError` if no word of it is worth looking up,
        `NotFoundError` if no document holds all its words.
        """
        with self.tracer.span("search") as span:
            words = tuple(dict.fromkeys(self._tokenizer.words(question)))
            answers = (self._cache.get(words) or self._answer(words)) if words else ()
            outcome = "found" if answers else "not found" if words else "empty"
            span.set(outcome=outcome)
            self._ledger.add("search", outcome)
            if not words:
                raise EmptyQuestionError(question)
            if not answers:
                raise NotFoundError(question, self._speller.correct(words))
            return answers

    def _answer(self, words: Words) -> Answers:
        best = self._ranker.best(words)
        answers = tuple(Answer(each.name, self._highlighter.snippet(each, words)) for each in best)
        if answers:
            self._cache.put(words, answers)
        return answers


def _neighbours(word: str) -> Iterator[str]:
    """Yield what `word` may have been before one typing error."""
    splits: Sequence[tuple[str, str]] = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    letters = string.ascii_lowercase
    yield from (head + tail[1] + tail[0] + tail[2:] for head, tail in splits if len(tail) > 1)
    yield from (head + letter + tail for head, tail in splits for letter in letters)
    yield from (head + tail[1:] for head, tail in splits if tail)
    yield from (head + letter + tail[1:] for head, tail in splits if tail for letter in letters)
