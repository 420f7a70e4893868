"""Queries of the dashboards and rules: a real Prometheus answers each, and correctly."""

import json
import math
import os
import platform
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from hypertrace import Tracer, __version__, set_trace_function, untraced
from hypertrace.exporters.json_lines import JsonLinesExporter
from hypertrace.metrics.declarations import CALLS, EDGES, SERIES, SERIES_LIMIT
from hypertrace.testing import reset
from hypertrace_prometheus import PrometheusExporter
from hypertrace_prometheus.dashboards import objectives, rules
from hypertrace_prometheus.dashboards.templates import dashboards
from hypertrace_prometheus.demo.library import Library
from hypertrace_prometheus.demo.session import ALLOWED_PROPS, make_exporter
from hypertrace_prometheus.demo.workload import Workload

OBJECTIVES = Path(__file__).parent.parent.parent / "grafana" / "objectives.toml"

WATCHED = 12
"""Scrapes, one a second, during which the demo works."""

MOST_SERIES = 1000
MOST_LINES = 25
"""In a graph: ten of each kind, or the buckets of a heatmap."""
PATIENCE = 5.0
"""Seconds that a person waits for a panel."""

PECULIAR = "C++ (fast)"
"""A name that a user gives a tracer; as a pattern it would be an error."""

BOOKED = ("question", "shelving", "search", "insert", "ranking", "replacement")
"""Entries of the application's own books."""

NO_HISTORY = "this Prometheus is not a day old"
NO_PAST = "nothing of this Prometheus is older than the time that is looked at"
HEALTHY = "an alert that is right to be silent"
NO_SIZES = "bodies are measured where a user wants it"
CALM = "no rule has been met for ten minutes"
HAS_ENTRIES = "the demo has entries, which give the alerts instead"
SILENT = (
    "HypertraceEntrySilent",
    "HypertraceFunctionSilent",
    "HypertraceSeriesNearLimit",
    "HypertraceSeriesOverflow",
    "HypertraceSwallowedErrors",
    "HypertraceFailedCollections",
    "HypertraceExportFails",
    "HypertraceExportDrops",
    "HypertraceTargetDown",
    "HypertraceBudgetBurns",
)
OF_BOTH = ("HypertraceErrorRatio", "HypertraceSlow")
"""Alerts of entries, and of functions where there are none."""
EMPTY = {
    ("Class explorer", "Calls now, yesterday and last week", "B"): NO_HISTORY,
    ("Class explorer", "Calls now, yesterday and last week", "C"): NO_HISTORY,
    ("Class explorer", "Calls by topic", "C"): "no call of this class has a topic",
    ("Overview", "Alerts that fire", "A"): CALM,
    ("HTTP", "Bytes of bodies", "A"): NO_SIZES,
    ("HTTP", "Bytes of bodies", "B"): NO_SIZES,
    ("HTTP", "Deploys", ""): NO_PAST,
    ("HTTP", "Alerts", ""): CALM,
    **{("Alerts", name, ""): HEALTHY for name in SILENT},
    **{("Alerts of functions", name, ""): HAS_ENTRIES for name in OF_BOTH},
}
"""Queries that give nothing in a healthy application, and why."""

UNKNOWN = {
    ("Class explorer", "Calls now, yesterday and last week", "D"),
    ("Class explorer", "Calls now, yesterday and last week", "E"),
    ("Class explorer", "Change by function", "B"),
    ("Class explorer", "Change by function", "C"),
}
"""Queries that give NaN, as this Prometheus is not a day old: they are drawn as "no counts"."""

OF_THE_SHOP = {"HTTP", "Jobs", "Outgoing calls", "SQL", "Runtime"}
"""Dashboards of metrics that the demo does not have."""

CHOSEN = {
    ("Class explorer", "Calls by topic", "A"): "Shard",
    ("Class explorer", "Calls by topic", "B"): "Tokenizer",
}
"""Classes for panels that have nothing to show of the one that is chosen elsewhere."""

Answer = list[tuple[dict[str, str], float]]


class Prometheus(Protocol):
    """What these tests need of the running Prometheus in conftest.py."""

    url: str

    def query(self, promql: str) -> Answer:
        """Evaluate `promql` now."""

    def wait_for_scrape(self, job: str) -> None:
        """Wait for a scrape of `job` that begins after this call."""


