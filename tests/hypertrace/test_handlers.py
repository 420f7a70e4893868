"""Handlers: functions that are attached to some events, beside the trace function."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from hypertrace import (
    Cell,
    Handler,
    PropsRecorder,
    SpanEvent,
    SpanRecorder,
    TracedObject,
    TraceEvent,
    Tracer,
    _callsite,
    _dispatch,
    _handling,
    _object_ids,
    attach,
    clear_trace_function,
    dropped_events,
    fan_out,
    get_trace_function,
    handlers,
    set_trace_function,
    silent_tracers,
    suppress_tracing,
    swallowed_errors,
    traced,
)
from hypertrace._targets import recorder_key
from hypertrace.metrics import Metrics
from hypertrace.testing import capture_events, reset

from ..running import in_threads
from .conftest import KINDS, Counting

FUNCTIONS: dict[str, Callable[[], Any]] = {
    **KINDS,
    "metrics": lambda: Metrics(allowed_props=["user"]),
    "fan-out": lambda: fan_out(Metrics(), Metrics()),
}


class Auth:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def login(self, user: str = "ada") -> None:
        self.tracer.trace(user=user)

    def logout(self) -> None:
        self.tracer.trace()

    def change(self, id_: Any) -> None:
        self.tracer.trace(id_)

    def upload(self, inner: Callable[[], object] = bool) -> None:
        with self.tracer.span("big") as span:
            inner()
            span.set(size=3)

    def check(self, **props: object) -> None:
        with self.tracer.span(**props):
            pass


class Shop:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    def sell(self) -> None:
        self.tracer.trace()

    def serve(self, inner: Callable[[], object]) -> None:
        with self.tracer.span():
            inner()


class Decorated:
    def __init__(self) -> None:
        self.tracer = Tracer(self)

    @traced
    def sell(self) -> None:
        pass


@pytest.fixture(params=[*FUNCTIONS, "none"])
def _any_function(request: pytest.FixtureRequest) -> None:
    """Set a trace function of each kind, or none."""
    if request.param != "none":
        set_trace_function(FUNCTIONS[request.param]())


def names(events: list[TraceEvent]) -> list[str]:
    return [f"{event.object.class_name}.{event.caller.function_name}" for event in events]


@pytest.mark.usefixtures("_any_function")
def test_a_handler_gets_the_events_that_its_pattern_matches() -> None:
    """Each once and whole, whatever the trace function is; also from call sites bound before."""
    if get_trace_function() is not None:
        auth, shop = Auth(), Shop()
        auth.login()
        auth.upload()
        shop.sell()
    events: list[TraceEvent] = []
    attach(events.append, of="Auth.*")
    auth, shop = Auth(), Shop()
    for _ in range(3):
        auth.login("bob")
        auth.logout()
        auth.change("name")
        auth.change(3)
        auth.upload()
        auth.check(mode=1)
        auth.check()
        shop.sell()
    assert names(events) == 3 * [
        "Auth.login",
        "Auth.logout",
        "Auth.change",
        "Auth.change",
        "Auth.upload",
        "Auth.check",
        "Auth.check",
    ]
    login, _, change, odd, upload, check, _ = events[:7]
    assert login.caller.props == {"user": "bob"}
    ids: list[object] = [change.id, odd.id]
    assert ids == ["name", 3]
    assert login.object.ctx is auth
    assert login.object.tracer is auth.tracer
    assert isinstance(upload, SpanEvent)
    assert isinstance(check, SpanEvent)
    assert (upload.id, upload.result, upload.caller.props) == ("big", "ok", {"size": 3})
    assert check.caller.props == {"mode": 1}
    assert swallowed_errors() == 0


@pytest.mark.usefixtures("_any_function")
def test_each_tracer_of_a_class_has_its_own_event() -> None:
    """Tracers that share recorders do not share the objects of their events."""
    events: list[TraceEvent] = []
    attach(events.append)
    first, second = Auth(), Auth()
    for _ in range(2):
        first.login()
        second.login()
        first.logout()
        second.logout()
    assert [event.object.ctx for event in events] == 4 * [first, second]


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_trace_function_counts_as_without_handlers(kind: str) -> None:
    """Whether a handler matches, fails, or comes and goes."""
    expected, function = FUNCTIONS[kind](), FUNCTIONS[kind]()
    set_trace_function(expected)
    _run_all(Auth(), lambda: None)
    set_trace_function(function)

    def fail(_: TraceEvent) -> None:
        raise LookupError

    handle: list[Handler] = []

    def come_or_go() -> None:
        if handle:
            handle.pop().detach()
        else:
            handle.append(attach(fail, "Auth.*"))

    _object_ids.reset()
    _run_all(Auth(), come_or_go)
    assert _counts(function) == _counts(expected)


def _run_all(auth: Auth, step: Callable[[], object]) -> None:
    for _ in range(4):
        auth.login()
        auth.logout()
        auth.change("name")
        auth.change(3)
        auth.upload()
        auth.check(user="x")
        step()


def _counts(function: Any) -> Any:
    if isinstance(function, Counting):
        return function.counts("caller.function_name", "id", "caller.props")
    metrics = function if isinstance(function, Metrics) else function.functions[0]
    return [
        (family.name, point.labels, getattr(point.value, "count", point.value))
        for family in metrics.read().families
        if family.name.startswith("function_")
        for point in family.points
    ]


class Spy:
    """A trace function that keeps what it binds."""

    def __init__(self) -> None:
        self.bound: list[Any] = []

    def __call__(self, event: TraceEvent) -> None:
        raise NotImplementedError

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> str:
        return traced.class_name

    def bind(self, event: TraceEvent) -> Callable[[], object]:
        self.bound.append(Cell().increment)
        return self.bound[-1]  # type: ignore[no-any-return]  # as it was just bound

    def bind_props(self, event: TraceEvent) -> Callable[[Any], object]:
        self.bound.append(PropsRecorder((), {(): Cell().increment}, lambda *_: bool).record)
        return self.bound[-1]  # type: ignore[no-any-return]  # as it was just bound

    def bind_span(self, event: TraceEvent) -> SpanRecorder:
        self.bound.append(Spans())
        return self.bound[-1]  # type: ignore[no-any-return]  # as it was just bound

    def bind_span_props(self, event: TraceEvent) -> Callable[[Any], SpanRecorder]:
        return lambda _: self.bind_span(event)


class Spans:
    """A recorder of spans that does nothing."""

    edge = None

    def __init__(self) -> None:
        self.durations: list[float] = []
        self.start = Cell().increment

    def end(self, event: SpanEvent) -> None:
        raise NotImplementedError

    def fold(self) -> None:
        self.durations.clear()


def test_a_call_site_without_a_match_has_the_recorder_of_the_trace_function() -> None:
    """The very same object is in the table of the tracer, and is bound once."""
    spy = Spy()
    set_trace_function(spy)
    attach(print, of="Shop.*")
    attach(print, id="other-*")
    auth = Auth()
    for _ in range(3):
        auth.login()
        auth.logout()
        auth.change("name")
        auth.check()
    entries = [
        auth.tracer._table.get(recorder_key(site.address + offset, id_, with_props=with_props))
        for site in _callsite._sites.values()
        for offset in range(4)
        for id_ in (None, "name")
        for with_props in (False, True)
    ]
    found = [getattr(entry, "recorder", entry) for entry in entries if entry is not None]
    assert sorted(map(id, found)) == sorted(map(id, spy.bound))
    assert len(found) == 4


def test_a_call_site_without_a_match_runs_nothing_of_handlers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once bound, it does not leave the tracer's table; with the trace function, or alone."""
    for function in (Metrics(), None):
        if function is not None:
            set_trace_function(function)
        attach(print, of="Shop.*")
        auth = Auth()
        works: list[Callable[[], object]] = [
            auth.login,
            auth.logout,
            partial(auth.change, "name"),
            auth.check,
        ]
        for work in works:
            work()
        with monkeypatch.context() as patched:
            for name in ("_deliver", "_open_span"):
                patched.delattr(Tracer, name)
            for work in works:
                work()
        reset()
    assert swallowed_errors() == 0


