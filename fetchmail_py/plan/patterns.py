"""Which mailboxes a run covers, and under which name they lie here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from fetchmail_py.model import MailboxName, RemoteMailbox


@lru_cache(maxsize=256)
def _pattern(pattern: str, delimiter: str) -> re.Pattern[str]:
    """`*` matches anything, `%` anything but the delimiter, as in LIST (RFC 9051, 6.3.9); letters count as they are."""
    translated = "".join(
        ".*" if char == "*" else (f"[^{re.escape(delimiter)}]*" if delimiter else ".*") if char == "%" else re.escape(char)
        for char in pattern
    )
    return re.compile(translated, re.DOTALL)


def wanted(mailbox: RemoteMailbox, patterns: Sequence[str]) -> bool:
    """Whether the patterns ask for a mailbox: in order, the last that matches wins; `!` excludes.

    A pattern that begins with a backslash names a special use (`\\Sent`); INBOX matches in any case. With only
    exclusions, everything else is wanted.
    """
    verdict = all(pattern.startswith("!") for pattern in patterns)
    for pattern in patterns:
        exclude = pattern.startswith("!")
        body = pattern[1:] if exclude else pattern
        if body.startswith("\\"):
            matches = body.lower() in mailbox.attributes
        elif body.upper() == "INBOX":
            matches = mailbox.name == "INBOX"
        else:
            matches = _pattern(body, mailbox.delimiter or "").fullmatch(mailbox.name) is not None
        if matches:
            verdict = not exclude
    return verdict


def local_name(mailbox: MailboxName, delimiter: str | None, mapping: Mapping[str, str]) -> MailboxName:
    """The name under which a mailbox lies here: `map` renames a mailbox and what is below it; the longest entry wins."""
    best = ""
    for source in mapping:
        below = delimiter is not None and mailbox.startswith(source + delimiter)
        if (mailbox == source or below) and len(source) > len(best):
            best = source
    return MailboxName(mapping[best] + mailbox[len(best) :]) if best else mailbox


def in_order(mailboxes: Iterable[RemoteMailbox]) -> list[RemoteMailbox]:
    """INBOX first, then by name; \\Trash, \\Junk and \\All last: a first run is useful early."""
    last = {"\\trash", "\\junk", "\\all"}
    return sorted(mailboxes, key=lambda box: (box.name != "INBOX", bool(box.attributes & last), box.name))
