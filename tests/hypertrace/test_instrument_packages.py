"""Instrumentation of packages: what patterns match, what they skip, and what they say of it."""

import importlib
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import InstrumentedFunction, SpanEvent, _engines, instrument, instrumented, traced
from hypertrace.testing import capture_events

ROOT = '''
"""A package."""

from .cart import Cart, add, twice
from json import dumps


def start():
    return add(1, 2)


def _private():
    return 1
'''

CART = '''
"""A module of a package."""

import contextlib
import functools
import json
from json import loads
from typing import Generic, List, NewType, Optional, TypeVar

T = TypeVar("T")
UserId = NewType("UserId", int)


class Gen(Generic[T]):
    def get(self):
        return 1


Alias = Gen[int]
Numbers = List[int]


class Sentinel:
    def __call__(self):
        return "sentinel"


MISSING = Sentinel()
parse = functools.partial(int, base=2)


def add(a, b):
    return a + b


plus = add


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper


@decorated
def twice(a):
    return 2 * a


@functools.lru_cache
def cached(a):
    return a


@contextlib.contextmanager
def session():
    yield 1


async def fetch():
    return 1


def numbers():
    yield 1


class Cart:
    encoder = json.JSONEncoder
    dumps = json.dumps
    cb = print
    missing = MISSING

    def __init__(self):
        self.items = []

    def put(self, item):
        self.items.append(item)
        return len(self.items)

    save = put

    @property
    def size(self):
        return len(self.items)

    @functools.cached_property
    def first(self):
        return self.items[0]

    @staticmethod
    def of(item):
        return item

    @classmethod
    def kind(cls):
        return cls.__name__

    def _hidden(self):
        return None

    def __len__(self):
        return 7

    class Item:
        def price(self):
            return 5

        class Tax:
            def rate(self):
                return 0.2


class Wish(Cart):
    def put(self, item):
        return super().put(item)


Cart.Item.cart = Cart
'''

UTIL = '''
"""Another one."""


def slug(text):
    return text


class Vendored:
    def run(self):
        return 1
'''

IN_PLACE = set() if _engines.name == "closures" else {"cached"}
"""Functions that can be traced only where they are."""

ALL_OF_CART = {
    "Gen.get",
    "add",
    "plus",
    "decorated",
    "twice",
    "session",
    "fetch",
    "numbers",
    "Cart.put",
    "Cart.size",
    "Cart.first",
    "Cart.of",
    "Cart.kind",
    "Cart._hidden",
    "Cart.Item.price",
    "Cart.Item.Tax.rate",
    "Wish.put",
} | IN_PLACE


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


@pytest.fixture
def files(write: Callable[..., None]) -> None:
    write("pk.__init__", ROOT)
    write("pk.cart", CART)
    write("pk.sub.__init__")
    write("pk.sub.util", UTIL)


@pytest.fixture
def pk(files: None) -> Any:
    importlib.import_module("pk.sub.util")
    return importlib.import_module("pk")


def _names(events: list[SpanEvent]) -> Counter[str]:
    return Counter(f"{event.object.class_name}.{event.caller.function_name}" for event in events)


def _state(module: Any) -> list[list[tuple[str, int]]]:
    """Return the attributes of a module and of its classes: names, in order, and identities."""
    classes = [it for it in vars(module).values() if type(it) is type]
    owners = [module, *classes, module.Cart.Item, module.Cart.Item.Tax]
    return [[(name, id(value)) for name, value in vars(owner).items()] for owner in owners]


def _in(module: str, names: list[str]) -> set[str]:
    return {name.partition(":")[2] for name in names if name.startswith(f"{module}:")}


def _messages(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == level]


def _use(pk: Any) -> None:
    cart = pk.Cart()
    cart.put("a")
    assert (cart.size, cart.first, pk.Cart.of(1), pk.Cart.kind()) == (1, "a", 1, "Cart")
    assert cart._hidden() is None
    assert (cart.Item().price(), cart.Item.Tax().rate()) == (5, 0.2)
    assert (pk.start(), pk.cart.twice(2), pk._private()) == (3, 4, 1)
    assert pk.sub.util.slug("a") == "a"


USED = {
    "Cart.put",
    "Cart.size",
    "Cart.first",
    "Cart.of",
    "Cart.kind",
    "Cart._hidden",
    "Item.price",
    "Tax.rate",
    "pk.start",
    "pk.cart.add",
    "pk.cart.twice",
    "pk._private",
    "pk.sub.util.slug",
}


