"""Deletions that the server does not carry out: they count for nothing, are said and set aside, and are made up for later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.report import Report
from tests.servers.imap import ALL, BARE, ImapServer
from tests.sync.test_twoway import ARCHIVE, a_file, add_file, assert_equal, done, filled, flag
from tests.sync.world import World, world

CHANGING = ("UID STORE", "UID EXPUNGE", "EXPUNGE", "UID MOVE", "UID COPY", "APPEND")
SERVERS = {"all": ALL, "acl": ALL | {"ACL"}, "no-qresync": ALL - {"QRESYNC", "CONDSTORE"}, "no-move": ALL - {"MOVE"}, "bare": BARE}


@pytest.fixture(params=SERVERS)
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An account in the two-way mode, synchronised once."""
    server = ImapServer(filled(), capabilities=SERVERS[request.param])
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        server.log.clear()
        yield found


def allow(found: World, rights: str | None) -> None:
    """What the user may do in INBOX from now on; None: everything."""
    found.server.options.rights = {} if rights is None else {"INBOX": rights}  # type: ignore[attr-defined]


def offers(found: World, name: str) -> bool:
    return name in found.server.capabilities  # type: ignore[attr-defined]


def run(found: World) -> Report:
    """A run that did nothing, and could not do something."""
    found.server.log.clear()
    report = found.run()
    assert report.failure is None, report.failure
    assert done(report) == {}
    assert report.exit_status is ExitStatus.PARTIAL
    return report


def changed(found: World) -> list[str]:
    """Commands of the last run that change something."""
    return [line for line in found.commands if line.startswith(CHANGING)]


def each_once(found: World) -> bool:
    """Whether the server has no message twice, in whatever mailbox."""
    contents = [data for name in found.store.mailboxes for data in found.store.contents(name).values()]
    return len(contents) == len(set(contents))


