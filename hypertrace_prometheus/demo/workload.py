"""Workload: visitors with questions, and a librarian who reads the volumes."""

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from hypertrace import Tracer, traced
from hypertrace.integrations.entries import entry

from .documents import TOPICS
from .index import Tokenizer
from .library import Library
from .search import NotFoundError, SearchError

_SEATS = 3
_FIRST_READING = 10.0
_LATER_READINGS = 2.0
_ASKED_AGAIN = 0.45
_SLIP = 0.1
_MIX_UP = 0.05


class Visitor:
    """A reader interested in one topic, who takes questions from its texts and makes mistakes."""

    def __init__(
        self, library: Library, topic: str, asked: deque[str], rng: random.Random, *, parent: Tracer
    ) -> None:
        self.topic = topic
        self.tracer = Tracer(self, {"topic": topic}, parent=parent)
        self._library = library
        self._tokenizer = Tokenizer(parent=self.tracer)
        self._asked = asked
        self._rng = rng
        self._suggestion: str | None = None

    @traced
    def visit(self, questions: int, may_ask: Callable[[], bool]) -> bool:
        """Ask so many questions; return False if before one of them `may_ask` said no."""
        for _ in range(questions):
            if not may_ask():
                return False
            self.ask()
        return True

    def ask(self) -> None:
        """Ask what the library suggested, or else a common question, or else a new one."""
        question = self._suggestion or self._common_question() or self._new_question()
        self._suggestion = None
        with self.tracer.span() as span:
            try:
                with entry("other", "search"):
                    self._library.ask(question)
            except SearchError as error:
                # Nothing that a visitor cannot live with, and still a failure to look at.
                span.fail(error)
                self._suggestion = error.suggestion if isinstance(error, NotFoundError) else None
                outcome = "puzzled"
            else:
                self._asked.append(question)
                outcome = "answered"
            span.set(outcome=outcome)
        self._library.ledger.add(f"visitor {outcome}", self.topic)

    def _common_question(self) -> str | None:
        if not self._asked or self._rng.random() > _ASKED_AGAIN:
            return None
        return self._rng.choice(self._asked)

    def _new_question(self) -> str:
        words = self._words(self.topic)
        if self._rng.random() < _MIX_UP:
            words[-1:] = self._words(self._rng.choice(tuple(TOPICS)))
        if words and self._rng.random() < _SLIP:
            words[0] = self._slip(words[0])
        return " ".join(words)

    def _words(self, topic: str) -> list[str]:
        """Return up to two neighbouring words of any document on `topic`."""
        document = self._library.index.shards[topic].sample(self._rng)
        words = self._tokenizer.words(document.text) if document else []
        start = self._rng.randrange(max(len(words) - 1, 1))
        return words[start : start + 2]

    def _slip(self, word: str) -> str:
        """Return `word` with two neighbouring letters in the wrong order."""
        at = self._rng.randrange(len(word) - 1)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


class Workload:
    """Visitors and a librarian, each in a daemon thread, until stopped.

    With `questions`, the visitors leave when so many were asked.
    """

    def __init__(self, library: Library, *, questions: int | None = None) -> None:
        self._library = library
        self._tickets = None if questions is None else threading.Semaphore(questions)
        self._asked: deque[str] = deque(maxlen=100)
        self._stop = threading.Event()
        self._visits = [
            threading.Thread(target=self._visit, args=(seat,), name=f"visitor-{seat}", daemon=True)
            for seat in range(_SEATS)
        ]
        self._librarian = threading.Thread(target=self._read, name="librarian", daemon=True)

    def start(self) -> None:
        """Start the threads, once."""
        for thread in (self._librarian, *self._visits):
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait until all visitors have left, at most `seconds`; return whether they have."""
        until = time.monotonic() + seconds
        for thread in self._visits:
            thread.join(max(until - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._visits)

    def stop(self) -> None:
        """Stop the threads and wait for them; what they count is final afterwards."""
        self._stop.set()
        for thread in (self._librarian, *self._visits):
            if thread.is_alive():
                thread.join()

    def _read(self) -> None:
        """Read all volumes, then all over again at leisure, to keep the library up to date."""
        rate = _FIRST_READING
        while not self._stop.is_set():
            for volume in self._library.catalogue.volumes():
                with entry("job", "shelve"):
                    self._library.shelve(volume)
                if self._stop.wait(1 / rate):
                    return
            rate = _LATER_READINGS

    def _visit(self, seat: int) -> None:
        """Let one visitor after the other take a seat."""
        rng = random.Random(seat)  # noqa: S311 - a repeatable workload, no secret
        for visitor in self._visitors(rng):
            self._library.ledger.add("visit", visitor.topic)
            if not visitor.visit(rng.randint(5, 40), self._may_ask):
                return

    def _may_ask(self) -> bool:
        """Wait for the next question's turn; return False if there is to be none."""
        if self._stop.wait(_SEATS / questions_per_second(time.monotonic())):
            return False
        return self._tickets is None or self._tickets.acquire(blocking=False)

    def _visitors(self, rng: random.Random) -> Iterator[Visitor]:
        """Yield visitors without end; half of them come for the topic in fashion this minute."""
        topics = tuple(TOPICS)
        while True:
            fashion = topics[int(time.monotonic() / 60) % len(topics)]
            topic = rng.choice((fashion, rng.choice(topics)))
            yield Visitor(self._library, topic, self._asked, rng, parent=self._library.tracer)


def questions_per_second(seconds: float) -> float:
    """Return how many questions all visitors ask in a second, between 8 and 52.

    A tide of two minutes and a smaller one of 37 s make graphs worth looking at.
    """
    return 30 + 15 * math.sin(math.tau * seconds / 120) + 7 * math.sin(math.tau * seconds / 37)
