"""Program that daemonises itself, before or after it makes its exporter: `daemon.py WHEN`."""

from __future__ import annotations

import importlib
import os
import sys


def daemonise() -> None:
    """Leave the parent, the session and the terminal as daemons do."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


if sys.argv[1] == "before":
    daemonise()
    counted = importlib.import_module("counted")
    for _ in range(5):
        counted.work.do()
else:
    counted = importlib.import_module("counted")
    for _ in range(5):
        counted.work.do()
    daemonise()

answers = importlib.import_module("answers")
for _ in range(2):
    if os.fork() == 0:
        for _ in range(20):
            counted.work.do()
        answers.answer()
        os._exit(0)
for _ in range(20):
    counted.work.do()
answers.answer()
