"""Page about the promises, and the measurements of the stress tests on it."""

import ast
import re
from pathlib import Path

from ..foreign.__main__ import rows
from ..foreign.packages import EVERY
from ..stress.figures import BEGIN, END


def _patterns(root: Path) -> list[str]:
    """Return a pattern for the name of each figure that a stress test takes."""
    trees = [ast.parse(path.read_text()) for path in (root / "tests" / "stress").glob("test_*.py")]
    return [
        _pattern(node.args[0])
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "figure"
    ]


def _pattern(name: ast.expr) -> str:
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    return "".join(
        re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in parts
    )


def test_the_page_has_every_figure(root: Path) -> None:
    """Each figure of the stress tests has a row; `bash .ci/stress --write` writes them."""
    page = (root / "docs" / "promises.md").read_text()
    _, _, rest = page.partition(BEGIN)
    table, _, _ = rest.partition(END)
    names = [line.split("|")[2].strip() for line in table.splitlines() if line.startswith("| ")]
    patterns = _patterns(root)
    missing = [each for each in patterns if not any(re.fullmatch(each, name) for name in names)]
    assert missing == []
    assert len(patterns) > 20


def test_the_page_names_third_party_packages_as_they_are_run(root: Path) -> None:
    """Each row is of a package whose suite runs, and of the version that is named."""
    table = rows((root / "docs" / "promises.md").read_text())
    named = {package.name: package.version for package in EVERY}
    differing = {name for name, cells in table.items() if cells[1] != named.get(name)}
    assert differing <= {"CPython"}  # that of the machine it was measured on
    assert len(table) > 10