# --- what patterns match ----------------------------------------------------------------------


@pytest.mark.parametrize("target", ["pk", "pk.**", "pk.**:**", ["pk.**", "pk.cart"]])
@pytest.mark.parametrize("imported", [True, False])
def test_a_package_is_traced_with_all_below_it(
    target: str | list[str], imported: bool, files: None, events: list[Any]
) -> None:
    """Functions and methods of all kinds are, before and after the import; each call is a span."""
    if imported:
        importlib.import_module("pk.sub.util")
    handle = instrument(target)
    assert ("pk" in sys.modules) is imported
    importlib.import_module("pk.sub.util")
    _use(importlib.import_module("pk"))
    assert _names(events) == Counter(dict.fromkeys(USED, 1))
    assert _in("pk", handle.names) == {"start", "_private"}
    assert _in("pk.cart", handle.names) == ALL_OF_CART - {"plus"}
    assert _in("pk.sub.util", handle.names) == {"slug", "Vendored.run"}
    handle.undo()
    events.clear()
    _use(sys.modules["pk"])
    assert events == []


def test_everything_is_as_it_was_after_undo(pk: Any) -> None:
    """Modules and classes have the same attributes, the same objects, in the same order."""
    modules = [pk.cart, pk, pk.sub.util]
    before = [list(map(id, vars(module).values())) for module in modules], _state(pk.cart)
    order = [list(vars(module)) for module in modules]
    first, second, third = instrument("pk"), instrument("pk.cart:Cart.**"), instrument("pk.cart:*")
    for handle in (second, first, third):
        handle.undo()
    assert ([list(map(id, vars(m).values())) for m in modules], _state(pk.cart)) == before
    assert [list(vars(module)) for module in modules] == order


def test_what_the_package_imports_from_itself_is_the_same_object(
    pk: Any, events: list[Any]
) -> None:
    """A function that modules of the package share stays one object, and is traced once."""
    with instrument("pk"):
        assert pk.add is pk.cart.add is pk.cart.plus
        assert pk.Cart is pk.cart.Cart
        assert pk.cart.Cart.put is pk.cart.Cart.save
        assert pk.cart.plus(1, 2) == 3
        pk.Cart().save(1)
    assert _names(events) == {"pk.cart.add": 1, "Cart.put": 1}


def test_what_was_imported_while_traced_is_restored(files: None, events: list[Any]) -> None:
    """A name that another module of the package took from a traced module gets the original."""
    with instrument("pk.cart"):
        pk: Any = importlib.import_module("pk")
        held = pk.add
        assert held is pk.cart.add
    assert not hasattr(pk.cart.add, "__wrapped__")
    assert held(1, 2) == 3
    assert events == []
    with instrument("pk"):
        pk.cart.add(1, 2)
    assert _names(events) == {"pk.cart.add": 1}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("pk.cart:*", {n for n in ALL_OF_CART if "." not in n} - {"plus"}),
        ("pk.cart:Cart.*", {"Cart.put", "Cart.size", "Cart.first", "Cart.of", "Cart.kind"}),
        ("pk.cart:Cart.add*", set()),
        ("pk.cart:*.put", {"Cart.put", "Wish.put"}),
        ("pk.**:**.put", {"Cart.put", "Wish.put"}),
        ("pk.cart:Cart._*", {"Cart._hidden"}),
        ("pk.cart:Cart.__*", {"Cart.__init__", "Cart.__len__"}),
        ("pk.cart:**.__len__", {"Cart.__len__"}),
        ("pk.cart:Cart.**", {n for n in ALL_OF_CART if n.startswith("Cart.")}),
        ("pk.cart:Cart.Item.**", {"Cart.Item.price", "Cart.Item.Tax.rate"}),
        ("pk.cart:*.*.*", {"Cart.Item.price"}),
        ("pk.*:start", set()),
        ("pk.c*:Cart.put", {"Cart.put"}),
        ("pk.cart:[st]*", {"session", "twice"}),
        ("pk.cart:ca*", IN_PLACE),
    ],
)
def test_each_form_of_pattern(target: str, expected: set[str], pk: Any) -> None:
    """Parts of a pattern are names, shell patterns, and `**` for any number of parts."""
    with instrument(target) as handle:
        assert _in("pk.cart", handle.names) == expected


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        ("pk.cart", {"pk:start", "pk:_private", "pk.sub.util:slug", "pk.sub.util:Vendored.run"}),
        (["pk.cart", "pk.sub"], {"pk:start", "pk:_private"}),
        (["pk.c*", "pk.sub.**"], {"pk:start", "pk:_private"}),
        (["pk.cart", "pk.sub.util:Vendored", "pk:_*"], {"pk:start", "pk.sub.util:slug"}),
        (["*.cart", "**:Vendored.run"], {"pk:start", "pk:_private", "pk.sub.util:slug"}),
    ],
)
def test_what_is_excluded(exclude: str | list[str], expected: set[str], pk: Any) -> None:
    """Packages, modules, classes and functions are left out, also where others import them."""
    with instrument("pk", exclude=exclude) as handle:
        assert set(handle.names) == expected
        assert handle.skipped == {}


