"""Process figures: what the system says of this process.

They come from `resource` and /proc, which take some microseconds; elsewhere from psutil, if it is
installed. A figure that the system does not have is None, and so is absent, and not zero.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from hypertrace.metrics.declared.gauges import READER_NAME

resource: Any
try:
    import resource
except ImportError:  # on Windows
    resource = None

_MOST = 4096
"""Bytes of /proc/self/stat."""
_STARTED = 19
"""Field of it, counted behind the name of the program: when the process started, in ticks."""


def cpu_seconds() -> dict[str, float]:
    """Return the time that processors worked for this process, by the mode."""
    if resource is None:
        times = os.times()
        return {"user": times.user, "system": times.system}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"user": usage.ru_utime, "system": usage.ru_stime}


def context_switches() -> dict[str, int | None]:
    """Return how often the system let another thread run, by the type."""
    if resource is None:  # Windows does not know which were involuntary
        switches = _psutil("num_ctx_switches")
        return {} if switches is None else {"voluntary": switches.voluntary}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"voluntary": usage.ru_nvcsw, "involuntary": usage.ru_nivcsw}


def page_faults() -> dict[str, int]:
    """Return how often memory was not in place, by whether the disk was read for it."""
    if resource is None:
        return {}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"minor": usage.ru_minflt, "major": usage.ru_majflt}


def resident_memory() -> int | None:
    """Return how many bytes of memory are in use."""
    return _memory(1, "rss")


def virtual_memory() -> int | None:
    """Return how many bytes of addresses are in use."""
    return _memory(0, "vms")


def threads() -> int | None:
    """Return the number of threads, without the one that reads gauges just now."""
    try:
        number = len(os.listdir("/proc/self/task"))  # noqa: PTH208 -- names are enough
    except OSError:
        number = _psutil("num_threads")
    return None if number is None else number - (threading.current_thread().name == READER_NAME)


def open_files() -> int | None:
    """Return how many files and sockets are open."""
    if resource is None:
        return None
    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    with suppress(OSError):
        # The size is their number since Linux 6.2. The list has that of the folder, too.
        size = os.stat(folder).st_size if sys.platform == "linux" else 0  # noqa: PTH116 -- quick
        return size or len(os.listdir(folder)) - 1  # noqa: PTH208 -- names are enough
    return None


def most_open_files() -> float | None:
    """Return how many files and sockets may be open."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def uptime() -> float | None:
    """Return for how many seconds the process has been there."""
    stat = _read("/proc/self/stat")
    if stat and hasattr(time, "CLOCK_BOOTTIME"):
        ticks = int(stat.rpartition(b")")[2].split()[_STARTED])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    started = _psutil("create_time")
    return None if started is None else time.time() - started


def _memory(field: int, name: str) -> int | None:
    statm = _read("/proc/self/statm")
    if statm:
        return int(statm.split()[field]) * os.sysconf("SC_PAGE_SIZE")
    return getattr(_psutil("memory_info"), name, None)


def _read(path: str) -> bytes:
    """Return the content of a file of the system; empty if there is none."""
    try:
        # By the descriptor, which takes a third of the time of a file object.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return b""
    try:
        return os.read(file, _MOST)
    finally:
        os.close(file)


def _psutil(name: str) -> Any:
    """Return what a method of `psutil.Process` does; None without it."""
    try:
        import psutil
    except ImportError:
        return None
    with suppress(psutil.Error, OSError, AttributeError):
        return getattr(psutil.Process(), name)()
    return None
