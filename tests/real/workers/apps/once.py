"""Program that works as often as its argument says, and answers: `once.py CALLS [PROGRAM …]`.

It starts the other program, if there is one, after its own work.
"""

from __future__ import annotations

import subprocess
import sys

from answers import answer
from counted import work

calls, *other = sys.argv[1:]
for _ in range(int(calls)):
    work.do()
started = subprocess.Popen([sys.executable, *other]) if other else None
answer(calls)
if started:
    started.wait()
