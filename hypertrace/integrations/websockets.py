"""WebSockets of servers: messages, from their receipt to the next send, and open connections.

`websocket_server_message_duration_seconds` by route, event and type of error: how long the
application takes for a message, until it sends something on the connection, or waits for the next
message without an answer. `websocket_server_messages_total` by route and direction, and
`websocket_server_active_connections` by route. Each message is an entry of the kind `websocket`,
named by route and event. An event is a name that a function of the application gives a message.

The handshake is a request of HTTP as all others, with status 101 if it succeeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypertrace._endings import result_of
from hypertrace._failures import swallow
from hypertrace._operations import Operations
from hypertrace.inspection import type_name
from hypertrace.metrics import Counter, Distribution, declare

from .entries import NAME, declare_entries
from .gauges import Gauge
from .http_server import CANCELLED, ERROR, ROUTE, SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from hypertrace._operations import Operation
    from hypertrace.events import Result

    EventOf: TypeAlias = "Callable[[str | bytes], str | None]"

EVENT = "websocket_event"
MOST_EVENTS = 100
"""Events that are distinguished: a client can send any number of names."""
OTHER_EVENT = "_OTHER"
_LONGEST_EVENT = 100

DURATIONS = Distribution(
    "websocket_server_message_duration_seconds",
    of="WebSocketServer.message",
    tags=[ROUTE, EVENT, ERROR],
    buckets=SECONDS,
    description="Messages of WebSockets, from their receipt to the next send.",
)
MESSAGES = Counter(
    "websocket_server_messages_total",
    of="WebSocketTraffic.*",
    tags={ROUTE: f"call.{ROUTE}", "network_io_direction": "function"},
    description="Messages of WebSockets that came in (receive) or went out (transmit).",
)
_MESSAGES = Operations("WebSocketServer", "message", entry="websocket")
_IN = Operations("WebSocketTraffic", "receive")
_OUT = Operations("WebSocketTraffic", "transmit")
_ACTIVE = Gauge("websocket_server_active_connections", (ROUTE,), "WebSockets that are open.")


class WebSocketServer:
    """What is measured of the WebSockets of one application."""

    def __init__(self, event_of: EventOf | None = None) -> None:
        """Declare the metrics.

        Args:
            event_of: is called with the text or bytes of each message that comes in, in the thread
                that receives it, and returns its name; None for no name.

        Raises:
            TypeError: `event_of` cannot be called.
        """
        if event_of is not None and not callable(event_of):
            raise TypeError(f"event_of must be a function of a message, not {event_of!r}")
        self._event_of = event_of
        self._events: set[str] = set()
        declare_entries()
        declare(DURATIONS)
        declare(MESSAGES)

    def open(self, route: str) -> Connection:
        """Start to measure a connection, once it is accepted.

        Args:
            route: its template; empty if it has none.
        """
        return Connection(self, route)

    def event(self, data: str | bytes) -> str:
        """Return the name of a message, one of a bounded number."""
        if self._event_of is None:
            return ""
        try:
            found = self._event_of(data)
            event = "" if found is None else str(found)[:_LONGEST_EVENT]
            if event not in self._events:
                if len(self._events) >= MOST_EVENTS:
                    return OTHER_EVENT
                self._events.add(event)
        except Exception as error:  # noqa: BLE001 -- the application must see nothing
            swallow(error, self._event_of)
            return ""
        return event


class Connection:
    """One open WebSocket, for the task that receives from it; any may send."""

    __slots__ = ("_event", "_leave", "_message", "_route", "_server")

    def __init__(self, server: WebSocketServer, route: str) -> None:
        self._server = server
        self._route = route
        self._event = ""
        self._message: Operation | None = None
        self._leave: Callable[[], None] | None = _ACTIVE.enter(route)

    def waits(self) -> None:
        """Note that the application waits for a message: it is done with the last one."""
        if self._message is not None:
            self._end()

    def received(self, data: str | bytes) -> None:
        """Note that a message came in.

        Args:
            data: its text or bytes.
        """
        self.waits()
        _IN.count({ROUTE: self._route})
        self._event = self._server.event(data)
        self._message = _MESSAGES.start()
        self._message.entry_name = _name(self._route, self._event)

    def sent(self) -> None:
        """Note that a message went out, which answers the one that came in last."""
        if self._message is not None:
            self._end()
        _OUT.count({ROUTE: self._route})

    def close(self, error: BaseException | None = None) -> None:
        """Note that the connection ended; only the first call has an effect.

        Args:
            error: the exception that ended it, and the message that was being handled.
        """
        if self._message is not None:
            self._end("ok" if error is None else result_of(error), error)
        self._leave_active()

    def cancel(self) -> None:
        """Note that the connection ended, as its client went away."""
        if self._message is not None:
            self._end("cancelled")
        self._leave_active()

    def _leave_active(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def _end(self, result: Result = "ok", error: BaseException | None = None) -> None:
        message, self._message = self._message, None
        if message is not None:
            kind = type_name(error) if result == "error" else "" if result == "ok" else CANCELLED
            message.end(_props, result, error, (self._route, self._event, kind))


def _name(route: str, event: str) -> str:
    return f"{route} {event}".strip()


def _props(route: str, event: str, kind: str) -> dict[str, object]:
    """Return the props of a message that the application is done with."""
    return {ROUTE: route, EVENT: event, ERROR: kind, NAME: _name(route, event)}