@pytest.mark.parametrize("rights", ["lrswip", "lrswipt", "lrswipe"])
class TestWithoutTheRight:
    def test_deleted_here(self, account: World, rights: str) -> None:
        allow(account, rights)
        a_file(account).unlink()
        report = run(account)
        assert report.deferred == 1
        (notice,) = report.notices
        assert notice.startswith("INBOX: 1 message to be deleted stays at the server: ")
        assert ("MYRIGHTS " + rights in notice) is offers(account, "ACL")
        assert sum(line.startswith(("UID EXPUNGE", "EXPUNGE")) for line in changed(account)) <= 1
        for _ in range(2):
            report = run(account)
            assert (report.deferred, len(report.notices)) == (1, 1)
            if offers(account, "ACL"):
                assert changed(account) == []
            elif "t" in rights:
                assert not any(line.startswith("UID STORE") for line in changed(account))
        assert (len(account.store.contents()), len(account.files())) == (8, 7)
        allow(account, None)
        assert done(account.sync()) == {"deleted_remote": 1}
        assert_equal(account)

    def test_the_file_comes_back(self, account: World, rights: str) -> None:
        allow(account, rights)
        path = a_file(account)
        data = path.read_bytes()
        path.unlink()
        run(account)
        path.write_bytes(data)
        account.sync()
        allow(account, None)
        assert_equal(account)
        assert len(account.files()) == 8

    def test_marked(self, account: World, rights: str) -> None:
        account.settings(expunge=True)
        flag(a_file(account), "ST")
        account.store.set_flags(1, ["\\Deleted"])
        account.store.append(b"Subject: marked, and never here\r\n\r\nx\r\n", flags=["\\Deleted"])
        allow(account, rights.replace("e", ""))  # with it, what is marked may go
        for _ in range(3):
            assert run(account).deferred in {2, 3}  # the first file may be the first message
            assert (len(account.store.contents()), len(account.files())) == (9, 8)
        allow(account, None)
        account.sync()
        assert len(account.store.contents()) == len(account.files()) <= 7
        assert_equal(account)

    def test_trash(self, account: World, rights: str) -> None:
        account.settings(trash="Trash")
        allow(account, rights)
        a_file(account).unlink()
        for _ in range(3):
            account.run()
        assert account.run().deferred == 1
        assert len(account.store.contents().values()) == 8
        assert "Trash" not in account.store.mailboxes or len(account.store.contents("Trash")) == 1
        assert len(account.files()) == 7
        allow(account, None)
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("Trash")) == 1
        assert each_once(account)

    @pytest.mark.parametrize("count", [1, 8])
    def test_moved_here(self, account: World, rights: str, count: int) -> None:
        allow(account, rights)
        for path in list(account.files().values())[:count]:
            path.rename(account.maildir / ARCHIVE / "cur" / path.name.replace("new", "cur").partition(":")[0])
        report = account.run()
        assert report.exit_status is ExitStatus.PARTIAL
        assert (report.deferred, report.downloaded, report.moved_remote, report.deleted_remote) == (count, 0, 0, 0)
        for _ in range(2):
            report = account.run()
            assert (report.deferred, report.downloaded, report.uploaded) == (count, 0, 0)
        assert len(account.store.contents(ARCHIVE)) == len(account.files(ARCHIVE)) == 5 + count
        assert (len(account.store.contents()), len(account.files())) == (8, 8 - count)
        allow(account, None)
        assert done(account.sync()) == {"deleted_remote": count}
        assert_equal(account)
        assert each_once(account)

    def test_moved_here_and_back(self, account: World, rights: str) -> None:
        path = a_file(account)
        there = account.maildir / ARCHIVE / "cur" / path.name.partition(":")[0]
        path.rename(there)
        allow(account, rights)
        account.run()
        (found,) = [path for path in account.files(ARCHIVE).values() if path.name.startswith(there.name)]
        found.rename(path.parent.parent / "cur" / found.name)
        allow(account, None)
        for _ in range(3):
            account.run()
        assert_equal(account)
        assert (len(account.files()), len(account.files(ARCHIVE))) == (8, 5)

    def test_moved_here_and_another_mode(self, account: World, rights: str) -> None:
        path = a_file(account)
        allow(account, rights)
        path.rename(account.maildir / ARCHIVE / "cur" / path.name.partition(":")[0])
        assert account.run().deferred == 1
        account.settings(mode="mirror")
        assert done(account.sync()) == {"downloaded": 1}
        account.assert_same()
        account.assert_same(ARCHIVE)
        assert done(account.sync()) == {}

    def test_offline(self, account: World, rights: str) -> None:
        account.settings(mode="offline")
        allow(account, rights)
        for _ in range(2):
            report = account.run()
            assert report.exit_status is ExitStatus.PARTIAL
            assert report.deferred == 8
            assert len(account.store.contents()) == 8
        allow(account, None)
        report = account.sync()
        assert report.deleted_remote == 8
        assert account.store.contents() == {}
        assert len(account.files()) == 8


@pytest.mark.parametrize("capabilities", [ALL, ALL | {"ACL"}], ids=["all", "acl"])
def test_a_server_that_says_no(tmp_path: Path, capabilities: frozenset[str]) -> None:
    server = ImapServer(filled(), capabilities=capabilities)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        allow(found, "lrswip")
        server.options.says_no = True
        a_file(found).unlink()
        report = run(found)
        assert report.deferred == 1
        assert ("MYRIGHTS" if "ACL" in capabilities else "NOPERM") in report.notices[0]


def test_gone_meanwhile_is_nothing_to_set_aside(account: World) -> None:
    allow(account, "lrswip")
    path = a_file(account)
    data = path.read_bytes().replace(b"\n", b"\r\n")
    path.unlink()
    assert account.run().deferred == 1
    account.store.expunge([uid for uid, found in account.store.contents().items() if found == data])
    account.sync()
    allow(account, None)
    assert_equal(account)


@pytest.mark.parametrize("count", [1, 3])
def test_a_move_that_is_refused_is_a_copy(tmp_path: Path, count: int) -> None:
    server = ImapServer(filled(), capabilities=ALL)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        allow(found, "lrswip")
        server.options.says_no = True
        for path in list(found.files().values())[:count]:
            path.rename(found.maildir / ARCHIVE / "cur" / path.name.partition(":")[0])
        report = found.run()
        assert (report.deferred, report.uploaded, report.moved_remote) == (count, count, 0)
        assert len(report.notices) == 1
        assert run(found).deferred == count
        assert len(found.store.contents(ARCHIVE)) == len(found.files(ARCHIVE)) == 5 + count
        allow(found, None)
        assert done(found.sync()) == {"deleted_remote": count}
        assert_equal(found)