class Question(NamedTuple):
    """A query of a panel."""

    board: str
    panel: str
    ref: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.board}: {self.panel} {self.ref}"


def _questions() -> Iterator[Question]:
    for dashboard in dashboards(props=ALLOWED_PROPS[:1]).values():
        board = dashboard["title"].partition(" / ")[2]
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                instant = bool(target.get("instant"))
                yield Question(board, panel["title"], target["refId"], target["expr"], instant)
        if board == "HTTP":  # all have the same
            for event in dashboard["annotations"]["list"]:
                if "expr" in event:
                    yield Question(board, event["name"], "", event["expr"], instant=True)


def _variables() -> Iterator[tuple[str, str, str, str]]:
    for dashboard in dashboards().values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                pattern = variable.get("regex", "")
                yield dashboard["title"], variable["name"], variable["query"]["query"], pattern


def _rules() -> Iterator[Question]:
    for group in [*rules.groups(), *objectives.groups(objectives.read(OBJECTIVES))]:
        for rule in group["rules"]:
            if rule.get("alert") in SILENT:
                yield Question("Alerts", rule["alert"], "", rule["expr"], instant=True)
            elif "unless on (job)" in rule["expr"]:
                yield Question("Alerts of functions", rule["alert"], "", rule["expr"], instant=True)
            elif "alert" in rule:
                # The demo's visitors make mistakes and take their time: now it fires, now not.
                watched, _, _ = rule["expr"].rpartition(" > ")
                yield Question("Alerts", rule["alert"], "", watched, instant=True)
            else:
                yield Question("Records", rule["record"], "", rule["expr"], instant=True)


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="prometheus_client knows processes on Linux only"
)
OF_PANELS = list(_questions())
QUESTIONS = [*OF_PANELS, *_rules()]
VARIABLES = list(_variables())


@dataclass
class Scraped:
    """An application at one moment, and what it did in some seconds before."""

    prometheus: Prometheus
    exporter: PrometheusExporter | None
    started: float
    ended: float
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What it counted itself in between: entries of its books, and their details."""
    threads: int = 0
    rooms: tuple["Room", ...] = ()
    """What the exporter held before and after the last scrape."""

    def held(self, name: str) -> object:
        """Accept what the exporter held at the last scrape, with the demo still at work."""
        low, high = sorted(getattr(room, name) for room in self.rooms)
        return pytest.approx((low + high) / 2, abs=(high - low) / 2 + 1e-9)

    @property
    def seconds(self) -> float:
        """How long it was watched."""
        return self.ended - self.started

    def rate(self, entry: str, *details: str) -> float:
        """How often it did something in a second, by its own count."""
        done = (
            n for (e, d), n in self.done.items() if e == entry and (not details or d in details)
        )
        return sum(done) / self.seconds

    def filled(self, expression: str, chosen: Mapping[str, str]) -> str:
        """Put values in the place of a dashboard's variables, as Grafana does."""
        values = {
            "__rate_interval": f"{round(self.seconds)}s",
            "__range": f"{round(self.seconds) + 5}s",
            "job": "hypertrace",
            "instance": ".*",
            "class": "SearchEngine",
            "function": ".*",
            "prop": "caller_props_outcome",
            **dict.fromkeys(("to", "route", "queue", "server", "system"), ".*"),
            **chosen,
        }
        return re.sub(r"\$([a-zA-Z_]\w*)", lambda match: values[match[1]], expression)

    def answers(self, expression: str, *, instant: bool = True, **chosen: str) -> Answer:
        """Ask as Grafana does; of a graph, the values at its right end."""
        query = self.filled(expression, chosen)
        if instant:
            result = self._get("query", query=query, time=str(self.ended))["result"]
            return [(each["metric"], float(each["value"][1])) for each in result]
        # Steps of 1 s are taken from the start: so that the last one is the end, and not before it.
        start = self.ended - int(self.seconds)
        span = {"start": str(start), "end": str(self.ended), "step": "1"}
        result = self._get("query_range", query=query, **span)["result"]
        return [(each["metric"], float(each["values"][-1][1])) for each in result]

    def values_of(self, query: str, pattern: str) -> list[str]:
        """Return the choices of a variable."""
        query = self.filled(query, {})
        found: list[str]
        if names := re.fullmatch(r"label_names\((.*)\)", query):
            found = self._get("labels", **{"match[]": names[1]})
        else:
            values = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
            assert values, query
            found = self._get(f"label/{values[2]}/values", **{"match[]": values[1]})
        return [each for each in found if re.fullmatch(pattern.strip("/") or ".*", each)]

    def asked(self, title: str, *labels: str, **chosen: str) -> dict[str, float]:
        """Ask what the first query of a panel asks; values by their labels, joined with dots."""
        board, _, panel = title.partition(": ")
        question = next(q for q in QUESTIONS if (q.board, q.panel) == (board, panel))
        answer = self.answers(question.expression, instant=question.instant, **chosen)
        return {
            ".".join(found.get(label, "") for label in labels): value for found, value in answer
        }

    def _get(self, endpoint: str, **parameters: str) -> Any:
        url = f"{self.prometheus.url}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error


