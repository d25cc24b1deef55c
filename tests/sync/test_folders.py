"""Folders and mailboxes that are made anew, renamed, gone on one side, or left out of a run: no message is lost for it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.errors import ConfigError, ExitStatus
from fetchmail_py.model import MailboxName
from fetchmail_py.store.state import FILE_NAME, StateDb
from fetchmail_py.sync.status import status_of
from tests.servers.imap import ALL, BARE, ImapOptions, ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.sync.test_twoway import a_file, assert_equal, done, here, there
from tests.sync.world import World, world


def filled(*names: str, count: int = 6) -> Store:
    """Each mailbox with messages of its own."""
    store = Store()
    for number, name in enumerate(("INBOX", *names)):
        if name != "INBOX":
            store.create(name)
        for data in mails(count, seed=number):
            store.append(data, name)
    return store


@pytest.fixture(params=["all", "bare"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Two mailboxes, synchronised once."""
    store = filled("Archive")
    server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
    with world(tmp_path, store, server, mode="disconnected") as found:
        found.sync()
        yield found


def make_anew(folder: Path) -> None:
    shutil.rmtree(folder)
    make_anew_at(folder)


def make_anew_at(folder: Path) -> None:
    for name in ("tmp", "new", "cur"):
        (folder / name).mkdir(parents=True)


@pytest.mark.parametrize("mailbox", ["INBOX", "Archive"])
def test_a_folder_that_is_gone_stops_new_mail_and_an_inbox_says_so(account: World, mailbox: str) -> None:
    """A mailbox may be given up by removing its folder, but nobody gives up INBOX: its run is no success."""
    shutil.rmtree(account.maildir / mailbox)
    for number, data in enumerate(mails(2, seed=77)):
        account.store.append(data, mailbox)
        report = account.run()
        assert report.downloaded == 0
        assert len(account.store.contents(mailbox)) == 7 + number
        if mailbox == "INBOX":
            assert report.exit_status is ExitStatus.SAFETY
            assert "6 messages" in report.stops[0].detail
            assert "--fresh" in (report.stops[0].hint or "")
        else:
            assert report.exit_status is ExitStatus.OK
            assert "its folder is gone here" in "".join(report.notices)
    report = account.sync(fresh=True)
    assert (report.exit_status, report.downloaded) == (ExitStatus.OK, 8)
    assert_equal(account)


class TestAFolderMadeAnew:
    """Removed, and made again under its name: that is no deletion of all it had, however often a run sees it."""

    @pytest.mark.parametrize("with_what", ["nothing", "a new message", "a message moved there", "one of its own"])
    @pytest.mark.parametrize("fresh_at", [1, 2, 3])
    def test_nothing_is_deleted_and_fresh_brings_it_back(self, account: World, with_what: str, fresh_at: int) -> None:
        folder = account.maildir / "Archive"
        own = next(iter(account.files("Archive").values())).read_bytes()
        make_anew(folder)
        if with_what == "a new message":
            (folder / "cur/1700000001.new.here:2,S").write_bytes(b"Subject: new\n\nbody\n")
        elif with_what == "a message moved there":
            path = next(iter(account.files().values()))
            path.rename(folder / "cur" / f"{path.name.partition(':')[0]}:2,S")
        elif with_what == "one of its own":
            (folder / "cur/1700000001.back.here:2,S").write_bytes(own)
        before = Counter(data for data, _ in there(account, "INBOX") + there(account, "Archive"))
        for number in range(1, 4):
            report = account.run(fresh=number == fresh_at)
            if number < fresh_at:
                assert report.exit_status is ExitStatus.SAFETY
            assert not Counter(before) - Counter(data for data, _ in there(account, "INBOX") + there(account, "Archive"))
        assert_equal(account)
        assert len(here(account, "Archive")) >= 6

    def test_it_may_be_meant(self, account: World) -> None:
        make_anew(account.maildir / "Archive")
        assert account.run().exit_status is ExitStatus.SAFETY
        account.run(allow_mass_delete=True)
        account.run(allow_mass_delete=True)
        assert account.store.contents("Archive") == {}
        assert_equal(account)