def test_matching_is_done_once_for_each_call_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a handler matches, and for tracers that share no recorders."""
    asked: list[str] = []
    matches = Handler.matches

    def counted(self: Handler, event: TraceEvent) -> bool:
        asked.append(event.caller.function_name)
        return matches(self, event)

    monkeypatch.setattr(Handler, "matches", counted)
    set_trace_function(KINDS["own"]())
    attach(lambda _: None, of="Auth.log*")
    for _ in range(3):
        auth = Auth()
        for _ in range(3):
            auth.login()
            auth.logout()
            auth.check()
    assert sorted(asked) == ["check", "login", "logout"]


@pytest.mark.parametrize(
    ("function", "of", "expected"),
    [
        (None, "Auth.upload", "Shop"),
        (lambda _: None, "Auth.upload", "Shop"),
        (Metrics(upstream=True), "Auth.upload", "Shop"),
        (Metrics(upstream=False), None, "Shop"),
        (Metrics(upstream=False), "Auth.upload", None),
    ],
    ids=["none", "plain", "edges", "all match", "without edges"],
)
def test_upstream_is_recorded_for_a_handler(
    function: Any, of: str | None, expected: str | None
) -> None:
    """It is the span around, if the trace function records edges or a handler matches that, too."""
    if function is not None:
        set_trace_function(function)
    spans: list[Any] = []
    attach(spans.append, of=of)
    Shop().serve(Auth().upload)
    Auth().upload()
    inner = [span for span in spans if span.object.class_name == "Auth"]
    upstream = [span.upstream and span.upstream.class_name for span in inner]
    assert upstream == [expected, None]


def test_handlers_are_called_in_turn_after_the_trace_function() -> None:
    """In the order in which they were attached; one function may be attached twice."""
    order: list[str] = []
    set_trace_function(lambda _: order.append("function"))
    note = lambda _, name: order.append(name)  # noqa: E731
    attach(partial(note, name="first"))
    attach(partial(note, name="second"))
    attach(partial(note, name="second"))
    auth = Auth()
    auth.logout()
    auth.check()
    assert order == 2 * ["function", "first", "second", "second"]


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_an_error_stops_no_other(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and logged like that of a trace function, and counted in the handler."""
    set_trace_function(FUNCTIONS[kind]())
    events: list[TraceEvent] = []

    def fail(_: TraceEvent) -> None:
        raise LookupError

    failing = attach(fail)
    attach(events.append)
    auth = Auth()
    auth.login()
    auth.upload()
    assert len(events) == 2
    assert (failing.calls, failing.errors, swallowed_errors()) == (2, 2, 2)
    assert failing.attached
    assert "swallowed LookupError in tests.hypertrace.test_handlers" in caplog.text


