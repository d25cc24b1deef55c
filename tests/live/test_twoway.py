"""The two-way mode against Dovecot, as it is and behind a filter that leaves it nothing but RFC 3501.

After every scenario both sides hold the same: mailboxes, content, flags and dates; and another run does nothing.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.bare import Bare
from tests.live.conftest import Shell
from tests.live.dovecot import Dovecot, Mail
from tests.live.twoway import BOXES, DATE, LETTERS, Message, Sides, mail
from tests.servers.mails import AWKWARD, mails

_users = (f"user{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    """A user for each test."""
    with Dovecot(users=[f"user{number}" for number in range(120)]) as server:
        yield server


@pytest.fixture(params=["full", "bare"])
def sides(request: pytest.FixtureRequest, shell: Shell, dovecot: Dovecot) -> Iterator[Sides]:
    """A user's mail on both sides, nothing there yet."""
    if request.param == "full":
        yield Sides(shell, next(_users), None)
    else:
        with Bare(dovecot.imap_port) as bare:
            yield Sides(shell, next(_users), bare)


def plan(report: dict[str, Any]) -> list[str]:
    """What a dry run would do, in order."""
    return [action["do"] for action in report["plan"]]


def keyed(directory: Path) -> set[str]:
    """The keys of the files of a mailbox."""
    return {path.name.partition(":")[0] for part in ("cur", "new") for path in (directory / part).iterdir()}


def test_first_download(sides: Sides) -> None:
    awkward = [data for data in AWKWARD.values() if data and b"\0" not in data]
    sides.server.deliver(sides.user, "Archive/2024", [Mail(data, "FRS", DATE) for data in awkward])
    sides.start(more=len(awkward))
    sides.settle()


class TestFlags:
    def test_up(self, sides: Sides) -> None:
        sides.start()
        for number, letters in enumerate(("D", "F", "P", "R", "S", "", "T", "DFPRST")):
            sides.mark(sides.path("INBOX", number), letters)
        sides.label(sides.path("Work", 0), "$Label1")
        sides.sync(flags_pushed=9)
        assert sides.flags("INBOX", 2) == {"$Forwarded"}
        assert sides.flags("INBOX", 5) == set()
        assert sides.flags("INBOX", 7) == set(LETTERS.values())
        assert sides.flags("Work", 0) == {"$Label1"}
        sides.settle()

    def test_down(self, sides: Sides) -> None:
        sides.start()
        for number, flag in enumerate(LETTERS.values()):
            sides.store("INBOX", number, "+", flag)
        sides.store("INBOX", 6, "+", "NonJunk $Label2")
        sides.store("INBOX", 7, "-", "\\Seen $Work")
        before = keyed(sides.root / "INBOX")
        sides.sync(flags_pulled=8)
        assert keyed(sides.root / "INBOX") == before
        assert sides.path("INBOX", 7).parent.name == "cur", "a mail reader would take it for new mail again"
        sides.settle()

    def test_each_side_changed_others(self, sides: Sides) -> None:
        sides.start()
        sides.mark(sides.path("INBOX", 1), "F")  # \Seen goes, \Flagged comes
        sides.store("INBOX", 1, "+", "\\Answered $Forwarded $Label1")
        sides.store("INBOX", 1, "-", "$Work")
        sides.label(sides.path("INBOX", 3), "$Label2")
        sides.store("INBOX", 3, "+", "$Label2 $Label3")
        sides.sync(flags_pushed=1, flags_pulled=2)
        uid = int(sides.uid("INBOX", 1))
        assert sides.server.flags(sides.user)[uid] == {"\\Flagged", "\\Answered", "$Forwarded", "$Label1"}
        sides.settle()


