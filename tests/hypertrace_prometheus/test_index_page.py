"""Page at `/` of the metrics server."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

from hypertrace_prometheus.index_page import index_page

_VOID = {"meta", "link"}


class Outline(HTMLParser):
    """Notes the elements, their attributes, the text of each tag and that tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.text[tag] = self.text.get(tag, "") + data


def outline(target: str) -> Outline:
    parser = Outline()
    parser.feed(index_page(target).body.decode())
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_says_what_it_is_and_links_to_what_there_is() -> None:
    """The page is titled, and links to the metrics and the health check."""
    page = outline("127.0.0.1:4343")
    assert page.text["title"] == "hypertrace metrics"
    links = {value for name, value in page.attributes if name == "href"}
    assert links == {"/metrics", "/-/healthy", "data:,"}


def test_the_page_shows_the_scrape_configuration_of_this_server() -> None:
    """The snippet is what Prometheus takes to scrape exactly this server."""
    assert outline("[::1]:4343").text["pre"] == (
        "scrape_configs:\n"
        "  - job_name: hypertrace\n"
        "    static_configs:\n"
        '      - targets: ["[::1]:4343"]\n'
    )


def test_the_page_loads_nothing() -> None:
    """The page holds no script, no picture and no address of another host."""
    page = outline("127.0.0.1:4343")
    assert not {"script", "img", "iframe", "object"} & set(page.elements)
    assert not re.search(rb"https?:|//|url\(|@import", index_page("127.0.0.1:4343").body)


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    """The Content-Security-Policy carries the digest of the one style on the page."""
    policy = dict(index_page("127.0.0.1:4343").headers)["Content-Security-Policy"]
    style = outline("127.0.0.1:4343").text["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy


def test_the_host_is_escaped() -> None:
    """A host name with the characters of HTML comes out as text."""
    assert '"<b>&:1"' in outline("<b>&:1").text["pre"]


def test_the_page_warns_of_a_problem() -> None:
    """What operators should know is shown as text, and without it there is no warning."""
    assert b'role="alert"' not in index_page("localhost:4343").body
    page = index_page("localhost:4343", problem="no room in <b>counts</b>").body
    assert b'role="alert">no room in &lt;b&gt;counts&lt;/b&gt;.</p>' in page
