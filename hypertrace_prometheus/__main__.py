"""`python -m hypertrace_prometheus` is `hypertrace-prometheus`, an old name of `hypertrace`."""

import sys

from hypertrace.cli.main import main

if __name__ == "__main__":
    sys.exit(main(prog="hypertrace-prometheus"))