class TestMessages:
    def test_new_here(self, sides: Sides) -> None:
        sides.start()
        first, second, third, large = *mails(3, seed=5), b"Subject: large\r\n\r\n" + b"0123456789\r\n" * 200_000
        sides.add("INBOX", "new/1700000001.a.host", first, 1_111_111_111)
        sides.add("INBOX", "cur/1700000002.b.host:2,FPRSa", second, 1_222_222_222)
        sides.add("Archive/2024", "cur/1700000003.c.host:2,", third, 1_333_333_333)
        sides.add("Archive/2024", "new/1700000004.d.host", large, 1_444_444_444)
        sides.sync(uploaded=4)
        there = sides.there()
        assert Message(first, frozenset(), 1_111_111_111) in there["INBOX"]
        flags = frozenset({"\\Flagged", "$Forwarded", "\\Answered", "\\Seen", "$Work"})
        assert Message(second, flags, 1_222_222_222) in there["INBOX"]
        assert Message(third, frozenset(), 1_333_333_333) in there["Archive/2024"]
        assert (sides.root / "INBOX/new/1700000001.a.host").exists(), "nobody has read it"
        sides.settle()

    def test_two_new_files_with_the_same_content(self, sides: Sides) -> None:
        sides.start()
        (data,) = mails(1, seed=6)
        for name in ("cur/1700000001.a.host:2,S", "cur/1700000002.b.host:2,F"):
            sides.add("INBOX", name, data, DATE)
        sides.sync(uploaded=2)
        sides.settle()

    def test_names_exchanged_here(self, sides: Sides) -> None:
        sides.start()
        validities = sides.uidvalidity("Work"), sides.uidvalidity("Archive/2024")
        for old, new in (("Work", "aside"), ("Archive/2024", "Work"), ("aside", "Archive/2024")):
            (sides.root / old).rename(sides.root / new)
        report = sides.sync(moved_remote=2)
        assert report["error"] is None
        assert (sides.uidvalidity("Archive/2024"), sides.uidvalidity("Work")) == validities
        assert not [name for name in sides.there() if "fetchmail-py" in name]
        sides.settle()

    def test_names_exchanged_differently(self, sides: Sides) -> None:
        """What cannot be brought together goes on under two names, and `status` says so until the folders are called as there."""
        sides.start()
        names = ["Work", "Ünï & mehr", "Trash"]
        for old, new in (("Work", "aside"), (names[1], "Work"), ("aside", names[1])):
            (sides.root / old).rename(sides.root / new)
        for old, new in (("Work", "aside"), ("Trash", "Work"), ("aside", "Trash")):
            sides.tell("rename", old, new)

        def apart() -> list[str]:
            boxes = sides.shell.run("status", "--json").json["mailboxes"]
            return [box["name"] for box in boxes if "so that both have one name" in (box["last_error"] or "")]

        assert sides.shell.run("sync", "--json").json["notices"]
        assert sides.sync()["notices"] == []
        assert len(apart()) == 2
        displaced = next(path for path in sides.root.iterdir() if "%~" in path.name)
        (sides.root / names[1]).rename(sides.root / "Trash")
        (sides.root / "Work").rename(sides.root / names[1])
        displaced.rename(sides.root / "Work")
        sides.shell.run("sync")
        assert apart() == []
        sides.settle()

    def test_names_exchanged_there(self, sides: Sides) -> None:
        sides.start()
        before = keyed(sides.root / "Work"), keyed(sides.root / "Archive/2024")
        for old, new in (("Work", "aside"), ("Archive/2024", "Work"), ("aside", "Archive/2024")):
            sides.tell("rename", old, new)
        sides.sync(moved_local=2)
        assert (keyed(sides.root / "Archive/2024"), keyed(sides.root / "Work")) == before
        sides.settle()

    def test_deleted_here(self, sides: Sides) -> None:
        sides.start()
        sides.path("INBOX", 1).unlink()
        sides.path("INBOX", 2).unlink()
        sides.path("Archive/2024", 0).unlink()
        sides.sync(deleted_remote=3)
        sides.settle()

    def test_deleted_there(self, sides: Sides) -> None:
        sides.start()
        sides.expunge("INBOX", 0, 5)
        sides.sync(deleted_local=2)
        sides.settle()

    def test_what_others_marked_is_not_expunged(self, sides: Sides) -> None:
        sides.start()
        sides.store("INBOX", 4, "+", "\\Deleted")
        sides.path("INBOX", 1).unlink()
        if sides.bare is None:
            sides.sync(flags_pulled=1, deleted_remote=1)
            sides.settle()
        else:
            # Without UIDPLUS an EXPUNGE would take both: the deletion waits.
            result = sides.shell.run("sync", "--json")
            assert result.json["deleted_remote"] == 0, result.out
            sides.store("INBOX", 4, "-", "\\Deleted")
            sides.shell.run("sync")
            sides.settle()
        assert sides.uid("INBOX", 4)
        assert mail("INBOX", 1) not in sides.server.messages(sides.user).values()

    def test_deleted_here_but_flagged_there(self, sides: Sides) -> None:
        sides.start()
        sides.path("INBOX", 3).unlink()
        sides.store("INBOX", 3, "+", "\\Flagged")
        sides.path("INBOX", 4).unlink()
        sides.store("INBOX", 4, "+", "\\Seen")
        sides.sync(downloaded=1, deleted_remote=1)
        assert "F" in sides.path("INBOX", 3).name.partition(":2,")[2]
        sides.settle()

    def test_deleted_there_but_flagged_here(self, sides: Sides) -> None:
        sides.start()
        sides.mark(sides.path("INBOX", 3), "FS")
        sides.mark(sides.path("INBOX", 4), "S")
        sides.expunge("INBOX", 3, 4)
        sides.sync(uploaded=1, deleted_local=1)
        assert sides.flags("INBOX", 3) == {"\\Flagged", "\\Seen"}
        sides.settle()

    def test_deleted_on_both_sides(self, sides: Sides) -> None:
        sides.start()
        sides.path("INBOX", 3).unlink()
        sides.expunge("INBOX", 3)
        sides.sync()
        sides.settle()

    def test_trash(self, sides: Sides) -> None:
        sides.start('trash = "Trash"\non_new = "touch ~/told"')
        told = sides.shell.root / "told"
        told.unlink()
        sides.path("INBOX", 1).unlink()
        sides.path("Work", 2).unlink()
        sides.sync(deleted_remote=2)  # what is in the trash there comes here, and is no new mail
        assert not told.exists()
        trash = sides.there()["Trash"]
        assert sum(trash.values()) == BOXES["Trash"] + 2
        assert Message(mail("INBOX", 1), frozenset({"\\Seen", "$Work"}), DATE + 1) in trash
        assert mail("INBOX", 1) not in sides.server.messages(sides.user).values()
        sides.settle()
        sides.path("INBOX", 1, "Trash").unlink()
        sides.sync(deleted_remote=1)
        assert sum(sides.there()["Trash"].values()) == BOXES["Trash"] + 1
        sides.settle()

    def test_trash_for_what_is_marked(self, sides: Sides) -> None:
        sides.start('trash = "Trash"\nexpunge = true')
        sides.mark(sides.path("INBOX", 1), "FST")
        sides.store("INBOX", 2, "+", "\\Deleted")
        report = sides.shell.run("sync", "--json").json
        assert report["deleted_remote"] == 2
        assert report["downloaded"] == 0
        told = sides.bare is None
        assert (report["moved_local"], report["deleted_local"]) == ((2, 0) if told else (0, 2))
        assert sum(sides.there()["Trash"].values()) == BOXES["Trash"] + 2
        sides.settle()

    def test_expunge(self, sides: Sides) -> None:
        sides.start("expunge = true")
        sides.mark(sides.path("INBOX", 1), "ST")
        sides.store("INBOX", 2, "+", "\\Deleted")
        sides.shell.run("sync")
        for number in (1, 2):
            assert mail("INBOX", number) not in sides.server.messages(sides.user).values()
        sides.settle()