class TestRenamedAndMadeAgain:
    @pytest.mark.parametrize("name", ["Archive", "INBOX"])
    def test_nothing_is_transferred(self, account: World, name: str) -> None:
        """As when last year's mailbox gets the year behind its name, and a new one begins."""
        validity = account.store.mailboxes[name].uidvalidity
        account.store.rename(name, "Old")
        account.store.create(name)
        assert account.store.mailboxes["Old"].uidvalidity == validity
        account.store.append(b"Subject: of this year\r\n\r\n", name)
        plan = account.run(dry_run=True)
        assert plan.failure is None
        assert "rename-local-mailbox" in {action.as_dict()["do"] for action in plan.plan}
        assert done(account.sync()) == {"downloaded": 1, "moved_local": 1}
        assert_equal(account)
        assert len(account.files("Old")) == 6


def test_renamed_there_while_the_folder_above_is_renamed_here(tmp_path: Path) -> None:
    """The directory that should follow the mailbox is gone with the one it lay in: no run may get stuck over it."""
    store = filled("A", "A/B")
    with world(tmp_path, store, ImapServer(store), mode="disconnected") as found:
        found.sync()
        store.rename("A/B", "M")
        (found.maildir / "A").rename(found.maildir / "N")
        before = Counter(data for name in store.mailboxes for data in store.contents(name).values())
        for _ in range(3):
            found.sync()
        assert Counter(data for name in store.mailboxes for data in store.contents(name).values()) == before
        assert_equal(found)


class TestAMailboxThatIsNoLongerThere:
    @pytest.mark.parametrize("renamed", [False, True])
    def test_what_is_moved_into_its_folder_stays_at_the_server(self, account: World, *, renamed: bool) -> None:
        account.store.delete("Archive")
        account.sync()
        path = next(iter(account.files().values()))
        name = "1700000001.another.name:2,S" if renamed else path.name.partition(":")[0] + ":2,S"
        path.rename(account.maildir / "Archive/cur" / name)
        before = account.store.contents()
        for _ in range(3):
            account.sync()
            assert account.store.contents() == before
        assert len(account.files("Archive")) == 7

    def test_what_is_moved_into_its_folder_and_elsewhere_at_the_server(self, tmp_path: Path) -> None:
        """There it lies in another mailbox, and so it does here; what was put into the folder is left alone."""
        store = filled("A", "Archive")
        with world(tmp_path, store, ImapServer(store), mode="disconnected") as found:
            found.sync()
            store.delete("Archive")
            found.sync()
            path = a_file(found)
            uid = next(uid for uid, data in store.contents().items() if data == path.read_bytes().replace(b"\n", b"\r\n"))
            path.rename(found.maildir / "Archive/cur" / f"{path.name.partition(':')[0]}:2,S")
            store.move(uid, "INBOX", "A")
            found.sync()
            assert len(found.files("Archive")) == 7
            assert_equal(found)
            assert not found.run(dry_run=True).plan

    def test_a_deletion_is_one_all_the_same(self, account: World) -> None:
        account.store.delete("Archive")
        account.sync()
        next(iter(account.files().values())).unlink()
        assert done(account.sync()) == {"deleted_remote": 1}


