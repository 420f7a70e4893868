"""Code on the pages: the Python runs, the shell lines parse."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import trustme

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDS = re.compile(r"<!-- needs: ([\w .]+) -->\n")
"""Begins a page whose Python needs libraries that the tests of integrations have."""
FENCED = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `line` is the number of its first line of code."""

    language: str
    line: int
    code: str


def _blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text()
    blocks = [
        Block(
            match["language"],
            text.count("\n", 0, match.start("code")) + 1,
            textwrap.dedent(match["code"]),
        )
        for match in FENCED.finditer(text)
    ]
    return [block for block in blocks if block.language in languages]


def _program(page: Path, port: int) -> str:
    """Join the page's Python, each line where it stands in the page, so that tracebacks show it."""
    lines: list[str] = []
    for block in _blocks(page, "python"):
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.code.splitlines()
    # The reader's port may be taken on the machine that tests.
    return "\n".join(lines).replace("4343", str(port)) + "\n"


def _make_secrets(folder: Path) -> None:
    """Write the certificates and credentials that a page names."""
    authority = trustme.CA()
    certificate = authority.issue_cert("shop.internal")
    certificate.private_key_pem.write_to_path(folder / "metrics.key")
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(folder / "metrics.crt", append=True)
    authority.cert_pem.write_to_path(folder / "prometheus-ca.crt")
    (folder / "metrics-auth").write_text("# who may read the metrics\nBearer 4bf92f3577b3\n")


def needed(page: Path) -> list[str]:
    """Return the libraries that the Python of a page needs, besides those of the tests."""
    found = NEEDS.match(page.read_text())
    return found[1].split() if found else []


def run_python(page: Path, folder: Path, port: int) -> None:
    """Run the Python blocks of a page as one program, in a folder."""
    if "certfile=" in page.read_text():
        _make_secrets(folder)
    # Not by its name alone, which may be that of a library.
    program = folder / f"page_{page.stem}.py"
    program.write_text(_program(page, port))
    run = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, f"{page}:\n{run.stdout}{run.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """The Python blocks of a page run from top to bottom as one program, without a warning.

    Where its libraries are missing, tests/integrations/test_pages.py runs it.
    """
    missing = [name for name in needed(page) if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install --group integrations")
    run_python(page, tmp_path, free_port())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_shell_lines_of_a_page_parse(page: Path) -> None:
    """The shell blocks of a page are what a shell takes."""
    for block in _blocks(page, "bash", "sh", "shell", "console"):
        run = subprocess.run(
            ["bash", "-n"], input=block.code, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{page}:{block.line}: {run.stderr}"


def test_the_readme_shows_python() -> None:
    """The README has Python to run."""
    assert _blocks(ROOT / "README.md", "python")


@pytest.mark.parametrize("name", ["demo", "test"])
def test_the_readme_marks_what_ci_types(name: str) -> None:
    """The README has each command that CI types in a block of one line, below its mark."""
    marked = rf"^<!-- ci: {name} command -->\n```(ba)?sh\n[^\n]+\n```$"
    assert re.search(marked, (ROOT / "README.md").read_text(), re.MULTILINE)
