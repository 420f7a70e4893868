"""Secrets: tokens and passwords that a file or an environment variable has."""

from __future__ import annotations

import os
import re
from pathlib import Path

_SOURCE = re.compile("(file|env):(.+)", re.DOTALL)
_SENDABLE = re.compile("[!-~]+")
"""Characters that a header may have. A library that refuses others shows them in its message."""


class Secret:
    """A secret that is read each time, so that it may be renewed. It is never kept or shown."""

    def __init__(self, argument: str, source: str) -> None:
        """Check that it can be read.

        Args:
            argument: name of the argument that has the source, for messages.
            source: `"file:PATH"` or `"env:NAME"`.

        Raises:
            TypeError: the source is no `str`.
            ValueError: it is none of the two, or what is there is no secret.
            OSError: the file cannot be read.
        """
        if not isinstance(source, str):
            # The message shows the type only: the value may be the secret itself.
            raise TypeError(
                f"{argument} must be a str, 'file:PATH' or 'env:NAME', not {type(source)}"
            )
        match = _SOURCE.fullmatch(source)
        if match is None:
            raise ValueError(f"{argument} must be 'file:PATH' or 'env:NAME', not the secret itself")
        self._argument = argument
        self._kind, self._name = match.groups()
        self.read()

    def read(self) -> str:
        """Return the secret, without spaces and line breaks around it.

        Raises:
            ValueError: there is none, or it has characters other than visible ASCII. The message
                shows nothing of it.
            OSError: the file cannot be read.
        """
        if self._kind == "file":
            where = f"the file {self._name!r}"
            secret = Path(self._name).read_text("ascii", "replace").strip()
        else:
            where = f"the environment variable {self._name!r}"
            secret = os.environ.get(self._name, "").strip()
        if not _SENDABLE.fullmatch(secret):
            what = "characters that are not visible ASCII" if secret else "nothing in it"
            raise ValueError(f"{self._argument}: {where} has {what}")
        return secret
