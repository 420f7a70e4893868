"""Package imports: what is loaded, and the errors without the libraries of the extra."""

import subprocess
import sys


def test_a_missing_library_is_reported_with_the_command_that_installs_it() -> None:
    """Without the libraries of the extra, the error says how to install them."""
    program = "import sys; sys.modules['prometheus_client'] = None; import hypertrace_prometheus"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert 'pip install "hypertrace[prometheus]"' in ended.stderr


def test_an_import_loads_neither_the_server_nor_its_libraries() -> None:
    """What only a server or an exporter uses loads when it is made."""
    program = (
        "import sys, hypertrace_prometheus\n"
        "late = ('hypertrace_prometheus.http', 'http', 'prometheus_client', 'ssl', 'asyncio')\n"
        "print([name for name in sys.modules if name.startswith(late)])\n"
        "exporter = hypertrace_prometheus.PrometheusExporter()\n"
        "late = ('hypertrace_prometheus.http.server', 'hypertrace_prometheus.routes', 'asyncio')\n"
        "print([name for name in sys.modules if name.startswith(late)])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n[]\n"


def test_a_page_is_made_without_an_import() -> None:
    """All that a page needs is loaded when the exporter is made: a fork may interrupt an import."""
    program = (
        "import sys, hypertrace_prometheus\n"
        "exporter = hypertrace_prometheus.PrometheusExporter()\n"
        "before = set(sys.modules)\n"
        "exporter.metrics()\n"
        "environ = {'REQUEST_METHOD': 'GET', 'HTTP_ACCEPT_ENCODING': 'gzip'}\n"
        "exporter.wsgi_app(environ, lambda *_: None)\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
