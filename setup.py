"""Optional compiled core; all else stands in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Optional: where it cannot be built, the Python code does the same.
        Extension(
            "hypertrace._speedups",
            [
                "hypertrace/_speedups.c",
                "hypertrace/_operations.c",
                "hypertrace/_cells.c",
                "hypertrace/_buckets.c",
                "hypertrace/_samples.c",
                "hypertrace/_segments.c",
                "hypertrace/_signals.c",
                "hypertrace/_pauses.c",
                "hypertrace/_open_calls.c",
                "hypertrace/_monitoring.c",
                "hypertrace/_bytecode.c",
                "hypertrace/_hooks.c",
            ],
            depends=[
                "hypertrace/_segments.h",
                "hypertrace/_frames.h",
                "hypertrace/_open_calls.h",
                "hypertrace/_speedups.h",
            ],
            optional=True,
        ),
    ]
)
