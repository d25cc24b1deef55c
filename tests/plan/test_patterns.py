"""Which mailboxes a run covers, under which name, in which order."""

from __future__ import annotations

import pytest

from fetchmail_py.model import MailboxName, RemoteMailbox
from fetchmail_py.plan.patterns import in_order, local_name, wanted


def box(name: str, *attributes: str, delimiter: str | None = "/") -> RemoteMailbox:
    return RemoteMailbox(MailboxName(name), delimiter, frozenset(attributes))


MAILBOXES = [
    box("INBOX"), box("Sent", "\\sent"), box("Spam", "\\junk"), box("Lists"), box("Lists/a"), box("Lists/a/b"), box("a.b"),
    box("Odd\nname"), box("[Gmail]/All Mail", "\\all"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["*"], [mailbox.name for mailbox in MAILBOXES]),
        ([], [mailbox.name for mailbox in MAILBOXES]),
        (["!*"], []),
        (["!Lists*"], ["INBOX", "Sent", "Spam", "a.b", "Odd\nname", "[Gmail]/All Mail"]),
        (["inbox"], ["INBOX"]),
        (["sent"], []),
        (["Lists/%"], ["Lists/a"]),
        (["Lists/*"], ["Lists/a", "Lists/a/b"]),
        (["%"], ["INBOX", "Sent", "Spam", "Lists", "a.b", "Odd\nname"]),
        (["\\Sent", "\\JUNK"], ["Sent", "Spam"]),
        (["*", "!\\All", "!\\Junk", "!Lists*", "Lists/a"], ["INBOX", "Sent", "Lists/a", "a.b", "Odd\nname"]),
        # The last match wins.
        (["!Lists/a", "Lists*"], ["Lists", "Lists/a", "Lists/a/b"]),
        # Nothing but `*` and `%` means anything but itself.
        (["a?b", "a[.]b", "..."], []),
        (["[Gmail]/All Mail"], ["[Gmail]/All Mail"]),
    ],
)
def test_patterns(patterns: list[str], names: list[str]) -> None:
    assert [mailbox.name for mailbox in MAILBOXES if wanted(mailbox, patterns)] == names


@pytest.mark.parametrize(("delimiter", "matches"), [(".", False), ("/", True), (None, True)])
def test_the_delimiter_is_the_servers(delimiter: str | None, *, matches: bool) -> None:
    assert wanted(box("a.b", delimiter=delimiter), ["%"]) is matches


@pytest.mark.parametrize(
    ("name", "delimiter", "mapping", "local"),
    [
        ("Sent Items", "/", {"Sent Items": "Sent"}, "Sent"),
        ("Sent Items/2024", "/", {"Sent Items": "Sent"}, "Sent/2024"),
        ("Sent Items 2", "/", {"Sent Items": "Sent"}, "Sent Items 2"),
        ("Sent Items/2024", None, {"Sent Items": "Sent"}, "Sent Items/2024"),
        ("a/b/c", "/", {"a": "x", "a/b": "y"}, "y/c"),
        ("a/b/c", "/", {"a/b": "y", "a": "x"}, "y/c"),
        ("Other", "/", {"a": "x"}, "Other"),
        ("Other", "/", {}, "Other"),
    ],
)
def test_names_here(name: str, delimiter: str | None, mapping: dict[str, str], local: str) -> None:
    assert local_name(MailboxName(name), delimiter, mapping) == local


def test_a_first_run_is_useful_early() -> None:
    ordered = [mailbox.name for mailbox in in_order(reversed([*MAILBOXES, box("Bin", "\\trash"), box("Alpha")]))]
    assert ordered[:2] == ["INBOX", "Alpha"]
    assert ordered[-3:] == ["Bin", "Spam", "[Gmail]/All Mail"]
