"""Demo's application: a library that is read, indexed and searched."""

import random
import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypertrace import SpanEvent, TraceEvent
from hypertrace.testing import capture_events
from hypertrace_prometheus.demo.documents import TOPICS, NoVolumesError
from hypertrace_prometheus.demo.ledger import Ledger
from hypertrace_prometheus.demo.library import Library
from hypertrace_prometheus.demo.search import EmptyQuestionError, NotFoundError, SearchEngine
from hypertrace_prometheus.demo.workload import Visitor, Workload, questions_per_second

JSON = '''
"""Encode and decode the JSON format; there is a decoder."""

class Decoder:
    """Decoder of a document, a decoder for strings."""

    def decode(self):
        """Return the decoded string."""

async def undocumented(): ...
'''


@pytest.fixture
def stdlib(tmp_path: Path) -> Path:
    """Give a folder with a standard library of three readable files and a broken one."""
    (tmp_path / "json" / "tests").mkdir(parents=True)
    (tmp_path / "json" / "__init__.py").write_text(JSON)
    (tmp_path / "json" / "tests" / "__init__.py").write_text('"""Tests are left out."""')
    (tmp_path / "string.py").write_text(
        '"""Operations on strings, with a string of all letters."""'
    )
    (tmp_path / "random.py").write_text('"""Numbers in no order."""')
    (tmp_path / "bdb.py").write_text("def broken(:")
    return tmp_path


@pytest.fixture
def events() -> Iterator[list[TraceEvent]]:
    """Give the list to which everything traced is added."""
    with capture_events() as captured:
        yield captured


@pytest.fixture
def library(stdlib: Path, events: list[TraceEvent]) -> Library:
    """Give a library that has read all its volumes, with tracing on."""
    library = Library(stdlib=stdlib)
    for volume in library.catalogue.volumes():
        library.shelve(volume)
    return library


def _count(events: list[TraceEvent], function: str, prop: str = "") -> Counter[str]:
    """Count the events of `Class.function` by a prop of the call, or else of the object."""
    counts: Counter[str] = Counter()
    for event in events:
        if f"{event.object.class_name}.{event.caller.function_name}" == function:
            props = {**(event.object.props or {}), **(event.caller.props or {})}
            counts[str(props.get(prop, ""))] += 1
    return counts


def _spans(events: list[TraceEvent]) -> list[tuple[str, str, str, str]]:
    """Give the function of each span, its upstream's, its result and its exception."""
    return [
        (
            f"{event.object.class_name}.{event.caller.function_name}",
            f"{event.upstream.class_name}.{event.upstream.function_name}" if event.upstream else "",
            event.result,
            event.exception.__name__ if event.exception else "",
        )
        for event in events
        if isinstance(event, SpanEvent)
    ]


def test_a_question_is_answered_with_the_documents_that_hold_all_its_words(
    library: Library,
) -> None:
    """The answers are the documents in which every word occurs, of whatever topic."""
    names = {answer.name for answer in library.ask("the string")}
    assert names == {"json.Decoder.decode", "string"}
    assert [answer.name for answer in library.ask("decoded STRING")] == ["json.Decoder.decode"]


def test_the_snippet_shows_why_a_document_was_found(library: Library) -> None:
    """An answer cites the text of its document around the word."""
    (answer,) = library.ask("letters")
    assert "string of all letters" in answer.snippet


def test_the_document_that_says_a_word_more_often_comes_first(library: Library) -> None:
    """Ranking follows how often the words of the question occur."""
    names = [answer.name for answer in library.ask("decoder")]
    assert names == ["json.Decoder", "json"]


def test_a_misspelt_question_raises_with_a_suggestion(library: Library) -> None:
    """`NotFoundError` carries the question with its unknown words put right."""
    with pytest.raises(NotFoundError, match="'docoded string'") as caught:
        library.ask("docoded string")
    assert caught.value.suggestion == "decoded string"


def test_words_that_never_occur_together_are_not_found(library: Library) -> None:
    """A question of known words that no document holds together has no suggestion."""
    with pytest.raises(NotFoundError) as caught:
        library.ask("numbers letters")
    assert caught.value.suggestion is None


