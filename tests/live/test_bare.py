"""The filter before the server: what it shows, what it refuses, and that mail goes through it as it is."""

from __future__ import annotations

import imaplib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.live.bare import Bare
from tests.live.dovecot import Dovecot, Mail

FIRST = b"Subject: one\r\n\r\n{5}\r\n* OK [COPYUID 1 2 3] not an answer\r\n"
SECOND = b"Subject: two\r\n\r\na1 ENABLE QRESYNC\r\nb {3+}\r\n"
_users = (f"user{number}" for number in itertools.count())


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    name = next(_users)
    dovecot.deliver(name, "INBOX", [Mail(FIRST, "S"), Mail(SECOND)])
    dovecot.deliver(name, "Trash", [])
    return name


@pytest.fixture
def bare(dovecot: Dovecot) -> Iterator[Bare]:
    with Bare(dovecot.imap_port) as found:
        yield found


@contextmanager
def connected(bare: Bare, user: str | None = None) -> Iterator[imaplib.IMAP4]:
    """A client, logged in if a user is named; it goes without a LOGOUT."""
    client = imaplib.IMAP4(bare.host, bare.port, timeout=20)
    try:
        if user is not None:
            client.login(user, Dovecot.password)
        yield client
    finally:
        client.shutdown()


def ask(client: imaplib.IMAP4, command: bytes) -> list[bytes]:
    """Sends a command whole, and returns the lines up to its answer."""
    client.send(b"x1 " + command + b"\r\n")
    lines = []
    while True:
        lines.append(client.readline())
        if lines[-1].startswith(b"x1 "):
            return lines


def test_only_what_rfc_3501_has_is_shown(bare: Bare, dovecot: Dovecot, user: str) -> None:
    with connected(bare) as client:
        assert b"[CAPABILITY IMAP4rev1 AUTH=PLAIN] " in client.welcome
        client.authenticate("PLAIN", lambda _: f"\0{user}\0{dovecot.password}".encode())
        assert set(client.capability()[1]) == {b"IMAP4rev1"}
        lines = ask(client, b"SELECT INBOX")
        assert not any(word in b"".join(lines) for word in (b"HIGHESTMODSEQ", b"MAILBOXID", b"CLOSED"))
        assert b"* 2 EXISTS\r\n" in lines
        assert ask(client, b'LIST "" Trash')[0] == b'* LIST () "/" Trash\r\n'
        client.select("INBOX")
        assert client.uid("COPY", "1:2", "Trash") [0] == "OK"
        assert client.append("Trash", "", "", FIRST) [0] == "OK"
        assert bare.refused == []
        assert "AUTHENTICATE" in bare.commands


@pytest.mark.parametrize(
    "command",
    [
        b"ENABLE QRESYNC",
        b"UID EXPUNGE 1",
        b"uid move 1 Trash",
        b"MOVE 1 Trash",
        b"COMPRESS DEFLATE",
        b"UNSELECT",
        b"ID NIL",
        b"IDLE",
        b"NAMESPACE",
        b'LIST "" "*" RETURN (CHILDREN)',
        b'LIST (SPECIAL-USE) "" "*"',
        b"EXAMINE INBOX (CONDSTORE)",
        b'SELECT "INBOX" (QRESYNC (1 2))',
        b"SELECT {5+}\r\nINBOX",
        b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)",
        b"FETCH 1 (MODSEQ)",
        b"UID STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
        b"UID SEARCH RETURN (ALL) ALL",
        b"STATUS INBOX (MESSAGES HIGHESTMODSEQ)",
        b"STATUS INBOX (MAILBOXID)",
        b"APPEND Trash (\\Seen) {3+}\r\na\r\n {3+}\r\nb\r\n",
    ],
)
def test_what_is_hidden_is_refused(bare: Bare, dovecot: Dovecot, user: str, command: bytes) -> None:
    with connected(bare, user) as client:
        client.select("INBOX")
        (line,) = ask(client, command)
        assert line.startswith(b"x1 BAD ")
        assert bare.refused == [command.partition(b"\r\n")[0].decode()]
        assert client.noop()[0] == "OK"
        assert client.uid("SEARCH", "SEEN") == ("OK", [b"1"])


def test_several_messages_with_one_append(bare: Bare, dovecot: Dovecot, user: str) -> None:
    with connected(bare, user) as client:
        client.send(b"x1 APPEND {5}\r\n")
        assert client.readline().startswith(b"+")
        client.send(b"Trash (\\Seen) {%d}\r\n" % len(FIRST))
        assert client.readline().startswith(b"+")
        client.send(FIRST + b' () "01-Jan-2020 00:00:00 +0000" {3}\r\n')
        assert client.readline().startswith(b"x1 BAD ")
        assert len(bare.refused) == 1
    assert dovecot.messages(user, "Trash") == {}


def test_mail_goes_through_octet_for_octet(bare: Bare, dovecot: Dovecot, user: str) -> None:
    with connected(bare, user) as client:
        client.send(b"x1 APPEND {5}\r\n")
        assert client.readline().startswith(b"+")
        client.send(b"Trash {%d}\r\n" % len(SECOND))
        assert client.readline().startswith(b"+")
        client.send(SECOND + b"\r\n")
        assert client.readline().startswith(b"x1 OK Append")
        client.select("INBOX")
        parts = client.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]
        assert [part[1] for part in parts if isinstance(part, tuple)] == [FIRST, SECOND]
        # No leave: the server refuses before the literal is sent.
        assert client.append("Nowhere", "", "", FIRST)[0] == "NO"
        assert client.noop()[0] == "OK"
    assert list(dovecot.messages(user, "Trash").values()) == [SECOND]
    assert bare.refused == []


def test_what_is_allowed_stays(dovecot: Dovecot, user: str) -> None:
    allowed = {"MOVE", "UIDPLUS", "SPECIAL-USE", "LIST-EXTENDED"}
    with Bare(dovecot.imap_port, allow=allowed) as bare, connected(bare, user) as client:
        words = client.capability()[1][0].split()
        assert {b"MOVE", b"UIDPLUS", b"SPECIAL-USE"} < set(words)
        assert b"CONDSTORE" not in words
        client.select("INBOX")
        assert b"COPYUID" in b"".join(ask(client, b"UID MOVE 1 Trash"))
        assert b"\\Trash" in ask(client, b'LIST (SPECIAL-USE) "" "*"')[0]
        assert bare.refused == []


def test_what_cannot_be_filtered_is_not_allowed(dovecot: Dovecot) -> None:
    with pytest.raises(ValueError, match="nothing could be filtered"):
        Bare(dovecot.imap_port, allow={"COMPRESS=DEFLATE"})
