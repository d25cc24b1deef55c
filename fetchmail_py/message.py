"""Messages for people to read: headers and text, through mail-parser. Nothing that is stored or sent comes from here."""

from __future__ import annotations

import os
from typing import NamedTuple

from fetchmail_py.identity import header_end

HEAD = 65536
"""Octets read for a header."""


class Summary(NamedTuple):
    """What a list of messages shows of one."""

    sender: str
    """The name of the sender, else the address; "" for none."""
    subject: str


def summary_of(data: bytes) -> Summary:
    """Sender and subject of a message or of its beginning, decoded, on one line each."""
    import mailparser  # noqa: PLC0415 - takes 40 ms to import, and only a terminal shows it

    head = data[:HEAD]
    parsed = mailparser.parse_from_bytes(head[: header_end(head)] + b"\n\n")
    senders = parsed.from_ or []
    name, address = (senders[0][0], senders[0][1]) if senders else ("", "")
    return Summary(_one_line(name or address), _one_line(parsed.subject or ""))


def summary_of_file(path: str) -> Summary | None:
    """The same of a stored message; None where it is no longer there. A file marked as read meanwhile is found in `cur/`."""
    for candidate in (path, _renamed(path)):
        if candidate is not None:
            try:
                with open(candidate, "rb") as file:
                    return summary_of(file.read(HEAD))
            except FileNotFoundError:
                continue
    return None


def _renamed(path: str) -> str | None:
    """Where a mail reader has put a message since: under the same key, in `cur/`."""
    directory, name = os.path.split(path)
    key = name.partition(":")[0]
    cur = f"{os.path.dirname(directory)}/cur"
    if os.path.exists(path) or not os.path.isdir(cur):
        return None
    with os.scandir(cur) as entries:
        return next((entry.path for entry in entries if entry.name.partition(":")[0] == key), None)


def _one_line(text: str) -> str:
    if any("\udc80" <= char <= "\udcff" for char in text):
        # Octets that say nothing of their character set: UTF-8 if they are, else what most mail programs meant.
        octets = text.encode("utf-8", "surrogateescape")
        try:
            text = octets.decode("utf-8")
        except UnicodeDecodeError:
            text = octets.decode("cp1252", "replace")
    return " ".join(text.split())