def _series_of_calls(exporter: PrometheusExporter) -> list[float]:
    """Give how many series of calls are held, and how many may be."""
    health = exporter.forwards_to.read()
    return [
        float(value)  # type: ignore[arg-type]
        for declaration in (SERIES, SERIES_LIMIT)
        for (metric,), value in health.family(declaration.name).points
        if metric == CALLS.name
    ]


class Room(NamedTuple):
    """How much an exporter holds."""

    series: float
    limit: float
    edges: int
    lines: int

    @property
    def fill(self) -> float:
        """The part of the limit that is used."""
        return self.series / self.limit


def _room(exporter: PrometheusExporter) -> Room:
    edges = len(exporter.forwards_to.read().family(EDGES.name).series)
    lines = [line for line in exporter.metrics().splitlines() if not line.startswith("#")]
    series, limit = _series_of_calls(exporter)
    return Room(series, limit, edges, len(lines))


def _booked(library: Library) -> Counter[tuple[str, str]]:
    counts = Counter[tuple[str, str]]()
    for entry in BOOKED:
        for detail, count in library.ledger.details(entry).items():
            counts[entry, detail] = count
    return counts


def _pushing(exporter: PrometheusExporter) -> JsonLinesExporter:
    """Make an exporter that pushes what another one serves."""
    return JsonLinesExporter(str.encode, metrics=exporter.forwards_to, interval=1)


@pytest.fixture(scope="module")
def demo(start_prometheus: Callable[[int], Prometheus]) -> Iterator[Scraped]:
    """Run the demo's application for some seconds under the eyes of a Prometheus."""
    with make_exporter(0) as exporter, _pushing(exporter), ExitStack() as at_end:
        assert exporter.port
        Tracer("made too early")
        set_trace_function(exporter)
        library = Library()
        workload = Workload(library)
        at_end.callback(workload.stop)  # also if Prometheus is not here
        workload.start()
        prometheus = start_prometheus(exporter.port)
        prometheus.wait_for_scrape("hypertrace")
        before, started, room = _booked(library), time.time(), _room(exporter)
        for _ in range(WATCHED):
            Tracer(PECULIAR).trace()
            room = _room(exporter)
            prometheus.wait_for_scrape("hypertrace")
        after, ended = _booked(library), time.time()
        rooms = room, _room(exporter)
        threads = threading.active_count()
        workload.stop()
        reset()
        yield Scraped(prometheus, exporter, started, ended, after - before, threads, rooms)


@pytest.fixture(scope="module")
def shop(
    root: Path, start_prometheus: Callable[[int], Prometheus], free_port: Callable[[], int]
) -> Iterator[Scraped]:
    """Run the shop of the pictures for some seconds, which has what integrations measure."""
    port = free_port()
    command = [sys.executable, str(root / "grafana" / "pictures" / "shop.py"), "--port", str(port)]
    with subprocess.Popen(command) as process:
        try:
            prometheus = start_prometheus(port)
            prometheus.wait_for_scrape("hypertrace")
            started = time.time()
            for _ in range(WATCHED):
                prometheus.wait_for_scrape("hypertrace")
            yield Scraped(prometheus, None, started, time.time())
        finally:
            process.terminate()


