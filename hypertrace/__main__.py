"""`python -m hypertrace` is `hypertrace`."""

import sys

from hypertrace.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