def test_a_question_without_a_real_word_is_refused(library: Library) -> None:
    """Stop words and punctuation alone raise `EmptyQuestionError`."""
    with pytest.raises(EmptyQuestionError):
        library.ask("the, of!")


def test_a_question_asked_again_comes_from_the_cache(
    library: Library, events: list[TraceEvent]
) -> None:
    """The same words are looked up once, in whatever spelling they come."""
    assert library.ask("letters") == library.ask("The LETTERS")
    assert _count(events, "QueryCache.get", "outcome") == {"miss": 1, "hit": 1}
    assert _count(events, "Index.lookup").total() == 1


def test_the_cache_forgets_the_least_recently_used(
    library: Library, events: list[TraceEvent]
) -> None:
    """A full cache evicts, and the engine's lambda that it calls is traced under its name."""
    ledger = Ledger()
    engine = SearchEngine(library.index, ledger, cache_size=2, parent=library.tracer)
    for question in ("letters", "numbers", "letters", "decoder", "letters", "numbers"):
        engine.search(question)
    assert ledger.details("cache") == {"miss": 4, "hit": 2}
    assert ledger.total("eviction") == 2
    assert _count(events, "SearchEngine.__init__.<locals>.<lambda>").total() == 2


def test_an_unreadable_volume_has_no_documents(library: Library, events: list[TraceEvent]) -> None:
    """A file that is no Python is counted as such, and the reading goes on."""
    assert _count(events, "Parser.parse", "outcome") == {"parsed": 3, "unreadable": 1}
    assert {topic: len(shard) for topic, shard in library.index.shards.items() if shard} == {
        "network": 3,
        "text": 1,
        "numbers": 1,
    }


def test_a_volume_read_again_replaces_its_documents(
    library: Library, stdlib: Path, events: list[TraceEvent]
) -> None:
    """Documents that are gone from a file are gone from the index."""
    (stdlib / "string.py").write_text('"""Nothing about characters."""')
    for volume in library.catalogue.volumes():
        library.shelve(volume)
    with pytest.raises(NotFoundError):
        library.ask("letters")
    assert [answer.name for answer in library.ask("characters")] == ["string"]
    assert _count(events, "Shard._remove").total() == 5


def test_the_parent_says_what_an_object_works_for(
    library: Library, events: list[TraceEvent]
) -> None:
    """A tokenizer is counted under the shard or the engine that holds it."""
    library.ask("letters")
    parents = Counter(
        (event.parent_object.class_name, (event.parent_object.props or {}).get("topic"))
        for event in events
        if event.object.class_name == "Tokenizer" and event.parent_object
    )
    assert parents == {
        ("Shard", "network"): 3,
        ("Shard", "text"): 1,
        ("Shard", "numbers"): 1,
        ("SearchEngine", None): 1,
    }


def test_an_answer_is_a_chain_of_spans(library: Library, events: list[TraceEvent]) -> None:
    """Each step to an answer is timed inside the one that needed it; the innermost ends first."""
    events.clear()
    library.ask("letters")
    assert _spans(events) == [
        ("Index.lookup", "Ranker.best", "ok", ""),
        ("Ranker.best", "SearchEngine.search", "ok", ""),
        ("SearchEngine.search", "Library.ask", "ok", ""),
        ("Library.ask", "", "ok", ""),
    ]


def test_a_question_without_an_answer_is_an_error_that_the_visitor_handles(
    library: Library, events: list[TraceEvent]
) -> None:
    """What is raised is an error where it passes, and where it is caught it is one, too."""
    visitor = Visitor(library, "testing", deque(), random.Random(1), parent=library.tracer)
    events.clear()
    visitor.visit(1, lambda: True)
    assert _spans(events) == [
        ("SearchEngine.search", "Library.ask", "error", "EmptyQuestionError"),
        ("Library.ask", "Entry.other", "error", "EmptyQuestionError"),
        ("Entry.other", "Visitor.ask", "error", "EmptyQuestionError"),
        ("Visitor.ask", "Visitor.visit", "error", "EmptyQuestionError"),
        ("Visitor.visit", "", "ok", ""),
    ]