@pytest.fixture
def asked_of(request: pytest.FixtureRequest) -> Callable[[str], Scraped]:
    """Give a function that returns the application that a dashboard is for."""

    def find(board: str) -> Scraped:
        found: Scraped = request.getfixturevalue("shop" if board in OF_THE_SHOP else "demo")
        return found

    return find


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_every_panel_shows_something(
    asked_of: Callable[[str], Scraped], question: Question
) -> None:
    """Each query of each panel gives series with finite values, and few enough to be drawn."""
    place = (question.board, question.panel, question.ref)
    chosen = {"class": CHOSEN[place]} if place in CHOSEN else {}
    application = asked_of(question.board)
    answer = application.answers(question.expression, instant=question.instant, **chosen)
    reason = EMPTY.get(place)
    if place in UNKNOWN:
        assert answer
        assert all(math.isnan(value) for _, value in answer)
    elif reason is None:
        assert any(math.isfinite(value) for _, value in answer), question.expression
    else:
        assert answer == [], f"no longer empty, though {reason}"
    assert len(answer) <= MOST_SERIES


@pytest.mark.parametrize(
    ("board", "name", "query", "pattern"), VARIABLES, ids=[f"{v[0]}: {v[1]}" for v in VARIABLES]
)
def test_every_variable_has_choices(
    asked_of: Callable[[str], Scraped], board: str, name: str, query: str, pattern: str
) -> None:
    """Each variable of each dashboard offers something."""
    assert asked_of(board.partition(" / ")[2]).values_of(query, pattern)


CLASS, FUNCTION, FILE = "object_classname", "caller_functionname", "caller_filename"
ENDS = ("from_classname", "from_functionname", "to_classname", "to_functionname")


def _near(expected: float) -> object:
    # Prometheus extrapolates from the first and last scrape, which come up to a second off.
    return pytest.approx(expected, rel=0.2, abs=0.5)


def test_the_overview_is_right(demo: Scraped) -> None:
    """Calls by function and file, the process, and the fill of the series are what they are."""
    by_function = demo.asked("Overview: Calls by function", CLASS, FUNCTION)
    assert by_function["Library.ask"] == _near(demo.rate("question"))
    most_called = demo.asked("Overview: Most called functions", CLASS, FUNCTION)
    assert most_called["Library.ask"] == _near(demo.rate("question") * demo.seconds)
    by_file = demo.asked("Overview: Calls by file", FILE)
    both = demo.rate("question") + demo.rate("shelving")
    assert by_file["hypertrace_prometheus/demo/library.py"] == _near(both * demo.seconds)
    assert demo.asked("Overview: Processes") == {"": 1}


def test_entries_are_right(demo: Scraped) -> None:
    """Entries by name, their errors, and the numbers on top are those of what people wait for."""
    entries = demo.asked("Overview: Entries by name", "kind", "name")
    assert entries == {
        "other.search": _near(demo.rate("question")),
        "job.shelve": _near(demo.rate("shelving")),
    }
    throughput = demo.asked("Overview: Throughput")
    assert throughput[""] == _near(demo.rate("question") + demo.rate("shelving"))
    failed = demo.rate("search", "not found", "empty")
    ratios = demo.asked("Overview: Error ratio by name", "kind", "name")
    assert ratios == {"other.search": pytest.approx(failed / demo.rate("search"), rel=0.3)}
    (busy,) = demo.asked("Overview: Entries at a time, by process").values()
    assert 0 < busy < 1


def test_one_cause_gives_one_alert(demo: Scraped) -> None:
    """A failure that passes three classes of the demo would be one alert, that of its entry."""
    failing = [
        found
        for group in rules.groups()
        for rule in group["rules"]
        if rule.get("alert") == "HypertraceErrorRatio"
        for found, _ in demo.answers(rule["expr"].replace("> 0.05", "> 0"))
    ]
    labels = [(each["kind"], each["name"]) for each in failing]
    assert labels == [("other", "search")]
    passed = demo.answers('sum by (object_classname) (function_exceptions_total{raised="inside"})')
    assert {each[CLASS] for each, _ in passed} >= {"Library", "Visitor"}