def marked_by_another(found: World) -> int:
    """The UID of a message that another client has marked, and that is not to be deleted."""
    uid = found.store.append(b"Subject: theirs\r\nMessage-ID: <theirs@x>\r\n\r\n", flags=["\\Deleted"])
    found.sync()
    found.server.log.clear()
    return uid


class TestOthersMarks:
    """Without UIDPLUS an EXPUNGE would take them too."""

    @pytest.fixture
    def account(self, tmp_path: Path) -> Iterator[World]:
        server = ImapServer(filled(), capabilities=BARE)
        with world(tmp_path, server.store, server, mode="disconnected") as found:
            found.sync()
            yield found

    def test_deleted_here(self, account: World) -> None:
        theirs = marked_by_another(account)
        a_file(account).unlink()
        report = run(account)
        assert [line.partition(" +")[0][:9] for line in changed(account)] == ["UID STORE"]
        assert (report.deferred, len(report.notices)) == (1, 1)
        assert f"UID {theirs} is marked" in report.notices[0]
        for _ in range(2):
            assert run(account).deferred == 1
            assert changed(account) == []
        account.store.set_flags(theirs, [])
        assert done(account.sync()) == {"flags_pulled": 1, "deleted_remote": 1}
        assert_equal(account)
        assert theirs in account.store.contents()

    @pytest.mark.parametrize("count", [1, 2])
    def test_moved_here(self, account: World, count: int) -> None:
        theirs = marked_by_another(account)
        for path in list(account.files().values())[:count]:
            path.rename(account.maildir / ARCHIVE / "cur" / path.name.partition(":")[0])
        report = account.run()
        assert report.exit_status is ExitStatus.PARTIAL
        assert (report.deferred, len(report.notices)) == (count, 1)
        for _ in range(2):
            account.run()
        assert run(account).deferred == count
        assert len(account.store.contents(ARCHIVE)) == len(account.files(ARCHIVE)) == 5 + count
        account.store.expunge([theirs])
        account.sync()
        assert_equal(account)
        assert each_once(account)
        assert len(account.store.contents()) == 8 - count

    def test_trash(self, account: World) -> None:
        account.settings(trash="Trash")
        theirs = marked_by_another(account)
        a_file(account).unlink()
        for _ in range(3):
            assert account.run().deferred == 1
        assert len(account.store.contents("Trash")) == len(account.files("Trash")) == 1
        account.store.set_flags(theirs, [])
        account.sync()
        assert_equal(account)
        assert each_once(account)
        assert len(account.store.contents("Trash")) == 1

    @pytest.mark.parametrize("trash", [None, "Trash"])
    @pytest.mark.parametrize("count", [1, 2])
    def test_our_own_marks_are_none(self, account: World, trash: str | None, count: int) -> None:
        """Removed, marked here, marked there, never here, and moved: all in one run."""
        account.settings(expunge=True, trash=trash)
        files = sorted(account.files().values())
        for path in files[:count]:
            path.unlink()
        flag(files[2], "ST")
        files[3].rename(account.maildir / ARCHIVE / "cur" / files[3].name.partition(":")[0])
        uid = next(uid for uid, data in account.store.contents().items() if data == files[4].read_bytes().replace(b"\n", b"\r\n"))
        account.store.set_flags(uid, ["\\Deleted"])
        account.store.append(b"Subject: marked, and never here\r\n\r\nx\r\n", flags=["\\Deleted"])
        report = account.sync()
        assert report.notices == []
        assert len(account.store.contents()) == len(account.files()) == 8 - count - 3
        assert_equal(account)
        assert each_once(account)
        if trash is not None:
            assert len(account.store.contents(trash)) == count + 3


