"""Instrumentation: spans for third-party code, and undoing it."""

import asyncio
import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hypertrace import Instrumentation, SpanEvent, instrument, traced
from hypertrace.testing import capture_events

SOURCE = '''
"""A library."""

from math import sqrt
from json import dumps

limit = 5


def load(name):
    return name


def load_all():
    return [load("a")]


async def fetch(name):
    return name


def _hidden():
    return None


class Base:
    def inherited(self):
        return "inherited"

    @staticmethod
    def static(a):
        return a

    @classmethod
    def of_class(cls):
        return cls.__name__

    @property
    def size(self):
        return 1


class Cart(Base):
    def add(self, item):
        return item

    async def fetch(self, item):
        return item

    def _hidden(self):
        return None

    class Item:
        def price(self):
            return 5

    class Discount:
        def price(self):
            return 4


class Meta(type):
    def __setattr__(cls, name, value):
        raise RuntimeError("closed")


class Closed(metaclass=Meta):
    of_c = staticmethod(len)


callable_object = Cart.Item().price
'''


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with capture_events() as captured:
        yield captured


@pytest.fixture
def shop(write: Callable[..., None]) -> Any:
    write("shop_x", SOURCE)
    return importlib.import_module("shop_x")


def _names(events: list[SpanEvent]) -> list[str]:
    return [f"{event.object.class_name}.{event.caller.function_name}" for event in events]


def _state(module: Any) -> list[dict[str, object]]:
    owners = (module, module.Base, module.Cart, module.Cart.Item, module.Cart.Discount)
    return [dict(vars(owner)) for owner in owners]


# --- what is traced ---------------------------------------------------------------------------


def test_a_function_is_traced_and_back_again(shop: Any, events: list[Any]) -> None:
    """Each call is a span until the handle undoes it; then everything is as it was."""
    before = _state(shop)
    handle = instrument("shop_x:load")
    assert isinstance(handle, Instrumentation)
    assert handle.names == ["shop_x:load"]
    assert shop.load("a") == "a"
    assert shop.load_all() == ["a"]
    assert _names(events) == ["shop_x.load"] * 2
    handle.undo()
    assert shop.load("a") == "a"
    assert len(events) == 2
    assert _state(shop) == before
    assert handle.names == []


@pytest.mark.parametrize(
    ("target", "call", "name"),
    [
        ("Cart.add", lambda m: m.Cart().add(1), "Cart.add"),
        ("Cart.fetch", lambda m: asyncio.run(m.Cart().fetch(1)), "Cart.fetch"),
        ("fetch", lambda m: asyncio.run(m.fetch(1)), "shop_x.fetch"),
        ("Cart.Item.price", lambda m: m.Cart.Item().price(), "Item.price"),
        ("Base.static", lambda m: m.Base.static(1), "Base.static"),
        ("Base.of_class", lambda m: m.Base.of_class(), "Base.of_class"),
        ("Base.size", lambda m: m.Base().size, "Base.size"),
        ("Cart._hidden", lambda m: m.Cart()._hidden(), "Cart._hidden"),
        ("sqrt", lambda m: m.sqrt(4), "math.sqrt"),
        ("callable_object", lambda m: m.callable_object(), "Item.price"),
    ],
)
def test_every_kind_of_target(
    target: str, call: Callable[[Any], object], name: str, shop: Any, events: list[Any]
) -> None:
    """Functions, methods of all kinds, nested classes and functions in C give the same results."""
    expected = call(shop)
    with instrument(f"shop_x:{target}"):
        assert call(shop) == expected
        assert _names(events) == [name]
    call(shop)
    assert len(events) == 1


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("load*", ["load", "load_all"]),
        ("*", ["fetch", "load", "load_all"]),
        ("_*", ["_hidden"]),
        ("Cart.*", ["Cart.add", "Cart.fetch"]),
        ("Cart._*", ["Cart._hidden"]),
        ("Cart.*.price", ["Cart.Discount.price", "Cart.Item.price"]),
        ("C*.add", ["Cart.add"]),
        ("C*.inherited", ["Cart.inherited"]),
        ("Base.[is]*", ["Base.inherited", "Base.size", "Base.static"]),
    ],
)
def test_a_pattern_chooses_what_is_at_home(target: str, expected: list[str], shop: Any) -> None:
    """A pattern matches what a module or class defines itself, without what is private."""
    shop.callable_object = None
    with instrument(f"shop_x:{target}") as handle:
        assert sorted(name.removeprefix("shop_x:") for name in handle.names) == expected