# --- what is skipped --------------------------------------------------------------------------


def test_what_is_defined_elsewhere_is_not_traced(pk: Any, events: list[Any]) -> None:
    """Classes and functions that are attributes of a class do not lead out of the package."""
    before = dict(vars(json.JSONEncoder)), json.dumps, json.loads
    with instrument("pk"), instrument("pk.cart:*.*.*"):
        assert (dict(vars(json.JSONEncoder)), json.dumps, json.loads) == before
        json.dumps({"a": 1}, indent=1)
        assert pk.Cart.encoder().encode(1) == "1"
        assert pk.dumps(1) == "1"
    assert events == []


def test_objects_that_are_no_functions_stay_what_they_are(pk: Any) -> None:
    """Callable objects, new types, aliases and C functions are skipped, with the reason."""
    names = ["UserId", "Alias", "Numbers", "MISSING", "parse", "Optional"]
    before = {name: id(vars(pk.cart)[name]) for name in names}
    with instrument("pk") as handle:
        assert {name: id(vars(pk.cart)[name]) for name in names} == before
        assert dict(handle.skipped) == {
            "pk.cart:UserId": "is no function, but an object of NewType",
            "pk.cart:Alias": "is no function, but an object of _GenericAlias",
            "pk.cart:MISSING": "is no function, but an object of Sentinel",
            "pk.cart:Cart.encoder": "is defined in json.encoder",
            "pk.cart:Cart.dumps": "is defined in json",
            "pk.cart:Cart.cb": "is no function, but an object of builtin_function_or_method",
            "pk.cart:Cart.missing": "is no function, but an object of Sentinel",
            **{n: r for n, r in handle.skipped.items() if n == "pk.cart:cached"},
        }
        if "pk.cart:cached" not in handle.names:
            assert "an object of _lru_cache_wrapper around one" in handle.skipped["pk.cart:cached"]


def test_what_is_traced_already_is_left_alone(
    write: Callable[..., None], events: list[Any]
) -> None:
    """A function that `@traced` decorates gets no second span, and keeps its own."""
    write(
        "pk_own",
        "from hypertrace import traced\n"
        "@traced('own')\ndef load(): return 1\n"
        "@traced('own')\nasync def fetch(): return 1\n"
        "def other(): return 1\n",
    )
    module: Any = importlib.import_module("pk_own")
    with instrument("pk_own") as handle:
        module.load()
        assert "pk_own:other" in handle.names
    module.load()
    assert [event.id for event in events] == ["own", "own"]


