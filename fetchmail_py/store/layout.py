"""Where a mailbox lies below `maildir`: any name becomes a path that can never leave it, and an ordinary one stays readable.

Layout "fs" has a directory for each level of the name, "maildir++" one directory for each mailbox, its levels joined by dots.
What cannot stand in a path is written `%XX`, octet by octet. A name too long for a path is cut and gets a digest; then only the
state knows the way back.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

from fetchmail_py.model import MailboxName

FS = "fs"
MAILDIRPP = "maildir++"

MAX_NAME = 240
"""Octets of one directory's name: file systems allow 255."""
MAX_PATH = 1024
"""Octets of the path below `maildir`: PATH_MAX is 4096, and the file's own name comes behind it."""
CUT = "%~"
"""Stands before the digest of a name that was cut; no escape begins like this."""
EMPTY = "%-"
"""A level without a name."""

_RESERVED = {"cur", "new", "tmp", "dovecot-keywords", "maildirfolder"}
_STATE = ".fetchmail-py"
# Control characters, the separator, the escape itself, and what is no character at all.
_ALWAYS = re.compile("[\0-\x1f\x7f-\x9f/%\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_DOT = re.compile(r"\.")
_ESCAPED = re.compile("(?:%[0-9A-F]{2})+")


def path_for(
    name: MailboxName, delimiter: str | None, *, layout: str, taken: Collection[str] = (), fold_case: bool = False
) -> str:
    """The directory of a mailbox, relative to `maildir`; "" is `maildir` itself (INBOX in "maildir++").

    Different names have different paths. `taken` are the paths of other mailboxes; with `fold_case`, on a file system that
    takes "Work" for "work", a path that differs from one of them by its case only gets a digest.
    """
    levels = _levels(name, delimiter)
    if layout == MAILDIRPP:
        if levels == ["INBOX"]:
            return ""
        path = "." + ".".join(_DOT.sub("%2E", _encode(level)) for level in levels)
        if path.casefold().startswith(_STATE):  # also where "Fetchmail-py" is the same file
            path = f".{_escape(path[1])}{path[2:]}"
        path = _cut(path, name)
    else:
        path = "/".join(_cut(_encode_directory(level), level) for level in levels)
        if len(_octets(path)) > MAX_PATH:
            path = CUT + _digest(name)
    if path in taken or (fold_case and _folded(path) in {_folded(other) for other in taken}):
        parent, slash, last = path.rpartition("/")
        return f"{parent}{slash}{_beginning(last)}{CUT}{_digest(name)}"
    return path


def name_of(path: str, delimiter: str, *, layout: str) -> MailboxName | None:
    """The mailbox whose path this is, or None where the path does not tell (it was cut, or it is none of ours)."""
    if layout == MAILDIRPP:
        if not path:
            return MailboxName("INBOX")
        parts = path[1:].split(".") if path.startswith(".") and "/" not in path else []
    else:
        parts = path.split("/")
    if not parts or any(CUT in part or not part for part in parts):
        return None
    try:
        name = MailboxName(delimiter.join(_decode(part) for part in parts))
    except UnicodeDecodeError:
        return None
    return name if path_for(name, delimiter, layout=layout) == path else None


def _levels(name: MailboxName, delimiter: str | None) -> list[str]:
    levels: list[str] = name.split(delimiter) if delimiter else [name]
    if levels[0].upper() == "INBOX":
        levels[0] = "INBOX"
    return levels


def _encode(level: str) -> str:
    """A level with nothing in it that means something to a file system, or to whoever reads a listing."""
    if not level:
        return EMPTY
    encoded = _ALWAYS.sub(lambda found: _escape(found[0]), level)
    if encoded.startswith((" ", "~")):
        encoded = _escape(encoded[0]) + encoded[1:]
    if encoded.endswith(" "):
        encoded = encoded[:-1] + "%20"
    return encoded


def _encode_directory(level: str) -> str:
    encoded = _encode(level)
    if encoded.startswith(".") or encoded.casefold() in _RESERVED:
        return _escape(encoded[0]) + encoded[1:]
    return encoded


def _escape(character: str) -> str:
    return "".join(f"%{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))


def _decode(part: str) -> str:
    if part == EMPTY:
        return ""
    return _ESCAPED.sub(
        lambda found: bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "surrogatepass"), part
    )


def _cut(path: str, name: str) -> str:
    return path if len(_octets(path)) <= MAX_NAME else _beginning(path) + CUT + _digest(name)


def _beginning(path: str) -> str:
    """As much of it as leaves room for a digest, and no half of a character or of an escape."""
    return re.sub("%[0-9A-F]?$", "", _octets(path)[: MAX_NAME - 40].decode("utf-8", "ignore"))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(name: str) -> str:
    return hashlib.sha256(_octets(name)).hexdigest()[:20]


def _folded(path: str) -> str:
    import unicodedata  # noqa: PLC0415 - few file systems fold case

    return unicodedata.normalize("NFC", path).casefold()