@pytest.mark.parametrize("name", ["inherited", "static", "of_class", "size"])
def test_an_inherited_method_is_traced_for_the_class_named(
    name: str, shop: Any, events: list[Any]
) -> None:
    """Only the named class gets it, its subclasses and objects call it as before."""

    class Grandchild(shop.Cart):  # type: ignore[misc]
        pass

    def results() -> list[object]:
        found = []
        for cls in (shop.Base, shop.Cart, Grandchild):
            it = getattr(cls(), name)
            found.append(it(1) if name == "static" else it() if callable(it) else it)
        return found

    before, expected = _state(shop), results()
    with instrument(f"shop_x:Cart.{name}"):
        assert results() == expected
        assert len(events) == 2
    assert _state(shop) == before
    assert name not in vars(shop.Cart)


def test_options_are_those_of_traced(shop: Any, events: list[Any]) -> None:
    """The id, props and where they come from are given to each span."""
    with instrument(
        "shop_x:Cart.add", id="add", props={"a": 1}, prop_from={"i": "args.item", "r": "result"}
    ):
        shop.Cart().add("x")
    assert events[0].id == "add"
    assert events[0].caller.props == {"a": 1, "i": "x", "r": "x"}


def test_a_third_party_library_is_traced(events: list[Any]) -> None:
    """Third-party Python code works as before."""
    with instrument("json.encoder:JSONEncoder.*"):
        assert json.dumps({"a": 1}, indent=1) == '{\n "a": 1\n}'
    assert "JSONEncoder.encode" in _names(events)


# --- undoing ----------------------------------------------------------------------------------


def test_instrumented_twice_is_once(shop: Any, events: list[Any]) -> None:
    """However many handles hold a function, a call is one span, until the last lets go."""
    before = _state(shop)
    handles = [instrument("shop_x:load") for _ in range(3)]
    for _ in handles:
        shop.load("a")
    assert len(events) == 3
    for left in (2, 1, 0):
        handles.pop().undo()
        events.clear()
        shop.load("a")
        assert len(events) == (1 if left else 0)
    assert _state(shop) == before


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_overlapping_handles_are_undone_in_any_order(
    order: tuple[int, ...], shop: Any, events: list[Any]
) -> None:
    """Patterns that overlap hold together what they have in common."""
    before = _state(shop)
    handles = [instrument(f"shop_x:{target}") for target in ("Cart.*", "Cart.add", "Cart.a*")]
    for number in order:
        shop.Cart().add(1)
        assert _names(events) == ["Cart.add"]
        events.clear()
        handles[number].undo()
    shop.Cart().add(1)
    assert events == []
    assert _state(shop) == before


def test_undone_twice_is_undone_once(shop: Any, events: list[Any]) -> None:
    """Undoing again changes nothing, also not for another handle."""
    first, second = instrument("shop_x:load"), instrument("shop_x:load")
    for _ in range(3):
        first.undo()
    shop.load("a")
    assert len(events) == 1
    second.undo()
    shop.load("a")
    assert len(events) == 1