def test_one_line_says_how_much_was_skipped(pk: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the number of functions traced and skipped, and the most frequent reasons."""
    caplog.set_level(logging.INFO, "hypertrace")
    with instrument("pk") as handle:
        (line,) = _messages(caplog, logging.INFO)
        assert line.startswith(
            f"<instrumented pk, {len(handle.names)} functions> skipped "
            f"{len(handle.skipped)} names: is no function, but an object of Sentinel (2); "
        )


# --- nothing matches --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("pk.cart:ad", "pk.cart has no function or method 'ad'; it has: .* .did you mean add"),
        ("pk.cart:Crat.put", "pk.cart has no class 'Crat'; it has: .* .did you mean Cart"),
        ("pk.cart:Cart", "Cart is a class, its methods are Cart.\\*"),
    ],
)
def test_an_exact_name_that_is_not_there_is_an_error(target: str, message: str, pk: Any) -> None:
    """It says what there is, and what is near; of several patterns none is traced then."""
    before = _state(pk.cart)
    with pytest.raises(ValueError, match=message):
        instrument(["pk", target])
    assert _state(pk.cart) == before
    assert instrumented() == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("pk.cart:adn*", "pk.cart has no function or method 'adn[*]'; it has: .*did you mean add"),
        ("pk.cart:Crat.*", "pk.cart has no class 'Crat'"),
        ("pk.cart:Cart.*.*.x*", "Cart.Item.Tax has no function or method 'x[*]'; it has: rate"),
        ("pk.**:*.aves", "no function or method 'aves'"),
        ("datetime:datetime.*", "datetime.now is no function, but an object of"),
    ],
)
def test_a_pattern_that_matches_nothing_is_a_warning(
    target: str, message: str, pk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what there is, once."""
    with instrument(target) as handle:
        assert handle.names == []
        importlib.reload(pk.cart)
    (line,) = _messages(caplog)
    assert line.startswith(f"instrument({target!r}) matches nothing: ")
    assert re.search(message, line)


def test_a_package_that_is_not_complete_yet_is_no_warning(
    write: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Modules below it may be imported later."""
    write("pk_empty.__init__")
    importlib.import_module("pk_empty")
    with instrument("pk_empty"), instrument("pk_empty.**:*.save"):
        assert _messages(caplog) == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("pk.carts", "no module 'pk.carts' .did you mean cart"),
        ("jsno", "no module 'jsno' .did you mean json"),
        ("pk.start", "no module 'pk.start'; for a function or class write 'pk:start'"),
        ("pk.cart.inner:add", "no module 'pk.cart.inner'"),
    ],
)
def test_a_module_that_does_not_exist(
    target: str, message: str, pk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an error, and a warning for a pattern."""
    with pytest.raises(ModuleNotFoundError, match=message):
        instrument(target)
    pattern = f"{target.partition(':')[0]}.**"
    with instrument(pattern):
        assert len(_messages(caplog)) == 1
        assert "it is traced if it can be imported later" in caplog.text


def test_a_package_that_exists_later_is_traced(
    write: Callable[..., None], events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A pattern may name a package that cannot be imported yet."""
    with instrument("pk_later.**"):
        write("pk_later.__init__", "def load(): return 1\n")
        importlib.import_module("pk_later").load()
    assert _names(events) == {"pk_later.load": 1}


@pytest.mark.parametrize("exclude", ["pk.**", "pk.cart:add"])
def test_a_pattern_of_which_all_is_excluded(
    exclude: str, pk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so, and does not say that there is no such function."""
    with instrument("pk.cart:ad*", exclude=exclude):
        assert _messages(caplog) == [
            "instrument('pk.cart:ad*') matches nothing: all that it matches is excluded"
        ]


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ("pk.carts", "exclude 'pk.carts': there is no module 'pk.carts' (did you mean cart?)"),
        ("pk.cart.add", "'pk.cart.add'; for a function or class write 'pk.cart:add'"),
        ("pk.cart:ad", "exclude 'pk.cart:ad' excludes nothing"),
        ("pk.cart:Crat", "exclude 'pk.cart:Crat' excludes nothing"),
    ],
)
def test_what_is_excluded_and_is_not_there_is_a_warning(
    exclude: str, message: str, pk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once: what was to be left out may be traced under another name."""
    with instrument("pk", exclude=[exclude, "pk.cart:Cart", "pk.cart:twice"]):
        importlib.reload(pk.cart)
    (line,) = _messages(caplog)
    assert message in line


def test_what_cannot_be_excluded_is_an_error() -> None:
    """A pattern in another package than the target is a mistake."""
    with pytest.raises(ValueError, match=r"exclude 'cart' is in none of the packages .*: json, pk"):
        instrument(["pk", "json"], exclude=["*.cart", "json.tool", "cart"])


@pytest.mark.parametrize("target", [[], "pk:cart:add", "pk.cart:add:"])
def test_a_target_of_another_form_is_an_error(target: Any) -> None:
    """There is one at least, and it has one colon at the most."""
    with pytest.raises(ValueError, match=r"write 'package.module:function'"):
        instrument(target)


def test_functions_of_a_pattern_get_the_props_that_they_can_have(
    pk: Any, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A path is for the functions that have its parameter; the others are traced without it."""
    with instrument("pk.cart", prop_from={"a": "args.a", "out": "result"}):
        pk.cart.add(1, 2)
        pk.cart.Gen().get()
    assert [event.caller.props for event in events] == [{"a": 1, "out": 3}, {"out": 1}]
    assert _messages(caplog) == []


def test_a_parameter_that_no_function_of_a_pattern_has_is_a_warning(
    pk: Any, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is a mistake, though not for a package of which a part is imported later."""
    with instrument("pk.cart", prop_from={"n": "args.amuont"}):
        pk.cart.add(1, 2)
    assert [event.caller.props for event in events] == [None]
    (line,) = _messages(caplog)
    assert "'n' is to come from the argument 'amuont', which no function in <instrumented" in line


@pytest.mark.parametrize("wrong", [5, ["pk", 5], None])
def test_a_pattern_is_text(wrong: Any) -> None:
    """Anything else is an error that says what is wrong."""
    with pytest.raises(TypeError, match=r"target must be a str or several, not (5|None)"):
        instrument(wrong)


def test_what_traces_is_not_traced() -> None:
    """Tracing the tracer would not end."""
    with pytest.raises(ValueError, match="cannot trace what traces"):
        instrument("hypertrace")


# --- what is traced now -----------------------------------------------------------------------


def test_what_is_instrumented_is_listed(pk: Any) -> None:
    """Each function once, with all patterns that hold it, until the last one is undone."""
    assert instrumented() == []
    first = instrument(["pk.sub.**", "pk.cart:Cart.put"])
    second = instrument("pk.cart:Cart.[ps]*")
    (engine,) = {one.engine for one in instrumented()}
    assert engine in {"monitoring", "bytecode", "closures"}
    put = InstrumentedFunction(
        "pk.cart:Cart.put", ("pk.cart:Cart.put", "pk.cart:Cart.[ps]*"), engine
    )
    assert instrumented() == [
        InstrumentedFunction("pk.sub.util:slug", ("pk.sub.**",), engine),
        InstrumentedFunction("pk.sub.util:Vendored.run", ("pk.sub.**",), engine),
        put,
        InstrumentedFunction("pk.cart:Cart.size", ("pk.cart:Cart.[ps]*",), engine),
    ]
    first.undo()
    assert instrumented()[0] == put._replace(patterns=("pk.cart:Cart.[ps]*",))
    second.undo()
    assert instrumented() == []


def test_a_function_that_was_replaced_is_not_listed(pk: Any) -> None:
    """What other code put in the place of a wrapper is not traced."""
    with instrument("pk.cart:twice"):
        engine = instrumented()[0].engine
        pk.cart.twice = print
        assert [one.name for one in instrumented()] == (
            [] if engine == "closures" else ["pk.cart:twice"]
        )


# --- shared functions -------------------------------------------------------------------------


def test_an_inherited_method_counts_for_the_class_that_was_named(
    pk: Any, events: list[Any]
) -> None:
    """Objects of the base and of other subclasses call it untraced."""

    class Other(pk.Cart):  # type: ignore[misc]
        pass

    with instrument("pk.cart:Wish.kind"), instrument("pk.cart:Wish._hidden"):
        for cls in (pk.Cart, Other, pk.cart.Wish):
            cls()._hidden()
            cls.kind()
    assert _names(events) == {"Wish._hidden": 1, "Wish.kind": 1}


def test_overlapping_patterns_of_a_base_and_its_subclass(pk: Any, events: list[Any]) -> None:
    """A call is one span, whichever of them is undone first."""
    base, inherited = instrument("pk.cart:Cart.kind"), instrument("pk.cart:Wish.kind")
    pk.cart.Wish.kind()
    base.undo()
    pk.Cart.kind()
    pk.cart.Wish.kind()
    inherited.undo()
    pk.cart.Wish.kind()
    assert len(events) == 2
    assert "kind" not in vars(pk.cart.Wish)


def test_functions_around_functions(pk: Any, events: list[Any]) -> None:
    """A function whose decorator keeps `__wrapped__` is traced as a whole, under its name."""
    with instrument("pk.cart:**"):
        assert pk.cart.twice(2) == 4
        with pk.cart.session() as number:
            assert number == 1
    assert _names(events) == {"pk.cart.twice": 1, "pk.cart.session": 1}


def test_traced_functions_of_a_decorated_class(
    write: Callable[..., None], events: list[Any]
) -> None:
    """What `@traced` decorates in a class is not decorated again."""

    @traced("own")
    def load() -> int:
        return 1

    write("pk_class", "class A:\n    def other(self): return 1\n")
    module: Any = importlib.import_module("pk_class")
    module.A.load = staticmethod(load)
    with instrument("pk_class:A.load"):
        module.A.load()
    assert [event.id for event in events] == ["own"]
