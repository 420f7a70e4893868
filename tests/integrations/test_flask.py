"""Flask applications: routes, errors and answers of real applications."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace import swallowed_errors
from hypertrace._operations import current_entry
from hypertrace.integrations import install, uninstall
from hypertrace.integrations.wsgi import trace_wsgi
from hypertrace.tallies import swallowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hypertrace.metrics import Metrics

    Points = Callable[[str], dict[tuple[str, ...], float]]

DURATIONS = "http_server_request_duration_seconds"


@pytest.fixture
def flask(library: Callable[[str], Any], metrics: Metrics) -> Iterator[Any]:
    """Give the library, measured, and see to it that no error was swallowed."""
    module = library("flask")
    install("flask")
    yield module
    assert swallowed.value == 0


def _get(app: Any, path: str, method: str = "GET", **more: Any) -> Any:
    answer = app.test_client().open(path, method=method, **more)
    answer.get_data()
    answer.close()
    return answer


def test_the_route_is_the_rule(flask: Any, points: Points) -> None:
    """Converters, methods, static files and `OPTIONS` have the rule that they matched."""
    app = flask.Flask(__name__, static_folder=None)
    app.add_url_rule(
        "/items/<int:number>", view_func=lambda number: f"item {number}", endpoint="item"
    )
    for number in range(3):
        assert _get(app, f"/items/{number}").text == f"item {number}"
    _get(app, "/items/1", "HEAD")
    _get(app, "/items/1", "OPTIONS")
    route = "/items/<int:number>"
    assert points(DURATIONS) == {
        ("GET", route, "200", ""): 3,
        ("HEAD", route, "200", ""): 1,
        ("OPTIONS", route, "200", ""): 1,
    }
    assert points("entry_duration_seconds")["http", f"GET {route}", "ok"] == 3


def test_unmatched_requests_are_one_value(flask: Any, points: Points) -> None:
    """No rule and a redirect to the slash have no route; another method leaves that of the path."""
    app = flask.Flask(__name__)
    app.add_url_rule("/shop/", view_func=lambda: "shop", endpoint="shop")
    for number in range(100):
        _get(app, f"/no/{number}")
    _get(app, "/shop/", "DELETE")
    _get(app, "/shop/", "BREW")
    _get(app, "/shop", "DELETE")
    _get(app, "/shop")
    assert points(DURATIONS) == {
        ("GET", "<unmatched>", "404", ""): 100,
        ("DELETE", "/shop/", "405", ""): 1,
        ("_OTHER", "/shop/", "405", ""): 1,
        ("GET", "<unmatched>", "308", ""): 1,
        ("DELETE", "<unmatched>", "404", ""): 1,
    }
    assert swallowed_errors() == 0


def test_blueprints_add_their_prefixes(flask: Any, points: Points) -> None:
    """Those of blueprints in blueprints, too, and each registration its own."""
    inner, outer = flask.Blueprint("inner", "a"), flask.Blueprint("outer", "a")
    inner.add_url_rule("/<name>", view_func=lambda name: name, endpoint="one")
    outer.register_blueprint(inner, url_prefix="/inner")
    app = flask.Flask(__name__)
    app.register_blueprint(outer, url_prefix="/v1")
    app.register_blueprint(outer, url_prefix="/v2", name="second")
    _get(app, "/v1/inner/a")
    _get(app, "/v2/inner/a")
    assert points(DURATIONS) == {
        ("GET", "/v1/inner/<name>", "200", ""): 1,
        ("GET", "/v2/inner/<name>", "200", ""): 1,
    }


def test_a_mounted_application_has_its_root_in_the_route(flask: Any, points: Points) -> None:
    """A request that goes from one application to another is counted once, by the rule there."""
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    shop, admin = flask.Flask("shop"), flask.Flask("admin")
    shop.add_url_rule("/<name>", view_func=lambda name: name, endpoint="one")
    admin.add_url_rule("/", view_func=lambda: "admin", endpoint="one")
    shop.wsgi_app = DispatcherMiddleware(shop.wsgi_app, {"/admin": admin})
    assert _get(shop, "/admin/").text == "admin"
    _get(shop, "/a")
    assert points(DURATIONS) == {
        ("GET", "/admin/", "200", ""): 1,
        ("GET", "/<name>", "200", ""): 1,
    }


class OwnError(Exception):
    """What views raise."""


def _raise() -> str:
    raise OwnError


def _app(flask: Any, **configuration: Any) -> Any:
    app = flask.Flask(__name__)
    app.config.update(configuration)
    app.add_url_rule("/boom", view_func=_raise, endpoint="boom")
    app.add_url_rule("/ok", view_func=lambda: "ok", endpoint="ok")
    app.add_url_rule("/abort", view_func=lambda: flask.abort(503), endpoint="abort")
    return app


def test_an_exception_without_a_handler_is_status_500(flask: Any, points: Points) -> None:
    """The view's exception is the type of error; the one of `abort` is an answer."""
    app = _app(flask)
    assert _get(app, "/boom").status_code == 500
    assert _get(app, "/abort").status_code == 503
    assert points(DURATIONS) == {
        ("GET", "/boom", "500", "OwnError"): 1,
        ("GET", "/abort", "503", "503"): 1,
    }
    assert points("function_exceptions_total") == {
        ("HttpServer", "", "request", "<HttpServer>", "entry.http", "OwnError", "here"): 1
    }