def test_the_class_explorer_is_right(demo: Scraped) -> None:
    """Calls, errors and props of one class are what the class did."""
    calls = demo.asked("Class explorer: Calls", **{"class": "Library"})
    assert calls[""] == _near(demo.rate("question") + demo.rate("shelving"))
    ratio = demo.asked("Class explorer: Error ratio", **{"class": "SearchEngine"})
    unanswered = demo.rate("search", "not found", "empty") / demo.rate("search")
    assert ratio[""] == pytest.approx(unanswered, rel=0.3)
    by_outcome = demo.asked(
        "Class explorer: Calls by $prop", "caller_props_outcome", **{"class": "SearchEngine"}
    )
    assert by_outcome == {outcome: _near(demo.rate("search", outcome)) for outcome in by_outcome}
    assert "found" in by_outcome
    by_id = demo.asked("Class explorer: Calls by id", "id", **{"class": "Shard"})
    assert by_id["insert"] == _near(demo.rate("insert"))
    peculiar = demo.asked("Class explorer: Calls", **{"class": PECULIAR})
    assert peculiar[""] == _near(WATCHED / demo.seconds)


def test_the_call_graph_is_right(demo: Scraped) -> None:
    """Edges are as busy as the functions that call, and there are as many as there are."""
    edge = "Library.ask.SearchEngine.search"
    hot = demo.asked("Call graph: Hot edges", *ENDS)
    assert hot[edge] == _near(demo.rate("question") * demo.seconds)
    drawn = demo.asked("Call graph: Hottest edges over time", *ENDS)
    assert drawn[edge] == _near(demo.rate("question"))
    assert demo.asked("Call graph: Edges")[""] == demo.held("edges")
    assert len(hot) == demo.held("edges")


def test_the_process_is_right(demo: Scraped) -> None:
    """Age, restarts, memory and threads are those of this process."""
    clock = os.sysconf("SC_CLK_TCK")
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / clock
    alive = float(Path("/proc/uptime").read_text().split()[0]) - started
    since = time.time() - demo.ended
    assert demo.asked("Process: Youngest process")[""] == pytest.approx(alive - since, abs=2)
    assert demo.asked("Process: Restarts") == {"": 0}
    (threads,) = demo.asked("Process: Threads").values()
    assert threads == pytest.approx(demo.threads, abs=3)
    (memory,) = demo.asked("Process: Memory").values()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert memory == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.3)


WORKER = """
import sys
from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics

set_trace_function(Metrics(workers=sys.argv[1]))
Tracer("Library").trace()
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("shared", [False, True], ids=["in memory", "shared"])
def test_the_process_is_right_with_and_without_workers(
    start_prometheus: Callable[[int], Prometheus], tmp_path: Path, shared: bool
) -> None:
    """Each panel has a line for each worker, or one for the process that counts for itself."""
    counts = str(tmp_path / "counts")
    command = [sys.executable, "-c", WORKER, counts]
    with ExitStack() as stack:
        for _ in range(2 if shared else 0):
            options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            worker = stack.enter_context(subprocess.Popen(command, **options))  # type: ignore[call-overload]
            assert worker.stdout.readline()
        exporter = stack.enter_context(PrometheusExporter(0, workers=counts if shared else False))
        assert exporter.port
        instance = f"127.0.0.1:{exporter.port}"
        prometheus, started = start_prometheus(exporter.port), time.time()
        for _ in range(3):
            prometheus.wait_for_scrape("hypertrace")
        asked = Scraped(prometheus, exporter, started, time.time())
    labels = ("instance", "worker")
    lines = {f"{instance}.{number}" for number in ("12" if shared else [""])}
    for panel in ("CPU", "Memory", "Address space", "Open files", "Threads"):
        assert set(asked.asked(f"Process: {panel}", *labels)) == lines, panel
    assert asked.asked("Process: Restarts") == {"": 0}
    assert len(asked.asked("Process: File limit used")) == 1
    assert set(asked.asked("Process: Collections", "generation")) == {"0", "1", "2"}
    assert asked.asked("Process: Workers", "instance") == ({instance: 2} if shared else {})
    ended = asked.asked("Process: Workers that ended", "instance")
    assert ended == ({instance: 0} if shared else {})
    assert asked.asked("Overview: Processes") == {"": 2 if shared else 1}


def test_the_exporter_health_is_right(demo: Scraped) -> None:
    """Series, their limit, errors and versions are those of the exporter."""
    held = demo.asked("Exporter health: Series held", "metric")
    assert held[CALLS.name] == demo.held("series")
    assert demo.asked("Exporter health: Series limit used")[""] == demo.held("fill")
    assert demo.asked("Exporter health: Overflowed updates") == {"": 0}
    assert demo.asked("Exporter health: Swallowed errors") == {"": 0}
    assert demo.asked("Exporter health: Failed collections") == {"": 0}
    assert demo.asked("Exporter health: Dropped events") == {"": 0}
    versions = demo.asked("Exporter health: Versions", "version", "python")
    assert versions == {f"{__version__}.{platform.python_version()}": 1}
    pushes = demo.asked("Exporter health: Failed attempts, by exporter", "exporter")
    assert pushes == {"JsonLinesExporter": 0}
    age = demo.asked("Exporter health: Time since the last success, by exporter", "exporter")
    assert age["JsonLinesExporter"] == pytest.approx(1, abs=5)
    (lines,) = demo.asked("Exporter health: Scrape size").values()
    assert lines == pytest.approx(demo.rooms[-1].lines, rel=0.05)


class Broken(Collector):
    """A collector of the application's that has a fault."""

    def collect(self) -> Iterator[Metric]:
        """Fail."""
        raise LookupError("stock")


