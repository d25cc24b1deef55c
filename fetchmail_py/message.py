"""Messages for people to read: headers and text, through mail-parser. Nothing that is stored or sent comes from here."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from fetchmail_py.identity import header_end

if TYPE_CHECKING:
    import mailparser

HEAD = 65536
"""Octets read for a header."""


class Summary(NamedTuple):
    """What a list of messages shows of one."""

    sender: str
    """The name of the sender, else the address; "" for none."""
    subject: str


def summary_of(data: bytes) -> Summary:
    """Sender and subject of a message or of its beginning, decoded, on one line each; "" for what cannot be made out."""
    # Nothing but the first of each field: what else there is in a strange header is no reason not to show these.
    head = data[: header_end(data[:HEAD])]
    try:
        parsed = _parser()(_first(head, b"from") + _first(head, b"subject") + b"\n")
        senders = parsed.from_ or [("", "")]
        return Summary(_one_line(str(senders[0][0] or senders[0][1])), _one_line(str(parsed.subject or "")))
    except Exception:  # noqa: BLE001 - whatever a mail makes it raise: the message is stored, and a list is no place to fail
        return Summary("", "")


@cache
def _parser() -> Callable[[bytes], mailparser.MailParser]:
    """mail-parser, kept from talking."""
    import logging  # noqa: PLC0415

    import mailparser  # noqa: PLC0415 - takes 40 ms to import, and only a terminal shows what it finds

    # It logs what it stumbles over, which without a handler goes to standard error: the mail's own octets, on a terminal.
    logging.getLogger("mailparser").addHandler(logging.NullHandler())
    return mailparser.parse_from_bytes  # type: ignore[no-any-return]


def _first(head: bytes, name: bytes) -> bytes:
    """The first field of this name with its continuation lines and a line end, b"" without one."""
    lines = head.replace(b"\r\n", b"\n").replace(b"\0", b"").split(b"\n")
    for index, line in enumerate(lines):
        if line[: len(name) + 1].lower() == name + b":":
            end = index + 1
            while end < len(lines) and lines[end][:1] in {b" ", b"\t"}:
                end += 1
            return _utf8(b"\n".join(lines[index:end])) + b"\n"
    return b""


def summary_of_file(path: str) -> Summary | None:
    """The same of a stored message; None where it cannot be read any more. A file marked as read meanwhile is found in `cur/`."""
    head = _head(path)
    if head is None:
        renamed = _renamed(path)
        head = None if renamed is None else _head(renamed)
    return None if head is None else summary_of(head)


def _head(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return None  # moved on, or not ours to read: the message was stored, and only its line in a list is missing


def _renamed(path: str) -> str | None:
    """Where a mail reader has put a message since: under the same key, in `cur/`."""
    directory, name = os.path.split(path)
    key = name.partition(":")[0]
    cur = f"{os.path.dirname(directory)}/cur"
    try:
        with os.scandir(cur) as entries:
            return next((entry.path for entry in entries if entry.name.partition(":")[0] == key), None)
    except OSError:
        return None


def _utf8(field: bytes) -> bytes:
    """Octets that say nothing of their character set: UTF-8 if they are, else what most mail programs meant."""
    try:
        field.decode("utf-8")
    except UnicodeDecodeError:
        return field.decode("cp1252", "replace").encode("utf-8")
    return field


def _one_line(text: str) -> str:
    return " ".join(text.split())
