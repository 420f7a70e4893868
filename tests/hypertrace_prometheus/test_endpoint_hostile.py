"""Malformed requests for the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter

from hypertrace_prometheus.endpoint import metrics_view
from hypertrace_prometheus.http.views import Request, respond

if TYPE_CHECKING:
    from hypertrace_prometheus.http.views import Response

FORMATS = {
    "text/plain; version=0.0.4; charset=utf-8",
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
MARK = "Zq9Zq9"
"""Text that is in requests and must be in no response."""

REGISTRY = CollectorRegistry()
Counter("jobs", "Jobs done.", registry=REGISTRY).inc(3)
VIEW = metrics_view(REGISTRY)

header = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            "application/openmetrics-text text/plain */* gzip ; , = q version= version=1.0.0 "
            f'version=abc 1.0 escaping=values . -1 " \0 \xff \u0661 {"9" * 5000} {MARK}'.split(" ")
        ),
        max_size=30,
    ).map("".join),
)
query = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            "name[]= name%5B%5D= jobs_total queue & ; = % %ff %00 %ud800 + [] name[][]= \0 \xff # "
            f"? {MARK}".split(" ")
        ),
        max_size=30,
    ).map("".join),
)


def is_sound(response: Response, request: Request) -> None:
    """Check that a response is one of those that the endpoint has."""
    headers = dict(response.headers)
    assert len(headers) == len(response.headers)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    if request.method not in {"GET", "HEAD"}:
        assert response.status == 405
    elif len(request.query) > 65_536:
        assert response.status == 414
    else:
        assert response.status == 200
        assert headers["Content-Type"] in FORMATS
        assert set(headers) - {"Content-Encoding"} == {
            "Content-Type",
            "Vary",
            "Content-Length",
            "Cache-Control",
            "X-Content-Type-Options",
        }
    assert MARK.encode() not in response.body
    assert MARK not in str(response.headers)


@given(st.sampled_from(["GET", "HEAD", "POST", "", MARK]), query, header, header)
@example("GET", "name[]=jobs_total&" * 10_000, "", "")
@example("GET", "name[]=x&" * 7_000, "", "")
@example("GET", "name[]=" + "x" * 60_000, "", "")
@example("GET", "", "application/openmetrics-text;version=" + "1" * 100_000, "gzip," * 100_000)
@example("GET", "", "," * 1_000_000, "gzip;q=" + "0" * 1_000_000)
@example("GET", "", f"application/openmetrics-text;version=1.0.0;charset={MARK}", MARK)
@settings(deadline=2000, max_examples=100)
def test_no_request_is_answered_with_an_error_or_an_echo(
    method: str, query: str, accept: str, encoding: str
) -> None:
    """Any request gets one of the responses that the endpoint has, which repeats none of it."""
    headers = {"accept": accept, "accept-encoding": encoding}
    request = Request(method, query=query, headers=headers)
    is_sound(respond(VIEW, request), request)
