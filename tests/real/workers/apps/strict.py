"""Program that insists on its port: `strict.py PORT`."""

from __future__ import annotations

import sys

from hypertrace_prometheus import PrometheusExporter

PrometheusExporter(port=int(sys.argv[1]), strict_port=True)
