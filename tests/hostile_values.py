"""Hostile values, names and classes, each with the text that shows it best."""

from __future__ import annotations

from typing import Any

from wrapt import ObjectProxy


def fail(*_: object) -> Any:
    raise RuntimeError("nothing works")


_NEEDED = {
    *("__new__", "__init__", "__class__", "__init_subclass__", "__subclasshook__"),
    *("__getattribute__", "__setattr__"),
}


def hostile(base: type, *kept: str) -> Any:
    """Give a subclass all of whose methods raise."""
    methods = {name for name in dir(base) if callable(getattr(base, name))} - _NEEDED - {*kept}
    return type(f"Hostile{base.__name__.title()}", (base,), dict.fromkeys(methods, fail))


HostileStr = hostile(str)
HostileBytes = hostile(bytes)
HostileBytearray = hostile(bytearray)


class GivesHostileStr:
    def __str__(self) -> Any:
        return HostileStr('of "its" own')


class GivesNoStr:
    __str__: Any = bytes


class Liar:
    """Says that it is a text, as the proxies of web frameworks do for the text behind them."""

    __class__: Any = str

    def __str__(self) -> str:
        return "text"


class HostileMeta(type):
    __name__: Any = property(fail)
    __hash__: Any = fail
    __eq__: Any = fail


class OfHostileMeta(metaclass=HostileMeta):
    __str__ = fail


class FalseName(type):
    __name__: Any = 7


class OfFalseName(metaclass=FalseName):
    __str__ = fail


class Huge:
    def __str__(self) -> str:
        return "é" * 10_000_000


def named(name: str, *bases: type) -> Any:
    """Give an object of a class with any name that can only be shown by it."""
    return type(name, bases, {"__str__": fail, "__repr__": fail})()


VALUES: dict[str, tuple[Any, str]] = {
    "str": (HostileStr('a "b"'), 'a "b"'),
    "bytes": (HostileBytes(b"caf\xc3\xa9"), "café"),
    "bytearray": (bytearray(b"caf\xc3\xa9"), "café"),
    "hostile bytearray": (HostileBytearray(b"x"), "x"),
    "memoryview": (memoryview(b"caf\xc3\xa9"), "café"),
    "memoryview of every second": (memoryview(b"abcd")[::2], "ac"),
    "memoryview of numbers": (memoryview(b"abcd").cast("H"), "abcd"),
    "memoryview of rows": (memoryview(b"abcd").cast("B", (2, 2)), "abcd"),
    "gives a hostile str": (GivesHostileStr(), 'of "its" own'),
    "gives bytes": (GivesNoStr(), "<unprintable GivesNoStr>"),
    "says it is a str": (Liar(), "text"),
    "proxy": (ObjectProxy("text"), "text"),
    "class that cannot be asked": (OfHostileMeta(), "<unprintable OfHostileMeta>"),
    "class with a number for a name": (OfFalseName(), "<unprintable OfFalseName>"),
    "name with quotes": (named('a"b\\\n'), '<unprintable a"b\\\n>'),
    "hostile name": (named(HostileStr("Name")), "<unprintable Name>"),
    "long name": (named("N" * 10_000), "<unprintable " + "N" * 242 + "…"),
    "huge": (Huge(), "é" * 255 + "…"),
    "int that is too long for a text": (10**10_000, "<unprintable int>"),
    "class": (HostileMeta, str(HostileMeta)),
}