def test_an_unreadable_volume_is_an_error_that_the_library_handles(
    library: Library, events: list[TraceEvent]
) -> None:
    """Parsing fails with its error, and shelving ends as one though it goes on."""
    (broken,) = [v for v in library.catalogue.volumes() if v.name == "bdb"]
    events.clear()
    library.shelve(broken)
    assert _spans(events) == [
        ("Parser.parse", "Library.shelve", "error", "UnreadableVolumeError"),
        ("Shard.replace", "Library.shelve", "ok", ""),
        ("Library.shelve", "", "error", "UnreadableVolumeError"),
    ]


def test_a_visitor_asks_as_long_as_there_is_leave(library: Library) -> None:
    """A visit ends after its questions, or before one that may not be asked, and returns which."""
    visitor = Visitor(library, "network", deque(), random.Random(1), parent=library.tracer)
    leave = iter([True, True, False])
    assert visitor.visit(1, lambda: next(leave)) is True
    assert visitor.visit(5, lambda: next(leave)) is False
    assert library.ledger.total("question") == 2


def test_a_visitor_takes_questions_from_the_texts(library: Library) -> None:
    """Most questions of a visitor are answered, and what was answered may be asked again."""
    asked: deque[str] = deque(maxlen=100)
    visitor = Visitor(library, "network", asked, random.Random(1), parent=library.tracer)
    for _ in range(200):
        visitor.ask()
    assert library.ledger.total("question") == 200
    assert library.ledger.total("visitor answered") == len(asked) or len(asked) == 100
    assert library.ledger.total("visitor answered") > 150
    assert library.ledger.details("visitor puzzled")["network"] > 5


def test_a_visitor_of_an_empty_shelf_is_puzzled(library: Library) -> None:
    """A topic without a document gives an empty question, which the library refuses."""
    visitor = Visitor(library, "testing", deque(), random.Random(1), parent=library.tracer)
    visitor.ask()
    assert library.ledger.details("visitor puzzled") == {"testing": 1}


def test_the_workload_ends_after_so_many_questions(stdlib: Path) -> None:
    """Visitors ask exactly as many questions as they were allowed, together."""
    with capture_events() as events:
        library = Library(stdlib=stdlib)
        workload = Workload(library, questions=7)
        workload.start()
        assert workload.wait(30)
        workload.stop()
        assert library.ledger.total("question") == 7
        assert _count(events, "Library.ask").total() == 7


def test_the_workload_stops_early(stdlib: Path) -> None:
    """`stop()` ends visitors and librarian at once, and what was counted is final."""
    library = Library(stdlib=stdlib)
    workload = Workload(library)
    workload.start()
    assert not workload.wait(0.01)
    workload.stop()
    assert workload.wait(0)


def test_the_ledger_agrees_with_the_events(stdlib: Path) -> None:
    """What the application counted itself is what was traced, by topic, kind and outcome."""
    with capture_events() as events:
        library = Library(stdlib=stdlib)
        workload = Workload(library, questions=20)
        workload.start()
        assert workload.wait(30)
        workload.stop()
    details = library.ledger.details
    assert details("insert") == _count(events, "Shard._insert", "topic")
    assert details("docstring") == _count(events, "Parser._documents", "kind")
    assert details("cache") == _count(events, "QueryCache.get", "outcome")
    assert details("search") == _count(events, "SearchEngine.search", "outcome")
    assert details("spelling") == _count(events, "Speller.correct", "outcome")
    assert details("replacement") == _count(events, "Shard.replace", "topic")
    assert details("visit") == _count(events, "Visitor.visit", "topic")
    assert library.ledger.total("shelving") == _count(events, "Library.shelve").total()


def test_the_load_rises_and_falls() -> None:
    """The pace stays between 8 and 52 questions a second, and comes near both."""
    paces = [questions_per_second(second) for second in range(600)]
    assert 8 <= min(paces) < 12
    assert 48 < max(paces) <= 52


def test_the_standard_library_of_this_python_has_every_topic() -> None:
    """Without a folder given, the running Python's own files are found, on every topic."""
    topics = Counter(volume.topic for volume in Library().catalogue.volumes())
    assert set(topics) == set(TOPICS)
    assert topics.total() > 100


def test_a_library_without_volumes_does_not_open(tmp_path: Path) -> None:
    """A folder without a source file is an error that names it."""
    with pytest.raises(NoVolumesError, match=re.escape(str(tmp_path))):
        Library(stdlib=tmp_path)
