"""Network addresses: where the metrics server listens, and who its clients are."""

from __future__ import annotations

import errno
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hypertrace_prometheus.http import addresses as module

from ..wire import SOON, Start, ask, serve, threads

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 on this machine")
def test_ipv6_is_served(start: Start) -> None:
    """An IPv6 host is served, and its URL has it in brackets."""
    server = start(host="::1")
    assert server.url == f"http://[::1]:{server.port}"
    assert ask(server, "/metrics")[0] == 200
    assert f"[::1]:{server.port}".encode() in ask(server, "/")[2]


def test_a_host_name_is_served(start: Start) -> None:
    """A name of this machine is as good as its address."""
    server = start(host="localhost")
    assert server.url == f"http://localhost:{server.port}"
    assert ask(server, "/metrics")[0] == 200


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1:80"), ("::", "[::1]:80")])
def test_a_server_on_every_interface_is_reached_on_loopback(host: str, shown: str) -> None:
    """Where the host stands for every interface, what is shown is the loopback address."""
    assert module.target(host, 80) == shown


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_busy_port_is_an_error(
    start: Start, registry: CollectorRegistry, capfd: pytest.CaptureFixture[str], host: str
) -> None:
    """A port that is in use raises OSError with host, port and advice, and prints nothing."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    first = start(host=host)
    with pytest.raises(OSError, match=f"{first.port}: the port is in use; .* another") as caught:
        serve(registry, host=host, port=first.port)
    assert caught.value.errno == errno.EADDRINUSE
    assert host in str(caught.value)
    assert ask(first, "/metrics")[0] == 200
    assert threads().count("hypertrace-metrics") == 1
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_bound_but_silent_is_busy(registry: CollectorRegistry) -> None:
    """A port that another program holds is busy even where it does not listen on it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use"):
            serve(registry, port=other.getsockname()[1])


def test_a_busy_port_is_an_error_in_any_thread(start: Start, registry: CollectorRegistry) -> None:
    """A thread that asks for a port in use gets OSError, never SystemExit."""
    first = start()
    caught: list[BaseException] = []

    def second() -> None:
        try:
            serve(registry, port=first.port)
        except BaseException as error:  # noqa: BLE001  SystemExit is what it looks for
            caught.append(error)

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(SOON)
    assert [type(error) for error in caught] == [OSError]


def test_a_privileged_port_is_an_error(registry: CollectorRegistry) -> None:
    """A port that the system reserves raises PermissionError with host, port and advice."""
    try:
        socket.create_server(("127.0.0.1", 1)).close()
    except PermissionError:
        pass
    else:
        pytest.skip("the system lets this user have any port")
    with pytest.raises(PermissionError, match=r"127\.0\.0\.1:1: .*above 1023") as caught:
        serve(registry, port=1)
    assert caught.value.errno == errno.EACCES


def test_the_advice_for_a_privileged_port_is_another(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system reserves a port, the PermissionError says which ports are not reserved."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(PermissionError, match=r"127\.0\.0\.1:80: .*above 1023"):
        serve(registry, port=80)


def test_an_address_of_another_machine_is_an_error(registry: CollectorRegistry) -> None:
    """An address that no interface has raises OSError with host, port and advice."""
    with pytest.raises(OSError, match=r"192\.0\.2\.1:4343: this machine has no such") as caught:
        serve(registry, host="192.0.2.1", port=4343)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_an_unknown_host_is_an_error(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that does not resolve raises OSError that names it and the port."""

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(OSError, match="metrics on nowhere:4343: the host is unknown") as caught:
        serve(registry, host="nowhere", port=4343)
    assert caught.value.errno == socket.EAI_NONAME


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "nul\0"])
def test_a_host_that_can_be_no_name_is_an_error(registry: CollectorRegistry, host: str) -> None:
    """Text that cannot be a host name raises OSError, as an unknown name does."""
    with pytest.raises(OSError, match="the host is unknown"):
        serve(registry, host=host)


@pytest.mark.parametrize("port", [-1, 65536, 10**30])
def test_a_port_out_of_range_is_an_error(registry: CollectorRegistry, port: int) -> None:
    """A number that is no port raises ValueError with the range and the number."""
    with pytest.raises(ValueError, match=f"0 to 65535 .*not {port}"):
        serve(registry, port=port)


@pytest.mark.parametrize("port", ["4343", 4343.0, None, True])
def test_a_port_that_is_no_int_is_an_error(registry: CollectorRegistry, port: Any) -> None:
    """A port of another type raises TypeError that shows it."""
    with pytest.raises(TypeError, match="port must be an int .*not " + re.escape(repr(port))):
        serve(registry, port=port)


def test_an_empty_host_is_an_error(registry: CollectorRegistry) -> None:
    """An empty host, which would open the server to every network, raises ValueError."""
    with pytest.raises(ValueError, match="must not be empty"):
        serve(registry, host="")


@pytest.mark.parametrize("host", [None, b"127.0.0.1", 0])
def test_a_host_that_is_no_str_is_an_error(registry: CollectorRegistry, host: Any) -> None:
    """A host of another type raises TypeError that shows it."""
    with pytest.raises(TypeError, match="host must be a str .*not " + re.escape(repr(host))):
        serve(registry, host=host)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::", 1, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%lo", 1, 0, 1), "fe80::/64"),
    ],
)
def test_a_client_is_what_it_cannot_choose(address: Any, client: str) -> None:
    """An IPv4 address is one client, in either notation; so are all of an IPv6 network."""
    assert module.client_of(address) == client
