"""Receivers of StatsD: sockets that keep the packets they get, and add up their counters."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from typing import TYPE_CHECKING

from ..recording import SOON

if TYPE_CHECKING:
    from collections.abc import Iterable


class Receiver:
    """Gets packets at an address, in a thread.

    Attributes:
        address: as the exporter takes it.
        packets: what came; of a connection all of it is one.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.packets: list[bytes] = []
        scheme, _, where = address.partition("://")
        self._is_stream = scheme == "tcp"
        if scheme == "unix":
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(where)
        else:
            host, _, port = where.rpartition(":")
            kind = socket.SOCK_STREAM if self._is_stream else socket.SOCK_DGRAM
            self.socket = socket.socket(socket.AF_INET, kind)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind((host, int(port)))
            self.address = f"{scheme}://{host}:{self.socket.getsockname()[1]}"
            if self._is_stream:
                self.socket.listen()
        self.socket.settimeout(0.01)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> Receiver:
        """Begin to read."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Read what is there, and close."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(SOON)
        self.socket.close()

    def lines(self) -> list[str]:
        """Give all lines that came."""
        return [line for packet in self.packets for line in packet.decode().split("\n") if line]

    def counters(self) -> dict[str, float]:
        """Give the sums of the counters that came."""
        return counters_in(self.lines())

    def _run(self) -> None:
        while True:
            is_last = self._ended.is_set()
            try:
                self.packets.append(self._packet())
            except TimeoutError:
                if is_last:
                    return

    def _packet(self) -> bytes:
        if not self._is_stream:
            return self.socket.recv(65_536)
        connection, _ = self.socket.accept()
        with contextlib.closing(connection):
            connection.settimeout(SOON)
            return b"".join(iter(lambda: connection.recv(65_536), b""))


def counters_in(lines: Iterable[str]) -> dict[str, float]:
    """Give the sums of the counters in some lines, without the health of exporters."""
    sums: Counter[str] = Counter()
    for line in lines:
        text, _, kind = line.partition("|")
        if kind == "c" and "hypertrace_export_" not in text:
            name, _, value = text.rpartition(":")
            sums[name] += float(value)  # type: ignore[assignment]
    return dict(sums)