class Broken(Spy):
    """A trace function that fails in all it does."""

    def share_key(self, traced: TracedObject, parent: TracedObject | None) -> str:
        raise LookupError

    bind = bind_props = bind_span = bind_span_props = share_key  # type: ignore[assignment]

    def __call__(self, event: TraceEvent) -> None:
        raise LookupError


@pytest.mark.parametrize("make", [Broken, lambda: Broken().__call__], ids=["bound", "plain"])
def test_an_error_of_the_trace_function_stops_no_handler(make: Callable[[], Any]) -> None:
    """Whatever it fails in."""
    set_trace_function(make())
    events: list[TraceEvent] = []
    attach(events.append)
    _run_all(Auth(), lambda: None)
    assert len(events) == 24
    assert swallowed_errors() >= 24


def test_a_handler_may_be_detached_by_its_error(caplog: pytest.LogCaptureFixture) -> None:
    """It gets no more events, and the log says so once."""

    def fail(_: TraceEvent) -> None:
        raise LookupError

    handler = attach(fail, of="Auth.*", detach_on_error=True)
    auth = Auth()
    auth.login()
    auth.login()
    assert (handler.calls, handler.attached, handlers()) == (1, False, [])
    assert _dispatch.target is None
    logged = [r.getMessage() for r in caplog.records if "was attached until" in r.getMessage()]
    assert len(logged) == 1
    assert "fail, of='Auth.*'" in logged[0]
    assert "LookupError" in logged[0]