class TestOneMailboxOnly:
    """A run of one mailbox does not take a move for a deletion."""

    def test_moved_here(self, account: World) -> None:
        for path in list(account.files().values())[:2]:
            path.rename(account.maildir / "Archive/cur" / f"{path.name.partition(':')[0]}:2,S")
        report = account.run(mailboxes=("INBOX",))
        assert report.failure is None
        assert report.moved_remote == 2
        assert report.deleted_remote == 0
        account.sync()
        assert_equal(account)
        assert len(account.store.contents("Archive")) == 8

    def test_moved_there(self, account: World) -> None:
        for uid in list(account.store.contents())[:2]:
            account.store.move(uid, "INBOX", "Archive")
        report = account.run(mailboxes=("INBOX",))
        assert report.failure is None
        assert done(report) == {"moved_local": 2}
        assert_equal(account)

    def test_nothing_gone_nothing_else_looked_at(self, account: World) -> None:
        account.store.append(b"Subject: new\r\n\r\n", "Archive")
        account.store.append(b"Subject: new\r\n\r\n", "INBOX")
        assert done(account.run(mailboxes=("INBOX",))) == {"downloaded": 1}


NAMES = {"Entwürfe": "Entw&APw-rfe", "R&D": "R&-D", "Büro/Größe": "B&APw-ro/Gr&APYA3w-e"}


class TestTakingOverAnotherProgramsMaildir:
    @pytest.mark.parametrize("layout", ["fs", "maildir++"])
    def test_names_as_they_are_on_the_wire(self, tmp_path: Path, layout: str) -> None:
        """mbsync and Dovecot write modified UTF-7."""
        store = filled(*NAMES)
        with world(tmp_path, store, ImapServer(store), mode="disconnected", layout=layout) as found:
            for name, theirs in {"INBOX": "INBOX", **NAMES}.items():
                path = theirs if layout == "fs" else "." + theirs.replace("/", ".") if name != "INBOX" else "."
                for part in ("tmp", "new", "cur"):
                    (found.maildir / path / part).mkdir(parents=True)
                for number, data in enumerate(store.contents(name).values()):
                    (found.maildir / path / f"cur/17000{number}.x.y:2,").write_bytes(data.replace(b"\r\n", b"\n"))
            found.run(adopt=True)
            assert done(found.sync()) == {}
            assert set(store.mailboxes) == {"INBOX", *NAMES}
            assert not (found.maildir / "Entwürfe").exists()
            store.append(b"Subject: new\r\n\r\n", "Entwürfe")
            assert done(found.sync()) == {"downloaded": 1}

    def test_added_fields_in_messages_without_a_message_id(self, tmp_path: Path) -> None:
        """mbsync adds X-TUID to what it fetches: the server's copy is the same message, and is not stored beside it."""
        store = Store()
        for number in range(4):
            store.append(b"Subject: report\r\nDate: today\r\n\r\nnumber %d\r\n" % number)
        with world(tmp_path, store, ImapServer(store), mode="disconnected") as found:
            for part in ("tmp", "new", "cur"):
                (found.maildir / "INBOX" / part).mkdir(parents=True)
            for number, data in enumerate(store.contents().values()):
                content = data.replace(b"\r\n", b"\n").replace(b"\n\n", b"\nX-TUID: Abcdefg%d/hij\n\n" % number, 1)
                (found.maildir / "INBOX" / f"cur/17000{number}.x.y,U={number + 1}:2,").write_bytes(content)
            found.run(adopt=True)
            found.sync()
            found.sync()
            assert len(store.contents()) == 4
            assert len(found.files()) == 4


@pytest.mark.parametrize("mode", ["disconnected", "mirror", "backup", "offline"])
def test_patterns_that_match_nothing(tmp_path: Path, mode: str) -> None:
    store = filled("Work")
    with world(tmp_path, store, ImapServer(store), mode=mode, mailboxes=("Wrok",)) as found:
        report = found.run()
        assert isinstance(report.failure, ConfigError)
        assert "Wrok" in report.failure.detail
        assert report.exit_status is ExitStatus.CONFIG


