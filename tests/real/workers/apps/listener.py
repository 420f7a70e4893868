"""Program of another kind that listens on a port: `listener.py PORT`."""

from __future__ import annotations

import signal
import socket
import sys

with socket.create_server(("127.0.0.1", int(sys.argv[1]))):
    signal.pause()