def test_what_a_handler_traces_is_dropped() -> None:
    """As for a trace function."""
    auth = Auth()
    handler = attach(lambda _: auth.login(), of="Auth.*")
    auth = Auth()
    auth.logout()
    auth.upload()
    assert (handler.calls, dropped_events()) == (2, 2)


def test_suppressed_events_reach_no_handler() -> None:
    """They are dropped before."""
    handler = attach(lambda _: None)
    auth = Auth()
    suppress_tracing(auth.login)
    suppress_tracing(auth.upload)
    assert handler.calls == 0


def test_errors_of_handlers_are_raised_if_strict() -> None:
    """As long as the trace function that is strict is set."""

    def fail(_: TraceEvent) -> None:
        raise LookupError

    attach(fail)
    with capture_events(strict=True) as events:
        auth = Auth()
        with pytest.raises(LookupError):
            auth.login()
        with pytest.raises(LookupError):
            auth.check()
    assert len(events) == 2
    auth.login()
    assert swallowed_errors() == 1


def test_handlers_stay_when_the_trace_function_changes() -> None:
    """Setting, replacing and clearing it concerns it alone; so does the capture of events."""
    events: list[TraceEvent] = []
    with attach(events.append) as handler:
        auth = Auth()
        auth.login()
        set_trace_function(Metrics())
        auth.login()
        set_trace_function(lambda _: None)
        auth.login()
        with capture_events() as captured:
            auth.login()
        clear_trace_function()
        assert get_trace_function() is None
        auth.login()
        assert handlers() == [handler]
    auth.login()
    assert len(events) == 5
    assert len(captured) == 1
    assert handlers() == []


def test_handlers_alone_enable_tracers(caplog: pytest.LogCaptureFixture) -> None:
    """Those that are made from then on; the log names the others, as for a trace function."""
    early = Auth()
    handler = attach(lambda _: None)
    early.login()
    late = Auth()
    late.login()
    assert (early.tracer.enabled, late.tracer.enabled, handler.calls) == (False, True, 1)
    assert silent_tracers() == {"Auth": 1}
    assert "1 tracers were made before" in caplog.text
    handler.detach()
    late.login()
    assert not Auth().tracer.enabled
    assert handler.calls == 1


def test_detaching_is_idempotent_and_ends_one_handler() -> None:
    """A second time does nothing, and others of the same function stay."""
    events: list[TraceEvent] = []
    first, second = attach(events.append), attach(events.append)
    first.detach()
    first.detach()
    Auth().login()
    assert (len(events), handlers()) == (1, [second])
    assert (first.attached, second.attached) == (False, True)


def test_a_span_goes_to_the_handlers_of_its_start_that_are_still_attached() -> None:
    """What is attached while it is open comes too late for it."""
    before: list[TraceEvent] = []
    after: list[TraceEvent] = []
    handler = attach(before.append)
    auth = Auth()
    auth.upload(lambda: attach(after.append))
    assert (len(before), len(after)) == (1, 0)
    auth.upload(handler.detach)
    assert (len(before), len(after)) == (1, 1)


def test_a_decorated_function_and_a_record_are_events() -> None:
    """As those of `span()`."""
    events: list[TraceEvent] = []
    attach(events.append, of="Decorated.*")
    shop = Decorated()
    shop.sell()
    shop.tracer.record(2.5)
    assert [event.object.class_name for event in events] == ["Decorated", "Decorated"]
    assert isinstance(events[-1], SpanEvent)
    assert events[-1].duration == 2.5


def test_the_handler_says_what_it_is() -> None:
    """What function, which pattern, and how often."""
    handler = attach(print, of="Auth.*", id="up*", detach_on_error=True)
    assert repr(handler) == "<Handler print, of='Auth.*', id='up*', detach_on_error=True>"
    facts = handler.function, handler.of, handler.id, handler.queue, handler.detach_on_error
    assert facts == (print, "Auth.*", "up*", None, True)
    assert (handler.calls, handler.errors, handler.dropped, handler.waiting) == (0, 0, 0, 0)
    handler.detach()
    assert repr(handler).endswith(", detached>")


