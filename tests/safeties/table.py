"""Safeties, and how to remove each: which text of which file is replaced by what.

Where two safeties hold the same thing, each stands here by itself, with the case that it alone is
there for.
"""

from __future__ import annotations

from typing import NamedTuple


class Safety(NamedTuple):
    """One safety, and tests of which one must be red without it."""

    name: str
    file: str
    text: str
    """Stands in the file exactly once."""
    replacement: str
    tests: tuple[str, ...]
    """Files or tests below the folder of the tests."""
    is_pure: bool = False
    """Whether only the pure core has it: its tests run without the compiled one."""

    @property
    def is_compiled(self) -> bool:
        """Whether it is the compiled core that goes without."""
        return self.file.endswith((".c", ".h"))

    def taken_from(self, source: str) -> str:
        """Return the source of the file without this safety.

        Raises:
            ValueError: the text is not there exactly once.
        """
        if source.count(self.text) != 1:
            raise ValueError(
                f"{self.name}: {self.file} has this {source.count(self.text)} times, not once; "
                f"say in tests/safeties/table.py how it is written now: {self.text!r}"
            )
        return source.replace(self.text, self.replacement)


CORE = "hypertrace/"
METRICS = "hypertrace/metrics/"
SHARED = "hypertrace/metrics/shared/"
DECLARED = "hypertrace/metrics/declared/"
INTEGRATIONS = "hypertrace/integrations/"
PUSH = "hypertrace/exporters/"
STATSD = "hypertrace/exporters/statsd/"
INFLUX = "hypertrace/exporters/influx/"
MAPPING = "hypertrace/statsd_mapping/"
OPENTELEMETRY = "hypertrace/exporters/opentelemetry/"
EXPORTER = "hypertrace_prometheus/"


