"""Costs of tracing, beside the costs of other libraries, in the same run.

One file a promise. `python -m benchmarks` runs them all and prints the table, `python -m benchmarks
counting` runs one; `bash .ci/bench` brings the peers first, and writes `docs/performance.md`.
"""