async def _coroutine(event: TraceEvent) -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"function": 3}, TypeError, "not 3"),
        ({"function": Metrics}, TypeError, r"attach\(Metrics\(...\)\)"),
        ({"function": _coroutine}, TypeError, "plain function"),
        ({"of": "Auth"}, ValueError, r"'Auth\.\*'"),
        ({"of": 3}, TypeError, "not 3"),
        ({"id": b"x"}, TypeError, "not b'x'"),
        ({"queue": 0}, ValueError, "queue=0"),
        ({"queue": -1}, ValueError, "1 or more"),
        ({"queue": True}, TypeError, "not True"),
        ({"queue": 2.5}, TypeError, "as 1000"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_the_way_out(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Nothing is attached then."""
    with pytest.raises(error, match=words):
        attach(**{"function": print, **arguments})
    assert handlers() == []
    assert _dispatch.target is None


def test_a_reset_detaches_all() -> None:
    """And the next tracer is disabled."""
    handler = attach(print)
    reset()
    assert not handler.attached
    assert not Tracer("a").enabled


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_threads_attach_and_detach_while_others_trace(kind: str) -> None:
    """The trace function misses nothing, nor does a handler that stays; at the end all is gone."""
    function = FUNCTIONS[kind]()
    set_trace_function(function)
    total = Cell()
    attach(lambda _: total.increment(), of="Auth.*")
    seen: list[tuple[Handler, int]] = []

    def trace() -> None:
        auth = Auth()
        for _ in range(300):
            auth.login()
            auth.check()

    def come_and_go() -> None:
        for _ in range(40):
            handler = attach(lambda _: None, of="Auth.*")
            handler.detach()
            seen.append((handler, handler.calls))

    in_threads(trace, trace, come_and_go, come_and_go)
    assert total.value == 1_200
    assert len(handlers()) == 1
    if isinstance(function, Metrics):
        counts = [value for name, _, value in _counts(function) if name == "function_counter_total"]
        assert sum(counts) == 1_200
    elif isinstance(function, Counting):
        assert sum(function.counts("caller.line").values()) == 1_200
    clear_trace_function()
    for handler in handlers():
        handler.detach()
    assert _dispatch.target is None
    assert len(_dispatch._active_targets) == 0


def test_a_handler_that_is_attached_by_another_thread_meanwhile_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever comes between the two steps of a change, the last state counts."""
    late: list[Handler] = []
    events: list[TraceEvent] = []

    class Interrupted:
        """Stands for the module of failures, and attaches a handler while it is written to."""

        def __setattr__(self, name: str, value: object) -> None:
            if not late:
                late.append(None)  # type: ignore[arg-type]
                late[0] = attach(events.append)

    monkeypatch.setattr(_dispatch, "_failures", Interrupted())
    set_trace_function(Metrics())
    Auth().login()
    assert len(events) == 1
    late[0].detach()


def test_a_handler_is_not_called_after_it_is_detached() -> None:
    """By no thread that found it before."""
    handler = attach(lambda _: None)
    target = _dispatch.target
    assert target is not None
    tracer = Tracer("a")
    handler.detach()
    target.deliver(tracer, _callsite.NOWHERE, None, None)
    assert handler.calls == 0


def test_props_of_an_event_are_those_of_the_call() -> None:
    """What the application does later with its mapping changes no event."""
    set_trace_function(Metrics())
    events: list[TraceEvent] = []
    attach(events.append)
    props: dict[str, object] = {"n": 1}
    tracer = Tracer("a")
    tracer.trace(props)
    props["n"] = 2
    assert events[0].caller.props == {"n": 1}


def test_matches_do_not_accumulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids without bound are forgotten and matched again."""
    monkeypatch.setattr(_handling, "MAX_MATCHED", 10)
    handler = attach(lambda _: None)
    auth = Auth()
    for number in range(35):
        auth.change(f"id {number}")
    target: Any = _dispatch.target
    assert len(target._matched) <= 10
    assert handler.calls == 35
