"""Program that removes each safety in a copy of the project, and looks for a test that fails.

Arguments are words that the names of safeties begin with; without any, all are tried.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .table import SAFETIES, Safety

ROOT = Path(__file__).parent.parent.parent
COPIED = ("hypertrace", "hypertrace_prometheus", "tests", "setup.py", "pyproject.toml", "README.md")
AT_ONCE = 2
LIMIT = 180
"""Seconds for the tests of one safety."""
_RED = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(\S+::\w+)", re.MULTILINE)


def main() -> int:
    """Return 1 if a safety can go without a test noticing, or a test is red without that."""
    wanted = tuple(sys.argv[1:])
    chosen = [safety for safety in SAFETIES if safety.name.startswith(wanted or ("",))]
    for safety in chosen:
        safety.taken_from((ROOT / safety.file).read_text())  # raises at once if it is not there
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        whole = {
            _whole(chosen, Path(folder), compiled=compiled, pure=pure)
            for compiled, pure in ((False, False), (False, True), (True, False))
        } - {""}
        if whole:
            print(f"FAILED: red with all safeties in place: {whole}")
            return 1
        width, missed = max(len(safety.name) for safety in chosen), 0
        results = pool.map(lambda each: _without(each, Path(folder)), chosen)
        for safety, (status, red, seconds) in zip(chosen, results, strict=True):
            print(f"{safety.name:{width}}  {seconds:4.0f} s  {red}", flush=True)
            missed += status != 1
    print(f"{len(chosen) - missed} of {len(chosen)} safeties are held by a test")
    return int(missed > 0)


def _whole(safeties: Iterable[Safety], folder: Path, *, compiled: bool, pure: bool) -> str:
    """Return a test that is red although no safety is taken away, or nothing."""
    tests = {
        test
        for each in safeties
        if (each.is_compiled, each.is_pure) == (compiled, pure)
        for test in each.tests
    }
    if not tests:
        return ""
    copy = _copy(folder / f"whole {compiled} {pure}", compiled=compiled)
    status, red, _ = _run(copy, sorted(tests), limit=20 * LIMIT, pure=pure)
    return red if status else ""


def _without(safety: Safety, folder: Path) -> tuple[int, str, float]:
    """Return pytest's status without a safety, the test that turned red, and the seconds taken."""
    # Without what separates folders, and paths in PYTHONPATH.
    copy = _copy(folder / re.sub("[/:]", " ", safety.name), compiled=False)
    file = copy / safety.file
    file.write_text(safety.taken_from(file.read_text()))
    if safety.is_compiled:
        _build(copy)
    result = _run(copy, safety.tests, pure=safety.is_pure)
    shutil.rmtree(copy)
    return result


def _copy(to: Path, *, compiled: bool) -> Path:
    ignored = shutil.ignore_patterns("*.so", "__pycache__", ".*_cache", "node_modules")
    to.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, to)
    if compiled:
        _build(to)
    return to


def _build(copy: Path) -> None:
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=copy,
        check=True,
        capture_output=True,
        env={**os.environ, "CFLAGS": "-O1"},
    )
    if not list(copy.glob("hypertrace/_speedups*.so")):
        raise RuntimeError("the compiled core was not built; install gcc and python3-dev")


def _run(
    copy: Path, tests: Iterable[str], limit: int = LIMIT, *, pure: bool = False
) -> tuple[int, str, float]:
    start = time.monotonic()
    options = ["-q", "-x", "--no-header", "--tb=no", "-n0", "-p", "no:cacheprovider"]
    options += ["-o", f"faulthandler_timeout={LIMIT // 3}"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
            cwd=copy,
            # In an editable installation, the copy finds the compiled core of the original.
            env={
                **os.environ,
                "PYTHONPATH": str(copy),
                "HYPERTRACE_PURE_PYTHON": str(int(pure)),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return 1, "hung", time.monotonic() - start
    red = _RED.search(done.stdout)
    match done.returncode:
        case 0:
            named = "NO TEST IS RED"
        case 1:
            named = red.group(1) if red else "hung"
        case code if code < 0:
            return 1, "crashed", time.monotonic() - start
        case _:
            named = "BROKEN: " + (done.stdout + done.stderr).strip()[-300:]
    return done.returncode, named, time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
