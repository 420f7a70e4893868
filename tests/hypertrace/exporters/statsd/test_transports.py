"""Transports of StatsD: which address means which, and what the environment says."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from hypertrace.exporters.statsd.transports import (
    Tcp,
    Udp,
    Unix,
    UnixStream,
    address_from_environment,
    transport_of,
)

VARIABLES = (
    *("DD_DOGSTATSD_URL", "DD_AGENT_HOST", "DD_DOGSTATSD_PORT"),
    *("STATSD_HOST", "STATSD_PORT"),
)


@pytest.mark.parametrize(
    ("address", "transport"),
    [
        ("udp://statsd.internal:9125", Udp("statsd.internal", 9125)),
        ("statsd.internal:9125", Udp("statsd.internal", 9125)),
        ("127.0.0.1", Udp("127.0.0.1", 8125)),
        ("udp://[::1]:9125/", Udp("::1", 9125)),
        ("tcp://10.0.0.1:9125", Tcp("10.0.0.1", 9125)),
        ("tcp://10.0.0.1", Tcp("10.0.0.1", 8125)),
    ],
)
def test_an_address_says_how_to_send(address: str, transport: object) -> None:
    """A host with a port means UDP; the port may be left out."""
    assert transport_of(address) == transport


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_a_path_is_a_unix_socket() -> None:
    """Its packets are longer."""
    assert transport_of("unix:///var/run/dsd.socket") == Unix("/var/run/dsd.socket")
    assert transport_of("unixgram:///var/run/dsd.socket") == Unix("/var/run/dsd.socket")
    assert transport_of("unixstream:///var/run/dsd.socket") == UnixStream("/var/run/dsd.socket")
    assert Unix("/x").limit == 8192
    assert Udp("x", 1).limit == 1432


@pytest.mark.parametrize(
    "address",
    [
        *("", "udp://", "udp://:8125", "host:port", "host:0", "host:99999", "http://host:1"),
        *("unix://relative", "unix:///a?b", "udp://host/path", "udp://user@host:1", "udp://[::1"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """The message has the address, and what there is."""
    with pytest.raises(ValueError, match="address must be 'udp://host:port'") as raised:
        transport_of(address)
    assert str(raised.value).endswith(repr(address))


@pytest.mark.parametrize("address", [None, 8125, ("host", 8125), b"host:1"])
def test_an_address_is_a_text(address: Any) -> None:
    """Pairs and bytes are refused."""
    with pytest.raises(TypeError, match="address must be a str"):
        transport_of(address)


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, "udp://127.0.0.1:8125"),
        ({"STATSD_HOST": "s"}, "udp://s:8125"),
        ({"STATSD_HOST": "s", "STATSD_PORT": "9"}, "udp://s:9"),
        ({"STATSD_PORT": "tcp://10.0.0.1:8125"}, "udp://127.0.0.1:8125"),  # by Kubernetes
        ({"DD_DOGSTATSD_PORT": "9"}, "udp://127.0.0.1:9"),
        ({"DD_DOGSTATSD_URL": "udp://d"}, "udp://d"),
        ({"DD_DOGSTATSD_URL": "unixgram:///x"}, "unixgram:///x"),
        ({"STATSD_HOST": "s", "DD_AGENT_HOST": "::1"}, "udp://[::1]:8125"),
        ({"DD_AGENT_HOST": "d", "DD_DOGSTATSD_PORT": "9"}, "udp://d:9"),
        ({"DD_AGENT_HOST": "d", "DD_DOGSTATSD_URL": "unix:///x"}, "unix:///x"),
        ({"DD_DOGSTATSD_URL": "", "STATSD_HOST": ""}, "udp://127.0.0.1:8125"),
    ],
)
def test_the_environment_says_where(
    environment: dict[str, str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Datadog's URL, then its host, then that of StatsD; empty ones are none."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert address_from_environment() == address


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"DD_DOGSTATSD_URL": "http://d"}, "by DD_DOGSTATSD_URL: address must be .*'http://d'"),
        (
            {"STATSD_HOST": "s", "STATSD_PORT": "tcp://10.0.0.1:8125"},
            "by STATSD_HOST and STATSD_PORT: address must be",
        ),
    ],
)
def test_a_variable_that_is_no_address_is_named(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the address that the program gave."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        address_from_environment()


@pytest.mark.parametrize("address", [r"\\.\pipe\datadog-dogstatsd", "npipe:////./pipe/dsd"])
def test_a_named_pipe_is_refused(address: str) -> None:
    """It says what to do: agents of Windows receive UDP, too."""
    with pytest.raises(ValueError, match=r"is a named pipe of Windows.*'udp://host:port'"):
        transport_of(address)


def test_a_receiver_that_answers_all_the_time_is_not_waited_for() -> None:
    """As one that sends back what it gets: it has it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        is_delivered = threading.Event()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                deadline = time.monotonic() + 30
                while not is_delivered.is_set() and time.monotonic() < deadline:
                    connection.send(b"x")
                    time.sleep(0.01)

        thread = threading.Thread(target=answer)
        thread.start()
        assert list(Tcp("127.0.0.1", listener.getsockname()[1]).deliver([b"a:1|c"])) == [1]
        was_answering = thread.is_alive()
        is_delivered.set()
        thread.join()
    assert was_answering