class TestGoneOnBothSides:
    """Deleted at the server, and the folder removed here: what is left is the name, which others may get."""

    @pytest.mark.parametrize("mode", ["disconnected", "mirror"])
    def test_it_is_forgotten(self, account: World, mode: str) -> None:
        account.settings(mode=mode)
        account.store.delete("Archive")
        account.sync()
        shutil.rmtree(account.maildir / "Archive")
        assert account.sync().notices == ["Archive: gone at the server and here, and forgotten"]
        assert account.sync().notices == []
        account.store.create("Other")
        for data in mails(3, seed=7):
            account.store.append(data, "Other")
        assert done(account.sync()) == {"downloaded": 3}
        account.assert_same("Other")

    @pytest.mark.parametrize("seen", [True, False])
    def test_another_folder_gets_its_name(self, account: World, *, seen: bool) -> None:
        account.store.create("Work")
        for data in mails(3, seed=7):
            account.store.append(data, "Work")
        account.store.delete("Archive")
        account.sync()
        shutil.rmtree(account.maildir / "Archive")
        if seen:
            account.sync()
        (account.maildir / "Work").rename(account.maildir / "Archive")
        assert done(account.sync()) == {"moved_remote": 1}
        assert set(account.store.mailboxes) == {"INBOX", "Archive"}
        account.store.append(b"Subject: new\r\n\r\n", "Archive")
        assert done(account.sync()) == {"downloaded": 1}
        assert_equal(account)

    def test_a_folder_that_may_come_back_is_known(self, tmp_path: Path) -> None:
        """A disk that is not mounted, or a folder with another name: what comes back is no new mailbox."""
        names = ("Disk/Archive", "Mounted", "Linked")
        store = filled(*names)
        with world(tmp_path, store, ImapServer(store), mode="disconnected") as account:
            account.sync()
            (account.maildir / "Linked").rename(tmp_path / "linked")
            (account.maildir / "Linked").symlink_to(tmp_path / "linked")
            for name in names:
                store.delete(name)
            account.sync()
            for name in (*names[:2], "../linked"):
                (account.maildir / name).rename(tmp_path / "away" if name == "../linked" else tmp_path / name.replace("/", "-"))
            (account.maildir / "Mounted").mkdir()
            assert account.sync().notices == []
            (account.maildir / "Mounted").rmdir()
            (tmp_path / "Disk-Archive").rename(account.maildir / names[0])
            (tmp_path / "Mounted").rename(account.maildir / names[1])
            (tmp_path / "away").rename(tmp_path / "linked")
            assert done(account.sync()) == {}
            assert set(store.mailboxes) == {"INBOX"}

    @pytest.mark.parametrize("mode", ["backup", "offline"])
    def test_a_backup_forgets_nothing(self, account: World, mode: str) -> None:
        account.store.delete("Archive")
        account.settings(mode=mode, max_delete=1.0)
        account.sync()
        shutil.rmtree(account.maildir / "Archive")
        assert account.sync().notices == []
        with closing(StateDb.open_to_read(str(account.maildir / FILE_NAME))) as state:
            assert MailboxName("Archive") in state.mailboxes()

    def test_what_is_moved_into_its_folder_is_told_once(self, account: World) -> None:
        account.store.delete("Archive")
        account.sync()
        for path in list(account.files().values())[:3]:
            path.rename(account.maildir / "Archive/cur" / f"{path.name.partition(':')[0]}:2,")
        (notice,) = account.sync().notices
        assert notice.startswith("Archive: 3 messages were moved there from INBOX, and the mailbox is no longer at the server")


