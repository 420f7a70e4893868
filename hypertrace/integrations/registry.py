"""Registry of the integrations: installs them by name, once their library is imported."""

from __future__ import annotations

import importlib
import inspect
from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

from hypertrace._failures import count_and_log, logger

from .patches import Patches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LIBRARIES: Mapping[str, str] = {
    "aiohttp_client": "aiohttp",
    "aiohttp_server": "aiohttp.web",
    "celery": "celery.signals",
    "django": "django",  # before its handlers, which import each other
    "django_orm": "django.db.models",
    "flask": "flask",
    "httpx": "httpx",
    "requests": "requests",
    "rq": "rq",
    "runtime": "sys",
    "sqlalchemy": "sqlalchemy",
    "sqlalchemy_orm": "sqlalchemy.orm",
    "starlette": "starlette.applications",
    "urllib": "urllib.request",
    "urllib3": "urllib3",
}
"""The module whose import makes an integration possible, by the name of the integration. The module
of the integration has that name, too."""
ALIASES: Mapping[str, str] = {"fastapi": "starlette"}
"""The integration of libraries that are built on another one, and measured with it."""
_CALLS: Mapping[str, str] = {
    "wsgi": "wsgi.trace_wsgi(application)",
    "asgi": "asgi.trace_asgi(application)",
    "jobs": "jobs.job(name)",
    "entries": "entries.entry(kind, name)",
    **dict.fromkeys(
        ("dbapi", "sqlite3", "psycopg", "psycopg2", "pymysql"), "dbapi.trace_connection(connection)"
    ),
}
"""What is called in the application, and not installed, in `hypertrace.integrations`."""


class Integration(Protocol):
    """What the class `Integration` of each integration's module is.

    It is made with the options, and raises `TypeError` and `ValueError` for wrong ones. The library
    is not imported then.
    """

    def patch(self, patches: Patches) -> None:
        """Replace what is to be measured, in the library, which is imported.

        Args:
            patches: replaces, and remembers what was there.
        """


def install(*names: str, **options: Any) -> None:
    """Measure what libraries do, from now on, or from when the application imports them.

    Installing again with equal options does nothing, but for an integration that failed before,
    which is tried again. Nothing is imported that the application does not import. What goes wrong
    in an integration is logged, and the application goes on.

    Args:
        names: of integrations, as `"flask"`; `available()` lists them, and `"fastapi"` is
            `"starlette"`.
        options: of all of them; each module of an integration says which it has.

    Raises:
        ValueError: there is no such integration, an option has a wrong value, or the integration is
            installed with other options; nothing is installed then.
        TypeError: an integration has no such option.
    """
    if not names:
        raise ValueError(f"install() needs a name: {', '.join(map(repr, LIBRARIES))}")
    _install([_Installed(name, options) for name in dict.fromkeys(map(_named, names))])


def install_all(**options: Any) -> None:
    """Install every integration, each from when the application imports its library.

    Args:
        options: each goes to the integrations that have it.

    Raises:
        ValueError: as of `install`.
        TypeError: no integration has such an option.
    """
    unused = set(options)
    chosen = {}
    for name in LIBRARIES:
        known = _options_of(name)
        chosen[name] = {option: value for option, value in options.items() if option in known}
        unused -= set(known)
    if unused:
        known = [option for name in LIBRARIES for option in _options_of(name)]
        hint = _hint(min(unused), known)
        raise TypeError(f"no integration has the option {min(unused)!r}; {hint}")
    _install([_Installed(name, own) for name, own in chosen.items() if name not in _installed])


def uninstall(*names: str) -> None:
    """Put back what integrations have replaced; requests and jobs that run are still recorded.

    Args:
        names: of the integrations; none for all. One that is not installed is passed over.

    Raises:
        ValueError: there is no such integration.
    """
    chosen = [_named(name) for name in names]
    for name in reversed(chosen or tuple(_installed)):
        one = _installed.pop(name, None)
        if one is not None:
            one.end()


def installed() -> dict[str, bool]:
    """Return the installed integrations by name, and whether their library is imported."""
    return {name: one.is_active for name, one in _installed.items()}


def available() -> tuple[str, ...]:
    """Return the names of all integrations."""
    return tuple(LIBRARIES)


class _Installed:
    """An integration with its options, before and after the import of its library."""

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        known = _options_of(name)
        for option in options:
            if option not in known:
                hint = _hint(option, known)
                raise TypeError(f"integration {name!r} has no option {option!r}; {hint}")
        self.name = name
        self.options = options
        self.is_active = False
        self.has_failed = False
        self._has_ended = False
        self._integration: Integration = _class_of(name)(**options)
        self._patches = Patches()

    def begin(self) -> None:
        self._patches.when_imported(LIBRARIES[self.name], self._patch)

    def _patch(self) -> None:
        try:
            self._integration.patch(self._patches)
            self.is_active = True
        except Exception as error:  # noqa: BLE001 -- the application imports its library here
            self.has_failed = True
            self._undo()
            count_and_log(error, self._integration)
            with suppress(Exception):  # a broken log handler must not reach the import
                logger().warning("integration %r is not installed", self.name)
        if self._has_ended:  # meanwhile, by another thread
            self._undo()

    def end(self) -> None:
        self._has_ended = True
        self._undo()

    def _undo(self) -> None:
        try:
            self._patches.undo()
        except Exception as error:  # noqa: BLE001 -- as above
            count_and_log(error, self._integration)


_installed: dict[str, _Installed] = {}


def _install(made: Sequence[_Installed]) -> None:
    for one in made:
        before = _installed.get(one.name)
        if before is not None and before.options != one.options:
            raise ValueError(
                f"{one.name!r} is installed with {before.options or 'no options'}; "
                f"call uninstall({one.name!r}) before you install it with "
                f"{one.options or 'no options'}"
            )
    for one in made:
        before = _installed.get(one.name)
        if before is not None and before.has_failed:
            _installed.pop(one.name, None)
        # One step, so that one of several threads begins.
        if _installed.setdefault(one.name, one) is one:
            one.begin()


def _class_of(name: str) -> Any:
    return importlib.import_module(f"{__package__}.{name}").Integration


def _options_of(name: str) -> Iterable[str]:
    return inspect.signature(_class_of(name)).parameters


def _hint(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about a name that is not known."""
    names = [*dict.fromkeys(known)]
    near = [one for one in names if one.startswith(name)] or get_close_matches(name, names, 1)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    return f"there are: {', '.join(names)}" if names else "it has none"


def _named(name: object) -> str:
    """Return the integration that a name stands for.

    Raises:
        ValueError: there is none.
    """
    known = ALIASES.get(name, name) if isinstance(name, str) else ""
    if known in LIBRARIES:
        return known
    if not isinstance(name, str):
        example = "install('flask', 'celery')"
        raise ValueError(f"there is no integration {name!r}: give names, as {example}")  # noqa: TRY004 -- as for all names
    wanted = name.strip().lower().replace("-", "_").partition(".")[0]  # it may be a module
    if wanted in _CALLS:
        hint = f"call hypertrace.integrations.{_CALLS[wanted]}"
    else:
        hint = _hint(wanted, [*LIBRARIES, *ALIASES])
    raise ValueError(f"there is no integration {name!r}; {hint}")