def _crowd(names: range) -> None:
    """Count and time in 500 classes with 20 series each, and cause an event in tracing itself."""
    untraced(Tracer("Class0").trace)
    for number in names:
        tracer = Tracer(f"Class{number}")
        for topic in range(9):
            tracer.trace(topic=topic)
            tracer.trace("again", topic=topic)
        with tracer.span():
            callee = Tracer(f"Class{(number + 1) % CLASSES}")
            with callee.span("called"):
                pass


CLASSES = 500


@pytest.fixture(scope="module")
def crowd(start_prometheus: Callable[[int], Prometheus]) -> Iterator[Scraped]:
    """Run an application with as many classes and series as a large one has, and a fault in it."""
    with make_exporter(0) as exporter:
        assert exporter.port
        exporter.registry.register(Broken())
        set_trace_function(exporter)
        _crowd(range(CLASSES))
        prometheus = start_prometheus(exporter.port)
        prometheus.wait_for_scrape("hypertrace")
        started = time.time()
        for _ in range(4):
            _crowd(range(CLASSES))
            prometheus.wait_for_scrape("hypertrace")
        reset()
        yield Scraped(prometheus, exporter, started, time.time())


@pytest.mark.parametrize("question", OF_PANELS, ids=str)
def test_a_crowd_of_classes_is_drawn_as_a_few(crowd: Scraped, question: Question) -> None:
    """With 500 classes and 10 000 series no query gives more than 1000, and no graph over 15."""
    assert crowd.exporter is not None
    assert _series_of_calls(crowd.exporter)[0] == 10_000
    begun = time.monotonic()
    answer = crowd.answers(
        question.expression,
        instant=question.instant,
        **{"class": "Class7", "prop": "caller_props_topic"},
    )
    assert time.monotonic() - begun < PATIENCE
    assert len(answer) <= (MOST_SERIES if question.instant else MOST_LINES)


def test_what_goes_wrong_is_shown(crowd: Scraped) -> None:
    """Failed collections are shown by collector, and alert; events that were dropped are shown."""
    name = f"{Broken.__module__}.{Broken.__qualname__}"
    # One a scrape, one a crowd; Prometheus extrapolates far from so few.
    assert crowd.asked("Exporter health: Failed collections")[""] > 2
    by_collector = crowd.asked("Exporter health: Failed collections, by collector", "collector")
    assert by_collector == {name: _near(1)}
    assert crowd.asked("Exporter health: Dropped events")[""] > 2
    assert list(crowd.asked("Alerts: HypertraceFailedCollections", "collector")) == [name]
