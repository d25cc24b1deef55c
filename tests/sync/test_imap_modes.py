"""The one-way modes of IMAP against the embedded server, with every extension and with none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus, SafetyStop, ServerRefused
from tests.servers.base import Cut
from tests.servers.imap import ALL, BARE, ImapOptions, ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import AWKWARD, mails
from tests.sync.world import World, world

CONDSTORE = ALL - {"QRESYNC"}
OLD = CONDSTORE - {"ESEARCH"}
OFFERS = {"all": ALL, "condstore": CONDSTORE, "condstore without esearch": OLD, "bare": BARE}


@pytest.fixture(params=OFFERS)
def offered(request: pytest.FixtureRequest) -> frozenset[str]:
    """What the server can do."""
    return OFFERS[str(request.param)]


@pytest.fixture
def account(tmp_path: Path, offered: frozenset[str]) -> Iterator[World]:
    """Two mailboxes with 40 and 7 messages."""
    store = Store()
    store.create("Archive/2026")
    for data in mails(40):
        store.append(data)
    for data in mails(7, seed=2):
        store.append(data, "Archive/2026", ["\\Seen"])
    with world(tmp_path, store, ImapServer(store, capabilities=offered)) as found:
        yield found


def both(found: World) -> None:
    """Both mailboxes are here as they are at the server."""
    found.assert_same()
    found.assert_same("Archive/2026")


class TestBackup:
    def test_brings_everything_octet_for_octet(self, account: World) -> None:
        report = account.sync()
        assert report.downloaded == 47
        assert report.mailboxes == 2
        both(account)

    def test_second_run_has_nothing_to_do_and_sends_nothing_that_changes(self, account: World) -> None:
        account.sync()
        account.sync()
        before = snapshot(account.maildir)
        account.commands.clear()
        report = account.sync()
        assert report.downloaded == 0
        changing = ("APPEND", "STORE", "EXPUNGE", "SELECT", "CREATE", "DELETE", "UID STORE", "UID EXPUNGE", "UID MOVE")
        assert not [line for line in account.commands if line.startswith(changing)]
        assert snapshot(account.maildir) == before

    def test_dry_run_changes_nothing_and_plans_what_the_run_does(self, account: World) -> None:
        report = account.run(dry_run=True)
        assert report.ok
        assert not account.maildir.exists()
        assert sum(action.as_dict().get("count", 0) for action in report.plan) == 47  # type: ignore[misc]
        account.sync()
        before = snapshot(account.maildir)
        account.store.append(b"Subject: one more\r\n\r\nx\r\n")
        planned = [str(action) for action in account.run(dry_run=True).plan]
        assert planned == ["INBOX: download 1 message (UID 41)"]
        assert snapshot(account.maildir) == before

    def test_flags_follow_the_server(self, account: World) -> None:
        account.store.set_flags(1, ["\\Seen"])
        account.sync()
        account.store.set_flags(1, ["\\Flagged", "\\Answered"])
        account.store.set_flags(2, ["\\Seen", "$Label1"])
        report = account.sync()
        assert report.flags_pulled == 2
        contents = account.store.contents()
        letters = account.letters()
        assert letters[stored(contents[1])] == "FR"
        assert letters[stored(contents[2])] == "Sa"
        assert (account.maildir / "INBOX" / "dovecot-keywords").read_text() == "0 $Label1\n"

    def test_what_the_server_deletes_stays(self, account: World) -> None:
        account.sync()
        contents = account.store.contents()
        account.store.expunge(range(1, 41))
        report = account.sync()
        assert report.deleted_local == 0
        assert sorted(account.wire()) == sorted(contents.values())
        assert account.sync().downloaded == 0

    def test_a_file_removed_here_comes_again(self, account: World) -> None:
        account.sync()
        next(iter(account.files().values())).unlink()
        assert account.sync().downloaded == 1
        account.assert_same()

    def test_local_mail_of_others_is_left_alone(self, account: World) -> None:
        account.sync()
        stranger = account.maildir / "INBOX" / "cur" / "123.mine:2,S"
        stranger.write_bytes(b"Subject: mine\n\n")
        report = account.sync()
        assert report.downloaded == report.deleted_local == 0
        assert stranger.exists()

    def test_new_and_seen_go_where_they_belong(self, account: World) -> None:
        account.sync()
        assert len(list((account.maildir / "INBOX/new").iterdir())) == 40
        assert len(list((account.maildir / "Archive/2026/cur").iterdir())) == 7
        file = next((account.maildir / "INBOX/new").iterdir())
        assert file.stat().st_mtime == 1_700_000_000
        assert file.stat().st_mode & 0o777 == 0o600

    def test_only_one_mailbox(self, account: World) -> None:
        assert account.run(mailboxes=("Archive/2026",)).downloaded == 7
        report = account.run(mailboxes=("Nothing",))
        assert report.exit_status is ExitStatus.USAGE


class TestMirror:
    @pytest.fixture(autouse=True)
    def _mirror(self, account: World) -> None:
        account.settings(mode="mirror")

    def test_deletions_follow(self, account: World) -> None:
        account.sync()
        account.store.expunge([3, 5, 8])
        report = account.sync()
        assert report.deleted_local == 3
        both(account)

    def test_a_move_is_a_move(self, account: World) -> None:
        account.sync()
        inodes = {path.stat().st_ino for path in account.files().values()}
        for uid in (4, 5, 6):
            account.store.move(uid, "INBOX", "Archive/2026")
        report = account.sync()
        assert (report.moved_local, report.downloaded, report.deleted_local) == (3, 0, 0)
        assert len(inodes & {path.stat().st_ino for path in account.files("Archive/2026").values()}) == 3
        both(account)

    def test_local_flags_are_set_back(self, account: World) -> None:
        account.sync()
        account.sync()
        file = next(iter(account.files().values()))
        file.rename(account.maildir / "INBOX" / "cur" / f"{file.name}:2,FS")
        account.sync()
        assert set(account.letters().values()) == {""}

    def test_the_guard_stops_and_lets_through(self, account: World) -> None:
        account.sync()
        account.store.expunge(range(1, 41))
        account.store.set_flags(1, ["\\Flagged"], "Archive/2026")
        report = account.run()
        assert report.exit_status is ExitStatus.SAFETY
        assert isinstance(report.failure, SafetyStop)
        assert "40 of 40" in report.failure.detail
        assert report.failure.mailbox == "INBOX"
        assert report.flags_pulled == 1, "the other mailbox goes on"
        assert len(account.files()) == 40
        assert account.run().exit_status is ExitStatus.SAFETY, "it asks again"
        report = account.sync(allow_mass_delete=True)
        assert report.deleted_local == 40
        account.assert_same()

    def test_more_than_was_announced_asks_again(self, account: World) -> None:
        account.sync()
        account.store.expunge(range(1, 31))
        assert account.run().exit_status is ExitStatus.SAFETY
        account.store.expunge(range(31, 40))
        assert account.run(allow_mass_delete=True).exit_status is ExitStatus.SAFETY
        assert len(account.files()) == 40

    def test_trash_is_exempt(self, account: World) -> None:
        account.store.create("Bin", special_use="\\Trash")
        for data in mails(5, seed=3):
            account.store.append(data, "Bin")
        account.sync()
        account.store.expunge(range(1, 6), "Bin")
        assert account.sync().deleted_local == 5


class TestOffline:
    @pytest.fixture(autouse=True)
    def _offline(self, account: World) -> None:
        account.settings(mode="offline")

    def test_downloads_then_deletes_at_the_server(self, account: World) -> None:
        contents = account.store.contents()
        report = account.sync()
        assert (report.downloaded, report.deleted_remote) == (47, 47)
        assert account.store.contents() == {}
        assert sorted(account.wire()) == sorted(contents.values())
        account.sync()
        assert account.sync().downloaded == 0
        assert len(account.files()) == 40

    def test_marks_of_others_are_not_expunged(self, account: World) -> None:
        account.store.append(b"Subject: theirs\r\n\r\n", flags=["\\Deleted"])
        if "UIDPLUS" in account.server.capabilities:  # type: ignore[attr-defined]
            account.server.options.omit = frozenset({41})  # type: ignore[attr-defined]
            account.run()
            assert list(account.store.contents()) == [41]

    def test_read_only_mailbox_is_left_alone(self, account: World) -> None:
        account.server.options.read_only = True  # type: ignore[attr-defined]
        report = account.run()
        assert report.downloaded == 47
        assert report.deleted_remote == 0
        assert len(account.store.contents()) == 40
        assert account.run().downloaded == 0


class TestNothingIsTakenForDeleted:
    def test_count_that_does_not_add_up(self, account: World) -> None:
        account.settings(mode="mirror")
        account.sync()
        account.store.expunge([1, 2])
        account.server.options.exists_lie = 5  # type: ignore[attr-defined]
        report = account.run()
        assert report.deleted_local == 0
        assert len(account.files()) == 40
        account.server.options.exists_lie = 0  # type: ignore[attr-defined]
        assert account.sync().deleted_local == 2
        account.assert_same()

    def test_vanished_mailbox_is_kept(self, account: World) -> None:
        account.settings(mode="mirror")
        account.sync()
        account.store.delete("Archive/2026")
        report = account.sync()
        assert report.deleted_local == 0
        assert report.notices == ["Archive/2026: no longer at the server; what is here stays"]
        assert len(account.files("Archive/2026")) == 7
        assert account.sync().notices == []

    def test_renamed_mailbox_is_renamed(self, account: World) -> None:
        account.settings(mode="mirror")
        account.sync()
        account.store.rename("Archive/2026", "Old/Twenty")
        report = account.sync()
        assert report.downloaded == 0
        account.assert_same("Old/Twenty")
        assert not account.files("Archive/2026")


class TestUidvalidity:
    @pytest.mark.parametrize("mode", ["backup", "mirror"])
    def test_changed_nothing_is_fetched_twice(self, account: World, mode: str) -> None:
        account.settings(mode=mode)
        account.sync()
        account.store.set_flags(7, ["\\Flagged"])
        account.store.new_uidvalidity(reorder=lambda messages: messages.reverse())
        report = account.sync()
        assert report.downloaded == 0
        assert report.deleted_local == 0
        account.assert_same()
        assert sorted(account.letters().values()).count("F") == 1
        assert account.sync().downloaded == 0

    def test_changed_with_awkward_mail(self, account: World) -> None:
        """What the header cannot tell is told by the content, after one more download."""
        for data in AWKWARD.values():
            account.store.append(data)
        account.sync()
        keys = set(account.files())
        account.store.new_uidvalidity()
        account.run()
        account.sync()
        account.assert_same()
        assert set(account.files()) == keys


class TestOneBadThing:
    def test_a_message_left_out_is_set_aside_and_tried_again(self, account: World) -> None:
        account.server.options.omit = frozenset({13})  # type: ignore[attr-defined]
        assert account.run().downloaded == 46
        account.server.options.omit = frozenset()  # type: ignore[attr-defined]
        assert account.sync().downloaded == 1
        both(account)

    @pytest.mark.parametrize("fault", ["nil", "refuse_fetch"])
    def test_a_bad_message_does_not_stop_the_others(self, account: World, fault: str) -> None:
        account.server.options = ImapOptions()  # type: ignore[attr-defined]
        account.sync()
        new = [account.store.append(data) for data in mails(20, seed=9)]
        setattr(account.server.options, fault, frozenset({new[7]}))  # type: ignore[attr-defined]
        if fault == "refuse_fetch" and "CONDSTORE" not in account.server.capabilities:  # type: ignore[attr-defined]
            pytest.skip("this server would refuse the listing too")
        if fault == "refuse_fetch" and "QRESYNC" not in account.server.capabilities:  # type: ignore[attr-defined]
            pytest.skip("this server would refuse the listing too")
        report = account.run()
        assert report.downloaded == 19
        assert report.exit_status is ExitStatus.PARTIAL
        setattr(account.server.options, fault, frozenset())  # type: ignore[attr-defined]
        assert account.sync().downloaded == 1
        account.assert_same()

    def test_a_bad_mailbox_does_not_stop_the_others(self, account: World) -> None:
        account.server.options.refuse_select = frozenset({"INBOX"})  # type: ignore[attr-defined]
        report = account.run()
        assert isinstance(report.failure, ServerRefused)
        assert report.failure.mailbox == "INBOX"
        assert report.downloaded == 7
        account.server.options.refuse_select = frozenset()  # type: ignore[attr-defined]
        account.sync()
        both(account)


def stored(wire: bytes) -> bytes:
    """A message with CRLF line ends throughout, as it is stored."""
    return wire.replace(b"\r\n", b"\n")


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Every file but the state with its size and time of change."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if not path.name.startswith(".fetchmail-py.sqlite3")
    }


def test_awkward_mail_is_stored_octet_for_octet(tmp_path: Path) -> None:
    store = Store()
    for data in AWKWARD.values():
        store.append(data)
    with world(tmp_path, store, ImapServer(store)) as found:
        found.sync()
        found.assert_same()
        assert len(found.files()) == len(AWKWARD)
        assert os.listdir(found.maildir / "INBOX" / "tmp") == []


class TestFound:
    """What a reading of the code found, each with the test that would have."""

    def test_a_message_set_aside_that_is_deleted_is_forgotten(self, account: World) -> None:
        account.sync()
        bad = account.store.append(b"Subject: bad\r\n\r\n")
        account.server.options.nil = frozenset({bad})  # type: ignore[attr-defined]
        assert account.run().exit_status is ExitStatus.PARTIAL
        assert account.run().exit_status is ExitStatus.PARTIAL
        account.store.expunge([bad])
        account.sync()

    def test_a_message_set_aside_and_a_changed_uidvalidity(self, account: World) -> None:
        bad = account.store.append(b"Subject: bad\r\n\r\n")
        account.server.options.nil = frozenset({bad})  # type: ignore[attr-defined]
        account.run()
        account.server.options.nil = frozenset()  # type: ignore[attr-defined]
        account.store.new_uidvalidity(reorder=lambda messages: messages.reverse())
        assert account.sync().downloaded == 1
        account.assert_same()

    def test_a_change_to_offline_deletes_only_what_is_here(self, account: World) -> None:
        account.sync()
        lost = next(iter(account.files().values()))
        lost.unlink()
        account.settings(mode="offline")
        report = account.sync()
        assert report.downloaded == 1, "its file was not here: it had to come first"
        assert account.store.contents() == {}
        assert len(account.files()) == 40

    def test_a_change_from_offline_that_was_cut_deletes_nothing(self, account: World) -> None:
        """What was to be deleted at the server once it was here belongs on both sides now."""
        account.settings(mode="offline")

        def cut(line: str, _: object) -> None:
            if line.startswith("UID STORE"):
                raise Cut

        account.server.faults.hook = cut
        assert account.run().failure is not None
        account.server.faults.hook = None
        account.settings(mode="disconnected")
        for _ in range(2):
            report = account.sync()
            assert not report.stops
            assert report.deleted_remote == report.deleted_local == report.downloaded == report.uploaded == 0
            assert len(account.files()) == len(account.store.contents()) == 40

    def test_a_mailbox_that_is_listed_twice(self, account: World) -> None:
        original = account.server.faults.hook

        def hook(line: str, connection: object) -> bytes | None:
            del connection
            if line.startswith("LIST"):
                account.server.faults.hook = original
                account.store.mailboxes["inbox"] = account.store.mailboxes["INBOX"]
            return None

        account.server.faults.hook = hook
        report = account.run()
        del account.store.mailboxes["inbox"]
        assert report.downloaded == 47
        assert account.sync().downloaded == 0
