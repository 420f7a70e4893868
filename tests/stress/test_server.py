"""Metrics server: busy ports, clients that misbehave, many scrapes and odd requests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

Run = Callable[..., dict[str, Any]]
Scale = Callable[[Any, Any], Any]
Note = Callable[..., None]

ATTACKERS = {"half-open": 300, "slow": 50, "silent": 20, "late": 20, "unread": 10}
FEW = {"half-open": 40, "slow": 10, "silent": 5, "late": 5, "unread": 4}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give files with a certificate and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    files = [folder / "server.crt", folder / "server.key"]
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(files[0])
    certificate.private_key_pem.write_to_path(files[1])
    return files


def test_ports_that_are_not_to_be_had(run: Run, figure: Note) -> None:
    """A port that cannot be had is an OSError that names it, in any thread; counting goes on."""
    found = run("server.busy_ports")
    figure("calls lost to failed starts of a server", found["uncounted"], "", "= 0")
    assert {"main thread", "other thread", "IPv6"} <= set(found["raised"])
    assert set(found["raised"].values()) == {True}
    assert found["uncounted"] == 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_clients_that_misbehave(
    run: Run, scale: Scale, figure: Note, certificate: list[Path], *, tls: bool
) -> None:
    """They are hung up on in time, others are answered, and the application goes on."""
    kinds, series = scale(FEW, ATTACKERS), scale(10_000, 40_000)
    files = [str(file) for file in certificate] if tls else None
    sizes = {"kinds": kinds, "series": series, "measured": scale(0.5, 2.0)}
    found = run("server.attack", 120, **sizes, certificate=files)
    over = " over TLS" if tls else ""
    figure(f"threads that answer 400 such clients{over}", found["threads"], "", "≤ 16")
    figure(f"until the last of them is gone{over}", found["gone"], "s", "≤ 8 s")
    figure(f"slowest scrape meanwhile{over}", found["slowest scrape"], "s", "≤ 1 s")
    figure(f"what the application keeps doing{over}", 100 * found["kept"], "%", "≥ 80 %")
    assert found["threads"] <= 16
    assert found["sockets"] >= 0.9 * sum(kinds.values())
    assert found["gone"] <= 9
    assert found["slowest answer"] <= scale(2, 1)
    assert found["kept"] >= scale(0.4, 0.8)
    assert found["left"] == 0


def test_many_scrapes_at_once(run: Run, scale: Scale, figure: Note) -> None:
    """They share collections, and leave the application time to work."""
    clients, series = scale(60, 200), scale(3_000, 10_000)
    measured = scale(0.5, 2.0)
    found = run("server.many_scrapes", 120, clients=clients, series=series, measured=measured)
    figure("200 scrapes of 10 000 series at once", found["seconds"], "s", "≤ 10 s")
    figure("collections at once meanwhile", found["at once"], "", "≤ 1")
    figure("what the application keeps doing meanwhile", 100 * found["kept"], "%", "≥ 50 %")
    figure("longest trace() meanwhile", 1e3 * found["longest"], "ms", "≤ 50 ms")
    assert found["answers"] == {"200 True": clients}
    assert found["seconds"] < 10
    assert found["at once"] == 1
    assert found["collections"] <= 2 + 2 * found["seconds"]
    assert found["kept"] >= scale(0.25, 0.5)
    assert found["longest"] <= scale(0.25, 0.05)


def test_odd_requests(run: Run, scale: Scale, figure: Note) -> None:
    """No request gets an error of the server, an echo, or anything but the documented paths."""
    requests = scale(600, 10_000)
    found = run("server.fuzz", 300, requests=requests, seed=scale(1, 2))
    figure("odd requests with a wrong answer", len(found["wrong"]), "", "= 0")
    assert found["wrong"] == []
    assert found["after"] == 200
    assert {"200", "400", "404", "405"} <= set(found["answers"])