def test_the_end_of_a_block_undoes_it_also_after_an_error(shop: Any) -> None:
    """A handle is a context manager that holds no exception back."""
    before = _state(shop)
    with pytest.raises(LookupError), instrument("shop_x:Cart.*"):
        raise LookupError
    assert _state(shop) == before


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize("target", ["load", "Cart.add", "Cart.inherited"])
def test_what_other_code_replaced_is_not_brought_back(
    target: str, shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Undoing leaves what was put in place of the replacement, and says so."""
    *outer, name = target.split(".")
    owner = getattr(shop, outer[0]) if outer else shop
    handle = instrument(f"shop_x:{target}")

    def patched(*_: object) -> str:
        return "patched"

    setattr(owner, name, patched)
    handle.undo()
    assert vars(owner)[name] is patched
    (warning,) = _warnings(caplog)
    assert f"shop_x:{target} was replaced" in warning


def test_what_other_code_removed_stays_away(shop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Undoing does not bring back an attribute that was deleted meanwhile."""
    with instrument("shop_x:load*"):
        del shop.load
    assert not hasattr(shop, "load")
    assert not hasattr(shop.load_all, "__wrapped__")
    assert len(_warnings(caplog)) == 1


def test_a_patch_that_is_gone_again_is_no_replacement(shop: Any) -> None:
    """A test's patch that was put back before leaves everything to be undone."""
    before = _state(shop)
    with instrument("shop_x:load"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(shop, "load", print)
    assert _state(shop) == before


def test_a_reloaded_module_is_instrumented_again(
    shop: Any, events: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """New functions are traced by the handles of the old ones, until the last is undone."""
    first, both = instrument("shop_x:load"), instrument("shop_x:lo*")
    old = shop.Cart
    importlib.reload(shop)
    assert shop.Cart is not old
    shop.load("a")
    assert _names(events) == ["shop_x.load"]
    first.undo()
    shop.load("a")
    assert _names(events) == ["shop_x.load"] * 2
    both.undo()
    shop.load("a")
    assert len(events) == 2
    assert not hasattr(shop.load, "__wrapped__")
    assert _warnings(caplog) == []


def test_undone_after_a_reload_the_new_code_stays(shop: Any) -> None:
    """Attributes that a reload has replaced are not overwritten with old code."""
    old = shop.load
    handle = instrument("shop_x:*")
    importlib.reload(shop)
    handle.undo()
    assert shop.load is not old
    assert not hasattr(shop.load, "__wrapped__")


def test_what_is_decorated_already_is_left_alone(shop: Any, events: list[Any]) -> None:
    """A traced function gets no second span, and stays traced after undoing."""
    shop.load = traced("own")(shop.load)
    with instrument("shop_x:load"):
        shop.load("a")
    shop.load("a")
    assert [event.id for event in events] == ["own", "own"]


# --- before the import ------------------------------------------------------------------------


def test_a_module_can_be_imported_later(write: Callable[..., None], events: list[Any]) -> None:
    """Functions of a module that is imported later are traced after the import, until undone."""
    write("shop_y", SOURCE)
    handle = instrument("shop_y:Cart.*")
    assert handle.names == []
    assert "shop_y" not in sys.modules
    shop: Any = importlib.import_module("shop_y")
    assert handle.names == ["shop_y:Cart.add", "shop_y:Cart.fetch"]
    shop.Cart().add(1)
    assert _names(events) == ["Cart.add"]
    handle.undo()
    shop.Cart().add(1)
    assert len(events) == 1


def test_a_module_of_a_package_can_be_imported_later(
    write: Callable[..., None], events: list[Any]
) -> None:
    """Neither the package nor the module is imported to find out whether it is there."""
    write("pack_x.__init__", "")
    write("pack_x.cart", SOURCE)
    with instrument("pack_x.cart:load"):
        assert not [name for name in sys.modules if name.startswith("pack_x")]
        importlib.import_module("pack_x")
        with instrument("pack_x.cart:load"):
            assert "pack_x.cart" not in sys.modules
            importlib.import_module("pack_x.cart").load("a")
    assert _names(events) == ["pack_x.cart.load"]


def test_undone_before_the_import_it_is_forgotten(
    write: Callable[..., None], events: list[Any]
) -> None:
    """A handle that is undone before its module is imported traces nothing."""
    write("shop_z", SOURCE)
    instrument("shop_z:load").undo()
    shop: Any = importlib.import_module("shop_z")
    shop.load("a")
    assert events == []
    assert not hasattr(shop.load, "__wrapped__")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("lod", "no function or method 'lod'; it has: "),
        ("Closed.of_c", "closed"),
    ],
)
def test_a_mistake_in_a_later_import_is_logged(
    target: str,
    message: str,
    write: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    events: list[Any],
) -> None:
    """Code that imports the module sees nothing; the log says what is wrong."""
    write("shop_late", SOURCE)
    handle = instrument(f"shop_late:{target}")
    shop: Any = importlib.import_module("shop_late")
    assert shop.load("a") == "a"
    assert handle.names == []
    (record,) = [record for record in caplog.records if record.name == "hypertrace"]
    assert record.levelno == logging.ERROR
    assert message in record.getMessage()
    handle.undo()


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["", "shop_x:", ":load", "shop_*:load", "shop?:load", "a..b", "shop:a**", "**"]
)
def test_a_target_of_another_form_is_refused(target: str) -> None:
    """The message shows the form."""
    with pytest.raises(ValueError, match=r"write 'package.module:function'"):
        instrument(target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "lod",
            "shop_x has no function or method 'lod'; it has: .*load_all .did you mean load.*",
        ),
        ("limit", "shop_x has no function or method 'limit'"),
        ("Cart", "Cart is a class, its methods are Cart.\\*"),
        ("Car.add", "shop_x has no class 'Car'; it has: Base, Cart, Closed, Meta"),
        ("load.add", "shop_x has no class 'load'"),
        ("Cart.ad", "Cart has no function or method 'ad'; it has: .*_hidden, add, fetch"),
        ("Cart.Itm.price", "Cart has no class 'Itm'; it has: Discount, Item"),
        ("Cart.Item.prize", "Cart.Item has no function or method 'prize'; it has: price"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(target: str, message: str, shop: Any) -> None:
    """The message names what there is to instrument in that place."""
    with pytest.raises(ValueError, match=message):
        instrument(f"shop_x:{target}")


@pytest.mark.parametrize("module", ["no_such_module", "json.no_such_module", "no.such.module"])
def test_a_module_that_cannot_be_there_is_refused(module: str) -> None:
    """A module that does not exist is an error at once."""
    name = "no" if module.startswith("no.") else module
    with pytest.raises(ModuleNotFoundError, match=f"there is no module '{name}'") as raised:
        instrument(f"{module}:load")
    assert raised.value.name == name


def test_a_module_in_what_is_no_package_is_refused() -> None:
    """A plain module has no modules in it."""
    with pytest.raises(ModuleNotFoundError):
        instrument("json.decoder.inner:load")


@pytest.mark.parametrize("target", ["builtins:dict.get", "datetime:datetime.now"])
def test_a_type_in_c_is_refused(target: str) -> None:
    """Types written in C cannot be changed, and the message says what to do."""
    with pytest.raises(TypeError, match="written in C and cannot be changed; instrument what"):
        instrument(target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"props": ["tcp"]}, r"props must be a mapping, .*, not \['tcp'\]"),
        ({"prop_from": "args.peer"}, "prop_from must be a mapping, .*, not 'args.peer'"),
    ],
)
def test_props_are_mappings(options: dict[str, Any], message: str) -> None:
    """Anything else is an error that says what is wrong, of `traced` and of `instrument`."""
    with pytest.raises(TypeError, match=message):
        traced(**options)
    with pytest.raises(TypeError, match=message):
        instrument("json", **options)


