"""Integrations: what frameworks and libraries do, measured without code for it.

`install("flask")` measures from when the application imports Flask; `install_all()` does so for
every library that there is an integration for. Each module says what it measures.
"""

from .registry import available, install, install_all, installed, uninstall

__all__ = ["available", "install", "install_all", "installed", "uninstall"]