@pytest.mark.parametrize("setting", ["PROPAGATE_EXCEPTIONS", "TESTING", "DEBUG"])
def test_an_exception_that_passes_is_status_500(flask: Any, points: Points, setting: str) -> None:
    """It reaches the server as it is, and is counted once."""
    with pytest.raises(OwnError):
        _get(_app(flask, **{setting: True}), "/boom")
    assert points(DURATIONS) == {("GET", "/boom", "500", "OwnError"): 1}


@pytest.mark.parametrize(
    ("handled", "status", "kind"),
    [(OwnError, 418, ""), (Exception, 500, "500"), (500, 500, "OwnError"), (500, 200, "")],
)
def test_a_handler_makes_an_answer_of_an_exception(
    flask: Any, points: Points, handled: Any, status: int, kind: str
) -> None:
    """Its status counts; a page for status 500 leaves the exception one without a handler."""
    app = _app(flask)
    app.register_error_handler(handled, lambda error: ("page", status))
    assert _get(app, "/boom").text == "page"
    assert points(DURATIONS) == {("GET", "/boom", str(status), kind): 1}


@pytest.mark.parametrize("hook", ["before_request", "after_request", "teardown_request"])
def test_hooks_that_raise_are_part_of_the_request(flask: Any, points: Points, hook: str) -> None:
    """The route is that of the request; what teardown raises reaches the server."""
    app = _app(flask)

    def raising(*_: Any) -> None:
        raise OwnError

    getattr(app, hook)(raising)
    if hook == "teardown_request":
        with pytest.raises(OwnError):
            _get(app, "/ok")
    else:
        assert _get(app, "/ok").status_code == 500
    assert points(DURATIONS) == {("GET", "/ok", "500", "OwnError"): 1}


def test_a_hook_may_answer(flask: Any, points: Points) -> None:
    """The route is that of the request, although its view does not run."""
    app = _app(flask)
    app.before_request(lambda: ("closed", 401))
    _get(app, "/ok")
    _get(app, "/no")
    assert points(DURATIONS) == {
        ("GET", "/ok", "401", ""): 1,
        ("GET", "<unmatched>", "401", ""): 1,
    }


def test_a_stream_lasts_until_its_last_part(flask: Any, points: Points) -> None:
    """Parts run inside of the request, with its context; a failing one ends it."""
    app = flask.Flask(__name__)
    seen: list[str] = []

    def stream(fails: int) -> Any:
        def parts() -> Iterator[str]:
            yield flask.request.args["name"]
            seen.append(current_entry())
            if fails:
                raise OwnError
            yield "end"

        return flask.Response(flask.stream_with_context(parts()))

    app.add_url_rule("/stream/<int:fails>", view_func=stream, endpoint="stream")
    answer = app.test_client().get("/stream/0?name=a")
    assert points(DURATIONS) == {}
    assert answer.get_data() == b"aend"
    route = "/stream/<int:fails>"
    assert points(DURATIONS) == {("GET", route, "200", ""): 1}
    with pytest.raises(OwnError):
        app.test_client().get("/stream/1?name=a").get_data()
    app.test_client().get("/stream/0?name=a").close()
    assert seen == [f"GET {route}"] * 2
    assert points(DURATIONS) == {
        ("GET", route, "200", ""): 1,
        ("GET", route, "200", "OwnError"): 1,
        ("GET", route, "200", "cancelled"): 1,
    }


