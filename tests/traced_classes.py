"""Classes of an application, as they are traced in the tests of the exporter."""

from __future__ import annotations

from typing import Any

from hypertrace import Tracer

# Where this file was imported from: the label of every call in it.
FILE = __name__.replace(".", "/") + ".py"


class Network:
    def __init__(self, **props: object) -> None:
        self.tracer = Tracer(self, props)


class Swarm:
    def __init__(self, props: Any = None, parent: Network | None = None) -> None:
        self.tracer = Tracer(self, props, parent=parent.tracer if parent else None)

    def connect(self, *arguments: Any, **props: Any) -> None:
        self.tracer.trace(*arguments, **props)

    def plain(self) -> None:
        self.tracer.trace()


class Cart:
    def __init__(self, props: Any = None, parent: Tracer | None = None) -> None:
        self.tracer = Tracer(self, props, parent=parent)

    def add(self, *arguments: Any, **props: Any) -> None:
        with self.tracer.span(*arguments, **props):
            pass

    def fail(self, error: BaseException, **props: Any) -> None:
        with self.tracer.span(**props):
            raise error


class Shop:
    def __init__(self) -> None:
        self.tracer = Tracer(self)
        self.cart = Cart()

    def serve(self) -> None:
        with self.tracer.span():
            self.cart.add()
            self.cart.add()
            self.cart.tracer.trace()