class TestMoves:
    @pytest.mark.parametrize("key", [None, "1800000000.new.host"])
    @pytest.mark.parametrize("add", ["", "F"])
    def test_here(self, sides: Sides, key: str | None, add: str) -> None:
        sides.start()
        sides.carry(sides.path("INBOX", 3), "Archive/2024", key, add=add)
        uids = set(sides.server.messages(sides.user, "Archive/2024"))
        sides.sync(moved_remote=1, flags_pushed=len(add))
        # The server's own date and keywords, which an upload could have lost, and a UID that is new there.
        flags = frozenset({"\\Seen", "$Work", *(LETTERS[letter] for letter in add)})
        assert sides.there()["Archive/2024"][Message(mail("INBOX", 3), flags, DATE + 3)] == 1
        assert int(sides.uid("INBOX", 3, "Archive/2024")) not in uids
        assert mail("INBOX", 3) not in sides.server.messages(sides.user).values()
        if sides.bare is not None:
            assert not any(command.startswith("APPEND") for command in sides.bare.commands)
        sides.settle()

    def test_many_into_a_new_mailbox(self, sides: Sides) -> None:
        sides.start()
        sides.make("Projects/2025")
        for number in range(1, 8):
            sides.carry(sides.path("INBOX", number), "Projects/2025", f"18000000{number:02}.x.host" if number % 2 else None)
        sides.sync(moved_remote=7)
        assert len(sides.server.messages(sides.user, "Projects/2025")) == 7
        sides.settle()

    def test_there(self, sides: Sides) -> None:
        sides.start()
        key = sides.path("INBOX", 2).name.partition(":")[0]
        uids = ",".join(sides.uid("INBOX", number) for number in (2, 3))
        with sides.selected("INBOX") as client:
            client.uid("STORE", uids, "+FLAGS", "\\Answered")
            client.uid("MOVE", uids, "Work")
        report = sides.sync(moved_local=2)
        assert report["downloaded_bytes"] == 0
        assert sides.path("INBOX", 2, "Work").name.startswith(key)
        sides.settle()

    def test_there_into_a_new_mailbox(self, sides: Sides) -> None:
        sides.start()
        sides.tell("create", "Projects/2025")
        with sides.selected("Work") as client:
            client.uid("MOVE", "1:*", "Projects/2025")
        sides.sync(moved_local=BOXES["Work"])
        sides.settle()

    def test_there_and_back_again(self, sides: Sides) -> None:
        sides.start()
        sides.carry(sides.path("INBOX", 3), "Work")
        sides.sync(moved_remote=1)
        sides.carry(sides.path("INBOX", 3, "Work"), "INBOX")
        sides.sync(moved_remote=1)
        sides.settle()

    def test_on_both_sides(self, sides: Sides) -> None:
        sides.start()
        sides.carry(sides.path("INBOX", 3), "Work", "1800000000.new.host")
        with sides.selected("INBOX") as client:
            client.uid("MOVE", sides.uid("INBOX", 3), "Archive/2024")
        sides.sync(moved_local=1)
        assert sides.path("INBOX", 3, "Archive/2024").exists()
        sides.settle()

    def test_a_copy_here(self, sides: Sides) -> None:
        sides.start()
        sides.carry(sides.path("INBOX", 3), "Work", "1800000000.new.host", copy=True)
        sides.carry(sides.path("INBOX", 4), "Work", copy=True)
        sides.sync(uploaded=2)  # they count, but are copied there
        for mailbox in ("INBOX", "Work"):
            assert mail("INBOX", 3) in sides.server.messages(sides.user, mailbox).values()
        if sides.bare is not None:
            assert not any(command.startswith("APPEND") for command in sides.bare.commands)
        sides.settle()


