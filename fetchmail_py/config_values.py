"""One value of the configuration at a time: each key's way from what TOML gives to what the program uses, or to an error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fetchmail_py.errors import ConfigError

AUTH = (
    "auto", "plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer", "external", "apop", "user",
)  # fmt: skip
MODES = ("disconnected", "mirror", "backup", "offline")
MAX_CONNECTIONS = 16

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d|w)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Place(NamedTuple):
    """Where a value stands, for the error about it."""

    file: str | None
    key: str

    def error(self, detail: str, hint: str | None = None) -> ConfigError:
        """The error that the value here is."""
        return ConfigError(detail, file=self.file, key=self.key, hint=hint)


def _text(value: object, place: Place) -> str:
    if value == "":
        raise place.error("must not be empty")
    if not isinstance(value, str):
        raise place.error('must be a text in quotes: "…"')
    return plain(value, place)


def plain(value: str, place: Place) -> str:
    """The same text, if nothing in it steers a terminal or ends a line."""
    if _CONTROL.search(value):
        raise place.error("holds a control character")
    return value


def _host(value: object, place: Place) -> str:
    text = _text(value, place)
    if re.search(r"[\s/@]", text) or (text.count(":") == 1):
        raise place.error("must be a name or an address, and nothing else: port, user and tls have keys of their own")
    return text


def _path(value: object, place: Place) -> str:
    text = os.path.expanduser(_text(value, place))
    if text.startswith("~"):
        raise place.error("the home directory it names is not known", "write the whole path, from / on")
    # Not from where the program is started: a cron job starts elsewhere than a shell, and the mail must be in one place.
    base = os.path.dirname(os.path.abspath(place.file)) if place.file is not None else ""
    return os.path.abspath(os.path.join(base, text))


def _maildir(value: object, place: Place) -> str:
    path = _path(value, place)
    if not path.strip("/"):
        raise place.error("must be a directory of this account's own", 'for instance "~/Mail/work"')
    return path


def _truth(value: object, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.error("must be true or false")
    return value


def _one_of(*allowed: str) -> Callable[[object, Place], str]:
    def convert(value: object, place: Place) -> str:
        if value not in allowed:
            raise place.error(f"must be one of {', '.join(allowed)}{meant(value, allowed)}")
        return str(value)

    return convert


def _number(low: int, high: int) -> Callable[[object, Place], int]:
    def convert(value: object, place: Place) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise place.error(f"must be a whole number from {low} to {high}")
        return value

    return convert


def _duration(value: object, place: Place) -> float:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found[2] is None and found[1] != "0"):
        raise place.error('must be a time such as "60s", "5m", "2h" or "14d"')
    return float(int(found[1]) * _SECONDS.get(found[2] or "s", 1))


def _timeout(value: object, place: Place) -> float:
    seconds = _duration(value, place)
    if not 1 <= seconds <= 86400:
        raise place.error('must be from "1s" to "1d"')
    return seconds


def _keep(value: object, place: Place) -> float | None:
    if value == "forever":
        return None
    try:
        return _duration(value, place)
    except ConfigError:
        raise place.error('must be "0" (delete once stored), an age such as "14d", or "forever"') from None


def _percent(value: object, place: Place) -> float:
    found = re.fullmatch(r"(\d{1,3})(?:\.\d+)?%", value) if isinstance(value, str) else None
    if found is None or not isinstance(value, str) or not 0 <= float(value[:-1]) <= 100:
        raise place.error('must be a share such as "50%", from "0%" to "100%"')
    return float(value[:-1]) / 100


def _fingerprint(value: object, place: Place) -> bytes:
    text = _text(value, place)
    digits = text.removeprefix("sha256:").replace(":", "")
    if not text.startswith("sha256:") or not re.fullmatch("[0-9a-fA-F]{64}", digits):
        raise place.error('must be "sha256:" and 64 hexadecimal digits', '`check` shows the one of the server')
    return bytes.fromhex(digits)


def _command(value: object, place: Place) -> tuple[str, ...] | str:
    if value in ("", []):
        raise place.error("must not be empty")
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return value
    if isinstance(value, list) and all(isinstance(word, str) and "\0" not in word for word in value) and any(value[:1]):
        return tuple(str(word) for word in value)
    raise place.error("must be a list (a command and its arguments), or a text for the shell")


def _patterns(value: object, place: Place) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item.strip("!") for item in value):
        raise place.error('must be a list of patterns, such as ["*", "!Spam"]')
    return tuple(plain(item, place) for item in value)


def _map(value: object, place: Place) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(to, str) and to and source for source, to in value.items()):
        raise place.error('must be a table of names, such as { "Sent Items" = "Sent" }')
    names = [str(to) for to in value.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise place.error(f"two mailboxes would be {twice!r}: it must be one-to-one")
    return {plain(source, place): plain(to, place) for source, to in value.items()}


def _compress(value: object, place: Place) -> bool | None:
    if value == "auto":
        return None
    if not isinstance(value, bool):
        raise place.error('must be "auto", true or false')
    return value


def _environment(value: object, place: Place) -> str:
    text = _text(value, place)
    if "=" in text or text.startswith("$"):
        raise place.error("must be the name of an environment variable, and only that", 'such as "MAIL_PASSWORD"')
    return text


COMMON: dict[str, Callable[[object, Place], object]] = {
    "provider": _text,
    "protocol": _one_of("imap", "pop3"),
    "host": _host,
    "port": _number(1, 65535),
    "tls": _one_of("implicit", "starttls", "none"),
    "allow_cleartext": _truth,
    "ca_file": _path,
    "tls_fingerprint": _fingerprint,
    "client_cert": _path,
    "client_key": _path,
    "user": _text,
    "auth": _one_of(*AUTH),
    "password_command": _command,
    "password_file": _path,
    "password_env": _environment,
    "password": _text,
    "maildir": _maildir,
    "timeout": _timeout,
    "on_new": _command,
    "report_after": _number(1, 1000),
}
IMAP: dict[str, Callable[[object, Place], object]] = {
    "mode": _one_of(*MODES),
    "mailboxes": _patterns,
    "map": _map,
    "layout": _one_of("fs", "maildir++"),
    "connections": _number(1, MAX_CONNECTIONS),
    "max_delete": _percent,
    "compress": _compress,
    "trash": _text,
    "expunge": _truth,
}
POP3: dict[str, Callable[[object, Place], object]] = {"keep": _keep}
KEYS = COMMON | IMAP | POP3


def converted(key: str, value: object, place: Place) -> object:
    """The value of an account's key. Raises ConfigError."""
    return KEYS[key](value, place)


def meant(word: object, allowed: Sequence[str]) -> str:
    """What to say behind a word that is not allowed but looks like one that is."""
    import difflib  # noqa: PLC0415 - only an error needs it

    close = difflib.get_close_matches(str(word), allowed, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""