class TestALevelOfNames:
    """What is \\Noselect at the server has a name and no messages: whatever lies below it keeps the name."""

    @pytest.fixture(params=["all", "bare"])
    def deleted(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
        """A mailbox that was deleted at the server, where another lies below it."""
        store = filled("Archive", "Archive/2024")
        server = ImapServer(store, capabilities=ALL if request.param == "all" else BARE)
        with world(tmp_path, store, server, mode="disconnected") as found:
            found.sync()
            store.delete("Archive")
            assert store.levels == {"Archive"}
            yield found

    def test_it_is_told_as_gone_and_kept(self, deleted: World) -> None:
        report = deleted.sync()
        assert report.notices == ["Archive: no longer at the server; what is here stays"]
        assert done(report) == {}
        assert len(deleted.files("Archive")) == 6
        assert deleted.sync().notices == []
        wrong = {box.name: box.last_error for box in status_of(deleted.account).mailboxes}
        assert "no longer at the server" in str(wrong["Archive"])
        assert wrong["Archive/2024"] is None
        assert_equal(deleted)

    def test_removed_here_too_it_is_forgotten(self, deleted: World) -> None:
        deleted.sync()
        for part in ("new", "cur", "tmp"):
            shutil.rmtree(deleted.maildir / "Archive" / part)
        assert deleted.sync().notices == ["Archive: gone at the server and here, and forgotten"]
        make_anew_at(deleted.maildir / "Archive")
        (deleted.maildir / "Archive/cur/1700000001.new.here:2,S").write_bytes(b"Subject: new\n\nbody\n")
        assert done(deleted.sync()) == {"uploaded": 1}
        assert deleted.store.levels == set()
        assert_equal(deleted)

    def test_renamed_it_is_the_same_under_its_new_name(self, deleted: World) -> None:
        with deleted.store.lock:
            box = deleted.store.create("Old")
            for data in mails(6, seed=1):
                deleted.store.append(data, "Old")
            box.uidvalidity, box.mailbox_id = 1002, "F1002"  # those of Archive
        assert done(deleted.sync()) == {"moved_local": 1}
        assert len(deleted.files("Old")) == 6
        assert len(deleted.files("Archive")) == 0
        assert_equal(deleted)

    def test_a_folder_that_cannot_be_a_mailbox_is_told_of_once(self, tmp_path: Path) -> None:
        store = filled("Archive/2024")
        store.levels.add("Archive")
        server = ImapServer(store, options=ImapOptions(refuse_create=frozenset({"Archive"})))
        with world(tmp_path, store, server, mode="disconnected") as account:
            account.sync()
            make_anew_at(account.maildir / "Archive")
            (account.maildir / "Archive/cur/1700000001.new.here:2,S").write_bytes(b"Subject: new\n\nbody\n")
            words = "Archive: it holds no messages at the server (that is a folder of folders): what is in its folder stays here"
            assert account.sync().notices == [words]
            assert account.sync().notices == []
            (box,) = (box for box in status_of(account.account).mailboxes if box.name == "Archive")
            assert f"Archive: {box.last_error}" == words
            (account.maildir / "Archive/cur/1700000002.more.here:2,S").write_bytes(b"Subject: more\n\nbody\n")
            assert account.sync().notices == [words]
            assert len(account.files("Archive")) == 2
            server.options.refuse_create = frozenset()
            assert done(account.sync()) == {"uploaded": 2}
            assert_equal(account)
            assert [box.last_error for box in status_of(account.account).mailboxes] == [None] * 3


@pytest.mark.parametrize("case", ["adopted first", "refused", "refused, and not known from before"])
def test_what_a_restored_folder_lacks_is_not_deleted_by_a_later_run(account: World, case: str) -> None:
    """It is fetched: by the run that meets the folder, or by whichever can."""
    folder = account.maildir / "Archive"
    if case == "refused, and not known from before":
        account.store.append(b"Subject: one run more\r\n\r\n")
        account.sync()
        shutil.rmtree(account.root / "state")
    else:
        shutil.copytree(folder, account.root / "copy")
        folder.rename(account.root / "gone")
        (account.root / "copy").rename(folder)
    a_file(account, "Archive").unlink()
    if case == "adopted first":
        account.run(adopt=True, full=True)
    else:
        account.server.faults.hook = lambda line, connection: (
            f"{connection.tag} NO not now\r\n".encode() if "BODY.PEEK[]" in line else None
        )
        assert account.run().deferred == 1
        account.server.faults.hook = None
    assert account.sync().downloaded == 1
    assert len(account.store.contents("Archive")) == 6
    assert_equal(account)