def _core(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/test_{name}.py" for name in names)


def _integration(*names: str) -> tuple[str, ...]:
    return tuple(f"integrations/test_{name}.py" for name in names)


def _statsd(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/exporters/statsd/test_{name}.py" for name in names)


def _push(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/exporters/test_{name}.py" for name in names)


def _opentelemetry(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/exporters/opentelemetry/test_{name}.py" for name in names)


def _influx(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/exporters/influx/test_{name}.py" for name in names)


def _mapping(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/statsd_mapping/test_{name}.py" for name in names)


def _exporter(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace_prometheus/test_{name}.py" for name in names)


def _metrics(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/metrics/test_{name}.py" for name in names)


def _declared(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/metrics/declared/test_{name}.py" for name in names)


def _shared(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/metrics/shared/test_{name}.py" for name in names)


def _cli(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace/cli/test_{name}.py" for name in names)


def _exposition(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace_prometheus/exposition/test_{name}.py" for name in names)


def _http(*names: str) -> tuple[str, ...]:
    return tuple(f"hypertrace_prometheus/http/test_{name}.py" for name in names)


APPLICATION = (
    Safety(
        "trace functions that stand for each other do not hang the program",
        CORE + "_trace_functions.py",
        "for _ in range(_MAX_FORWARDS):",
        "while True:",
        _core("dispatch"),
    ),
    Safety(
        "errors of a trace function are swallowed",
        CORE + "_tracer.py",
        """\
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            self._swallow(error, culprit)
""",
        """\
        except ZeroDivisionError as error:
            self._swallow(error, culprit)
""",
        _core("failures", "targets"),
    ),
    Safety(
        "errors of a trace function at the start of a span are swallowed",
        CORE + "_tracer.py",
        """\
        except Exception as error:  # noqa: BLE001 -- as above
            self._swallow(error, culprit)
""",
        """\
        except ZeroDivisionError as error:
            self._swallow(error, culprit)
""",
        _core("span"),
    ),
    Safety(
        "what ends a program is not swallowed",
        CORE + "_tracer.py",
        """\
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            self._swallow(error, culprit)
""",
        """\
        except BaseException as error:
            self._swallow(error, culprit)
""",
        _core("failures", "targets"),
    ),
    Safety(
        "what ends a program is not swallowed at the start of a span",
        CORE + "_tracer.py",
        """\
        except Exception as error:  # noqa: BLE001 -- as above
            self._swallow(error, culprit)
""",
        """\
        except BaseException as error:
            self._swallow(error, culprit)
""",
        _core("span"),
    ),
    Safety(
        "two metrics are not shown under one name",
        METRICS + "names.py",
        "                if other is not one:\n",
        "                if False:\n",
        _metrics("names"),
    ),
    Safety(
        "metrics of workers with other names keep their names",
        SHARED + "table.py",
        "            *[part.name for part in self.parts],\n",
        "            *[part.name.removeprefix('shop_') for part in self.parts],\n",
        _shared("storage"),
    ),
    Safety(
        "attributes of the environment with secret names are not shown",
        METRICS + "process_labels.py",
        "        if reason := _reason_against(name):\n            _report(",
        "        if False:\n            reason = ''\n            _report(",
        _metrics("process_labels"),
    ),
    Safety(
        "a target of the application is not replaced",
        EXPORTER + "exposition/registries.py",
        "if not target or registry.get_target_info():",
        "if not target:",
        _exporter("exporter_target"),
    ),
    Safety(
        "a target that the application has set later stays",
        EXPORTER + "exposition/registries.py",
        "if target is not None and registry.get_target_info() is target:",
        "if target is not None:",
        _exporter("exporter_target"),
    ),
    Safety(
        "what is swallowed is counted",
        CORE + "_failures.py",
        "    swallowed.increment()\n    _report(error, culprit)\n",
        "    _report(error, culprit)\n",
        _core("failures"),
    ),
    Safety(
        "a kind of error is logged once a minute",
        CORE + "rate_limit.py",
        "if elapsed >= LOG_INTERVAL or elapsed < 0:",
        "if True:",
        _core("rate_limit", "failures"),
    ),
    Safety(
        "a clock that was set back does not silence the log",
        CORE + "rate_limit.py",
        "if elapsed >= LOG_INTERVAL or elapsed < 0:",
        "if elapsed >= LOG_INTERVAL:",
        _core("rate_limit", "failures"),
    ),
    Safety(
        "kinds of errors that are remembered are bounded",
        CORE + "_failures.py",
        "return _others if len(_kinds) >= MAX_KINDS else _kinds.setdefault(key, RateLimit())",
        "return _kinds.setdefault(key, RateLimit())",
        _core("failures"),
    ),
    Safety(
        "strict raises errors",
        CORE + "_failures.py",
        "    if strict:\n        raise error\n",
        "",
        _core("failures", "strict"),
    ),
    Safety(
        "strict raises misuse",
        CORE + "_failures.py",
        "    if strict:\n        raise TypeError(message)\n",
        "",
        _core("failures", "strict"),
    ),
    Safety(
        "what tracing traces is dropped",
        CORE + "_guard.py",
        "    _is_suppressed.set(True)\n",
        "",
        _core("guard"),
    ),
    Safety(
        "a trace function that always traces comes to an end",
        CORE + "_guard.py",
        "            if self.depth >= MAX_DEPTH and not self.is_too_deep:\n",
        "            if False:\n",
        _core("guard"),
    ),
    Safety(
        "finalizers do not touch the context they interrupt",
        CORE + "_guard.py",
        "        return copy_context().run(_run_suppressed, function, args)\n",
        "        return _run_suppressed(function, args)\n",
        _core("guard"),
    ),
    Safety(
        "what is dropped is counted",
        CORE + "_guard.py",
        "    dropped.increment()\n",
        "",
        _core("guard", "targets"),
    ),
    Safety(
        "marks of tracing go with it",
        CORE + "_guard.py",
        "            _recursions.pop(runner, None)\n",
        "            pass\n",
        _core("guard"),
    ),
    Safety(
        "a child is not inside the tracing of its parent's threads",
        CORE + "_guard.py",
        "after_fork_in_child(_forget_other_threads)\n",
        "",
        _core("guard"),
    ),
    Safety(
        "a value without a text is shown as unprintable",
        METRICS + "labels.py",
        """            return self._valid(f"<unprintable {type_name(type(value))}>")\n""",
        "            raise\n",
        _metrics("labels"),
    ),
    Safety(
        "lone surrogates are shown as escapes",
        METRICS + "labels.py",
        """text[: limit + 1].encode("utf-8", "backslashreplace").decode("utf-8")""",
        "text[: limit + 1]",
        _metrics("labels"),
    ),
    Safety(
        "label values are escaped",
        EXPORTER + "exposition/label_texts.py",
        "value.translate(ESCAPES)",
        "value",
        _exposition("label_texts"),
    ),
    Safety(
        "label values are cut",
        METRICS + "labels.py",
        """return text if len(text) <= limit else text[: limit - 1] + "…\"""",
        "return text",
        _metrics("labels"),
    ),
    Safety(
        "no label is an absolute path",
        METRICS + "labels.py",
        """return path.rpartition("/")[2] if root is None else path[len(root) + 1 :]""",
        "return path",
        _metrics("labels"),
    ),
    Safety(
        "props named like secrets are refused",
        METRICS + "allowlist.py",
        "    if looks_secret(prop):\n",
        "    if False:\n",
        _metrics("allowlist"),
    ),
    Safety(
        "labels of Prometheus are refused",
        METRICS + "allowlist.py",
        "    if name in RESERVED:\n",
        "    if False:\n",
        _metrics("allowlist"),
    ),
    Safety(
        "labels with two underscores are refused",
        METRICS + "allowlist.py",
        """    if name.startswith("__"):\n""",
        "    if False:\n",
        _metrics("allowlist"),
    ),
    Safety(
        "props that become one label are refused",
        METRICS + "allowlist.py",
        "        if name in props:\n",
        "        if False:\n",
        _metrics("allowlist"),
    ),
    Safety(
        "a trace function that makes up attributes gets events",
        CORE + "_trace_functions.py",
        "callable(getattr(type(function), name, None))",
        "callable(getattr(function, name, None))",
        _core("protocols"),
    ),
    Safety(
        "trace functions that only start when they are called are refused",
        CORE + "_trace_functions.py",
        "    if any(is_kind(called) for is_kind in kinds) or _is_marked_as_coroutine(function):\n",
        "    if False:\n",
        _core("dispatch"),
    ),
    Safety(
        "objects that only start when they are called are refused, too",
        CORE + "_trace_functions.py",
        "called = function if is_function else type(function).__call__",
        "called = function",
        _core("dispatch"),
    ),
    Safety(
        "classes are refused as trace functions",
        CORE + "_trace_functions.py",
        "    if issubclass(type(function), type):\n",
        "    if False:\n",
        _core("dispatch"),
    ),
    Safety(
        "a class in the place of one that is gone has its own name",
        CORE + "_silent.py",
        "    if known is not None and known[0]() is type(ctx):\n",
        "    if known is not None:\n",
        _core("silent"),
    ),
    Safety(
        "classes of values are not hashed to copy them",
        CORE + "_plain.py",
        "    if id(type(value)) in _PLAIN:\n",
        "    if type(value) in {str, int, float, bool, bytes, type(None)}:\n",
        _core("copies"),
    ),
    Safety(
        "the class of a single value is not hashed to count it",
        CORE + "_recorders.py",
        "is_text = value is None or type(value) is str",
        "is_text = type(value) in {str, type(None)}",
        _core("recorders"),
    ),
    Safety(
        "the class of the first of several values is not hashed to count it",
        CORE + "_recorders.py",
        "(first is None or type(first) is str)",
        "(type(first) in {str, type(None)})",
        _core("recorders"),
    ),
    Safety(
        "the class of the second value is not hashed to count it",
        CORE + "_recorders.py",
        "second is None or type(second) is str",
        "type(second) in {str, type(None)}",
        _core("recorders"),
    ),
    Safety(
        "the classes of further values are not hashed to count them",
        CORE + "_recorders.py",
        "if value is not None and type(value) is not str:",
        "if type(value) not in {str, type(None)}:",
        _core("recorders"),
    ),
    Safety(
        "values that are no exact texts are not looked up to count them",
        CORE + "_recorders.py",
        "increment = self.known.get(values) if is_text else None",
        "increment = self.known.get(values)",
        _core("recorders"),
    ),
    Safety(
        "the log names the recorder that failed",
        CORE + "_recorders.py",
        "            swallow(error, recorder)  # here",
        "            swallow(error, record)  # here",
        _core("recorders"),
    ),
    Safety(
        "classes are not asked for their bases",
        CORE + "_naming.py",
        "_mro_of(cls)",
        "cls.__mro__",
        _core("hostile"),
    ),
    Safety(
        "names of classes are plain str",
        CORE + "_naming.py",
        "str.__str__(_qualname_of(c)) for c",
        "_qualname_of(c) for c",
        _core("hostile"),
    ),
    Safety(
        "a collection that ends meanwhile is not looked for",
        CORE + "_span.py",
        "next(reversed(_collections), None)",
        "next(reversed(_collections))",
        _core("greenlets"),
    ),
    Safety(
        "code that replaced a traced function is not replaced by the old",
        CORE + "_replacements.py",
        "restored = self.is_current() and self._set_back()",
        "restored = self._set_back()",
        _core("instrument"),
    ),
    Safety(
        "looking for functions does not ask objects for their class",
        CORE + "_static.py",
        "return issubclass(type(value), type)",
        "return isinstance(value, type)",
        _core("instrument_hostile"),
    ),
    Safety(
        "patterns of instrument do not leave the package",
        CORE + "_definitions.py",
        "if home is None or not self._is_named(place, home):",
        "if home is None:",
        _core("instrument_packages"),
    ),
    Safety(
        "a call site is one in each module that runs its code",
        CORE + "_callsite.py",
        "_sites.get((id(code) + offset, module))",
        "next((s for k, s in list(_sites.items()) if k[0] == id(code) + offset), None)",
        _core("places", "callsite"),
    ),
    Safety(
        "tracers of other modules share no recorders",
        CORE + "_targets.py",
        "        key = share_key, tracer._class_names(), module\n",
        "        key = share_key, tracer._class_names()\n",
        _core("places"),
    ),
    Safety(
        "a span that ends in the collector does not set the context it interrupts",
        CORE + "_span.py",
        "        if _current.get() is self and (error is None or not is_collecting()):\n",
        "        if _current.get() is self:\n",
        _core("greenlets"),
    ),
    Safety(
        "a span that ended in another context is passed over",
        CORE + "_span.py",
        "                if outer is not None and outer._token is ENDED:\n"
        "                    outer = outer._nearest_open()\n",
        "                if False:\n                    pass\n",
        _core("upstream"),
    ),
    Safety(
        "spans that ended in other contexts hold no chain",
        CORE + "_span.py",
        "        if outer is not None and outer._token is ENDED:\n"
        "            outer = outer._nearest_open()\n        # A finalizer",
        "        # A finalizer",
        _core("upstream"),
    ),
    Safety(
        "the first collection is one like the others",
        CORE + "_span.py",
        "    _collections.update(start=None, stop=None)\n",
        "",
        _core("greenlets"),
    ),
    Safety(
        "a value that says that it is a text is asked for one",
        METRICS + "labels.py",
        "    kind = type(value)\n",
        "    kind = value.__class__\n",
        _metrics("labels_hostile"),
    ),
    Safety(
        "no label is a URL or an absolute path of another system",
        METRICS + "labels.py",
        "    if _FOREIGN.match(filename) and not os.path.isabs(filename):",
        "    if False:",
        _metrics("labels_hostile"),
    ),
    Safety(
        "no label has a folder of what was made at run time",
        METRICS + "labels.py",
        """else f"<{_last_part(name)}>\"""",
        """else f"<{name}>\"""",
        _metrics("labels_hostile"),
    ),
    Safety(
        "no label has a folder of Windows",
        METRICS + "labels.py",
        """return re.split(r"[/\\\\]", path)[-1]""",
        """return path.rpartition("/")[2]""",
        _metrics("labels_hostile"),
    ),
    Safety(
        "props named like addresses with a password are refused",
        METRICS + "allowlist.py",
        "    | (?<![a-z]) (database|db|redis|mongo|mongodb|amqp|broker)_?ur[il]s? (?![a-z])\n",
        "",
        _metrics("allowlist"),
    ),
    Safety(
        "names of props are plain str",
        METRICS + "allowlist.py",
        "text = str.__str__(name)",
        "text = name",
        _metrics("allowlist"),
    ),
)

COUNTING = (
    Safety(
        "reading a cell changes nothing",
        CORE + "cells.py",
        """return int(count.__repr__(self)[len("CountCell(") : -1])""",
        "return next(self)",
        _core("cells"),
    ),
    Safety(
        "who adds to a cache that was given up empties it",
        CORE + "_targets.py",
        "        if self._retired or self._cache is not cache:\n            table.clear()\n",
        "",
        _core("targets", "threads"),
    ),
    Safety(
        "targets: an interrupted rebind is made up for by the next",
        CORE + "_targets.py",
        "        self._replaced.append(cache)\n        self._empty_replaced()\n",
        "        cache.empty()\n",
        _core("targets"),
    ),
    Safety(
        "recorders of a trace function that was replaced are dropped",
        CORE + "_targets.py",
        "        self._retired = True\n        self._cache.empty()\n",
        "        self._retired = True\n",
        _core("dispatch", "targets"),
    ),
    Safety(
        "the last room for a series is given away once",
        METRICS + "series.py",
        "has_room = map(gt, (self.limit,), map(len, (self._held,)))",
        "has_room = (True,)",
        _metrics("series"),
    ),
    Safety(
        "threads that make one series get the same",
        METRICS + "series.py",
        "        next(map(self._held.setdefault, is_new, compress((made,), has_room)), None)\n",
        "        next(map(self._held.__setitem__, (text,), compress((made,), has_room)), None)\n",
        _metrics("series"),
    ),
    Safety(
        "an update past the limit is counted all the same",
        METRICS + "series.py",
        "            held = self.overflow\n",
        "            held = self._make(labels)\n",
        _metrics("series"),
    ),
    Safety(
        "two folds of a histogram do not count twice",
        METRICS + "aggregations.py",
        "        if self._counts is not before:\n            return False\n",
        "",
        _metrics("aggregations"),
    ),
    Safety(
        "a fold that failed is done again",
        METRICS + "aggregations.py",
        "        _ = self.fold() or self.fold()\n",
        "        self.fold()\n",
        _metrics("aggregations"),
    ),
    Safety(
        "durations that are none count as zero",
        METRICS + "aggregations.py",
        "    return seconds if 0 <= seconds <= LONGEST else 0.0\n",
        "    return seconds\n",
        _metrics("aggregations"),
    ),
    Safety(
        "durations that are none are found among others",
        METRICS + "aggregations.py",
        "if type(seconds) is float and ordered[0] >= 0 and seconds <= LONGEST:",
        "if type(seconds) is float:",
        _metrics("aggregations"),
    ),
    Safety(
        "results that are none make no series",
        METRICS + "recorders.py",
        """    return result if result in RESULTS else "error"\n""",
        "    return result\n",
        _metrics("recorders"),
    ),
    Safety(
        "values that say that they are equal are distinguished",
        METRICS + "recorders.py",
        "        found = self.known.get(values) if are_texts(values) else None\n",
        """\
        try:
            found = self.known.get(values)
        except Exception:
            found = None
""",
        _metrics("recorders"),
    ),
    Safety(
        "what numbers no object owns no series",
        METRICS + "functions.py",
        "is_owner = self._own_series and event.object.id",
        "is_owner = self._own_series",
        _metrics("functions_bounds"),
    ),
    Safety(
        "what interrupts the end of a span is not dropped",
        METRICS + "functions.py",
        "if function is None or exemplars.is_never(function):",
        "if function is None:",
        _exporter("exporter_truth"),
    ),
    Safety(
        "exemplars have no labels of Prometheus",
        METRICS + "exemplars.py",
        """re.compile(r"(?!__)[""",
        """re.compile(r"[""",
        _metrics("exemplars"),
    ),
    Safety(
        "exemplars have no NUL",
        METRICS + "exemplars.py",
        """if "\\0" in value:""",
        "if False:",
        _metrics("exemplars"),
    ),
    Safety(
        "buckets that are texts are refused",
        METRICS + "aggregations.py",
        "    if isinstance(value, str | bytes):  # float() would read them\n",
        "    if False:\n",
        _metrics("aggregations"),
    ),
    Safety(
        "buckets too large for a float are refused as such",
        METRICS + "aggregations.py",
        "    except OverflowError:\n",
        "    except ZeroDivisionError:\n",
        _metrics("aggregations"),
    ),
)

PROCESSES = (
    Safety(
        "a pickle takes no values of the application along",
        CORE + "_tracer.py",
        "plain_props(self._props), self._parent_object",
        "self._props, self._parent_object",
        _core("copies"),
    ),
    Safety(
        "an event that is sent takes no values along",
        CORE + "events.py",
        "return Caller, (*place, plain_props(self.props))",
        "return Caller, (*place, self.props)",
        _core("copies"),
    ),
    Safety(
        "names that are gone at the end are not missed",
        CORE + "_tracer.py",
        "            if cls._is_finalizing():",
        "            if False:",
        _core("shutdown"),
    ),
    Safety(
        "a child has a registry that is not locked",
        EXPORTER + "exposition/registries.py",
        "after_fork_in_child(_renew_locks)\n",
        "",
        _exposition("registries") + _exporter("exporter_forks"),
    ),
    Safety(
        "a child does not wait for scrapes of its parent",
        EXPORTER + "exposition/single_flight.py",
        "after_fork_in_child(_renew)\n",
        "",
        _exposition("single_flight"),
    ),
    Safety(
        "a child asks collectors that hang in its parent",
        EXPORTER + "exposition/collection.py",
        "after_fork_in_child(_under_way.clear)",
        "pass",
        _exposition("collection"),
    ),
    Safety(
        "a child does not keep the port",
        EXPORTER + "http/connections.py",
        "after_fork_in_child(_close_in_child)\n",
        "",
        _http("connections", "connections_end"),
    ),
    Safety(
        "stopping cuts off a scrape that takes long",
        EXPORTER + "http/connections.py",
        "                if worker.is_alive():\n                    connection.abort()\n",
        "",
        _http("connections_end"),
    ),
    Safety(
        "stopping does not wait for a scrape that hangs",
        EXPORTER + "http/connections.py",
        "                worker.join(max(0.0, end - monotonic()))\n",
        "                worker.join()\n",
        _http("connections", "connections_end"),
    ),
    Safety(
        "an exporter that cannot start leaves nothing",
        EXPORTER + "exporter.py",
        "        except BaseException:\n            self.stop()\n            raise\n",
        "        except BaseException:\n            raise\n",
        _exporter("exporter_registries", "exporter_life"),
    ),
    Safety(
        "a start that is interrupted leaves nothing",
        EXPORTER + "exporter.py",
        """\
        self._collectors.append(collector)  # first: an interrupt must leave none that stays
        try:
            self.registry.register(collector)
""",
        """\
        try:
            self.registry.register(collector)
            self._collectors.append(collector)
""",
        _exporter("exporter_life"),
    ),
    Safety(
        "a start asks no collector of others",
        EXPORTER + "exposition/process.py",
        "if any(type(collector) is kind for kind in DEFAULTS.values()):",
        "if True:",
        _exporter("exporter_life"),
    ),
    Safety(
        "classes of collectors are not compared at the start",
        EXPORTER + "exposition/process.py",
        "if any(type(collector) is kind for kind in DEFAULTS.values()):",
        "if type(collector) in DEFAULTS.values():",
        _exporter("exporter_life"),
    ),
)

BOUNDED = (
    Safety(
        "call sites that are kept are bounded",
        CORE + "_targets.py",
        "return self.size.value >= MAX_RECORDERS or len(self.sites) >= MAX_SITES",
        "return self.size.value >= MAX_RECORDERS",
        _core("targets", "bounded"),
    ),
    Safety(
        "recorders that are kept are bounded",
        CORE + "_targets.py",
        "return self.size.value >= MAX_RECORDERS or len(self.sites) >= MAX_SITES",
        "return len(self.sites) >= MAX_SITES",
        _core("targets", "threads"),
    ),
    Safety(
        "names of classes with silent tracers are bounded",
        CORE + "_silent.py",
        "if len(_counts) < MAX_NAMES else _others",
        "",
        _core("silent"),
    ),
    Safety(
        "classes with silent tracers that are remembered are bounded",
        CORE + "_silent.py",
        "        if len(_by_class) >= MAX_CLASSES:\n",
        "        if False:\n",
        _core("silent"),
    ),
    Safety(
        "numberings of classes are bounded",
        CORE + "_object_ids.py",
        "    if len(sequences) >= MAX_NAMES:\n",
        "    if False:\n",
        _core("object_ids"),
    ),
    Safety(
        "a tracer does not keep its object",
        CORE + "_tracer.py",
        "        tracer._ctx = ref(ctx)\n",
        "        tracer._ctx = lambda: ctx\n",
        _core("lifetime"),
    ),
    Safety(
        "durations that wait are bounded",
        CORE + "_span.py",
        "            if outer is not None or len(durations) > MAX_BUFFERED:\n",
        "            if outer is not None:\n",
        _core("span") + _metrics("aggregations", "metrics_threads"),
    ),
    Safety(
        "recorders for props of spans are bounded",
        CORE + "_bindings.py",
        "            if len(self._bindings) >= MAX_KNOWN:\n",
        "            if False:\n",
        _core("bounded", "span"),
    ),
    Safety(
        "edges that a call site remembers are bounded",
        CORE + "_bindings.py",
        "            if len(self.edges) >= MAX_KNOWN:\n",
        "            if False:\n",
        _core("bounded", "upstream"),
    ),
    Safety(
        "series are bounded",
        METRICS + "series.py",
        "        self.limit = limit\n",
        "        self.limit = 10**9\n",
        _metrics("series"),
    ),
    Safety(
        "the warning about the limit comes once",
        METRICS + "series.py",
        "if self._warned.acquire(blocking=False):",
        "if True:",
        _metrics("series"),
    ),
    Safety(
        "series of an object go with it",
        METRICS + "series.py",
        "                    self._held.pop(key, None)\n",
        "                    pass\n",
        _metrics("series"),
    ),
    Safety(
        "values in the overflow are not remembered",
        METRICS + "recorders.py",
        "        if not self._is_lasting(found):\n            return found\n",
        "",
        _metrics("recorders"),
    ),
    Safety(
        "huge values are not copied",
        METRICS + "labels.py",
        "_cut_bytes(value, 4 * limit + 4).decode",
        "bytes(value).decode",
        _metrics("labels"),
    ),
    Safety(
        "classes of collectors that failed are bounded",
        EXPORTER + "exposition/failures.py",
        "return name if is_known else _OTHER",
        "return name",
        _exposition("failures"),
    ),
)

SCRAPES = (
    Safety(
        "scrapes at the same time render series without an error",
        EXPORTER + "exposition/label_texts.py",
        "for columns in list(self._columns.values()):",
        "for columns in self._columns.values():",
        _exposition("label_texts"),
    ),
    Safety(
        "a collector that raises costs its own metrics alone",
        EXPORTER + "exposition/collection.py",
        """\
                raise
            self.fail(error)
        finally:
""",
        """\
                raise
            raise
        finally:
""",
        _exposition("collection"),
    ),
    Safety(
        "a collector that hangs is given up",
        EXPORTER + "exposition/collection.py",
        "    while away and (left := deadline - monotonic()) > 0:\n",
        "    while away and (left := 1000.0):\n",
        _exposition("collection"),
    ),
    Safety(
        "a collector that hangs is not asked again",
        EXPORTER + "exposition/collection.py",
        "        if not run.is_own and run.is_hanging:\n",
        "        if False:\n",
        _exposition("collection"),
    ),
    Safety(
        "third-party collectors run in their own threads",
        EXPORTER + "exposition/collection.py",
        "elif bounded and not run.is_own and not run.is_quick:",
        "elif False:",
        _exposition("collection"),
    ),
    Safety(
        "a series is shown once",
        EXPORTER + "exposition/sections.py",
        "if self._series.setdefault(series, line) is not line:",
        "if self._series.setdefault(series + line, line) is not line:",
        _exposition("sections"),
    ),
    Safety(
        "a line that parsers refuse is left out",
        EXPORTER + "exposition/sections.py",
        "match = self._format.sample.match(line)\n",
        'match = self._format.sample.match(line) or re.match(b"((.*))()()", line)\n',
        _exposition("sections"),
    ),
    Safety(
        "no label is given twice, nor the name of the metric as a label",
        EXPORTER + "exposition/sections.py",
        "if match is None or (match[3] and _is_ambiguous(match[3])):",
        "if match is None:",
        _exposition("sections"),
    ),
    Safety(
        "a time that Prometheus cannot read is left out of the text format",
        EXPORTER + "exposition/sections.py",
        """_TEXT_TIME = rb"[0-9]{1,18}"\n""",
        """_TEXT_TIME = rb"-?[0-9]+"\n""",
        _exposition("sections"),
    ),
    Safety(
        "a time that is infinite is left out of OpenMetrics",
        EXPORTER + "exposition/sections.py",
        """rb"-?[0-9]{1,99}(?:""",
        """rb"-?[0-9]+(?:""",
        _exposition("sections"),
    ),
    Safety(
        "each format has its types",
        EXPORTER + "exposition/sections.py",
        "summary unknown info",
        "summary untyped unknown info",
        _exposition("sections"),
    ),
    Safety(
        "an exemplar that Prometheus refuses is left out",
        EXPORTER + "exposition/sections.py",
        " and not _is_exemplar(name, line[match.end() :]):",
        " and False:",
        _exposition("sections"),
    ),
    Safety(
        "an exemplar of a third-party collector has no NUL",
        EXPORTER + "exposition/sections.py",
        r"\n\0]",
        r"\n]",
        _exposition("sections"),
    ),
    Safety(
        "an exemplar is where Prometheus takes one",
        EXPORTER + "exposition/sections.py",
        """name.endswith((b"_total", b"_bucket")) and """,
        "",
        _exposition("sections"),
    ),
    Safety(
        "an exemplar that cannot be written costs itself alone",
        EXPORTER + "exposition/sections.py",
        "            yield from _without_exemplar(family, sample, openmetrics=openmetrics)\n",
        "",
        _exposition("sections"),
    ),
    Safety(
        "a sample that cannot be written costs itself alone",
        EXPORTER + "exposition/sections.py",
        "            fail(error)\n            yield from _without_exemplar",
        "            raise\n            yield from _without_exemplar",
        _exposition("sections"),
    ),
    Safety(
        "a message has no sample that Prometheus refuses",
        EXPORTER + "exposition/message_sections.py",
        "        if not _LABEL_NAME.fullmatch(name):\n",
        "        if False:\n",
        _exposition("message_sections"),
    ),
    Safety(
        "a sample that is in no message costs itself alone",
        EXPORTER + "exposition/message_sections.py",
        "except Exception as error:  # noqa: BLE001 -- one sample must not cost the others",
        "except ZeroDivisionError as error:",
        _exposition("message_sections"),
    ),
    Safety(
        "a message has no unit that Prometheus refuses",
        EXPORTER + "exposition/message_sections.py",
        "unit if unit and is_named else",
        "unit if unit else",
        _exposition("message_sections"),
    ),
    Safety(
        "the count of a message is that of its exponential buckets",
        EXPORTER + "exposition/messages.py",
        "total, count = exponential.sum, exponential.count",
        "pass",
        _exposition("messages"),
    ),
    Safety(
        "no classic bucket of a message has more than there are values",
        EXPORTER + "exposition/messages.py",
        "[min(each, count) for each in counts]",
        "counts",
        _exposition("messages"),
    ),
    Safety(
        "histograms of a message are all native or none is",
        EXPORTER + "exposition/messages.py",
        "is_native = all(one.exponential for one in readings)",
        "is_native = True",
        _exposition("messages"),
    ),
    Safety(
        "a message is made of plain texts",
        EXPORTER + "exposition/message_sections.py",
        "plain = str.__str__(text)",
        "plain = text",
        _exposition("message_sections"),
    ),
    Safety(
        "others do not give metrics of ours",
        EXPORTER + "exposition/render.py",
        "        elif title in ours:\n",
        "        elif False:\n",
        _exposition("render", "collection"),
    ),
    Safety(
        "scrapes at the same time share a collection",
        EXPORTER + "exposition/single_flight.py",
        "if run is not None and run.is_open_to(mine):",
        "if False:",
        _exposition("single_flight"),
    ),
    Safety(
        "a collection is shared for a second",
        EXPORTER + "exposition/single_flight.py",
        "is_new = self.began == -inf or monotonic() <= self.began + SHARED_FOR",
        "is_new = True",
        _exposition("single_flight"),
    ),
    Safety(
        "a thread does not wait for a collection for ever",
        EXPORTER + "exposition/single_flight.py",
        "while not (run.has_ended or run.is_overdue):",
        "while not run.has_ended:",
        _exposition("single_flight"),
    ),
    Safety(
        "collections are made one at a time",
        EXPORTER + "exposition/single_flight.py",
        "if self._current is not None and not self._current.is_overdue:",
        "if False:",
        _exposition("single_flight"),
    ),
    Safety(
        "a queue is not taken for a hang",
        EXPORTER + "exposition/single_flight.py",
        "mine.wait_behind(len(self._waiting))",
        "mine.wait_behind(0)",
        _exposition("single_flight"),
    ),
    Safety(
        "names that a client makes up start no collection",
        EXPORTER + "endpoint.py",
        "flight.get(format_, _Page(",
        "flight.get((format_, names), _Page(",
        _exporter("endpoint_sharing"),
    ),
    Safety(
        "names that nothing has make no page",
        EXPORTER + "exposition/render.py",
        "shown = frozenset(name for part in self._parts for name in part.names & names)",
        "shown = names",
        _exposition("render"),
    ),
    Safety(
        "pages of some names are compressed one at a time",
        EXPORTER + "endpoint.py",
        """_compressions.get("gzip", body, lambda: _compressed)""",
        "_compressed(body)",
        _exporter("endpoint_sharing"),
    ),
    Safety(
        "queries without end are refused",
        EXPORTER + "endpoint.py",
        "        if len(request.query) > _LONGEST_QUERY:\n",
        "        if False:\n",
        _exporter("endpoint", "endpoint_hostile"),
    ),
    Safety(
        "an error of the exporter is not shown",
        EXPORTER + "http/views.py",
        "    try:\n        response = view(request)\n    except Exception:\n",
        "    try:\n        response = view(request)\n    except ZeroDivisionError:\n",
        _http("views"),
    ),
    Safety(
        "browsers may not guess the type of an answer",
        EXPORTER + "http/views.py",
        """        ("X-Content-Type-Options", "nosniff"),\n""",
        "",
        _http("views"),
    ),
    Safety(
        "caches may not keep the metrics",
        EXPORTER + "http/views.py",
        """        ("Cache-Control", "no-store"),\n""",
        "",
        _http("views"),
    ),
    Safety(
        "what only reads is not asked to write",
        EXPORTER + "http/views.py",
        """        if request.method in {"GET", "HEAD"}:\n""",
        "        if True:\n",
        _http("views"),
    ),
    Safety(
        "classes of collectors are not compared at a scrape",
        EXPORTER + "exposition/collection.py",
        "id(type(self.collector)) in _DEFAULT_KINDS",
        "type(self.collector) in DEFAULTS.values()",
        _exporter("exporter_life"),
    ),
    Safety(
        "a collector that says that it is the exporter's is none",
        EXPORTER + "exposition/collection.py",
        "return type(self.collector) is ExporterCollector",
        "return isinstance(self.collector, ExporterCollector)",
        _exposition("collection"),
    ),
    Safety(
        "failures are not reported to objects that only claim to be exporters",
        EXPORTER + "exposition/collection.py",
        "for one in held or () if type(one) is ExporterCollector)",
        "for one in held or () if isinstance(one, ExporterCollector))",
        _exposition("collection"),
    ),
    Safety(
        "one thread alone logs a failure",
        CORE + "rate_limit.py",
        "if pause.turn.acquire(blocking=False):",
        "if True:",
        _core("rate_limit"),
    ),
    Safety(
        "collectors of others are shown before they fail",
        EXPORTER + "exposition/collection.py",
        "            failures.expect(run.collector)\n",
        "            pass\n",
        _exposition("render", "collection"),
    ),
    Safety(
        "a collector whose class has no name is counted",
        EXPORTER + "exposition/failures.py",
        "    except Exception:  # noqa: BLE001 -- a metaclass may raise anything\n",
        "    except ZeroDivisionError:\n",
        _exposition("failures"),
    ),
    Safety(
        "greenlets wait for a collector",
        EXPORTER + "exposition/collection.py",
        "import queue\n",
        "import types\n\nqueue = types.SimpleNamespace(**vars(__import__('queue')))\n",
        _exposition("collection"),
    ),
)

SERVER = (
    Safety(
        "clients have a deadline",
        EXPORTER + "http/connections.py",
        "        self._end_overdue()\n",
        "",
        _http("connections", "connections_end"),
    ),
    Safety(
        "the deadline is one for all that a client does",
        EXPORTER + "http/connection.py",
        "        self.deadline = min(monotonic() + seconds, self._end)\n",
        "        self.deadline = monotonic() + seconds\n",
        _http("connections"),
    ),
    Safety(
        "workers are bounded",
        EXPORTER + "http/connections.py",
        "if not self._waiting or len(self._working) >= _WORKERS:",
        "if not self._waiting:",
        _http("connections", "connections_end"),
    ),
    Safety(
        "one client does not keep all workers",
        EXPORTER + "http/connections.py",
        "return connection if busy[connection.client] < _WORKERS_PER_CLIENT else None",
        "return connection",
        _http("connections", "connections_end"),
    ),
    Safety(
        "open connections are bounded",
        EXPORTER + "http/connections.py",
        "            if len(self._open) >= _MAX_OPEN:\n                self._make_room()\n",
        "",
        _http("connections", "connections_end"),
    ),
    Safety(
        "requests are bounded",
        EXPORTER + "http/connection.py",
        "return len(head) > MAX_HEAD or bool(HEAD_END.search(head, max(0, before - 2)))",
        "return bool(HEAD_END.search(head, max(0, before - 2)))",
        _http("messages", "tls"),
    ),
    Safety(
        "what is no request is not repeated",
        EXPORTER + "http/messages.py",
        "        return _refused(HTTPStatus.BAD_REQUEST)\n",
        """        return Response(HTTPStatus.BAD_REQUEST, [("Reason", repr(line))], b"")\n""",
        _http("messages"),
    ),
    Safety(
        "a first line without end is refused",
        EXPORTER + "http/messages.py",
        "    if len(line) >= MAX_HEAD:\n",
        "    if False:\n",
        _http("messages"),
    ),
    Safety(
        "only versions of HTTP whose responses have headers are served",
        EXPORTER + "http/messages.py",
        """ +HTTP/1\\.[0-9]""",
        """ +HTTP/[0-9]\\.[0-9]""",
        _http("messages"),
    ),
    Safety(
        "headers without end are refused",
        EXPORTER + "http/messages.py",
        "    except HTTPException:  #",
        "    except ZeroDivisionError:  #",
        _http("messages"),
    ),
    Safety(
        "a target that is no URL is refused",
        EXPORTER + "http/messages.py",
        "    except ValueError:  # the target is no URL\n",
        "    except ZeroDivisionError:\n",
        _http("messages"),
    ),
    Safety(
        "the server does not show its versions",
        EXPORTER + "http/messages.py",
        """("Server", "hypertrace"),""",
        """("Server", __import__("sys").version),""",
        _http("messages"),
    ),
    Safety(
        "on loopback, other names are refused",
        EXPORTER + "http/server.py",
        "                guards.insert(0, HostGuard(host))\n",
        "                pass\n",
        _http("server", "access"),
    ),
    Safety(
        "a server that is open says so",
        EXPORTER + "http/server.py",
        "                _warn_that_it_is_open(host)\n",
        "                pass\n",
        _http("server", "access"),
    ),
    Safety(
        "credentials are asked for",
        EXPORTER + "http/server.py",
        "[] if self._credentials is None else [self._credentials.renewed()]",
        "[]",
        _http("server", "access"),
    ),
    Safety(
        "guesses are limited",
        EXPORTER + "http/access.py",
        "            if times is None or len(times) < _MAX_FAILURES:\n",
        "            if True:\n",
        _http("access"),
    ),
    Safety(
        "clients that failed are bounded",
        EXPORTER + "http/access.py",
        "            if len(self._times) > _MAX_CLIENTS:\n",
        "            if False:\n",
        _http("access"),
    ),
    Safety(
        "credentials are compared in constant time",
        EXPORTER + "http/access.py",
        "sum(compare_digest(digest, known) for known in self._digests) > 0",
        "digest in self._digests",
        _http("access"),
    ),
    Safety(
        "half of TLS is an error",
        EXPORTER + "http/tls.py",
        "    if certfile is None or keyfile is None:\n",
        "    if False:\n",
        _http("tls"),
    ),
    Safety(
        "TLS before 1.2 is refused",
        EXPORTER + "http/tls.py",
        "    context.minimum_version = ssl.TLSVersion.TLSv1_2\n",
        "    context.minimum_version = ssl.TLSVersion.TLSv1\n",
        _http("tls"),
    ),
    Safety(
        "client certificates are required",
        EXPORTER + "http/tls.py",
        "    context.verify_mode = ssl.CERT_REQUIRED\n",
        "    context.verify_mode = ssl.CERT_OPTIONAL\n",
        _http("tls"),
    ),
    Safety(
        "a key with a passphrase does not ask on the terminal",
        EXPORTER + "http/tls.py",
        "certfile, keyfile, password=refuse",
        "certfile, keyfile",
        _http("tls"),
    ),
    Safety(
        "hanging up on many delays no caller",
        EXPORTER + "http/connections.py",
        "for connection in overdue[:_BATCH]:",
        "for connection in overdue:",
        _http("connections"),
    ),
    Safety(
        "a server that is behind does not rest",
        EXPORTER + "http/connections.py",
        "0 if self._is_behind else _TICK if self._open else None",
        "_TICK if self._open else None",
        _http("connections"),
    ),
    Safety(
        "reading from many delays no caller",
        EXPORTER + "http/connections.py",
        "return events[:_BATCH]",
        "return events",
        _http("connections"),
    ),
    Safety(
        "clients with few connections go first",
        EXPORTER + "http/connections.py",
        "events.sort(key=lambda event: crowd[event[0].client] if event[0] else 0)",
        "",
        _http("connections"),
    ),
    Safety(
        "requests that wait to be read share what is collected meanwhile",
        EXPORTER + "http/connection.py",
        "min(self._noticed, now)",
        "now",
        _http("connections"),
    ),
    Safety(
        "newer connections go first",
        EXPORTER + "http/connections.py",
        "reversed(self._selector.select(seconds))",
        "self._selector.select(seconds)",
        _http("connections"),
    ),
    Safety(
        "a system that refuses to watch does not end the server",
        EXPORTER + "http/connections.py",
        "except OSError:  # no memory, or more sockets than the process may have open by now\n",
        "except ZeroDivisionError:\n",
        _http("connections"),
    ),
    Safety(
        "a certificate does not make a server closed",
        EXPORTER + "http/server.py",
        "self.admits_all = client_ca is None and auth is None",
        "self.admits_all = certfile is None and auth is None",
        _http("server"),
    ),
    Safety(
        "credentials with two bytes a character are an error",
        EXPORTER + "http/access.py",
        "if name and password and is_text else None",
        "if name and password else None",
        _http("access"),
    ),
)

COMMAND = (
    Safety(
        "control characters do not reach the terminal",
        CORE + "cli/terminal.py",
        "each if each.isprintable() else",
        "each if each else",
        (*_cli("terminal"), "grafana/test_push.py"),
    ),
    Safety(
        "a command that cannot be loaded breaks no other",
        CORE + "cli/entry_points.py",
        "except (Exception, SystemExit) as error:",
        "except () as error:",
        _cli("entry_points"),
    ),
    Safety(
        "a package with unreadable metadata does not keep commands of others away",
        CORE + "cli/entry_points.py",
        "with suppress(Exception):",
        "with suppress():",
        _cli("entry_points"),
    ),
    Safety(
        "a command that two packages bring is not run",
        CORE + "cli/entry_points.py",
        "if len(self.entries) > 1:",
        "if False:",
        _cli("entry_points", "main"),
    ),
    Safety(
        "an address of another server is not shown",
        EXPORTER + "dashboards/grafana.py",
        "    if urlsplit(address)[:2] != urlsplit(url)[:2]:\n",
        "    if False:\n",
        ("grafana/test_push.py",),
    ),
    Safety(
        "an answer of a server is read up to a limit",
        EXPORTER + "dashboards/grafana.py",
        "answer.read(_MOST_BYTES)",
        "answer.read()",
        ("grafana/test_push.py",),
    ),
    Safety(
        "a mistyped subcommand writes no folder",
        EXPORTER + "dashboards/command.py",
        "    if meant is not None:\n",
        "    if False:\n",
        ("hypertrace_prometheus/dashboards/test_command.py",),
    ),
)

COMPILED = (
    Safety(
        "compiled: an operation ends once",
        CORE + "_operations.c",
        "PyObject *running = take_slot(self, state.running, NULL);",
        "PyObject *running = get_slot(self, state.running);",
        _core("operations"),
    ),
    Safety(
        "compiled: durations of operations that wait are bounded",
        CORE + "_operations.c",
        "if (is_done && waiting <= state.max_buffered)",
        "if (is_done)",
        _core("operations"),
    ),
    Safety(
        "compiled: a forked child forgets the traced calls of other threads",
        CORE + "_open_calls.c",
        "if (!call->is_running || call->thread == thread) {",
        "if (call->thread != NULL) {",
        _core("engines"),
    ),
    Safety(
        "compiled: a traced call at the recursion limit is counted",
        CORE + "_frames.h",
        "    thread->recursion_remaining += frames;\n",
        "    (void)thread, (void)frames;\n",
        ("hypertrace/traced/test_recursion.py",),
    ),
    Safety(
        "compiled: what ends a program is not swallowed",
        CORE + "_speedups.c",
        "    if (!PyErr_ExceptionMatches(PyExc_Exception))\n        return -1;\n",
        "",
        _core("guard", "targets", "failures"),
    ),
    Safety(
        "compiled: what tracing traces is dropped",
        CORE + "_speedups.c",
        "    if (PyList_GET_SIZE(state.active_suppressions) == 0)\n        return 0;\n",
        "    if (PyList_GET_SIZE(state.active_suppressions) >= 0)\n        return 0;\n",
        _core("guard"),
    ),
    Safety(
        "compiled: a tracer does not keep its object",
        CORE + "_speedups.c",
        "set_slot(self, state.tracer_ctx, reference_to(ctx));",
        "set_slot(self, state.tracer_ctx, Py_NewRef(ctx));",
        _core("lifetime"),
    ),
    Safety(
        "compiled: durations that wait are bounded",
        CORE + "_speedups.c",
        "result = outer == Py_None && waiting <= state.max_buffered\n",
        "result = outer == Py_None\n",
        _core("span") + _metrics("aggregations", "metrics_threads"),
    ),
    Safety(
        "compiled: durations of traced functions that wait are bounded",
        CORE + "_speedups.c",
        "if (waiting >= 0 && waiting <= state.max_buffered)",
        "if (waiting >= 0)",
        _core("span"),
    ),
    Safety(
        "compiled: a span that ends in the collector does not set the context it interrupts",
        CORE + "_speedups.c",
        "(error == Py_None || !is_collecting())",
        "1",
        _core("greenlets"),
    ),
    Safety(
        "compiled: a span that ended in another context is passed over",
        CORE + "_speedups.c",
        "|| !has_ended(current))",
        "|| 1)",
        _core("upstream"),
    ),
    Safety(
        "compiled: a binding stays while its span is made",
        CORE + "_speedups.c",
        "        span = new_span(binding, self);\n    Py_XDECREF(binding);\n",
        "        Py_DECREF(binding), span = new_span(binding, self);\n"
        "    else\n        Py_XDECREF(binding);\n",
        _core("finalizers"),
    ),
    Safety(
        "compiled: a clock stays while it is read",
        CORE + "_speedups.c",
        """\
    PyObject *result = is_native ? NULL : PyObject_CallNoArgs(clock);
    Py_DECREF(clock);
""",
        """\
    Py_DECREF(clock);
    PyObject *result = is_native ? NULL : PyObject_CallNoArgs(clock);
""",
        _core("finalizers"),
    ),
    Safety(
        "compiled: a table is empty before its recorders go",
        CORE + "_speedups.c",
        "    self->entries = NULL;\n    self->size = self->used = 0;\n",
        "",
        _core("finalizers"),
    ),
    Safety(
        "compiled: only a binding is used as one",
        CORE + "_speedups.c",
        "    if (object != NULL && !Py_IS_TYPE(object, state.binding_type))\n"
        "        Py_CLEAR(object);\n",
        "",
        _core("empty_slots"),
    ),
    Safety(
        "compiled: a span without a binding goes to Python",
        CORE + "_speedups.c",
        "    PyObject *start = binding == NULL ? NULL : get_slot(binding, state.binding_start);\n",
        "    PyObject *start = get_slot(binding, state.binding_start);\n",
        _core("empty_slots"),
    ),
    Safety(
        "compiled: a span with an empty slot ends in Python",
        CORE + "_speedups.c",
        "    if (binding != NULL && outer != NULL)\n",
        "",
        _core("empty_slots"),
    ),
    Safety(
        "compiled: an error at the end of a span is swallowed",
        CORE + "_speedups.c",
        "failed && swallow(self) < 0 ? NULL : Py_NewRef(Py_None)",
        "failed ? NULL : Py_NewRef(Py_None)",
        _core("empty_slots"),
    ),
    Safety(
        "compiled: not without a GIL, unless on request",
        CORE + "_compiled.py",
        """    if _is_free_threaded() and not _is_on("HYPERTRACE_FREE_THREADED"):\n""",
        "    if False:\n",
        _core("compiled"),
    ),
)

PUSHING = (
    Safety(
        "handlers: a call site without a match keeps its recorder",
        CORE + "_handling.py",
        "        if matching is None:\n            super().deliver(tracer, site, id, props)\n"
        "            return\n",
        "        matching = matching or _Matching([])\n",
        _core("handlers"),
    ),
    Safety(
        "handlers: an error of the trace function stops none",
        CORE + "_handling.py",
        "                swallow(error, self.function)",
        "                raise",
        _core("handlers"),
    ),
    Safety(
        "handlers: later changes of a mapping change no event",
        CORE + "_handling.py",
        "None if props is None else props.copy()",
        "props",
        _core("handlers"),
    ),
    Safety(
        "handlers: names and ids are forgotten when they are many",
        CORE + "_handling.py",
        "self._matched.clear()",
        "pass",
        _core("handlers"),
    ),
    Safety(
        "handlers: a change that another thread makes meanwhile is not lost",
        CORE + "_dispatch.py",
        "while _delivered_change is not _change:",
        "for _ in range(1):",
        _core("handlers"),
    ),
    Safety(
        "handlers: one that is detached gets nothing more",
        CORE + "_handlers.py",
        "        if self._is_detached:\n            return\n        try:",
        "        try:",
        _core("handlers"),
    ),
    Safety(
        "queues: they are bounded",
        CORE + "_event_queue.py",
        "if self._items.qsize() >= self._limit:",
        "if self._items.qsize() >= 10**9:",
        _core("event_queue"),
    ),
    Safety(
        "queues: what waits keeps no object alive",
        CORE + "_event_queue.py",
        "self._items.put(plain_event(event))",
        "self._items.put(event)",
        _core("event_queue"),
    ),
    Safety(
        "queues: an error does not end the thread",
        CORE + "_handlers.py",
        "except BaseException as error:  # noqa: BLE001 -- the thread must go on",
        "except LookupError as error:",
        _core("event_queue"),
    ),
    Safety(
        "queues: a child has its own",
        CORE + "_event_queue.py",
        "after_in_child=_after_fork_in_child,",
        "after_in_child=_after_fork_in_parent,",
        _core("event_queue"),
    ),
    Safety(
        "queues: threads end before a fork",
        CORE + "_event_queue.py",
        "before=_before_fork,",
        "before=_child_end.watch,",
        _core("event_queue"),
    ),
    Safety(
        "queues: they are drained at exit",
        CORE + "_event_queue.py",
        "atexit.register(_at_exit)",
        "",
        _core("event_queue"),
    ),
    Safety(
        "queues: a program ends though a handler hangs",
        CORE + "_event_queue.py",
        "EXIT_TIMEOUT = 2.0",
        "EXIT_TIMEOUT = 3600.0",
        _core("event_queue"),
    ),
    Safety(
        "record: a duration is a finite number, 0 or more",
        CORE + "_arguments.py",
        "elif not (isfinite(seconds) and seconds >= 0):",
        "elif False:",
        _core("record"),
    ),
    Safety(
        "push: an error does not end the thread",
        PUSH + "push.py",
        "except BaseException as error:",
        "except ZeroDivisionError as error:",
        _push("push"),
    ),
    Safety(
        "push: failures are logged once a minute",
        PUSH + "push.py",
        "if self._is_ending or self._log_limit.allow():",
        "if True:",
        _push("push"),
    ),
    Safety(
        "push: the last attempt that fails is logged, whatever was logged before",
        PUSH + "push.py",
        "if self._is_ending or self._log_limit.allow():",
        "if self._log_limit.allow():",
        _push("push"),
    ),
    Safety(
        "push: what could not be sent is sent later",
        PUSH + "push.py",
        "            suppress_tracing(self.send, encoded)\n",
        "            self._previous = reading\n            suppress_tracing(self.send, encoded)\n",
        _push("push"),
    ),
    Safety(
        "push: what sending traces is dropped",
        PUSH + "push.py",
        "suppress_tracing(self.send, encoded)",
        "self.send(encoded)",
        _push("push"),
    ),
    Safety(
        "push: what finalizers trace meanwhile is counted",
        PUSH + "push.py",
        "self.encode(self.changes(reading, self._previous))",
        "suppress_tracing(self.encode, self.changes(reading, self._previous))",
        _push("push"),
    ),
    Safety(
        "push: nothing is sent after stop",
        PUSH + "push.py",
        "if self._closed or not sending.acquire",
        "if not sending.acquire",
        _push("push"),
    ),
    Safety(
        "push: an exporter does not wait for itself",
        PUSH + "push.py",
        " or self._thread.is_current():",
        ":",
        _push("push"),
    ),
    Safety(
        "push: a child does not send what its parent counted",
        METRICS + "storage.py",
        "        storage.reset()\n",
        "        pass\n",
        _push("processes"),
    ),
    Safety(
        "push: no thread of a stopped exporter stays after a fork",
        PUSH + "push.py",
        "if not processes.is_running(self):  # stopped",
        "if False:  # stopped",
        _push("processes"),
    ),
    Safety(
        "push: requests that wait are bounded",
        CORE + "periodic.py",
        "if self._requests.qsize() >= _MOST_WAITING:",
        "if False:",
        _core("periodic"),
    ),
    Safety(
        "push: attempts that fail get rarer",
        CORE + "periodic.py",
        "if not self._failed_in_a_row:",
        "if True:",
        _core("periodic"),
    ),
    Safety(
        "push: processes do not come back at the same moment",
        CORE + "periodic.py",
        "return uniform(self._interval, back_off)",
        "return back_off",
        _core("periodic"),
    ),
    Safety(
        "push: of two threads one ends",
        CORE + "periodic.py",
        "    before.put(None)\n",
        "",
        _core("periodic"),
    ),
    Safety(
        "push: who forks all the time still sends",
        CORE + "periodic.py",
        "        before, self._requests = self._requests, requests\n",
        "        before, self._requests = self._requests, requests\n        self._schedule()\n",
        _core("periodic") + _push("processes"),
    ),
    Safety(
        "push: a clock that was set back does not silence an exporter",
        CORE + "periodic.py",
        "min(self._due - monotonic(), self._delay)",
        "self._due - monotonic()",
        _core("periodic"),
    ),
    Safety(
        "flush: all exporters send at the same time",
        METRICS + "flushing.py",
        "return all([wait(max(0.0, deadline - monotonic())) for wait in waits])",
        "return all([exporter.request_flush()(timeout) for exporter in exporters])",
        _metrics("flushing"),
    ),
    Safety(
        "flush: each is waited for after one has failed",
        METRICS + "flushing.py",
        "return all([wait(max(0.0, deadline - monotonic())) for wait in waits])",
        "return all(wait(max(0.0, deadline - monotonic())) for wait in waits)",
        _metrics("flushing"),
    ),
    Safety(
        "flush: an event loop goes on meanwhile",
        METRICS + "flushing.py",
        "flushed = self._flush_in_thread(asyncio.get_running_loop())",
        "raise RuntimeError",
        _metrics("flushing"),
    ),
    Safety(
        "flush: an exporter that was stopped is not waited for",
        PUSH + "push.py",
        "            self.forwards_to.exports.detach(self)\n",
        "",
        _push("flushing"),
    ),
    Safety(
        "exports: an exporter that was stopped does not look as if it failed",
        PUSH + "push.py",
        "            self._counts.end()\n",
        "",
        _push("flushing"),
    ),
    Safety(
        "exports: a process that only exports what others share is no worker",
        METRICS + "exports.py",
        "if self._storage.is_observer:",
        "if False:",
        _metrics("exports"),
    ),
    Safety(
        "sigterm: the handler of the application stays",
        CORE + "signals.py",
        "if now is not signal.SIG_DFL and not isinstance(now, _Handler):",
        "if False:",
        _core("signals"),
    ),
    Safety(
        "sigterm: the signal ends the process all the same",
        CORE + "_signals.c",
        "    set_handler(SIG_DFL);\n    kill(getpid(), SIGTERM);\n",
        "    set_handler(SIG_DFL);\n",
        _core("signals"),
    ),
    Safety(
        "sigterm: a child does not end its parent",
        CORE + "_signals.c",
        "if (getpid() != watching || (until >= 0 && now > until))",
        "if (until >= 0 && now > until)",
        _core("signals"),
    ),
    Safety(
        "sigterm: a thread that hangs does not keep the process",
        CORE + "_signals.c",
        "if (getpid() != watching || (until >= 0 && now > until))",
        "if (getpid() != watching)",
        _core("signals"),
    ),
    Safety(
        "sigterm: nothing is written where a descriptor was used again",
        CORE + "_signals.c",
        "return fstat(descriptor, &now) == 0 && now.st_dev == the_socket.st_dev &&\n"
        "           now.st_ino == the_socket.st_ino &&\n",
        "return fstat(descriptor, &now) == 0 &&\n",
        _core("signals"),
    ),
    Safety(
        "sigterm: there is no thread at a fork",
        CORE + "signals.py",
        "        before=_watcher.before_fork,\n",
        "        before=_watcher.after_fork_in_parent,\n",
        _core("signals"),
    ),
    Safety(
        "sigterm: a handler of Python is called once",
        CORE + "signals.py",
        "if self._ending == os.getpid():",
        "if False:",
        _core("signals"),
        is_pure=True,
    ),
    Safety(
        "sigterm: the exit waits for its last reading",
        PUSH + "processes.py",
        "    _finish(exporters)\n    _running.clear()  # last",
        "    _running.clear()\n    _finish(exporters)  # last",
        _push("sigterm"),
    ),
    Safety(
        "push: threads end before a fork",
        PUSH + "processes.py",
        "before=_before_fork,",
        "before=_child_end.watch,",
        _push("processes"),
    ),
    Safety(
        "push: a fork does not wait for a thread that hangs",
        PUSH + "processes.py",
        "FORK_TIMEOUT = 0.1",
        "FORK_TIMEOUT = 3600",
        _push("processes"),
    ),
    Safety(
        "push: a program ends though exporters hang",
        PUSH + "processes.py",
        "EXIT_TIMEOUT = 2.0",
        "EXIT_TIMEOUT = 3600.0",
        _push("processes"),
    ),
    Safety(
        "push: children of multiprocessing send the rest",
        CORE + "forks.py",
        "util.register_after_fork(self, lambda own: own._finalize(util))",
        "pass",
        (*_push("processes"), *_core("event_queue")),
    ),
    Safety(
        "push: a line without room is taken back",
        PUSH + "writers.py",
        "os.ftruncate(descriptor, end - written)",
        "pass",
        _push("json_lines"),
    ),
    Safety(
        "push: half a line does not spoil the next",
        PUSH + "writers.py",
        'line if _ends_a_line(path) else b"\\n" + line',
        "line",
        _push("json_lines"),
    ),
    Safety(
        "push: a pipe without a reader is not waited for",
        PUSH + "writers.py",
        " | _NO_WAITING | _AS_IT_IS",
        " | _AS_IT_IS",
        _push("json_lines"),
    ),
    Safety(
        "push: every line is JSON",
        PUSH + "json_lines.py",
        "return value if isfinite(value) else None",
        "return value",
        _push("json_lines"),
    ),
    Safety(
        "statsd: no value of a label breaks a line",
        STATSD + "lines.py",
        '_NO_TAG = re.compile(r"[^A-Za-z0-9_./-]")',
        '_NO_TAG = re.compile(r"(?!)")',
        _statsd("lines"),
    ),
    Safety(
        "statsd: no value of a label breaks a path",
        STATSD + "lines.py",
        '_NO_PART = re.compile(r"[^A-Za-z0-9_-]")',
        '_NO_PART = re.compile(r"\\n")',
        _statsd("lines"),
    ),
    Safety(
        "statsd: what is not ASCII is replaced, too",
        STATSD + "lines.py",
        '_NO_TAG = re.compile(r"[^A-Za-z0-9_./-]")',
        '_NO_TAG = re.compile(r"[^\\w./-]")',
        _statsd("lines"),
    ),
    Safety(
        "statsd: numbers have no exponent",
        STATSD + "writer.py",
        'return format(Decimal(text), "f") if "e" in text else text',
        "return text",
        _statsd("lines"),
    ),
    Safety(
        "statsd: a gauge below zero is no difference",
        STATSD + "writer.py",
        "if value < 0 else text",
        "if value is None else text",
        _statsd("lines"),
    ),
    Safety(
        "statsd: weights are whole numbers for a receiver",
        STATSD + "writer.py",
        "rate if 1 / rate >= weight else nextafter(rate, 0.0)",
        "rate",
        _statsd("lines"),
    ),
    Safety(
        "statsd: what has arrived is not sent again",
        STATSD + "exporter.py",
        "self._lines.amounts(arrived[-1].end):",
        "self._lines.amounts(0):",
        _statsd("exporter"),
    ),
    Safety(
        "statsd: a line that no receiver can read does not stop the others",
        STATSD + "packets.py",
        "if length > LONGEST_LINE + 1:",
        "if False:",
        _statsd("exporter", "lines"),
    ),
    Safety(
        "statsd: a duration without a sample is sent as an estimate",
        STATSD + "values.py",
        "            rest[bucket] -= share\n",
        "            rest[bucket] = 0\n",
        _statsd("values"),
    ),
    Safety(
        "statsd: what came after the reading is not sent with it",
        STATSD + "values.py",
        "del values[max(0, counts[bucket]) :]",
        "pass",
        _statsd("values"),
    ),
    Safety(
        "statsd: estimates make the sum of samples right",
        STATSD + "values.py",
        "return count - (count - held) // _CORRECTING",
        "return count",
        _statsd("values"),
    ),
    Safety(
        "statsd: a line with many values is no longer than a packet",
        STATSD + "writer.py",
        "if size > room + 1 and at > first:",
        "if False:",
        _statsd("lines"),
    ),
    Safety(
        "samples: an exporter gets what others took",
        METRICS + "samples.py",
        "for each in tuple(_open):\n",
        "for each in (self,):\n",
        ("hypertrace/metrics/test_samples.py",),
    ),
    Safety(
        "samples: what was not sent is taken again",
        METRICS + "samples.py",
        "self._taken.get(series) or self._earlier.pop(series, NOTHING)",
        "NOTHING",
        ("hypertrace/metrics/test_samples.py", *_statsd("exporter")),
    ),
    Safety(
        "samples: none is kept without an exporter",
        METRICS + "samples.py",
        "                    series.sample(None)",
        "                    pass",
        ("hypertrace/metrics/test_samples.py", *_statsd("exporter")),
    ),
    Safety(
        "samples: a forked child has none of its parent",
        METRICS + "samples.py",
        "after_fork_in_child(_forget)\n",
        "",
        ("hypertrace/metrics/test_samples.py",),
    ),
    Safety(
        "samples: a series holds as many as it has room for",
        CORE + "sample_cells.py",
        "if len(values) < self.room:",
        "if True:",
        _core("sample_cells"),
        is_pure=True,
    ),
    Safety(
        "samples: each value has the same chance",
        CORE + "sample_cells.py",
        "int(_random() * self._seen)",
        "int(_random() * self.room)",
        _core("sample_cells"),
        is_pure=True,
    ),
    Safety(
        "samples, compiled: each value has the same chance",
        CORE + "_samples.c",
        "random_below(self, self->seen)",
        "random_below(self, (uint64_t)self->room)",
        _core("sample_cells"),
    ),
    Safety(
        "samples, compiled: they go with the last histogram",
        CORE + "_cells.c",
        "    Py_XDECREF(self->samples);\n",
        "",
        _core("sample_cells"),
    ),
    Safety(
        "statsd: a datagram that was refused was not sent",
        STATSD + "transports.py",
        "_check_not_refused(receiver)\n",
        "pass\n",
        _statsd("exporter"),
    ),
    Safety(
        "statsd: a connection that was reset did not receive",
        STATSD + "transports.py",
        "with suppress(TimeoutError):\n        while",
        "with suppress(OSError):\n        while",
        _statsd("exporter"),
    ),
    Safety(
        "statsd: over TCP no half of a character is a line break",
        STATSD + "transports.py",
        "_HALF_BREAK.sub(_replaced, packet)",
        "packet",
        _statsd("events"),
    ),
    Safety(
        "statsd: tags of declared metrics stay in their order",
        STATSD + "lines.py",
        "if not isinstance(declaration, DeclaredMetric):",
        "if True:",
        _statsd("lines"),
    ),
    Safety(
        "statsd: only agents get the origin",
        STATSD + "datadog.py",
        "is_agent = takes_address and any",
        "is_agent = any",
        _statsd("datadog"),
    ),
    Safety(
        "statsd: no text ends the line of a message",
        STATSD + "messages.py",
        'return _BREAKS.sub(r"\\\\n", text)',
        "return text",
        _statsd("messages"),
    ),
    Safety(
        "statsd: no text has fields of a message",
        STATSD + "messages.py",
        'return _NO_FIELD.sub("_", _text(value))[:size]',
        "return _text(value)[:size]",
        _statsd("messages"),
    ),
    Safety(
        "statsd: no message of a service check has fields",
        STATSD + "messages.py",
        '.replace("|", "_")',
        "",
        _statsd("messages"),
    ),
    Safety(
        "statsd: a message is no longer than a packet",
        STATSD + "messages.py",
        "    if len(whole) <= size:",
        "    if True:",
        _statsd("messages", "events"),
    ),
    Safety(
        "statsd: tags leave room for the text",
        STATSD + "messages.py",
        "            if size <= room:",
        "            if True:",
        _statsd("messages", "events"),
    ),
    Safety(
        "statsd: messages that arrived are not sent again",
        STATSD + "exporter.py",
        "            del packets[:number]",
        "            del packets[:0]",
        _statsd("events"),
    ),
    Safety(
        "statsd: values of sets that were not sent are sent later",
        STATSD + "exporter.py",
        "        if lines:\n            self._deliver",
        "        self._sent_sets = {(metric.name, labels): v for metric, labels, v in sets}\n"
        "        if lines:\n            self._deliver",
        _statsd("events"),
    ),
    Safety(
        "push: a worker that does not lead sends its own",
        PUSH + "push.py",
        "            suppress_tracing(self.send_own)\n",
        "            suppress_tracing(self.send_own) if self._leads() else None\n",
        _statsd("events"),
    ),
    Safety(
        "events: what comes after the end is counted as dropped",
        PUSH + "events.py",
        "if self._is_stopped or ",
        "if ",
        _statsd("events"),
    ),
    Safety(
        "exemplars: OpenTelemetry is not asked before it has a tracer provider",
        METRICS + "exemplars.py",
        'getattr(trace, "_TRACER_PROVIDER", trace) is not None',
        "trace is not None",
        ("hypertrace/metrics/test_exemplars.py",),
    ),
    Safety(
        "opentelemetry: the library does not try again by itself",
        OPENTELEMETRY + "sender.py",
        "            raise _EndOfAttempt(error) from None\n",
        "            raise\n",
        _opentelemetry("exporter"),
    ),
    Safety(
        "opentelemetry: no header is logged",
        OPENTELEMETRY + "sender.py",
        "except requests.exceptions.InvalidHeader:",
        "except ZeroDivisionError:",
        _opentelemetry("exporter"),
    ),
    Safety(
        "opentelemetry: what is refused is not sent again",
        OPENTELEMETRY + "exporter.py",
        "except RefusedError as refused:",
        "except ZeroDivisionError as refused:",
        _opentelemetry("exporter"),
    ),
    Safety(
        "opentelemetry: instrumentations do not trace the exporter's requests",
        OPENTELEMETRY + "sender.py",
        "context.set_value(_NOT_INSTRUMENTED, value=True)",
        "context.get_current()",
        _opentelemetry("exporter"),
    ),
    Safety(
        "opentelemetry: a value is in the bucket it belongs to",
        OPENTELEMETRY + "data.py",
        "Buckets(first - 1, ",
        "Buckets(first, ",
        _opentelemetry("data"),
    ),
    Safety(
        "opentelemetry: no number makes a reading unsendable",
        OPENTELEMETRY + "data.py",
        "abs(value) > _LARGEST",
        "False",
        _opentelemetry("data"),
    ),
    Safety(
        "opentelemetry: backends leave names as they are",
        OPENTELEMETRY + "data.py",
        "if is_named and unit in _UNITS",
        "if unit in _UNITS",
        _opentelemetry("data"),
    ),
    Safety(
        "opentelemetry: workers are one instance, also after one was killed",
        SHARED + "origin.py",
        "    found = _read(path)\n    if found is None:",
        "    found = None\n    if False:",
        _opentelemetry("exporter"),
    ),
    Safety(
        "opentelemetry: a forked child that counts alone is another instance",
        METRICS + "storage.py",
        "        self.origin = Origin.new()\n",
        "",
        _opentelemetry("exporter"),
    ),
    Safety(
        "influx: a label cannot end a line",
        INFLUX + "lines.py",
        '_CONTROL.sub(" ", text))',
        "text)",
        _influx("lines"),
    ),
    Safety(
        "influx: a backslash does not escape what comes after a tag",
        INFLUX + "lines.py",
        '_AMBIGUOUS.sub("/", _CONTROL',
        '("".join)(_CONTROL',
        _influx("lines"),
    ),
    Safety(
        "influx: no tag is in a line twice",
        INFLUX + "lines.py",
        "for key, value in others if key not in keys",
        "for key, value in others",
        _influx("lines"),
    ),
    Safety(
        "influx: a gauge keeps its type",
        INFLUX + "lines.py",
        "float(value) if is_gauge else value",
        "value",
        _influx("lines"),
    ),
    Safety(
        "influx: what is sent again replaces what was stored",
        INFLUX + "exporter.py",
        "            self._unconfirmed = time\n",
        "",
        _influx("exporter"),
    ),
    Safety(
        "influx: no reading replaces another",
        INFLUX + "exporter.py",
        "while time in self._times:",
        "while False:",
        _influx("exporter"),
    ),
    Safety(
        "influx: no event replaces another",
        INFLUX + "event_lines.py",
        "self._times.free(series, point.time * self._unit // SECOND)",
        "point.time * self._unit // SECOND",
        _influx("exporter"),
    ),
    Safety(
        "influx: a whole number of an event is no other type of field",
        INFLUX + "event_lines.py",
        "value if isinstance(value, bool) else float(value)",
        "value",
        _influx("event_lines"),
    ),
    Safety(
        "influx: a class cannot make a comment of a line",
        INFLUX + "lines.py",
        'f"_{text[1:]}" if text.startswith("#") else text',
        "text",
        _influx("event_lines"),
    ),
    Safety(
        "influx: an event is not in a sum of points twice",
        INFLUX + "lines.py",
        "if family.name not in without:",
        "if family:",
        _influx("exporter"),
    ),
    Safety(
        "events: those that wait are bounded",
        PUSH + "events.py",
        "if self._is_stopped or self.waiting >= self._limit:",
        "if self._is_stopped:",
        _push("events"),
    ),
    Safety(
        "events: one that is dropped leaves a gap",
        PUSH + "events.py",
        """\
        number = next(self._numbers)
        if self._is_stopped or self.waiting >= self._limit:
            self._drop(1)
            return
""",
        """\
        if self._is_stopped or self.waiting >= self._limit:
            self._drop(1)
            return
        number = next(self._numbers)
""",
        _push("events", "json_lines"),
    ),
    Safety(
        "events: a forked child does not send those of its parent",
        PUSH + "push.py",
        "self._events.restart()",
        "pass",
        _push("events"),
    ),
    Safety(
        "events: a failure does not keep counts from being sent",
        PUSH + "push.py",
        """\
            finally:  # neither is in the way of the other
                if self._leads():
                    self._send_changes()
""",
        """\
            finally:
                pass
            if self._leads():
                self._send_changes()
""",
        _push("events"),
    ),
    Safety(
        "events: those that cannot be encoded are not in the way of others",
        PUSH + "events.py",
        "self._drop(len(taken))",
        "self._waiting.extendleft((one.number, one) for one in reversed(taken))",
        _push("events"),
    ),
    Safety(
        "events: a line that was written is not written again",
        PUSH + "json_lines.py",
        """\
            self._write(encoded[0])
            self.count_bytes(len(encoded.popleft()) + 1)
""",
        """\
            for line in encoded:
                self._write(line)
            encoded.clear()
""",
        _push("json_lines"),
    ),
    Safety(
        "events: no value acts on a terminal",
        PUSH + "console.py",
        'each if each.isprintable() else each.encode("unicode_escape").decode()',
        "each",
        _push("console"),
    ),
    Safety(
        "events: a value that cannot be a time is ignored",
        DECLARED + "selections.py",
        "if -_LATEST <= nanoseconds <= _LATEST:",
        "if True:",
        _declared("selections"),
    ),
    Safety(
        "influx: what is refused does not stop what comes after",
        INFLUX + "exporter.py",
        "except RefusedError as refused:",
        "except ZeroDivisionError as refused:",
        _influx("exporter"),
    ),
    Safety(
        "influx: what a server cannot take now is not dropped",
        PUSH + "answers.py",
        "status not in _TEMPORARY",
        "True",
        (*_influx("exporter"), *_opentelemetry("exporter")),
    ),
    Safety(
        "influx: a line that is too long for a packet does not stop others",
        INFLUX + "receivers.py",
        "if error.errno == errno.EMSGSIZE:",
        "if False:",
        _influx("exporter"),
    ),
    Safety(
        "influx: a receiver that hangs is left",
        INFLUX + "receivers.py",
        "made.settimeout(timeout)",
        "pass",
        _influx("exporter"),
    ),
    Safety(
        "influx: a token is not in a message",
        INFLUX + "secrets.py",
        "if not _SENDABLE.fullmatch(secret):",
        "if False:",
        _influx("exporter"),
    ),
    Safety(
        "push: exporters of the same metrics count once",
        CORE + "_fan_out.py",
        "for function in map(receiver_of, functions):",
        "for function in functions:",
        _core("dispatch"),
    ),
)

SHARED_LOCKS = "hypertrace/metrics/shared/test_locks.py"
MEASUREMENTS = "hypertrace/metrics/shared/test_measurements.py"

PORT = (
    Safety(
        "locks: a process opens the file once",
        METRICS + "shared/locks.py",
        "if known := self.files.get((found.st_dev, found.st_ino)):\n",
        "if known := None:\n",
        (SHARED_LOCKS,),
    ),
    Safety(
        "locks: a file that was opened twice is not closed",
        METRICS + "shared/locks.py",
        "            known.descriptors.append(descriptor)",
        "            os.close(descriptor)",
        (SHARED_LOCKS,),
    ),
    Safety(
        "locks: a child leads nothing, also if C forked it",
        METRICS + "shared/locks.py",
        "    if _current.pid != os.getpid():\n        _renew()\n",
        "",
        (SHARED_LOCKS,),
    ),
    Safety(
        "locks: a user that stops does not take the lead from another",
        METRICS + "shared/locks.py",
        "if not leaders:\n",
        "if True:\n",
        (SHARED_LOCKS,),
    ),
    Safety(
        "locks: the end of the leader is seen at once",
        METRICS + "shared/locks.py",
        "            poll.register(watched, select.POLLIN)\n",
        "",
        (SHARED_LOCKS,),
    ),
    Safety(
        "port: another program on it is no exception",
        EXPORTER + "shared_server.py",
        "if strict or error.errno != errno.EADDRINUSE:",
        "if True:",
        _exporter("shared_server"),
    ),
    Safety(
        "port: a standby is checked as a server",
        EXPORTER + "shared_server.py",
        "            check_bindable(self._host, self._port)\n",
        "            pass\n",
        _exporter("shared_server"),
    ),
    Safety(
        "port: no thread of a standby is there at a fork",
        EXPORTER + "shared_server.py",
        "    before=_before_fork,\n",
        "    before=list,\n",
        _exporter("shared_server"),
    ),
    Safety(
        "port: a forked child stands by",
        EXPORTER + "shared_server.py",
        "    after_in_child=_after_fork_in_child,\n",
        "    after_in_child=list,\n",
        _exporter("shared_server"),
    ),
    Safety(
        "port: the credentials of a child are not locked",
        EXPORTER + "http/access.py",
        "        other._failures = _Failures()  # noqa: SLF001 -- of this class\n",
        "",
        _exporter("shared_server"),
    ),
)

WORKERS = (
    Safety(
        "workers: a child does not count the garbage of its parent",
        SHARED + "garbage.py",
        "_at_fork[:] = _statistics()",
        "pass",
        _shared("garbage"),
    ),
    Safety(
        "workers: nothing counts garbage once the metrics are closed",
        SHARED + "garbage.py",
        "            gc.callbacks.remove(self._callback)\n",
        "            pass\n",
        _shared("garbage"),
    ),
    Safety(
        "workers: an interrupt is not lost in a collection",
        SHARED + "garbage.py",
        "gc.callbacks.append(self._callback)",
        "gc.callbacks.append(lambda *a: self._callback(*a))",
        _shared("garbage"),
    ),
    Safety(
        "workers: the first cells are no series",
        SHARED + "storage.py",
        ", reserved=len(LAYOUT)",
        "",
        _shared("garbage"),
    ),
    Safety(
        "workers: another process with the pid of a worker is not shown",
        EXPORTER + "exposition/workers.py",
        "int(fields[19]) != process.started",
        "False",
        _exposition("workers"),
    ),
    Safety(
        "workers: one without a number is left out",
        EXPORTER + "exposition/workers.py",
        "if worker.number:",
        "if True:",
        _exposition("workers"),
    ),
    Safety(
        "workers: what only serves is none of them",
        EXPORTER + "exposition/workers.py",
        "if not snapshot.living and self._shows_itself:",
        "if not snapshot.living:",
        _exposition("workers"),
    ),
    Safety(
        "workers: a process that counts nothing is not shown beside them",
        EXPORTER + "exposition/workers.py",
        "if not snapshot.living and self._shows_itself:",
        "if self._shows_itself:",
        _exposition("workers"),
    ),
    Safety(
        "workers: the page has them in place of one process",
        EXPORTER + "exposition/collection.py",
        "if self._left_out and family.name in self._left_out:",
        "if False:",
        _exposition("workers"),
    ),
    Safety(
        "workers: to others a registry gives each metric once",
        EXPORTER + "exposition/collector.py",
        "return self._families(hidden=self._others)",
        "return self._families()",
        _exposition("workers"),
    ),
    Safety(
        "workers: a scrape makes no worker",
        SHARED + "table.py",
        "return super().get(key, caller)\n",
        "return self.get(key, caller)\n",
        _exposition("workers"),
    ),
    Safety(
        "workers: failures of a collection are on its page",
        EXPORTER + "exposition/failures.py",
        "viewed.get(one, 0) + since.get(one, 0)",
        "viewed.get(one, 0)",
        _exposition("failures"),
    ),
    Safety(
        "workers: failures in the view are not counted again",
        EXPORTER + "exposition/failures.py",
        "number - before.get(one, 0) for",
        "number for",
        _exposition("failures"),
    ),
    Safety(
        "workers: metrics of prometheus_client are of all processes",
        EXPORTER + "exposition/multiprocess.py",
        "        yield _METRICS",
        "        pass",
        _exposition("multiprocess"),
    ),
    Safety(
        "workers: metrics of all processes are there once",
        EXPORTER + "exposition/multiprocess.py",
        "if _is_metric(one):",
        "if _is_metric(one) and not others.append(one):",
        _exposition("multiprocess"),
    ),
    Safety(
        "workers: the application's own collector of all processes is not doubled",
        EXPORTER + "exposition/multiprocess.py",
        "any(type(one) is MultiProcessCollector for one in others)",
        "False",
        _exposition("multiprocess"),
    ),
)

SHARING = (
    Safety(
        "workers: a child does not keep the lock of its parent's file",
        SHARED + "segment.py",
        "            fcntl.flock(lock.number, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            _alloc",
        "            fcntl.flock(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            _alloc",
        _shared("segment"),
    ),
    Safety(
        "workers: what observes them exports whichever of them leads",
        SHARED + "storage.py",
        "self._is_closed or self.is_observer",
        "self._is_closed",
        ("hypertrace_prometheus/test_serve.py",),
    ),
    Safety(
        "workers: what observes them does not go on from what they have sent",
        SHARED + "storage.py",
        '"observed" if self.is_observer else "sent"',
        '"sent"',
        ("hypertrace_prometheus/test_serve.py",),
    ),
    Safety(
        "workers: a worker that sends to one backend is not in the way of another",
        "hypertrace/exporters/push.py",
        "locks.another(self._counts.name)",
        "locks.another()",
        ("hypertrace/exporters/test_processes.py",),
    ),
    Safety(
        "workers: a process that ends while it forks sends the rest",
        "hypertrace/exporters/processes.py",
        "if has_ended and request is not None and not request.is_answered:",
        "if False:",
        ("hypertrace/exporters/test_processes.py",),
    ),
    Safety(
        "workers: an exporter that exports alone goes on from what was sent",
        "hypertrace/exporters/push.py",
        "if self._locks is not None and not self._locks.try_lead():",
        "if self._locks is None:\n            return True\n        if not self._locks.try_lead():",
        ("hypertrace_prometheus/test_serve.py",),
    ),
    Safety(
        "workers: a mapping that grew is in use before the old one is freed",
        SHARED + "segment.py",
        "        kept = self.numbers\n",
        "        kept = None\n",
        _shared("segment"),
    ),
    Safety(
        "workers: a file stays locked when the application closes it",
        SHARED + "segment.py",
        "            fcntl.flock(lock.number, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            _alloc",
        "            fcntl.lockf(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            _alloc",
        _shared("segment"),
    ),
    Safety(
        "locks: a forked child does not inherit the lead",
        SHARED + "locks.py",
        "fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)",
        "fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        (SHARED_LOCKS,),
    ),
    Safety(
        "locks: two threads do not fold at once",
        SHARED + "locks.py",
        "        if not guard.acquire(blocking=False):\n",
        "        if False:\n",
        (SHARED_LOCKS,),
    ),
    Safety(
        "locks: a descriptor that the application uses is not closed",
        SHARED + "locks.py",
        "for descriptor in filter(self.is_own, self.descriptors):",
        "for descriptor in self.descriptors:",
        _shared("storage"),
    ),
    Safety(
        "workers: a fork by C is noticed by pure Python",
        SHARED + "storage.py",
        "        if self._pid != os.getpid():\n            self.renew()\n",
        "",
        _shared("storage"),
        is_pure=True,
    ),
    Safety(
        "workers: a full disk ends no process",
        SHARED + "segment.py",
        "        os.posix_fallocate(file, 0, size)\n",
        "        os.ftruncate(file, size)\n",
        _shared("segment"),
    ),
    Safety(
        "workers: a removed directory is noticed",
        SHARED + "storage.py",
        "if self._journal.is_removed and self._moving.acquire(blocking=False):",
        "if False:",
        _shared("storage"),
    ),
    Safety(
        "workers: without a directory counts are in memory",
        METRICS + "sharing.py",
        "    except OSError as error:\n        return _unshared(str(error))\n",
        "    finally:\n        pass\n",
        _shared("storage"),
    ),
    Safety(
        "workers: equal pids have different files",
        SHARED + "segment.py",
        "secrets.token_hex(8)",
        "'0' * 16",
        _shared("storage"),
        is_pure=True,
    ),
    Safety(
        "workers: files of another user are no exception",
        SHARED + "storage.py",
        "            except OSError as error:\n                self._warn_of_reading(error)\n",
        "            finally:\n                pass\n",
        _shared("storage"),
    ),
    Safety(
        "workers: a count is one step",
        CORE + "cells.py",
        "        self._memory.counts[self._index] += 1\n",
        "        value = self._memory.counts[self._index] + 1\n"
        "        self._memory.counts[self._index] = value\n",
        _shared("segment"),
    ),
    Safety(
        "workers: a duration is one step",
        SHARED + "segment.py",
        "+ seconds; c[bucket] += 1; c[n] += 1  # noqa",
        "+ seconds\n        c[bucket] += 1; c[n] += 1  # noqa",
        _shared("segment"),
    ),
    Safety(
        "workers: without a GIL pure Python does not share",
        METRICS + "sharing.py",
        "    if not CAN_SHARE:\n",
        "    if False:\n",
        _metrics("sharing"),
    ),
    Safety(
        "workers: series of objects are not shared",
        METRICS + "sharing.py",
        '    if object_ids and choice not in {False, "auto"}:\n',
        "    if False:\n",
        _metrics("sharing"),
    ),
    Safety(
        "workers: what has no room starts from zero in a child",
        SHARED + "storage.py",
        "            one.reset()  # type: ignore[attr-defined]\n",
        "            pass\n",
        _shared("storage"),
    ),
    Safety(
        "workers: a file that cannot be made leaves nothing open",
        SHARED + "segment.py",
        "            if lock is not None:\n                lock.close()\n",
        "",
        _shared("segment"),
    ),
    Safety(
        "workers: the journal calls no function of json that an application traces",
        SHARED + "journal.py",
        "    return _encode(record).encode()\n",
        '    return json.dumps(record, separators=(",", ":")).encode()\n',
        _shared("storage"),
    ),
    Safety(
        "health: a dropped event that the making of its series causes is counted once",
        METRICS + "health.py",
        "        if making.errors:\n            making.errors += 1\n            return\n",
        "",
        _shared("storage"),
    ),
    Safety(
        "workers: a thread that maps less takes nothing back",
        SHARED + "segment.py",
        "        if more > self.cells:\n            if is_lost:",
        "        if True:\n            if is_lost:",
        _shared("segment"),
    ),
    Safety(
        "workers: a descriptor that the application uses is neither written nor closed",
        SHARED + "open_file.py",
        "            return _identity(self._number) == self._identity\n",
        "            return _identity(self._number) is not None\n",
        _shared("journal", "segment"),
    ),
    Safety(
        "workers: a process whose lock was closed locks its file again",
        SHARED + "storage.py",
        "                segment.keep_locked()\n",
        "                pass\n",
        _shared("storage"),
        is_pure=True,
    ),
    Safety(
        "workers: a mapping that is freed closes no descriptor of the application",
        SHARED + "segment.py",
        "        if not _TRACKS_NOTHING and not self._file.is_open:\n",
        "        if False:\n",
        _shared("segment"),
    ),
    Safety(
        "workers: a torn record has no effect",
        SHARED + "journal.py",
        'if text and line[:8] == b"%08x" % zlib.crc32(text):',
        "if text:",
        _shared("journal"),
    ),
    Safety(
        "workers: a record starts a line, whatever was torn before it",
        SHARED + "journal.py",
        'return b"\\n%08x%b\\n"',
        'return b"%08x%b\\n"',
        _shared("journal"),
    ),
    Safety(
        "workers: a record that another thread has read is found",
        SHARED + "journal.py",
        "if self._read(before, until=text):",
        "if self._read(self.place, until=text):",
        _shared("journal"),
    ),
    Safety(
        "workers: a record may be long",
        SHARED + "journal.py",
        "            if not end and len(data) < size:",
        "            if False:",
        _shared("journal"),
    ),
    Safety(
        "workers: of two threads, one adds a table",
        SHARED + "storage.py",
        "self._tables.setdefault(number, self._table_of(record)).number = number",
        "self._tables[len(self._tables)] = self._table_of(record)\n"
        "        self._tables[number].number = number",
        _shared("storage"),
    ),
    Safety(
        "workers: a worker that is folded while it is read is counted once",
        SHARED + "snapshot.py",
        "            if _folded(directory) == dead.folded:\n",
        "            if True:\n",
        _shared("snapshot"),
    ),
    Safety(
        "workers: what was folded and not removed is not counted twice",
        SHARED + "snapshot.py",
        "if name not in dead.names and (file",
        "if (file",
        _shared("snapshot"),
    ),
    Safety(
        "workers: what a killed folder left is removed",
        SHARED + "storage.py",
        "        if (is_due or snapshot.has_folded_files) and self.fold():\n",
        "        if is_due and self.fold():\n",
        ("stress/test_workers.py::test_a_folder_is_killed_at_each_step",),
    ),
    Safety(
        "workers: a histogram that is being written is read whole",
        SHARED + "snapshot.py",
        "                if one == other or is_whole(other):\n",
        "                if True:\n",
        _shared("snapshot"),
    ),
    Safety(
        "workers: a gauge that is being written is read whole",
        SHARED + "snapshot.py",
        "    return counts[5] <= counts[0] + 1\n",
        "    return True\n",
        _shared("snapshot"),
    ),
    Safety(
        "workers: the gauges of a worker that is gone do not count",
        SHARED + "view.py",
        "for worker in snapshot.living]\n        if own",
        "for worker in snapshot.workers]\n        if own",
        (f"{MEASUREMENTS}::test_gauges_of_a_worker_that_is_not_folded_yet_do_not_count",),
    ),
    Safety(
        "workers: what one counts in memory is not another's",
        SHARED + "storage.py",
        "self if is_own else Elsewhere(self.layout)",
        "self",
        (f"{MEASUREMENTS}::test_what_gets_room_later_is_shared",),
    ),
    Safety(
        "workers: a table may be made after others have counted in it",
        SHARED + "storage.py",
        "if table is not made and table.record == made.record:",
        "if False:",
        (f"{MEASUREMENTS}::test_a_table_may_be_made_after_others_have_counted",),
    ),
    Safety(
        "workers: updates of gauges past the limit are never fewer",
        SHARED + "snapshot.py",
        'if code in b"cbv" else',
        'if code in b"cb" else',
        (f"{MEASUREMENTS}::test_updates_of_workers_that_are_gone_stay_in_the_usage",),
        is_pure=True,
    ),
    Safety(
        "workers: a sum of amounts is one step",
        CORE + "number_cells.py",
        "        d[n] += amount; c[n + 1] += 1  # noqa: E702  # fmt: skip\n",
        "        d[n] += amount\n        c[n + 1] += 1\n",
        _shared("segment"),
    ),
    Safety(
        "numbers: what is not finite is not added",
        CORE + "number_cells.py",
        "not -_LARGEST <= value <= _LARGEST:\n            number = accepted(value, self.convert)\n"
        "            if number is None:\n                return\n            value = number\n"
        "        memory",
        "False:\n            return\n        memory",
        ("hypertrace/test_number_cells.py",),
        is_pure=True,
    ),
    Safety(
        "numbers, compiled: what is not finite is not added",
        CORE + "_cells.c",
        "if (isfinite(*number) && (!rises || *number >= 0))",
        "if (!rises || *number >= 0)",
        ("hypertrace/test_number_cells.py",),
    ),
    Safety(
        "numbers, compiled: the valid pair of a gauge is not written",
        CORE + "_cells.c",
        "volatile double *next = value_after(self->place, before + 1);",
        "volatile double *next = value_after(self->place, before);",
        ("hypertrace/test_number_cells.py", f"{MEASUREMENTS}::test_the_cells_of_a_gauge"),
    ),
    Safety(
        "numbers, compiled: a cell and what converts for it go together",
        CORE + "_cells.c",
        "    Py_VISIT(self->convert);\n",
        "",
        ("hypertrace/test_number_cells.py",),
    ),
    Safety(
        "workers: files are bounded without a scrape",
        SHARED + "storage.py",
        "if not self._is_closed and len(os.listdir(self.directory.path)) > _MANY:",
        "if False:",
        ("stress/test_workers.py",),
    ),
    Safety(
        "workers: unfinished files of living processes stay",
        SHARED + "snapshot.py",
        "if age > _YOUNG and not _is_locked(file):",
        "if True:",
        _shared("snapshot"),
    ),
    Safety(
        "workers: the next process that pushes knows what was sent",
        SHARED + "storage.py",
        "            self._journal.read()  # else series of other workers would look new\n",
        "",
        _shared("storage"),
    ),
    Safety(
        "workers, compiled: a child does not keep the file of its parent",
        CORE + "_segments.c",
        "    close_own(&self->file);\n    self->name[0] = 0;\n",
        "    self->name[0] = 0;\n",
        _shared("compiled_segment"),
    ),
    Safety(
        "workers, compiled: a fork by C counts for itself",
        CORE + "_segments.c",
        "if ((errno = pthread_atfork(NULL, NULL, after_fork_in_child)) != 0)",
        "if ((errno = after_fork_in_child == NULL) != 0)",
        _shared("compiled_segment"),
    ),
    Safety(
        "workers, compiled: a full disk ends no process",
        CORE + "_segments.c",
        "        error = posix_fallocate(file, offset, size);\n",
        "        error = ftruncate(file, offset + size) < 0 ? errno : 0;\n",
        _shared("compiled_segment"),
    ),
    Safety(
        "workers, compiled: a file stays locked when the application closes it",
        CORE + "_segments.c",
        "flock(file, LOCK_EX | LOCK_NB) < 0",
        "lockf(file, F_TLOCK, 0) < 0",
        _shared("segment", "compiled_segment"),
    ),
    Safety(
        "workers, compiled: a descriptor that the application uses is neither written nor closed",
        CORE + "_segments.c",
        "return identify(file->number, &found) == 0 && is_same(file, &found);",
        "return identify(file->number, &found) == 0;",
        _shared("compiled_segment"),
    ),
    Safety(
        "workers, compiled: a killed histogram is merged whole",
        CORE + "_segments.c",
        "get_sum(data, index + 1 + (Py_ssize_t)(count & 1))",
        "get_sum(data, index + 1 + (Py_ssize_t)(get_count(data, index) & 1))",
        _shared("compiled_segment"),
    ),
)

DECLARING = (
    Safety(
        "declared: tags named like secrets are refused",
        DECLARED + "tags.py",
        'if looks_secret(parsed(path, "tags").name) and not',
        "if False and not",
        _declared("kinds"),
    ),
    Safety(
        "declared: a mapping of some values shows no secret",
        DECLARED + "tags.py",
        "and not callable(given.get(label))",
        "and label not in given",
        _declared("kinds"),
    ),
    Safety(
        "declared: functions that raise are swallowed",
        DECLARED + "guard.py",
        "    except Exception as error:",
        "    except ZeroDivisionError as error:",
        _declared("values", "tags"),
    ),
    Safety(
        "declared: functions cause no events",
        DECLARED + "guard.py",
        "return suppress_tracing(function, argument)",
        "return function(argument)",
        _declared("values"),
    ),
    Safety(
        "declared: a value may raise anything",
        DECLARED + "values.py",
        "            except Exception:",
        "            except (TypeError, ValueError, OverflowError):",
        _declared("values"),
    ),
    Safety(
        "declared: the class of a value causes no events",
        DECLARED + "values.py",
        "return suppress_tracing(_other_as_float, value)",
        "return _other_as_float(value)",
        _declared("values"),
    ),
    Safety(
        "declared: infinite values are invalid",
        DECLARED + "values.py",
        "if self._least <= number <= _LARGEST else",
        "if self._least <= number else",
        _declared("values"),
    ),
    Safety(
        "declared: texts and truth values are no numbers",
        DECLARED + "values.py",
        "issubclass(kind, _TEXTS) or type_name(kind) in _BOOLS or",
        "",
        _declared("values"),
    ),
    Safety(
        "declared: two metrics of one name exclude each other",
        DECLARED + "registry.py",
        "        elif other != metric:",
        "        elif False:",
        _declared("registry"),
    ),
    Safety(
        "declared: the registry keeps no Metrics alive",
        DECLARED + "registry.py",
        "_listeners.append(ref(listener, _forget))",
        "_listeners.append(lambda: listener)",
        _declared("registry"),
    ),
    Safety(
        "declared feeds, compiled: an odd duration has an event",
        CORE + "_speedups.h",
        " && PyFloat_AS_DOUBLE(object) >= 0 &&\n           PyFloat_AS_DOUBLE(object) <= LONGEST;",
        ";",
        _core("cell_groups"),
    ),
    Safety(
        "declared feeds, compiled: a group takes nothing that could run code",
        CORE + "_speedups.c",
        "if (!Py_IS_TYPE(cell, state.cell_type))",
        "if (0)",
        _core("cell_groups"),
    ),
    Safety(
        "declared feeds: metrics take effect at the next event",
        DECLARED + "declared.py",
        "            rebind()\n",
        "",
        _declared("declared"),
    ),
    Safety(
        "declared feeds: who declares what is being declared waits until it is in force",
        DECLARED + "declared.py",
        "                self._feeds.update(feeds)\n            self._renew()\n",
        "                self._feeds.update(feeds)\n        self._renew()\n",
        _declared("declared"),
    ),
    Safety(
        "declared feeds: objects with other tags share no recorders",
        DECLARED + "declared.py",
        "            self._keys.add(full)\n        return full",
        "            self._keys.add(full)\n        return key",
        _declared("declared", "feeds_random"),
    ),
    Safety(
        "declared feeds: functions get the event of the object",
        DECLARED + "feeds.py",
        "        if self.needs_event:\n            return None",
        "        if self.needs_event:\n            return ()",
        _declared("declared"),
    ),
    Safety(
        "declared feeds: an overflow is not remembered",
        DECLARED + "sites.py",
        "return series is not None and not self.feed.table.is_overflow(series)",
        "return series is not None",
        _declared("declared"),
    ),
    Safety(
        "declared feeds: what a function raised is not remembered",
        DECLARED + "sites.py",
        "return series is not None and not self.feed.table.is_overflow(series)",
        "return series is None or not self.feed.table.is_overflow(series)",
        _declared("declared"),
    ),
    Safety(
        "declared feeds: a call site remembers a bounded number of combinations",
        METRICS + "recorders.py",
        "if len(self.known) + len(self._numbers) >= self._most:",
        "if False:",
        _declared("declared"),
    ),
    Safety(
        "declared feeds: recorders keep no object",
        DECLARED + "sites.py",
        "self._with_events = _WithEvents(of_calls, event) if of_calls else None",
        "self._with_events = _WithEvents(of_calls, event)",
        _declared("declared"),
    ),
)

BUCKETS = (
    Safety(
        "native histograms: a page is made before anything is counted",
        SHARED + "native_histograms.py",
        "((self.exponential.add, 1.0, 1.0), (mapped, 1.0, 1.0))",
        "((mapped, 1.0, 1.0), (self.exponential.add, 1.0, 1.0))",
        _shared("native_histograms"),
    ),
    Safety(
        "native histograms: a difference has what exponential buckets alone have",
        METRICS + "reading.py",
        " and _exponential(value) == _exponential(earlier)",
        "",
        _shared("native_histograms"),
    ),
    Safety(
        "native histograms: durations without room for cells have both kinds of buckets",
        SHARED + "aggregations.py",
        "self._counts = self._no_counts()\n                self._sum",
        "self._counts = [0] * (len(self.bounds) + 1)\n                self._sum",
        _shared("native_histograms"),
    ),
    Safety(
        "native histograms: declared metrics are counted beside",
        DECLARED + "sites.py",
        "own.append if isinstance(own, CellGroup) else own",
        "own",
        _shared("native_histograms"),
    ),
    Safety(
        "a known duration past the longest one is counted as 0",
        CORE + "_span.py",
        'result != "ok" or duration > LONGEST',
        'result != "ok"',
        _metrics("native_histograms"),
    ),
    Safety(
        "buckets: a limit is not above its power",
        METRICS + "exponential.py",
        "return nearest if nearest <= number else math.nextafter(nearest, 0)",
        "return nearest",
        _metrics("exponential"),
    ),
    Safety(
        "buckets: values outside of the range are in the outermost buckets",
        CORE + "bucket_cells.py",
        "key = min(max(key, 0), 2 * octaves * divisions) if value else 0",
        "key = max(key, 0) if value else 0",
        _metrics("exponential"),
    ),
    Safety(
        "buckets: a slot of another time is emptied",
        CORE + "bucket_cells.py",
        "counts[first] = 0; counts[rest] = zeros; counts[first] = stamp",
        "counts[first] = stamp",
        (*_core("bucket_cells"), *_metrics("exponential_series")),
        is_pure=True,
    ),
    Safety(
        "compiled: a slot of another time is emptied",
        CORE + "_buckets.c",
        "    if (*held != stamp) {\n",
        "    if (0) {\n",
        (*_core("bucket_cells"), *_metrics("exponential_series")),
    ),
    Safety(
        "compiled: no page is written outside of its cells",
        CORE + "_buckets.c",
        "if (limits[i] >= 0 && (numbers[i] < 0 || numbers[i] >= limits[i]))",
        "if (0)",
        _core("bucket_cells"),
    ),
    Safety(
        "buckets: a patched clock costs the window alone",
        CORE + "bucket_cells.py",
        "return int(number) if abs(number) < _NO_STAMP else 0",
        "return int(number)",
        _metrics("exponential_series"),
    ),
    Safety(
        "buckets: a clock that was set back hides no worker",
        SHARED + "snapshot.py",
        "if held < stamp <= now:",
        "if held < stamp:",
        _shared("exponential", "snapshot"),
        is_pure=True,
    ),
    Safety(
        "compiled: a clock that was set back hides no worker",
        CORE + "_segments.c",
        "if (stamp == 0 || stamp < held || stamp > now)",
        "if (stamp == 0 || stamp < held)",
        _shared("exponential"),
    ),
    Safety(
        "buckets: slots of different times are not added",
        SHARED + "snapshot.py",
        "elif stamp == held > 0:",
        "elif stamp > 0:",
        _shared("snapshot"),
    ),
    Safety(
        "buckets: pages without room are shown",
        SHARED + "exponential.py",
        "            places.in_memory.add(page)\n",
        "",
        _shared("exponential"),
    ),
)

INSTRUMENTS = (
    Safety(
        "instruments: a label that is unknown raises nothing, and is logged once",
        DECLARED + "instruments.py",
        "            self._unknown.add(name)\n",
        "",
        _declared("instruments"),
    ),
    Safety(
        "instruments: a name of a label raises nothing",
        DECLARED + "instruments.py",
        "        except Exception:  # noqa: BLE001 -- names of a",
        "        except TypeError:  # noqa: BLE001 -- names of a",
        _declared("instruments"),
    ),
    Safety(
        "instruments: what is kept is bounded by the series",
        DECLARED + "instruments.py",
        "        return bound is not self._overflowing\n",
        "        return True\n",
        _declared("instruments"),
    ),
    Safety(
        "instruments: no negative of a truth value",
        DECLARED + "instruments.py",
        "    if type(amount) is bool:  # its negative would be a number\n        return amount\n",
        "",
        _declared("instruments"),
    ),
    Safety(
        "instruments: what is no number is counted",
        DECLARED + "declared.py",
        "    count_invalid(name)\n    return None",
        "    return None",
        _declared("instruments"),
    ),
    Safety(
        "instruments: a counter does not fall",
        DECLARED + "declared.py",
        "        if number >= least:\n",
        "        if True:\n",
        _declared("instruments"),
    ),
    Safety(
        "instruments: a metric that differs is an error",
        DECLARED + "declared.py",
        "if type(known) is kind and known.metric == metric:",
        "if type(known) is kind:",
        _declared("instruments"),
    ),
    Safety(
        "instruments: none for a metric that counts events",
        DECLARED + "declared.py",
        "            if name in self._feeds:\n",
        "            if False:\n",
        _declared("instruments"),
    ),
    Safety(
        "pull gauges: an object is not kept",
        CORE + "weak_methods.py",
        "        reference = ref(owner, gone)\n",
        "        reference = lambda: owner\n",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: an exception costs one gauge",
        DECLARED + "gauges.py",
        "        except BaseException as error:  # noqa: BLE001 -- such as SystemExit",
        "        except ZeroDivisionError as error:",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: others get another thread while one hangs",
        DECLARED + "gauges.py",
        "            if waiting:\n                _start(waiting)\n    abandoned",
        "    abandoned",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: no second call enters what hangs",
        DECLARED + "gauges.py",
        "            elif run.is_late:\n",
        "            elif False:\n",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: what hangs has no older value",
        DECLARED + "gauges.py",
        "        self.show({})\n        with suppress(Exception)",
        "        with suppress(Exception)",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: one that reads the metrics does not wait for itself",
        DECLARED + "gauges.py",
        "        if threading.get_ident() in _readers:",
        "        if False:",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: they cause no events",
        DECLARED + "gauges.py",
        "found = suppress_tracing(function)",
        "found = function()",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: read also where no thread can start",
        DECLARED + "gauges.py",
        "name=READER_NAME, daemon=True).start()\n    except RuntimeError:",
        "name=READER_NAME, daemon=True).start()\n    except ZeroDivisionError:",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: a process that only forks workers is none",
        DECLARED + "gauges.py",
        "and (storage.is_worker or not _publisher.has_forked)",
        "",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: what may hang is not read where no thread can start",
        DECLARED + "gauges.py",
        "        if self._gauge._has_returned:\n",
        "        if True:\n",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: past the limit none has a value",
        DECLARED + "gauges.py",
        "            if not table.is_overflow(series):\n",
        "            if True:\n",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: a thread starts in a forked child",
        DECLARED + "gauges.py",
        "INTERVAL, THREAD_NAME)\n            self.start()\n",
        "INTERVAL, THREAD_NAME)\n",
        _declared("gauges"),
    ),
    Safety(
        "pull gauges: a forked child waits for no thread of its parent",
        DECLARED + "gauges.py",
        "            gauges.forget_runs()\n",
        "            pass\n",
        _declared("gauges"),
    ),
    Safety(
        "stats: a count below zero is a decrement",
        CORE + "stats.py",
        "        if _is_below_zero(count):\n",
        "        if False:\n",
        _core("stats"),
    ),
    Safety(
        "stats: names are bounded",
        CORE + "_stat_names.py",
        "        if len(self._found) < MOST_METRICS:\n",
        "        if True:\n",
        _core("stats"),
    ),
    Safety(
        "stats: sets are bounded",
        METRICS + "distinct.py",
        "            if len(self._held) > _MOST_VALUES:\n",
        "            if False:\n",
        _core("stats"),
    ),
    Safety(
        "stats: a Metrics is not kept",
        CORE + "_stat_names.py",
        "_all_names.setdefault(metrics, Names(ref(metrics)))",
        "_all_names.setdefault(metrics, Names(lambda: metrics))",
        _core("stats"),
    ),
    Safety(
        "stats: tags may be anything",
        CORE + "_stat_names.py",
        "        except Exception:  # noqa: BLE001 -- whatever is no mapping of texts",
        "        except ZeroDivisionError:",
        _core("stats"),
    ),
    Safety(
        "stats: a forked child starts with empty sets",
        METRICS + "distinct.py",
        "        one.clear()\n",
        "        pass\n",
        _core("stats"),
    ),
    Safety(
        "mapping: of two globs that match, the first one is taken",
        MAPPING + "rules.py",
        "min(places, default=None) if self._ordered else next(places, None)",
        "next(places, None)",
        _mapping("rules"),
    ),
    Safety(
        "mapping: a glob that leads nowhere does not hide another",
        MAPPING + "rules.py",
        "        for part in dict.fromkeys((parts[start], ANY)):\n",
        "        for part in [p for p in (parts[start], ANY) if p in self.next][:1]:\n",
        _mapping("rules"),
    ),
    Safety(
        "mapping: a key that stands twice is an error",
        MAPPING + "yaml_files.py",
        "    _check_keys(node, file, set())\n",
        "",
        _mapping("yaml_files"),
    ),
    Safety(
        "mapping: labels that Prometheus sets itself are errors",
        MAPPING + "yaml_files.py",
        "    check_labels(rules)\n",
        "",
        _core("stats_mapping"),
    ),
    Safety(
        "mapping: the command shares nothing with an application that runs",
        MAPPING + "command.py",
        '    os.environ["HYPERTRACE_WORKERS"] = "0"',
        "    pass",
        _mapping("command"),
    ),
    Safety(
        "mapping: names that are remembered are bounded",
        CORE + "_stat_names.py",
        "        if len(self._found) >= _MOST_MAPPED:\n",
        "        if False:\n",
        _core("stats_mapping"),
    ),
    Safety(
        "mapping: a metric has the labels of all its rules",
        CORE + "_stat_names.py",
        "*rules.labels_of(name, kind.metric_type), *self._names.labels(tags)",
        "*match.labels, *self._names.labels(tags)",
        _core("stats_mapping"),
    ),
)

ENDING = (
    Safety(
        "jobs that end: a failed run leaves the time of the last success",
        EXPORTER + "pushgateway.py",
        """self._send(connection, "POST", group""",
        """self._send(connection, "PUT", group""",
        _exporter("pushgateway"),
    ),
    Safety(
        "jobs that end: whatever characters a label of a group has, it is one label",
        EXPORTER + "pushgateway.py",
        "    if _PLAIN.fullmatch(value):\n",
        "    if value:\n",
        _exporter("pushgateway"),
    ),
    Safety(
        "jobs that end: an answer other than success is an error",
        EXPORTER + "pushgateway.py",
        "        check(response.status, response.reason, answer)\n",
        "",
        _exporter("pushgateway"),
    ),
    Safety(
        "jobs that end: no message shows the credentials of a URL",
        EXPORTER + "pushgateway.py",
        "{parts.netloc.rpartition('@')[2]}",
        "{parts.netloc}",
        _exporter("pushgateway"),
    ),
    Safety(
        "jobs that end: what is pushed has no times",
        EXPORTER + "snapshot.py",
        """_TIME.sub(rb"\\1", exposition.page(others))""",
        "exposition.page(others)",
        _exporter("pushgateway"),
    ),
    Safety(
        "jobs that end: an alert for programs that run gets nothing of them",
        EXPORTER + "snapshot.py",
        "of_runs | _OF_A_PROCESS | ",
        "of_runs | ",
        _exporter("pushgateway"),
    ),
    Safety(
        "jobs that end: a stopped exporter does not delete what it has pushed",
        EXPORTER + "exporter.py",
        "        if not self._collectors:\n",
        "        if False:\n",
        _exporter("pushgateway", "textfile"),
    ),
    Safety(
        "jobs that end: a push does not count itself",
        EXPORTER + "exporter.py",
        "        suppress_tracing(gateway.push, snapshot)\n",
        "        gateway.push(snapshot)\n",
        _exporter("pushgateway"),
    ),
    Safety(
        "jobs that end: an exit with another status is no success",
        EXPORTER + "runs.py",
        "    return code is None or (type(code) in {int, bool} and code == 0)\n",
        "    return True\n",
        _exporter("runs"),
    ),
    Safety(
        "jobs that end: an exit runs no code of the application",
        EXPORTER + "runs.py",
        "(type(code) in {int, bool} and code == 0)",
        "code == 0",
        _exporter("runs"),
    ),
    Safety(
        "jobs that end: a file keeps the time of the last success",
        EXPORTER + "textfile.py",
        "snapshot.runs.after(earlier).text()",
        "snapshot.runs.text()",
        _exporter("textfile"),
    ),
    Safety(
        "jobs that end: no series of a file has two jobs",
        EXPORTER + "textfile.py",
        "labelled = _WITHOUT_JOB if",
        "labelled = _LABELLED if",
        _exporter("textfile"),
    ),
    Safety(
        "jobs that end: a file has no metrics that node_exporter has",
        EXPORTER + "exporter.py",
        "self._snapshot_of_running(with_defaults=False)",
        "self._snapshot_of_running()",
        _exporter("textfile"),
    ),
    Safety(
        "jobs that end: a file that cannot be written leaves nothing behind",
        EXPORTER + "textfile.py",
        "            beside.unlink()\n",
        "            pass\n",
        _exporter("textfile"),
    ),
    Safety(
        "jobs that end: a file is whole at any time",
        EXPORTER + "textfile.py",
        """        with beside.open("xb") as file:
            file.write(text)
""",
        """        beside.touch()
        with path.open("wb", 0) as file:
            for line in text.splitlines(keepends=True):
                file.write(line)
            beside.write_bytes(text)
""",
        _exporter("textfile"),
    ),
)

CLIENTS = (
    Safety(
        "clients: an adapter inside of another one counts no second request",
        INTEGRATIONS + "requests.py",
        "        outer.abandon()\n",
        "        pass\n",
        _integration("requests"),
    ),
    Safety(
        "clients: the error of another request is none",
        INTEGRATIONS + "http_connections.py",
        'and is_reader(frame.f_locals.get("self"))',
        "",
        _integration("urllib", "urllib3", "aiohttp_client"),
    ),
    Safety(
        "clients: what exporters send is not measured",
        INTEGRATIONS + "http_clients.py",
        "if _dispatch.target is None or (active_suppressions and drop_if_suppressed()):",
        "if _dispatch.target is None:",
        ("integrations/test_http_clients.py",),
    ),
    Safety(
        "clients: hosts that are labels are bounded",
        INTEGRATIONS + "http_clients.py",
        "if len(self._hosts) >= self._most_hosts:",
        "if False:",
        ("integrations/test_http_clients.py",),
    ),
    Safety(
        "clients: a request is under way until its body is read or closed",
        INTEGRATIONS + "http_connections.py",
        "            request.status = self.status  # `http.client` has checked it\n",
        "            request.status = self.status\n            request.finish()\n",
        ("integrations/test_urllib.py",),
    ),
)

ERRORS = (
    Safety(
        "errors: a program that ends well is none",
        CORE + "_endings.py",
        "if code is None or (issubclass(type(code), int) and int.__eq__(code, 0)):",
        "if code is None:",
        _core("span", "endings", "record"),
    ),
    Safety(
        "errors: what a rule raises is swallowed",
        CORE + "_endings.py",
        """\
        except Exception as failure:  # noqa: BLE001 -- the application must see nothing
            swallow(failure, self._ok_if)
            return False
""",
        """\
        except ZeroDivisionError as failure:
            raise failure from None
""",
        _core("error_rules"),
    ),
    Safety(
        "errors: what a rule of results raises is swallowed",
        CORE + "_endings.py",
        """\
        except Exception as failure:  # noqa: BLE001 -- as above
            swallow(failure, function)
            return False
""",
        """\
        except ZeroDivisionError as failure:
            raise failure from None
""",
        ("integrations/test_entries.py",),
    ),
    Safety(
        "errors: what a rule traces is dropped",
        CORE + "_endings.py",
        "return suppress_tracing(self._accepts, error)",
        "return self._accepts(error)",
        _core("error_rules"),
    ),
    Safety(
        "errors: an exception is counted once as raised",
        CORE + "_span.py",
        "return place_of(error, self._began, clock(), self._own_site)",
        'return "here"',
        _core("raised"),
    ),
    Safety(
        "errors: a span that begins later raises an exception again",
        CORE + "_raised.py",
        "seen is not None and began < seen.at and seen.is_of(error, own)",
        "seen is not None and seen.is_of(error, own)",
        _core("raised"),
    ),
    Safety(
        "errors: another exception at the same address is another",
        CORE + "_raised.py",
        "seen is not None and began < seen.at and seen.is_of(error, own)",
        "seen is not None and began < seen.at",
        _core("raised"),
    ),
    Safety(
        "errors: two tasks whose frames have one address raise two exceptions",
        CORE + "_raised.py",
        "return own is not None and self._own is not None and own is not self._own",
        "return True",
        _core("raised"),
    ),
    Safety(
        "errors: exceptions that ended spans are bounded",
        CORE + "_raised.py",
        "if len(_known) >= MAX_KNOWN:",
        "if not MAX_KNOWN:",
        _core("raised"),
    ),
    Safety(
        "errors: an exception is not kept alive",
        CORE + "_raised.py",
        "self._reference = ref(error, lambda _: forget(key, None))",
        "self._reference = lambda: error",
        _core("raised"),
    ),
    Safety(
        "errors: what is no error is no counted exception",
        METRICS + "recorders.py",
        'if result != "ok":\n            self._ends',
        "if result:\n            self._ends",
        _core("error_rules", "endings"),
    ),
    Safety(
        "errors: a function of props that raises is swallowed",
        CORE + "_paths.py",
        """\
    except Exception as error:  # noqa: BLE001 -- it may run any code
        if not call.has_asked:
            swallow(error, function)
""",
        """\
    except ZeroDivisionError as error:
        raise error from None
""",
        _core("prop_functions"),
    ),
    Safety(
        "errors: a generator keeps no argument that no function needs",
        CORE + "_calls.py",
        "if not self._paths.needs_call:",
        "if not self._site:",
        _core("prop_functions"),
    ),
    Safety(
        "spans with props that are set later end where they started",
        METRICS + "recorders.py",
        "if not isinstance(other, SpansRecorder) or other._ends is not self._ends:",
        "if not isinstance(other, SpansRecorder):",
        _metrics("props_set_later"),
    ),
    Safety(
        "spans with props that are set later are folded",
        CORE + "_span.py",
        """\
        if len(durations) > MAX_BUFFERED:
            limit_recursion(found.recorder.fold)
""",
        "",
        _metrics("props_set_later"),
    ),
    Safety(
        "entries: the event of a known request has its props",
        CORE + "_operations.py",
        "if binding is None or binding.durations is None:",
        "if binding is None:",
        ("integrations/test_entries.py",),
    ),
    Safety(
        "entries: one inside another is a part of it",
        CORE + "_operations.py",
        "if entry is None or entry.has_ended:",
        "if entry is entry:",
        ("integrations/test_entries.py",),
    ),
    Safety(
        "entries: one that never ends is dropped",
        CORE + "_operations.py",
        "_current_entry.set(ref(self))",
        "_current_entry.set(lambda: self)",
        ("integrations/test_entries.py",),
        is_pure=True,
    ),
    Safety(
        "entries: a call site remembers so many",
        METRICS + "recorders.py",
        "if len(self._by_entry) >= _MOST_ENTRIES:",
        "if not _MOST_ENTRIES:",
        _metrics("entry_label"),
    ),
    Safety(
        "entries: a span moves to the entry that it ends in",
        METRICS + "recorders.py",
        "moves = event.caller.props or self._ends.by_entry",
        "moves = event.caller.props",
        _metrics("entry_label"),
    ),
)

RUNTIME = (
    Safety(
        "runtime: a poll that hangs does not stop the others",
        CORE + "polling.py",
        "self._returned.get(timeout=PATIENCE)",
        "self._returned.get(timeout=10 * 3600)",
        _core("polling"),
    ),
    Safety(
        "runtime: polls start again after a fork",
        CORE + "polling.py",
        """        for one in self.held():
            one.restart()
        self.after_fork_in_parent()
""",
        "",
        _core("polling"),
    ),
    Safety(
        "runtime: the time between two runs of an event loop is no lag",
        INTEGRATIONS + "event_loops.py",
        """        if self.has_ended:  # the loop has stopped since, and runs again
            return
""",
        "",
        _integration("runtime"),
    ),
    Safety(
        "runtime: an event loop that has stopped is counted no more",
        INTEGRATIONS + "event_loops.py",
        "                self._running.pop(ident, None)\n",
        "",
        _integration("runtime"),
    ),
    Safety(
        "integrations: patches are undone in any order",
        INTEGRATIONS + "patches.py",
        "            made = above.made = self._made(above.make, made)\n",
        "            made = above.made\n",
        _integration("patches"),
    ),
    Safety(
        "integrations: a coroutine function stays one",
        INTEGRATIONS + "patches.py",
        "            made = _as_coroutine_function(made)\n",
        "            pass\n",
        _integration("patches"),
    ),
    Safety(
        "integrations: no error reaches an import",
        CORE + "_imports.py",
        "                count_and_log(error, self._call)\n",
        "                raise\n",
        _core("imports") + _integration("patches"),
    ),
)

JOBS = (
    Safety(
        "queued jobs: one whose end another process counts is open nowhere",
        CORE + "_operations.py",
        """            self._leave_active()
            if self._token is not None:
                self._close(self._outer, None)
""",
        "            pass\n",
        ("integrations/test_jobs.py",),
    ),
    Safety(
        "queued jobs: a flood of names and queues is bounded",
        CORE + "integrations/jobs.py",
        "            if len(self._kept) >= self._most:\n",
        "            if not self._most:\n",
        ("integrations/test_jobs.py",),
    ),
    Safety(
        "queued jobs: a retry, and what is ignored or rejected, is no error",
        CORE + "integrations/jobs.py",
        "self._asked or ending or (",
        "ending or (",
        ("integrations/test_jobs.py",),
    ),
)

SQL = (
    Safety(
        "sql: a text of any length is read in a bounded time",
        INTEGRATIONS + "statements.py",
        "tokens.finditer(text, 0, LONGEST)",
        "tokens.finditer(text)",
        ("integrations/test_statements.py",),
    ),
    Safety(
        "sql: tables that may be any number become a bounded number of series",
        INTEGRATIONS + "sql.py",
        "if len(self._names) >= self._most:",
        "if False:",
        ("integrations/test_sql.py",),
    ),
    Safety(
        "sql: changes that are rolled back count nowhere",
        INTEGRATIONS + "model_changes.py",
        """    def forget(self) -> None:
        \"\"\"Forget all changes: the transaction is rolled back.\"\"\"
        self._levels = [(None, Counter())]
""",
        """    def forget(self) -> None:
        pass
""",
        ("integrations/test_sql.py",),
    ),
    Safety(
        "sql: the application's wrappers of statements stay its own",
        INTEGRATIONS + "django_orm.py",
        "connection.execute_wrappers.insert(0, _execute)",
        "connection.execute_wrappers.append(_execute)",
        ("integrations/test_django_orm.py",),
    ),
)

REQUESTS = (
    Safety(
        "requests: two layers that measure count one request",
        INTEGRATIONS + "wsgi.py",
        "if outer is _NONE or (outer is not None and outer.has_ended):",
        "if True:",
        _integration("wsgi"),
    ),
    Safety(
        "requests: an answer that is dropped is under way no more",
        INTEGRATIONS + "wsgi.py",
        "            request.drop(is_cancelled=self._is_cut())\n",
        "            pass\n",
        _integration("wsgi"),
    ),
    Safety(
        "requests: a coroutine that the collector ends changes no context",
        CORE + "integrations/jobs.py",
        "            self.leave_context_if_collecting()\n",
        "            pass\n",
        _integration("entries"),
    ),
    Safety(
        "requests: what waits for an import is called in one thread alone",
        CORE + "_imports.py",
        "        if remove_listener(self):\n",
        "        if remove_listener(self) or True:\n",
        _core("imports") + _integration("patches"),
    ),
    Safety(
        "rules: where there are entries, a cause is one alert",
        EXPORTER + "dashboards/rules.py",
        'without_entries = f"unless on (job) {metrics.rate_of_entries}"',
        'without_entries = ""',
        ("grafana/test_rules.py::test_where_there_are_entries_functions_are_silent",),
    ),
    Safety(
        "requests: a client that goes away is no answer",
        INTEGRATIONS + "wsgi.py",
        "if sys.exc_info()[1] is not None or self._is_cut():",
        "if False:",
        _integration("wsgi"),
    ),
    Safety(
        "requests: roots that a client makes up become a bounded number of routes",
        INTEGRATIONS + "http_server.py",
        "if len(self._roots) >= _MOST_ROOTS:",
        "if False:",
        _integration("http_server"),
    ),
    Safety(
        "requests: no error of a measurement reaches an application of WSGI",
        INTEGRATIONS + "wsgi.py",
        """            _measure_input(request, environ)
    except Exception as error:""",
        """            _measure_input(request, environ)
    except ZeroDivisionError as error:""",
        _integration("wsgi"),
    ),
)

ASGI = (
    Safety(
        "asgi: what a request ended with is known after its error page",
        INTEGRATIONS + "asgi.py",
        """            request.stop()
        elif""",
        """            request.finish()
        elif""",
        _integration("asgi"),
    ),
    Safety(
        "asgi: a client that is gone is no answer",
        INTEGRATIONS + "asgi.py",
        """            if kind == "http.disconnect":
                self._cancel()""",
        """            if kind == "http.disconnect":
                pass""",
        _integration("asgi"),
    ),
    Safety(
        "asgi: two layers that measure count one request",
        INTEGRATIONS + "asgi.py",
        "if KEY in scope or kind",
        "if kind",
        _integration("asgi"),
    ),
    Safety(
        "asgi: names of messages are bounded",
        INTEGRATIONS + "websockets.py",
        "if len(self._events) >= MOST_EVENTS:",
        "if False:",
        _integration("asgi"),
    ),
    Safety(
        "asgi: what names a message cannot fail the application",
        INTEGRATIONS + "websockets.py",
        "        except Exception as error:  # noqa: BLE001 -- the application must see nothing",
        "        except NotImplementedError as error:",
        _integration("asgi"),
    ),
    Safety(
        "asgi: the time in which the application waits is of no message",
        INTEGRATIONS + "asgi.py",
        "            self._connection.waits()\n",
        "            pass\n",
        _integration("asgi"),
    ),
)

REWRITTEN = (
    Safety(
        "bytecode: the start of a call has no line",
        CORE + "_bytecode.c",
        "            begun = 1;\n            rewriting->location = ABSENT;\n",
        "            begun = 1;\n",
        ("hypertrace/test_bytecode.py::test_trace_functions_see_the_same_events",),
    ),
    Safety(
        "bytecode: what is thrown into a generator steps in",
        CORE + "_bytecode.c",
        "    if (handler <= LEAVES)\n",
        "    if (handler >= LEAVES)\n",
        ("hypertrace/test_bytecode.py::test_a_generator_steps_in_and_out",),
    ),
    Safety(
        "bytecode: copies of a function are not traced",
        CORE + "_hooks.c",
        "    if (!refers_to(self->function, frame_function(frame)))\n        return 0;\n",
        "",
        _core("hooks"),
    ),
    Safety(
        "bytecode: the undo leaves code of others",
        CORE + "_hooks.c",
        "        !refers_to(self->rewritten, PyFunction_GET_CODE(function)))\n",
        "        0)\n",
        _core("hooks"),
    ),
    Safety(
        "bytecode: a generator that does not end when it is closed ends when it is freed",
        CORE + "_open_calls.c",
        "call->is_closing ? end_closing_step(call) : end_step(call)",
        "end_step(call)",
        _core("hooks"),
    ),
)

SAFETIES = (
    *(APPLICATION + COUNTING + PROCESSES + BOUNDED + SCRAPES + SERVER + PORT + COMMAND),
    *(PUSHING + COMPILED + WORKERS + SHARING + DECLARING + BUCKETS + INSTRUMENTS + ENDING),
    *(ERRORS + RUNTIME + JOBS + SQL + CLIENTS + REQUESTS + ASGI + REWRITTEN),
)