def test_either_all_is_instrumented_or_nothing(shop: Any) -> None:
    """Where one of several cannot be traced, what was replaced before is put back."""
    before = _state(shop)
    with pytest.raises(ValueError, match=r"no single parameter of load_all\(\)"):
        instrument(["shop_x:Cart.*", "shop_x:load_all"], prop_from={"n": "args.name"})
    shop.Cart.pop = dict.pop
    before = _state(shop)
    with pytest.raises(TypeError, match="in C"):
        instrument(["shop_x:Cart.*", "shop_x:Cart.pop", "datetime:datetime.now"])
    assert _state(shop) == before


def test_a_handle_says_what_it_did(shop: Any) -> None:
    """Its representation has the target and the number of functions."""
    with instrument("shop_x:Cart.*") as handle:
        assert repr(handle) == "<instrumented shop_x:Cart.*, 2 functions>"


def test_an_unknown_attribute_of_a_module_is_not_computed(
    shop: Any,
) -> None:
    """Looking for something runs no code of the module or of its classes."""

    class Touchy:
        def __getattribute__(self, name: str) -> object:
            if name == "__class__":
                return object.__getattribute__(self, name)
            raise AssertionError(name)

    shop.touchy = Touchy()
    shop.__getattr__ = _fail
    with pytest.raises(ValueError, match="no function or method 'absent'"):
        instrument("shop_x:absent")
    with instrument("shop_x:load*") as handle:
        assert len(handle.names) == 2


def _fail(name: str) -> object:
    raise AssertionError(name)