class TestMailboxes:
    def test_made_here(self, sides: Sides) -> None:
        sides.start()
        sides.make("Neu/Ümläut & mehr")
        sides.add("Neu/Ümläut & mehr", "new/1700000001.a.host", next(mails(1, seed=7)), DATE)
        sides.sync(uploaded=1)
        sides.settle()

    def test_made_here_where_the_server_has_the_name_only(self, sides: Sides) -> None:
        """A level of names (\\Noselect) becomes a mailbox: what is put into its folder goes up."""
        sides.start()
        sides.tell("create", "above/below")
        sides.sync()
        sides.make("above")
        sides.add("above", "new/1700000001.a.host", next(mails(1, seed=7)), DATE)
        sides.sync(uploaded=1)
        sides.settle()

    def test_made_there(self, sides: Sides) -> None:
        sides.start()
        sides.tell("create", "Neu/Ümläut & mehr")
        sides.tell("create", "empty")
        sides.server.deliver(sides.user, "Neu/Ümläut & mehr", [Mail(next(mails(1, seed=7)), "S", DATE)])
        sides.sync(downloaded=1)
        sides.settle()

    def test_renamed_here(self, sides: Sides) -> None:
        sides.start()
        uidvalidity = sides.uidvalidity("Work")
        (sides.root / "Work").rename(sides.root / "Projects")
        report = sides.shell.run("sync", "--json").json
        assert (report["error"], report["uploaded"], report["downloaded"]) == (None, 0, 0)
        assert (report["deleted_local"], report["deleted_remote"]) == (0, 0)
        assert sides.uidvalidity("Projects") == uidvalidity
        assert "Work" not in sides.there()
        sides.settle()

    def test_renamed_there(self, sides: Sides) -> None:
        sides.start()
        before = keyed(sides.root / "Work")
        sides.tell("rename", "Work", "Archive/Projects")
        report = sides.shell.run("sync", "--json").json
        assert (report["error"], report["uploaded"], report["downloaded"]) == (None, 0, 0)
        assert (report["deleted_local"], report["deleted_remote"]) == (0, 0)
        assert keyed(sides.root / "Archive/Projects") == before
        assert not (sides.root / "Work").exists()
        sides.settle()

    def test_renamed_what_is_above(self, sides: Sides) -> None:
        sides.start()
        (sides.root / "Archive").rename(sides.root / "Old")
        sides.sync(moved_remote=1)
        assert "Old/2024" in sides.there()
        sides.settle()

    def test_deleted_here(self, sides: Sides) -> None:
        sides.start()
        before = sides.there()
        shutil.rmtree(sides.root / "Work")
        assert any("Work" in notice for notice in sides.sync()["notices"])
        assert sides.there() == before, "a mailbox that is gone on one side is not deleted on the other"
        sides.sync("--fresh", downloaded=BOXES["Work"])
        sides.settle()

    def test_deleted_there(self, sides: Sides) -> None:
        sides.start()
        before = keyed(sides.root / "Work")
        sides.tell("delete", "Work")
        sides.sync()
        assert keyed(sides.root / "Work") == before
        assert "Work" not in sides.there()
        sides.sync()

    def test_deleted_there_above_another(self, sides: Sides) -> None:
        """Its name stays there as a level of names (\\Noselect): it is gone all the same, and that is told."""
        sides.start()
        sides.tell("create", "Work/a")
        sides.sync()
        before = keyed(sides.root / "Work")
        sides.tell("delete", "Work")
        assert sides.sync()["notices"] == ["Work: no longer at the server; what is here stays"]
        assert keyed(sides.root / "Work") == before
        status = sides.shell.run("status").out
        assert "no longer at the server" in status
        sides.tell("create", "Work")
        sides.sync(uploaded=BOXES["Work"])
        sides.settle()

    @pytest.mark.parametrize("here", [True, False])
    def test_renamed_with_what_is_below(self, sides: Sides, here: bool) -> None:
        sides.start()
        sides.tell("create", "Work/a")
        sides.server.deliver(sides.user, "Work/a", [Mail(data, "S", DATE) for data in mails(2, seed=8)])
        sides.sync(downloaded=2)
        if here:
            (sides.root / "Work").rename(sides.root / "Projects")
        else:
            sides.tell("rename", "Work", "Projects")
        report = sides.shell.run("sync", "--json").json
        assert (report["error"], report["uploaded"], report["downloaded"]) == (None, 0, 0)
        assert {"Projects", "Projects/a"} < sides.there().keys()
        sides.settle()


