"""Programs that gevent patches before they import anything of ours."""

from typing import Any

from gevent import monkey

monkey.patch_all()


def greenlets(number: int, calls: int) -> dict[str, Any]:
    """Count in greenlets."""
    from .counting import greenlets as count  # noqa: PLC0415

    return count(number, calls)