class TestMarkedAndNeverThere:
    """What is marked where marks mean deletion does not go up to be expunged."""

    DATA = b"Subject: never sent\nMessage-ID: <never@here>\n\nx\n"

    def test_it_goes(self, account: World) -> None:
        account.settings(expunge=True)
        path = add_file(account, self.DATA, "cur/1700000001.x.host:2,ST")
        assert done(account.sync()) == {"deleted_local": 1}
        assert not path.exists()
        assert changed(account) == []
        assert_equal(account)

    def test_marked_after_it_could_not_go_up(self, account: World) -> None:
        account.server.options.refuse_append = b"never sent"  # type: ignore[attr-defined]
        account.settings(expunge=True)
        path = add_file(account, self.DATA)
        assert account.run().deferred == 1
        flag(path, "ST")
        account.server.log.clear()
        assert done(account.run()) == {"deleted_local": 1}
        assert changed(account) == []
        assert_equal(account)

    def test_with_a_trash_it_lands_there(self, account: World) -> None:
        account.settings(expunge=True, trash="Trash")
        add_file(account, self.DATA, "cur/1700000001.x.host:2,ST")
        account.sync()
        account.sync()  # it is seen to be marked there once it is there
        assert_equal(account)
        assert len(account.store.contents("Trash")) == 1
        assert len(account.store.contents()) == 8

    def test_where_the_mark_only_travels(self, account: World) -> None:
        add_file(account, self.DATA, "cur/1700000001.x.host:2,ST")
        assert done(account.sync()) == {"uploaded": 1}
        assert_equal(account)

    def test_many_ask_first(self, account: World) -> None:
        account.settings(expunge=True)
        account.store.create("Drafts")
        account.sync()
        for number in range(3):
            add_file(account, self.DATA + b"%d" % number, f"cur/170000000{number}.x.host:2,ST", "Drafts")
        report = account.run()
        assert report.exit_status is ExitStatus.SAFETY
        assert [stop.detail for stop in report.stops] == ["3 of 3 messages are marked \\Deleted; none of them was deleted here"]
        assert len(account.files("Drafts")) == 3
        assert account.sync(allow_mass_delete=True).deleted_local == 3

    def test_deleted_there_and_marked_here(self, account: World) -> None:
        """Flagged too, which without the mark would bring it back there."""
        account.settings(expunge=True)
        path = a_file(account)
        data = path.read_bytes().replace(b"\n", b"\r\n")
        flag(path, "FST")
        account.store.expunge([uid for uid, found in account.store.contents().items() if found == data])
        account.server.log.clear()
        assert done(account.sync()) == {"deleted_local": 1}
        assert changed(account) == []
        assert_equal(account)


class TestWhatTheGuardSays:
    def texts(self, found: World) -> set[str]:
        report = found.run()
        assert report.exit_status is ExitStatus.SAFETY
        return {stop.detail for stop in report.stops}

    def test_marked(self, account: World) -> None:
        account.settings(expunge=True)
        for path in account.files().values():
            flag(path, "ST")
        assert self.texts(account) == {
            "8 of 8 messages are marked \\Deleted; none of them was deleted here",
            "8 of 8 messages are marked \\Deleted; none of them was deleted at the server",
        }

    def test_both(self, account: World) -> None:
        account.settings(expunge=True)
        for path in list(account.files().values())[:5]:
            flag(path, "ST")
        for path in account.files().values():
            if not path.name.endswith("T"):
                path.unlink()
        assert self.texts(account) == {
            "8 of 8 messages were deleted here or are marked \\Deleted (5); none of them was deleted at the server"
        }

    def test_deleted(self, account: World) -> None:
        for path in account.files().values():
            path.unlink()
        assert self.texts(account) == {"8 of 8 messages were deleted here; none of them was deleted at the server"}


def test_what_gmail_keeps_is_not_deleted(tmp_path: Path) -> None:
    """Whatever is moved out of "All Mail" stays there: deleting it would take it from everywhere."""
    server = ImapServer(filled(), capabilities=ALL | {"X-GM-EXT-1"})
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        allow(found, "lrswip")
        path = a_file(found)
        path.rename(found.maildir / ARCHIVE / "cur" / path.name.partition(":")[0])
        assert done(found.sync()) == {"moved_remote": 1}
        found.server.log.clear()
        assert done(found.sync()) == {"downloaded": 1}
        assert changed(found) == []
        allow(found, None)
        assert_equal(found)
        assert (len(found.files()), len(found.files(ARCHIVE))) == (8, 6)


def test_a_deletion_that_a_new_uidvalidity_makes_forgotten_is_told(account: World) -> None:
    allow(account, "lrswi")
    a_file(account).unlink()
    waiting = account.run()
    account.store.new_uidvalidity()
    report = account.run()
    forgotten = [notice for notice in report.notices if "1 deletion set aside forgotten" in notice]
    assert len(forgotten) == waiting.deferred == 1
    assert not [notice for notice in account.run().notices if "forgotten" in notice]
