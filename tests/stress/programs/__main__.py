"""Runner of one program in its own process: `programs SUBJECT.FUNCTION SECONDS ARGUMENTS`.

Prints what it returns as JSON. A program that takes longer than so many seconds shows where each of
its threads is, and ends.
"""

import faulthandler
import json
import logging
import sys
from importlib import import_module


def main() -> None:
    """Run the program that the command line names."""
    name, seconds, arguments = sys.argv[1:]
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    for package in ("hypertrace", "hypertrace_prometheus"):
        logging.getLogger(package).addHandler(logging.NullHandler())  # what is on stderr is wrong
    subject, function = name.split(".")
    program = getattr(import_module(f".{subject}", __package__), function)
    print(json.dumps(program(**json.loads(arguments))))


if __name__ == "__main__":
    main()
