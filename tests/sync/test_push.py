"""What the server refuses, and what goes on on either side while a run is at work: nothing is lost for it, and nothing doubled."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.sync.status import status_of
from tests.servers.base import Connection
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.sync.test_folders import filled
from tests.sync.test_twoway import a_file, add_file, assert_equal, done, flag
from tests.sync.world import World, world


def three() -> Store:
    return filled("A", "B", "C")


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """INBOX, A, B, C with six messages each, synchronised once."""
    store = three()
    server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, store, server, mode="disconnected") as found:
        found.sync()
        server.log.clear()
        yield found


def moved(path: Path, mailbox: str) -> Path:
    """The file in another mailbox under the same name."""
    target = path.parent.parent.parent / mailbox / "cur" / f"{path.name.partition(':')[0]}:2,{path.name.partition(':2,')[2]}"
    path.rename(target)
    return target


def uid_of(found: World, path: Path, mailbox: str) -> int:
    data = path.read_bytes().replace(b"\n", b"\r\n")
    return next(uid for uid, message in found.store.contents(mailbox).items() if message == data)


def everything(found: World) -> Counter[bytes]:
    """What the server has."""
    return Counter(data for name in found.store.mailboxes for data in found.store.contents(name).values())


def at_moving(found: World) -> str:
    return "UID MOVE" if "MOVE" in found.server.capabilities else "UID COPY"  # type: ignore[attr-defined]


def meanwhile(found: World, command: str, work: Callable[[], object]) -> list[str]:
    """Does something once, just before the server gets to a command; returns the list that then holds the command."""
    seen: list[str] = []

    def hook(line: str, _: Connection) -> bytes | None:
        if line.startswith(command) and not seen:
            seen.append(line)
            work()
        return None

    found.server.faults.hook = hook
    return seen


def refuse(found: World, answer: str, when: Callable[[str], bool], work: Callable[[], object] = lambda: None) -> list[str]:
    """Answers commands so; returns the list that then holds them."""
    seen: list[str] = []

    def hook(line: str, connection: Connection) -> bytes | None:
        if not when(line):
            return None
        if not seen:
            work()
        seen.append(line)
        return f"{connection.tag} {answer}\r\n".encode()

    found.server.faults.hook = hook
    return seen


class TestARefusedMove:
    """The files lie in their new place, and nowhere else: that is no deletion."""

    @pytest.mark.parametrize("answer", ["NO [OVERQUOTA] full", "NO [EXPUNGEISSUED] gone", "NO no", "NO [TRYCREATE] no such"])
    @pytest.mark.parametrize("runs", [1, 3])
    @pytest.mark.parametrize("count", [1, 3])
    def test_nothing_is_deleted(self, account: World, answer: str, runs: int, count: int) -> None:
        before = everything(account)
        for path in list(account.files("A").values())[:count]:
            moved(path, "B")
        refuse(account, answer, lambda line: line.startswith(at_moving(account)))
        for _ in range(runs):
            assert account.run().failure is not None
            assert everything(account) == before
        account.server.faults.hook = None
        assert done(account.sync())["moved_remote"] == count
        assert everything(account) == before
        account.sync()
        assert_equal(account)

    def test_the_others_move(self, account: World) -> None:
        """A server that refuses all because one of them is gone."""
        paths = list(account.files("A").values())[:3]
        gone = uid_of(account, paths[0], "A")
        for path in paths:
            moved(path, "B")
        seen = refuse(
            account, "NO [EXPUNGEISSUED] one is gone",
            lambda line: line.startswith(at_moving(account)) and ("," in line or ":" in line or f" {gone} " in line),
            lambda: account.store.expunge([gone], "A"),
        )  # fmt: skip
        account.run()
        assert seen
        account.server.faults.hook = None
        account.sync()
        account.sync()
        assert_equal(account)
        assert len(account.files("B")) == 9
        assert set(everything(account).values()) == {1}


class TestAFullMailbox:
    def test_status_tells_what_did_not_go_up_until_it_has(self, account: World) -> None:
        for number in range(3):
            path = account.maildir / f"A/cur/170000000{number}.new.here:2,S"
            path.write_bytes(b"Subject: %d\nMessage-ID: <%d@here>\n\nbody\n" % (number, number))
        refuse(account, "NO [OVERQUOTA] full", lambda line: line.startswith("APPEND"))
        for _ in range(2):
            assert account.run().exit_status is ExitStatus.UNAVAILABLE
            (aside,) = status_of(account.account).deferred
            assert aside.mailbox == "A"
            assert aside.reason.endswith("the server has no room: [OVERQUOTA] full")
        account.server.faults.hook = None
        assert done(account.run())["uploaded"] == 3
        account.sync()
        assert status_of(account.account).deferred == []
        assert_equal(account)


class TestACopyAndAMove:
    def test_of_one_message(self, account: World) -> None:
        path = a_file(account, "A")
        shutil.copy(path, account.maildir / "B/cur/1700000009.copy.host:2,S")
        moved(path, "C")
        report = account.sync()
        assert report.downloaded == 0
        account.sync()
        assert_equal(account)
        assert (len(account.files("B")), len(account.files("C")), len(account.files("A"))) == (7, 7, 5)
        assert not any(line.startswith("APPEND") for line in account.commands)

    @pytest.mark.parametrize("identity", [b"Message-ID: <twice@here>\n", b""])
    def test_twice_into_one_mailbox(self, account: World, identity: bytes) -> None:
        """UID COPY takes a UID once: nothing is told as uploaded that is not there."""
        path = account.maildir / "A/cur/1700000001.new.here:2,S"
        path.write_bytes(b"Subject: x\n" + identity + b"\nbody\n")
        account.sync()
        account.sync()
        for number, letters in enumerate(("S", "S", "F")):
            shutil.copy(path, account.maildir / f"B/cur/170000000{number}.copy.here:2,{letters}")
        shutil.copy(path, account.maildir / "C/cur/1700000009.copy.here:2,S")
        account.server.log.clear()
        report = account.sync()
        assert done(report)["uploaded"] == 4
        assert "downloaded" not in done(report)
        assert sum("UID COPY" in line for line in account.commands) == 2
        for _ in range(2):
            account.sync()
        assert_equal(account)
        assert (len(account.store.contents("B")), len(account.store.contents("C"))) == (9, 7)

    def test_expunged_before_it_could_be_moved(self, account: World) -> None:
        """With others, of which the server tells their new UIDs: it goes up at once."""
        paths = list(account.files("A").values())[:3]
        gone = uid_of(account, paths[0], "A")
        for path in paths:
            moved(path, "B")
        meanwhile(account, at_moving(account), lambda: account.store.expunge([gone], "A"))
        account.sync()
        if "UIDPLUS" not in account.server.capabilities:  # type: ignore[attr-defined]
            account.sync()
        account.server.faults.hook = None
        account.run()  # what was set aside meanwhile is there now
        assert_equal(account)
        assert len(account.store.contents("B")) == 9

    def test_copied_while_its_flags_change_at_the_server(self, account: World) -> None:
        path = a_file(account, "A")
        account.store.set_flags(uid_of(account, path, "A"), ["\\Flagged"], "A")
        shutil.copy(path, account.maildir / "B/cur/1700000009.copy.host:2,S")
        account.sync()
        account.sync() if at_moving(account) == "UID COPY" else None
        assert_equal(account)


class TestMovedOn:
    """Files that go on to another mailbox before the server's copy of them is known by its UID."""

    def test_during_the_upload(self, account: World) -> None:
        path = add_file(account, b"Subject: x\nMessage-ID: <x@y>\n\nx\n", mailbox="A")
        seen = meanwhile(account, "APPEND", lambda: moved(path, "B"))
        account.sync()
        account.server.faults.hook = None
        assert seen
        assert sum(line.startswith("APPEND") for line in account.commands) == 1
        account.sync()
        account.sync()
        assert_equal(account)
        assert (len(account.store.contents("A")), len(account.store.contents("B"))) == (6, 7)

    def test_during_the_move(self, account: World) -> None:
        path = moved(a_file(account, "A"), "B")
        seen = meanwhile(account, at_moving(account), lambda: moved(path, "C"))
        account.sync()
        account.server.faults.hook = None
        assert seen
        report = account.sync()
        assert (report.downloaded, report.uploaded) == (0, 0)
        account.sync()
        assert_equal(account)
        assert [len(account.files(name)) for name in ("A", "B", "C")] == [5, 6, 7]

    def test_behind_an_upload_whose_answer_never_came(self, account: World) -> None:
        path = add_file(account, b"Subject: x\nMessage-ID: <x@y>\n\nx\n", mailbox="A")

        def hook(line: str, connection: Connection) -> bytes | None:
            if line.startswith("APPEND"):
                account.store.append(b"Subject: x\r\nMessage-ID: <x@y>\r\n\r\nx\r\n", "A", ["\\Seen"])
                connection.close()
                return b""
            return None

        account.server.faults.hook = hook
        assert account.run().failure is not None
        account.server.faults.hook = None
        account.server.log.clear()
        moved(path, "B")
        account.sync()
        assert not any(line.startswith("APPEND") for line in account.commands)
        account.sync()
        assert_equal(account)
        assert (len(account.store.contents("A")), len(account.store.contents("B"))) == (6, 7)

    @pytest.mark.parametrize("renamed", [False, True])
    def test_after_a_new_uidvalidity(self, account: World, *, renamed: bool) -> None:
        path = moved(a_file(account, "A"), "B")
        if renamed:
            path.rename(path.parent / "1700000009.other.name:2,S")
        account.store.new_uidvalidity("A")
        report = account.sync()
        assert (report.downloaded, report.uploaded) == (0, 0)
        account.sync()
        assert_equal(account)
        assert [len(account.files(name)) for name in ("A", "B")] == [5, 7]


