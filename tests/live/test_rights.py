"""Mailboxes of Dovecot in which the user may not delete (RFC 4314): it says OK, and does nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.live.bare import Bare
from tests.live.conftest import Result, Shell
from tests.live.dovecot import Dovecot
from tests.live.twoway import BOXES, COUNTERS, Sides, mail

_users = (f"user{number}" for number in itertools.count())
KINDS = {"told": ("acl", "imap_acl"), "silent": ("acl",), "bare": ("acl",)}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def dovecot(kind: str) -> Iterator[Dovecot]:
    """A server with rights, which it tells or not."""
    settings = "mail_plugins = acl\nplugin {\n  acl = vfile\n}\n"
    with Dovecot(users=[f"user{number}" for number in range(60)], plugins=KINDS[kind], settings=settings) as server:
        yield server


@pytest.fixture
def sides(kind: str, shell: Shell, dovecot: Dovecot) -> Iterator[Sides]:
    """A user's mail on both sides, nothing there yet."""
    if kind == "bare":
        with Bare(dovecot.imap_port) as bare:
            yield Sides(shell, next(_users), bare)
    else:
        yield Sides(shell, next(_users), None)


def allow(sides: Sides, rights: str | None) -> None:
    """What the owner may do in INBOX; None: everything."""
    path = sides.server.maildir(sides.user) / "dovecot-acl"
    if rights is None:
        path.unlink()
    else:
        path.write_text(f"owner {rights}\n", encoding="ascii")
        path.chmod(0o644)


def partial(sides: Sides, deferred: int, **expected: int) -> Result:
    """A run that did this, and set this many messages aside."""
    result = sides.shell.run("sync", "--json")
    assert result.status == 65, result.out + result.err
    assert result.json["deferred"] == deferred, result.out
    assert {name: result.json[name] for name in COUNTERS} == dict.fromkeys(COUNTERS, 0) | expected, result.out
    return result


def contents(sides: Sides, mailbox: str) -> list[bytes]:
    return sorted(sides.server.messages(sides.user, mailbox).values())


@pytest.mark.parametrize("rights", ["lrwsip", "lrwsipt", "lrwsipe"])
class TestWithoutTheRight:
    def test_deleted_here(self, sides: Sides, kind: str, rights: str) -> None:
        sides.start()
        allow(sides, rights)
        sides.path("INBOX", 1).unlink()
        for _ in range(3):
            result = partial(sides, 1)
            (notice,) = result.json["notices"]
            assert notice.startswith("INBOX: 1 message to be deleted stays at the server")
            assert ("MYRIGHTS" in notice) is (kind == "told")
            assert len(contents(sides, "INBOX")) == BOXES["INBOX"]
        allow(sides, None)
        sides.sync(deleted_remote=1)
        sides.settle()

    def test_moved_here(self, sides: Sides, kind: str, rights: str) -> None:
        if kind == "silent" and "e" in rights:
            pytest.skip("a MOVE takes no more than e here")
        sides.start()
        allow(sides, rights)
        sides.carry(sides.path("INBOX", 1), "Work")
        sides.carry(sides.path("INBOX", 2), "Work", "1700000009.another.name")
        sides.shell.run("sync")
        for _ in range(2):
            partial(sides, 2)
        assert contents(sides, "INBOX") == sorted(mail("INBOX", number) for number in range(BOXES["INBOX"]))
        assert len(contents(sides, "Work")) == BOXES["Work"] + 2
        allow(sides, None)
        sides.sync(deleted_remote=2)
        sides.settle()
        assert len(contents(sides, "INBOX")) == BOXES["INBOX"] - 2

    def test_to_the_trash(self, sides: Sides, kind: str, rights: str) -> None:
        if kind == "silent" and "e" in rights:
            pytest.skip("a MOVE takes no more than e here")
        sides.start('trash = "Trash"')
        allow(sides, rights)
        sides.path("INBOX", 1).unlink()
        sides.shell.run("sync")
        for _ in range(2):
            partial(sides, 1)
        assert contents(sides, "Trash").count(mail("INBOX", 1)) <= 1
        allow(sides, None)
        sides.sync(deleted_remote=1)
        sides.settle()
        assert contents(sides, "Trash").count(mail("INBOX", 1)) == 1
