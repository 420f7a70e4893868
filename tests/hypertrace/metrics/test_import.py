"""Modules that `import hypertrace.metrics` loads."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    ["hypertrace.metrics", "hypertrace.exporters.json_lines", "hypertrace.exporters.statsd"],
)
def test_no_third_party_module_is_loaded(module: str) -> None:
    """The counts need the standard library and hypertrace alone."""
    program = (
        f"import sys; before = set(sys.modules); import {module}\n"
        "tops = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        # Of the standard library are also modules that a distribution puts into its folder.
        "import os, sysconfig\n"
        "library = os.listdir(sysconfig.get_path('stdlib'))\n"
        "known = {*sys.stdlib_module_names, *(name.removesuffix('.py') for name in library)}\n"
        "print(sorted(tops - known))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "['hypertrace']\n"
