"""Allow-list: the props that become labels, each by its own name; secrets are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .labels import OBJECT_PROPS, clean

RESERVED = ("le", "quantile", "job", "instance")
"""Labels that belong to Prometheus, which gives them a meaning or sets them itself. So do all that
begin with two underscores."""

_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")

# For names whose words are lower case and divided by `_`. Words that are written together match as
# well (`dbpassword`, `clientsecret`), but not inside another one (`tokenizer`, `secretary`).
_SECRET = re.compile(
    r"""
      password | passphrase | passcode | passwd | credential
    | (?<![a-z]) pass_(word|phrase|code)
    | (pwd | secret | cookie | csrf | xsrf)s? (?![a-z])
    | token (?![a-z])
    | (api|access|refresh|auth|bearer|session|id)_?tokens (?![a-z])  # `tokens` alone: a number
    | (api|access|private|priv|secret|auth|session|signing|encryption|ssh|master)_?keys? (?![a-z])
    | (?<![a-z]) (rsa|aes|gpg|pgp|hmac)_?keys? (?![a-z])
    | (session | (?<![a-z])(php)?sess)_?ids? (?![a-z])
    | (?<![a-z]) (authori[sz]ation|bearer|jwt|otp|totp|cvv|cvc|ssn|dsn)s? (?![a-z])
    | (?<![a-z]) (user|db|database|smtp)_?pass (?![a-z])
    | (?<![a-z]) (basic|http|proxy)_?auth (?![a-z])
    | (?<![a-z]) auth_?header (?![a-z])
    | (?<![a-z]) (auth|mfa|2fa|verification|security|recovery|backup)_?codes? (?![a-z])
    | (?<![a-z]) (seed|recovery)_?phrases? (?![a-z])
    | (?<![a-z]) card_?numbers? (?![a-z])
    | (?<![a-z]) conn(ection)?_?str(ing)?s? (?![a-z])  # mostly with name and password, as the next
    | (?<![a-z]) (database|db|redis|mongo|mongodb|amqp|broker)_?ur[il]s? (?![a-z])
    | ^ (x_)? auth $
    """,
    re.VERBOSE,
)
_ABOUT_IT = re.compile(
    r"_(age|count|enabled|expired|expires|expiry|kind|len|length|name|policy|present|required|"
    r"result|scheme|size|state|status|strength|ttl|type|valid|version)$"
)
"""Last words of names whose values describe a secret and are none: `token_count`."""


def label_names(allowed_props: Iterable[str], unsafe_props: Iterable[str] = ()) -> dict[str, str]:
    """Return for each allowed prop what it is called in the name of a label.

    Args:
        allowed_props: names of the props that become labels.
        unsafe_props: those among them that are allowed although they look like a secret, or are
            called like a label of Prometheus.

    Raises:
        TypeError: a name is no string.
        ValueError: a name is empty, two names become the same label, a name is refused, or an
            unsafe prop is not among the allowed ones. The message says which, and what to do.
    """
    allowed = _checked("allowed_props", allowed_props)
    unsafe = _checked("unsafe_props", unsafe_props)
    for prop in unsafe:
        if prop not in allowed:
            raise ValueError(
                f"unsafe_props has {prop!r}, which is not in allowed_props; it must be in both"
            )
    names: dict[str, str] = {}
    props: dict[str, str] = {}
    for prop in allowed:
        name = clean(prop)
        if name in props:
            raise ValueError(
                f"allowed_props {props[name]!r} and {prop!r} would both become the label "
                f"{OBJECT_PROPS}{name}; allow one of them, or rename the other where it is traced"
            )
        reason = None if prop in unsafe else reason_against(prop)
        if reason is not None:
            raise ValueError(
                f"allowed_props {prop!r} {reason}; rename it where it is traced, or, to make it "
                f"a label nevertheless, give unsafe_props=[{prop!r}] as well"
            )
        names[prop], props[name] = name, prop
    return names


def looks_secret(prop: str) -> bool:
    """Return whether the name of a prop says that its values are secrets."""
    name = _WORD_ENDS.sub("_", prop).strip("_").lower()
    if _ABOUT_IT.search(name):
        return False
    # Also without splitting at capitals, which is wrong for names such as `APIkey`.
    as_written = re.sub(r"[\W_]+", "_", prop).strip("_").lower()
    return any(_SECRET.search(form) for form in (name, as_written))


def reason_against(prop: str) -> str | None:
    """Return why a name is refused as the name of a label; None if it is not."""
    if looks_secret(prop):
        return "looks like a secret, and its values would be on the page"
    name = clean(prop)
    if name.startswith("__"):
        return f"is called like {name!r}, a label that Prometheus keeps for itself"
    if name in RESERVED:
        return f"is called like {name!r}, a label that belongs to Prometheus"
    return None


def _checked(what: str, names: Iterable[object]) -> list[str]:
    if isinstance(names, str | bytes):
        raise TypeError(f"{what} must be several names: [{names!r}], not {names!r}")
    if not isinstance(names, Iterable):
        raise TypeError(f"{what} must be a list of names, () for none, not {names!r}")
    checked = []
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{what} must be names (str), not {name!r}")
        text = str.__str__(name)  # a subclass may have any methods
        if not text:
            raise ValueError(f"{what} has an empty name; leave it out")
        checked.append(text)
    return checked
