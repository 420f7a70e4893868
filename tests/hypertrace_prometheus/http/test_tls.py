"""TLS of the metrics server."""

from __future__ import annotations

import http.client
import socket
import ssl
import warnings
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from prometheus_client import Gauge

from hypertrace_prometheus.http import tls as module
from hypertrace_prometheus.http.tls import make_context

from ..wire import ELSEWHERE, HEALTH, SOON, Start, connect, held, read_all, until, workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from hypertrace_prometheus.http.server import MetricsServer

    from ...running import Clock


class Files(NamedTuple):
    """An authority, and a certificate of it with its key."""

    ca: Path
    crt: Path
    key: Path


def issue(folder: Path, name: str) -> Files:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    files = Files(*(folder / f"{name}.{end}" for end in Files._fields))
    authority.cert_pem.write_to_path(files.ca)
    certificate.cert_chain_pems[0].write_to_path(files.crt)
    certificate.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return issue(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Give files of another authority."""
    return issue(tmp_path_factory.mktemp("theirs"), "theirs")


def secured(files: Files, client: bool = False) -> dict[str, Any]:
    arguments = {"certfile": files.crt, "keyfile": files.key}
    return arguments | ({"client_ca": files.ca} if client else {})


def trusting(files: Files, own: Files | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    if own is not None:
        context.load_cert_chain(own.crt, own.key)
    return context


def ask(
    server: MetricsServer, context: ssl.SSLContext, path: str = "/metrics"
) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(
        server.host, server.port, timeout=SOON, context=context
    )
    with closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def test_a_certificate_makes_it_https(start: Start, ours: Files) -> None:
    """With a certificate and its key the server speaks TLS, and its URL says so."""
    server = start(**secured(ours))
    assert server.url == f"https://127.0.0.1:{server.port}"
    status, body = ask(server, trusting(ours))
    assert status == 200
    assert b"jobs_total 3.0" in body


def test_paths_may_be_text(start: Start, ours: Files) -> None:
    """Files are given as text as well as as paths."""
    server = start(certfile=str(ours.crt), keyfile=str(ours.key), client_ca=str(ours.ca))
    assert ask(server, trusting(ours, ours))[0] == 200


@pytest.mark.parametrize("said", [HEALTH, b"x", b"\0" * 9, b"\x16\x03\x01\x00\x05hello"])
def test_who_does_not_speak_tls_gets_nothing(
    start: Start, ours: Files, said: bytes, clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    """Plain HTTP, or anything else, on the port is dropped: never an answer in the clear."""
    server = start(**secured(ours))
    with connect(server, said) as client:
        assert b"HTTP" not in read_all(client)
    assert ask(server, trusting(ours))[0] == 200
    assert capfd.readouterr() == ("", "")


def lax(protocol: int) -> ssl.SSLContext:
    """Return what a system is free to make of a new context."""
    context = ssl.SSLContext(protocol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context


def test_old_versions_are_refused(
    start: Start, ours: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.2 is the lowest version, whatever the system allows, and is not renegotiated."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "ssl", SimpleNamespace(**{**vars(ssl), "SSLContext": lax}))
        made = make_context(ours.crt, ours.key, None)
    assert made is not None
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert made.options & ssl.OP_NO_RENEGOTIATION
    server = start(**secured(ours))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(ours)
        context.minimum_version = context.maximum_version = version
        assert ask(server, context)[0] == 200


def test_client_certificates_are_required(start: Start, ours: Files, theirs: Files) -> None:
    """With an authority for clients, only those with a certificate of it are served."""
    server = start(**secured(ours, client=True))
    assert ask(server, trusting(ours, ours))[0] == 200
    for own in (None, theirs):
        with pytest.raises(OSError):  # noqa: PT011  an alert of TLS, or the end of the connection
            ask(server, trusting(ours, own))


def test_no_other_authority_is_trusted(
    ours: Files, theirs: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the given authorities are trusted, never the store of the system or environment."""
    monkeypatch.setenv("SSL_CERT_FILE", str(theirs.ca))
    context = make_context(ours.crt, ours.key, ours.ca)
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.cert_store_stats() == {"x509": 1, "crl": 0, "x509_ca": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"certfile"}, "certfile without keyfile"),
        ({"keyfile"}, "keyfile without certfile"),
        ({"client_ca"}, "client_ca without certfile and keyfile"),
        ({"certfile", "client_ca"}, "certfile and client_ca without keyfile"),
        ({"keyfile", "client_ca"}, "keyfile and client_ca without certfile"),
    ],
)
def test_half_a_configuration_is_an_error(
    start: Start, ours: Files, given: set[str], message: str
) -> None:
    """Half of TLS raises ValueError that says what there is and what is missing."""
    files = {"certfile": ours.crt, "keyfile": ours.key, "client_ca": ours.ca}
    with pytest.raises(ValueError, match=f"^{message}: TLS needs both"):
        start(**{name: files[name] for name in given})


@pytest.mark.parametrize("name", ["certfile", "keyfile", "client_ca"])
def test_an_unreadable_file_is_an_error(
    start: Start, ours: Files, tmp_path: Path, name: str, free_port: Callable[[], int]
) -> None:
    """A file that is not there raises OSError with its name, and the port stays free."""
    port = free_port()
    missing = tmp_path / "missing.pem"
    with pytest.raises(FileNotFoundError) as caught:
        start(port=port, **{**secured(ours, client=True), name: missing})
    assert caught.value.filename in {missing, str(missing)}
    start(port=port)