def test_a_file_is_sent(flask: Any, points: Points) -> None:
    """What `send_file` answers, with the server's own class for files, ends when it is closed."""
    from wsgiref.util import FileWrapper

    app = flask.Flask(__name__)
    app.add_url_rule(
        "/file",
        view_func=lambda: flask.send_file(io.BytesIO(b"bytes"), "text/plain"),
        endpoint="file",
    )
    answer = _get(app, "/file", environ_overrides={"wsgi.file_wrapper": FileWrapper})
    assert answer.data == b"bytes"
    assert points(DURATIONS) == {("GET", "/file", "200", ""): 1}


def test_async_views_are_measured(
    flask: Any, library: Callable[[str], Any], points: Points
) -> None:
    """They run in the request, and raise as others do."""
    library("asgiref")
    app = flask.Flask(__name__)
    seen: list[str] = []

    async def view(fails: int) -> str:
        seen.append(current_entry())
        if fails:
            raise OwnError
        return "ok"

    app.add_url_rule("/<int:fails>", view_func=view)
    _get(app, "/0")
    _get(app, "/1")
    assert seen == ["GET /<int:fails>"] * 2
    assert points(DURATIONS) == {
        ("GET", "/<int:fails>", "200", ""): 1,
        ("GET", "/<int:fails>", "500", "OwnError"): 1,
    }


def test_middleware_is_measured(flask: Any, points: Points) -> None:
    """What it raises is status 500; what it answers by itself has no route."""
    app = _app(flask)
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/early":
            start_response("429 Too Many Requests", [])
            return [b"later"]
        if environ["QUERY_STRING"]:
            raise OwnError
        return inner(environ, start_response)

    app.wsgi_app = middleware
    _get(app, "/early")
    _get(app, "/ok")
    with pytest.raises(OwnError):
        _get(app, "/ok?a=1")
    assert points(DURATIONS) == {
        ("GET", "<unmatched>", "429", ""): 1,
        ("GET", "/ok", "200", ""): 1,
        ("GET", "<unmatched>", "500", "OwnError"): 1,
    }


def test_middleware_and_integration_count_once(flask: Any, points: Points) -> None:
    """The middleware measures, and the integration adds the route and the exception."""
    app = _app(flask)
    app.wsgi_app = trace_wsgi(app.wsgi_app)
    outer = trace_wsgi(app)
    _get(app, "/boom")
    client = flask.testing.FlaskClient(outer, app.response_class)
    client.get("/boom").get_data()
    client.get("/no").get_data()
    assert points(DURATIONS) == {
        ("GET", "/boom", "500", "OwnError"): 2,
        ("GET", "<unmatched>", "404", ""): 1,
    }


def test_excluded_paths_are_not_measured(flask: Any, points: Points) -> None:
    """The page of the metrics is one of them, where it is a route of the application."""
    app = _app(flask)
    app.add_url_rule("/metrics", view_func=lambda: "page", endpoint="metrics")
    assert _get(app, "/metrics").text == "page"
    assert points(DURATIONS) == {}


def test_a_request_inside_of_another_is_another(flask: Any, points: Points) -> None:
    """A view that asks the application by a client asks for a second request."""
    app = _app(flask)
    app.add_url_rule("/twice", view_func=lambda: _get(app, "/ok").data, endpoint="twice")
    _get(app, "/twice")
    assert points(DURATIONS) == {("GET", "/twice", "200", ""): 1, ("GET", "/ok", "200", ""): 1}


def test_uninstalling_leaves_the_library_as_it_was(library: Callable[[str], Any]) -> None:
    """Its classes and signals are identical, and nothing is measured."""
    flask = library("flask")
    before = dict(vars(flask.Flask)), dict(flask.got_request_exception.receivers)
    install("flask", body_sizes=True)
    assert dict(vars(flask.Flask)) != before[0]
    uninstall("flask")
    assert (dict(vars(flask.Flask)), dict(flask.got_request_exception.receivers)) == before


RED_WITHOUT = ["tests/test_reqctx.py::test_bad_environ_raises_bad_request"]
"""Tests of Flask 3.1.3 that the current Werkzeug turns red."""
FIRST = """
from _pytest import monkeypatch

if not hasattr(monkeypatch, "notset"):  # its name before pytest 9.1, which the tests import
    monkeypatch.notset = monkeypatch.NOTSET
"""


def test_the_tests_of_the_library_pass(
    library: Callable[[str], Any], sources: Callable[[str], Path], run_suite: Callable[..., int]
) -> None:
    """Those of its source distribution, with the integration installed."""
    library("flask")
    measured = run_suite(
        sources("flask"),
        "'flask', body_sizes=True, native=True",
        "http_server_request_duration_seconds",
        *("tests", *(f"--deselect={test}" for test in RED_WITHOUT)),
        first=FIRST,
    )
    assert measured > 300