class TestRenamedInItsMailbox:
    @pytest.mark.parametrize("letters", ["S", "", "FS"])
    @pytest.mark.parametrize("marked", [False, True])
    def test_the_server_does_not_know_of_names(self, account: World, letters: str, *, marked: bool) -> None:
        path = a_file(account, "A")
        uid = uid_of(account, path, "A")
        path.rename(account.maildir / "A/cur" / f"1700000009.other.name:2,{letters}")
        if marked:
            account.store.set_flags(uid, ["\\Deleted"], "A")
        account.server.log.clear()
        report = account.sync()
        assert (report.downloaded, report.uploaded, report.moved_remote, report.deleted_remote) == (0, 0, 0, 0)
        assert not any(line.startswith(("UID MOVE", "UID COPY", "EXPUNGE", "UID EXPUNGE")) for line in account.commands)
        assert uid in account.store.contents("A")
        assert_equal(account)
        assert len(account.files("A")) == 6

    def test_and_gone_at_the_server(self, account: World) -> None:
        path = a_file(account, "A")
        uid = uid_of(account, path, "A")
        path.rename(account.maildir / "A/cur/1700000009.other.name:2,S")
        account.store.expunge([uid], "A")
        assert done(account.sync()) == {"deleted_local": 1}
        assert_equal(account)