@pytest.mark.parametrize("name", ["certfile", "keyfile", "client_ca"])
@pytest.mark.parametrize("content", [b"", b"no PEM\n", b"\xff\0"])
def test_a_file_that_is_something_else_is_an_error(
    start: Start, ours: Files, tmp_path: Path, name: str, content: bytes
) -> None:
    """A file without what it should have raises ValueError that names argument and file."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} '.*wrong\.pem'"):
        start(**{**secured(ours, client=True), name: wrong})


def test_a_key_of_another_certificate_is_an_error(start: Start, ours: Files, theirs: Files) -> None:
    """A key that does not belong to the certificate raises ValueError that names both files."""
    with pytest.raises(ValueError, match=r"ours\.crt.*theirs\.key.*MISMATCH"):
        start(certfile=ours.crt, keyfile=theirs.key)


def test_an_encrypted_key_is_an_error(ours: Files, tmp_path: Path) -> None:
    """A key with a passphrase raises ValueError that says so, and nothing asks on the terminal."""
    key = serialization.load_pem_private_key(ours.key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    with pytest.raises(ValueError, match=r"encrypted\.key' is encrypted; give a key without"):
        make_context(ours.crt, encrypted, None)


@pytest.mark.parametrize("wrong", [b"server.crt", 3, True])
def test_what_is_no_path_is_an_error(wrong: Any) -> None:
    """A file of another type raises TypeError that shows it."""
    with pytest.raises(TypeError, match=r"keyfile must be a path, .* not "):
        make_context("x", wrong, None)


def hello(files: Files) -> bytes:
    """Return what a client says first."""
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(files).wrap_bio(come, go, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return go.read()


def test_a_client_that_has_not_said_hello_costs_no_worker(start: Start, ours: Files) -> None:
    """While many clients connect and say nothing, or half of the first word, none is waited for."""
    server = start(**secured(ours))
    said = hello(ours)
    with ExitStack() as stack:
        for part in (b"", said[:1], said[:7], said[:-1]) * 10:
            stack.enter_context(connect(server, part))
        until(lambda: held(server) == 40)
        assert ask(server, trusting(ours))[0] == 200
        until(lambda: workers() == 0)


def test_a_handshake_has_a_deadline(start: Start, ours: Files, clock: Clock) -> None:
    """A client that stops in the middle of the handshake loses its connection and worker."""
    server = start(**secured(ours))
    with connect(server, hello(ours)) as client, connect(server) as silent:
        until(lambda: workers() == 1 and held(server) == 2)
        assert ask_from_elsewhere(server, ours).endswith(b"ok")
        clock.now += 4.1
        assert read_all(silent) == b""
        read_all(client)
    until(lambda: workers() == held(server) == 0)


def ask_from_elsewhere(server: MetricsServer, files: Files) -> bytes:
    context = trusting(files)
    plain = connect(server, b"", ELSEWHERE)
    with context.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(HEALTH)
        return read_all(client)


def test_a_request_over_tls_has_a_deadline(start: Start, ours: Files, clock: Clock) -> None:
    """After the handshake, a client that sends its request byte by byte gains no time."""
    server = start(**secured(ours))
    with trusting(ours).wrap_socket(connect(server), server_hostname="localhost") as client:
        until(lambda: workers() == 1)
        for byte in b"GET /":
            client.send(bytes([byte]))
        clock.now += 4.1
        assert read_all(client) == b""
    until(lambda: workers() == held(server) == 0)


def test_a_request_without_end_is_refused_over_tls(start: Start, ours: Files) -> None:
    """A head that does not end is not collected for ever: it gets a 4xx answer."""
    server = start(**secured(ours))
    with trusting(ours).wrap_socket(connect(server), server_hostname="localhost") as client:
        client.sendall(b"GET /" + b"x" * 70_000)
        assert read_all(client).startswith(b"HTTP/1.1 414 ")


def test_a_request_over_tls_was_there_when_it_had_come(
    start: Start, ours: Files, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection that began before a request arrived over TLS is not its response."""
    server = start(**secured(ours))
    moments: list[float] = []

    def respond(head: bytes, client: str, asked: float) -> bytes:
        moments.append(asked)
        return b"answer"

    monkeypatch.setattr(server._connections, "_respond", respond)
    with trusting(ours).wrap_socket(connect(server), server_hostname="localhost") as client:
        clock.now += 2
        client.sendall(HEALTH)
        assert client.recv(100) == b"answer"
    assert moments == [1002.0]


def test_large_answers_go_through(start: Start, registry: CollectorRegistry, ours: Files) -> None:
    """An answer of many records of TLS arrives as it is."""
    Gauge("large", "x" * 3_000_000, registry=registry)
    server = start(**secured(ours))
    body = ask(server, trusting(ours))[1]
    assert b"x" * 3_000_000 in body
    assert body.endswith(b"\nlarge 0.0\n")


def test_nothing_goes_out_in_the_clear(
    start: Start, registry: CollectorRegistry, ours: Files, clock: Clock
) -> None:
    """A response that is cut off in the middle ends there; no byte of it is sent in plain text."""
    Gauge("large", "plain" * 1_600_000, registry=registry)
    server = start(**secured(ours))
    with connect(server) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting(ours).wrap_bio(come, go, server_hostname="localhost")
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.sendall(go.read())
                come.write(raw.recv(65536))
        client.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        raw.sendall(go.read())
        wire = b""
        while len(wire) < 100_000:  # more than what the handshake has left to say
            wire += raw.recv(1000)
        clock.now += 4.1
        until(lambda: workers() == 0)
        assert b"plain" not in wire + read_all(raw)
