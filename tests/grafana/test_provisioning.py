"""Compose file and provisioning: they agree with each other and with what they name."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from hypertrace_prometheus.demo.session import DEFAULT_PORT

Document = dict[str, Any]


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    """Give the folder of what is for Grafana."""
    return root / "grafana"


def _load(path: Path) -> Document:
    document: Document = yaml.safe_load(path.read_text())
    return document


@pytest.fixture(scope="module")
def services(folder: Path) -> dict[str, Document]:
    """Give the services of the compose file."""
    found: dict[str, Document] = _load(folder / "compose.yaml")["services"]
    return found


def _mounts(service: Document, folder: Path) -> dict[str, Path]:
    """Return what is mounted into a service, by the place where it is there."""
    mounts = {}
    for volume in service["volumes"]:
        source, target, mode = volume.split(":")
        assert mode == "ro"
        mounts[target] = (folder / source).resolve()
    return mounts


def test_the_compose_file_is_one(folder: Path) -> None:
    """It is what the specification of compose files allows."""
    PyCompose.from_yaml((folder / "compose.yaml").read_text()).validate()


def test_all_that_is_mounted_is_there(services: dict[str, Document], folder: Path) -> None:
    """Each volume of the compose file is a file or folder of the checkout."""
    for name in ("prometheus", "grafana"):
        assert all(source.exists() for source in _mounts(services[name], folder).values())


def test_images_are_pinned(services: dict[str, Document]) -> None:
    """Each image has a version, so that the compose file starts what it was written for."""
    images = [service["image"] for service in services.values() if "image" in service]
    assert len(images) == 2
    assert all(image.rpartition(":")[2][:1] in "v123456789" for image in images)


def test_all_share_one_network(services: dict[str, Document]) -> None:
    """Loopback is the same for all three, and nothing is open beyond this machine."""
    others = [services[name]["network_mode"] for name in ("prometheus", "grafana")]
    assert others == ["service:demo"] * 2
    assert services["demo"]["ports"] == ["127.0.0.1:3000:3000", "127.0.0.1:9090:9090"]


def test_the_image_of_the_demo_has_all_it_copies(services: dict[str, Document], root: Path) -> None:
    """What the image is made of is in the checkout, and it runs the demo as it stands."""
    lines = services["demo"]["build"]["dockerfile_inline"].splitlines()
    names = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    packages = {"hypertrace", "hypertrace_prometheus"}
    assert {"pyproject.toml", *packages} <= set(names)
    assert all((root / name).exists() for name in set(names) - packages)
    assert lines[-1] == 'CMD ["hypertrace", "demo"]'


def test_prometheus_scrapes_the_demo_and_finds_its_rules(
    services: dict[str, Document], folder: Path
) -> None:
    """The shipped configuration names the demo's port, and its rules are where it is mounted."""
    mounts = _mounts(services["prometheus"], folder)
    (option, _) = services["prometheus"]["command"]
    place = option.partition("=")[2]
    configuration = _load(mounts[place])
    targets = [
        target
        for job in configuration["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    assert f"127.0.0.1:{DEFAULT_PORT}" in targets
    (rules,) = configuration["rule_files"]
    inside = mounts[str((Path(place).parent / rules).parent)]
    assert list(inside.glob(Path(rules).name))


def test_the_data_source_is_the_prometheus(services: dict[str, Document], folder: Path) -> None:
    """Its address is that of the Prometheus beside it, its interval that of the scrapes."""
    (source,) = _load(folder / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    configuration = _load(folder.parent / "prometheus.yml")
    assert source["type"] == "prometheus"
    assert source["url"] == "http://127.0.0.1:9090"
    assert source["isDefault"]
    assert source["jsonData"]["timeInterval"] == configuration["global"]["scrape_interval"]


def test_grafana_finds_the_dashboards(services: dict[str, Document], folder: Path) -> None:
    """The folder it reads is the mounted one, and its first page is one of the dashboards."""
    mounts = _mounts(services["grafana"], folder)
    assert mounts["/etc/grafana/provisioning"] == folder / "provisioning"
    (provider,) = _load(folder / "provisioning" / "dashboards" / "hypertrace.yml")["providers"]
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    boards = mounts[provider["options"]["path"]]
    assert provider["options"]["path"] == str(home.parent)
    assert json.loads((boards / home.name).read_text())["uid"] == "hypertrace-overview"
