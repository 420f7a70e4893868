"""Answers of servers over HTTP: what was taken, what to try again, and what is refused for ever."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hypertrace.rate_limit import RateLimit

if TYPE_CHECKING:
    import logging

SHOWN = 500
"""Characters of an answer that go into a message."""

_TEMPORARY = {401, 403, 404, 408, 429}
"""Not the fault of what was sent: a token or database that is yet to come, or too many requests."""


class RefusedError(OSError):
    """The receiver does not take what was sent, now or later; or not all of it.

    Attributes:
        amount: how many lines or points it has refused; None is all.
    """

    def __init__(self, reason: str, amount: int | None = None) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.amount = amount

    def up_to(self, sent: int) -> int:
        """Return how many were refused: not more than were sent, whatever the receiver says.

        Args:
            sent: how many lines or points were sent.
        """
        return sent if self.amount is None else max(0, min(self.amount, sent))


def check(status: int, reason: str, answer: str) -> None:
    """Raise unless a server has taken a request.

    Args:
        status: code of the answer, as 204.
        reason: the words beside it.
        answer: the beginning of its text.

    Raises:
        RefusedError: the server would refuse the same request again.
        OSError: it has not taken it, and may do so later.
    """
    kind = status // 100
    if kind == 2:  # noqa: PLR2004 -- success
        return
    message = f"{status} {reason}: {' '.join(answer.split())[:SHOWN]}"
    if kind == 4 and status not in _TEMPORARY:  # noqa: PLR2004 -- the fault of what was sent
        raise RefusedError(message)
    if kind == 3:  # noqa: PLR2004 -- a redirect
        message += " (redirects are not followed: give the address that the server means)"
    raise OSError(message)


class RefusalLog:
    """Log of refusals, once a minute at the most."""

    def __init__(self, logger: logging.Logger, sender: str) -> None:
        """Log nothing yet.

        Args:
            logger: where to.
            sender: name of what was refused, as `InfluxExporter`.
        """
        self._logger = logger
        self._sender = sender
        self._limit = RateLimit()

    def add(self, points: int, refused: RefusedError) -> None:
        """Log a refusal, unless there was one just before. It raises nothing."""
        if self._limit.allow():
            with suppress(Exception):  # a broken log handler must not end the thread
                self._logger.warning(
                    "%s was refused %d points, which are dropped: %s (%d more refusals not logged)",
                    self._sender,
                    points,
                    refused,
                    self._limit.take_suppressed(),
                )