class TestMeanwhileAtTheServer:
    def test_moved_between_the_looks(self, account: World) -> None:
        """Flagged here: it is not uploaded again where the message is found elsewhere."""
        path = a_file(account, "B")
        uid = uid_of(account, path, "B")
        flag(path, "F")
        account.store.append(b"Subject: new\r\n\r\n", "B")  # so that it is looked at
        seen = meanwhile(account, 'EXAMINE "B"', lambda: account.store.move(uid, "B", "A"))
        account.sync()
        account.server.faults.hook = None
        assert seen
        account.sync()
        assert_equal(account)
        assert set(everything(account).values()) == {1}

    def test_a_mailbox_is_renamed(self, account: World) -> None:
        path = a_file(account, "B")
        flag(path, "F")
        seen = meanwhile(account, 'SELECT "B"', lambda: account.store.rename("B", "Bee"))
        account.sync()
        account.server.faults.hook = None
        assert seen
        assert_equal(account)
        assert set(account.store.mailboxes) == {"INBOX", "A", "Bee", "C"}

    def test_it_never_gets_better(self, account: World) -> None:
        moved(a_file(account, "A"), "B")
        refuse(account, "NO [EXPUNGEISSUED] gone", lambda line: line.startswith(at_moving(account)))
        assert account.run().exit_status is ExitStatus.TRY_AGAIN


def test_without_tmp(account: World) -> None:
    shutil.rmtree(account.maildir / "A/tmp")
    account.store.append(b"Subject: new\r\n\r\n", "A")
    assert done(account.sync()) == {"downloaded": 1}
    assert_equal(account)


def test_a_flag_that_cannot_be_set_here_keeps_no_new_mail_away(account: World) -> None:
    """One folder that fails is told of; what has come to the others is here all the same."""
    path = a_file(account, "A")
    key = path.name.partition(":")[0]
    in_the_way = account.maildir / "A/cur" / f"{key}:2,S"
    in_the_way.mkdir()
    account.store.set_flags(uid_of(account, path, "A"), ["\\Seen"], "A")
    for number in range(2):
        account.store.append(b"Subject: new %d\r\n\r\n" % number)
        report = account.run()
        assert report.exit_status is ExitStatus.DISK
        assert report.downloaded == 1
        account.assert_same()
    in_the_way.rmdir()
    assert done(account.sync()) == {"flags_pulled": 1}
    assert_equal(account)
