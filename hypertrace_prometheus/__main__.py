"""`python -m hypertrace_prometheus` is `hypertrace-prometheus`."""

import sys

from hypertrace_prometheus.cli import main

if __name__ == "__main__":
    sys.exit(main())