class TestSafety:
    def test_all_deleted_here(self, sides: Sides) -> None:
        sides.start()
        for number in range(BOXES["INBOX"]):
            sides.path("INBOX", number).unlink()
        sides.mark(sides.path("Work", 0), "F")
        before = sides.server.messages(sides.user)
        report = sides.sync(status=3, flags_pushed=1)
        assert [stop["mailbox"] for stop in report["stops"]] == ["INBOX"]
        assert sides.server.messages(sides.user) == before
        sides.sync(status=3)
        sides.sync("--allow-mass-delete", deleted_remote=BOXES["INBOX"])
        assert sides.server.messages(sides.user) == {}
        sides.settle()

    def test_all_deleted_there(self, sides: Sides) -> None:
        sides.start()
        sides.expunge("INBOX", *range(BOXES["INBOX"]))
        before = keyed(sides.root / "INBOX")
        report = sides.sync(status=3)
        assert [stop["mailbox"] for stop in report["stops"]] == ["INBOX"]
        assert keyed(sides.root / "INBOX") == before
        sides.sync(status=3)
        sides.sync("--allow-mass-delete", deleted_local=BOXES["INBOX"])
        sides.settle()

    def test_a_maildir_that_is_not_there(self, sides: Sides) -> None:
        sides.start()
        sides.root.rename(sides.root.with_name("elsewhere"))
        before = sides.there()
        assert sides.shell.run("sync").status == 3
        assert sides.there() == before
        sides.root.with_name("elsewhere").rename(sides.root)
        sides.settle()

    def test_lost_state(self, sides: Sides) -> None:
        sides.start()
        for file in sides.root.glob(".fetchmail-py.sqlite3*"):
            file.unlink()
        report = sides.sync()
        assert report["downloaded_bytes"] == 0
        sides.settle()

    def test_lost_state_and_changes_on_both_sides(self, sides: Sides) -> None:
        sides.start()
        for file in sides.root.glob(".fetchmail-py.sqlite3*"):
            file.unlink()
        first, second = mails(2, seed=9)
        sides.add("INBOX", "cur/1700000001.a.host:2,S", first, DATE)
        sides.server.deliver(sides.user, "INBOX", [Mail(second, "S", DATE)])
        sides.path("INBOX", 1).unlink()
        sides.expunge("INBOX", 2)
        # Nothing tells a deletion from an arrival at the other side: nothing is deleted on either.
        sides.sync(downloaded=2, uploaded=2)
        sides.settle()

    def test_dry_run(self, sides: Sides) -> None:
        sides.start()
        sides.mark(sides.path("INBOX", 0), "F")
        sides.store("INBOX", 1, "+", "\\Flagged")
        sides.path("INBOX", 2).unlink()
        sides.expunge("INBOX", 3)
        sides.carry(sides.path("INBOX", 4), "Work")
        with sides.selected("INBOX") as client:
            client.uid("MOVE", sides.uid("INBOX", 5), "Work")
        sides.add("INBOX", "new/1700000001.a.host", next(mails(1, seed=10)), DATE)
        sides.server.deliver(sides.user, "Work", [Mail(next(mails(1, seed=11)), "", DATE)])
        sides.make("here")
        sides.tell("create", "there")
        (sides.root / "Ünï & mehr").rename(sides.root / "anders")
        before = sides.snapshot()
        report = sides.sync("--dry-run")
        assert sides.snapshot() == before
        assert set(plan(report)) == {
            "create-local-mailbox", "create-remote-mailbox", "rename-remote-mailbox", "merge-flags", "move-local", "move-remote",
            "download", "upload", "delete-local", "delete-remote",
        }  # fmt: skip
        sides.sync(
            flags_pushed=1, flags_pulled=1, moved_local=1, moved_remote=2, downloaded=1, uploaded=1, deleted_local=1,
            deleted_remote=1,
        )  # fmt: skip
        sides.settle()

    def test_killed_while_it_uploads(self, sides: Sides) -> None:
        sides.start()
        for number, data in enumerate(mails(1000, seed=12)):
            sides.add("Work", f"cur/1700000{number:04}.x.host:2,S", data, DATE + number)
        for delay in (0.4, 0.5, 0.6, 0.7):
            process = subprocess.Popen(
                sides.shell.command("sync"),
                env=sides.shell.environment,
                cwd=sides.shell.root,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            process.communicate()
        assert sides.shell.run("sync").status == 0
        sides.settle()


def test_two_runs_at_once(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        shell.configure(
            f'[accounts.work]\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nuser = "ann"\nmaildir = "~/Mail/work"\n'
        )
        with subprocess.Popen(
            shell.command("sync"), env=shell.environment, cwd=shell.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as first:
            connection, _ = silent.accept()  # it waits for a greeting now
            with connection:
                second = shell.run("sync")
            assert second.status == 75
            assert "is at work on" in second.err
            silent.close()
            first.communicate(timeout=60)
            assert first.returncode in {69, 75}
    assert os.path.isdir(shell.root / "Mail/work")
