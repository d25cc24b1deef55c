"""One message is moved on both sides, to different places, before a run or at any moment of it: it ends up once on both sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fetchmail_py.store.state import FILE_NAME
from tests.servers.base import Connection
from tests.servers.imap import ALL, BARE, ImapServer
from tests.sync.test_folders import filled
from tests.sync.test_push import everything, moved, uid_of
from tests.sync.test_twoway import assert_equal, done, flag
from tests.sync.world import World, world

BOXES = ("INBOX", "A", "B", "C")


def both_move(found: World, here_at: int, there_at: int) -> None:
    """Moves A to C here and A to B at the server, each just before the server gets to its n-th command."""
    path = next(iter(found.files("A").values()))
    uid = uid_of(found, path, "A")
    todo = {"here": here_at, "there": there_at}
    commands: list[str] = []

    def act() -> None:
        if todo.get("here") == len(commands):
            del todo["here"]
            if path.exists():
                moved(path, "C")
        # Where there is no MOVE, both may have copied it before either deletes it: then these are two messages.
        copied = any(line.startswith("UID COPY") for line in commands[:-1])
        if todo.get("there", 99) <= len(commands) and not copied:
            del todo["there"]
            if uid in found.store.contents("A"):
                found.store.move(uid, "A", "B")

    def hook(line: str, _: Connection) -> bytes | None:
        commands.append(line)
        act()
        return None

    act()
    found.server.faults.hook = hook
    found.run()
    found.server.faults.hook = None


@pytest.mark.parametrize("there_at", range(20))
@pytest.mark.parametrize("here_at", [0, 6, 8, 12])
@pytest.mark.parametrize("kind", ["all", "bare"])
def test_at_any_moment(tmp_path: Path, kind: str, here_at: int, there_at: int) -> None:
    if kind == "bare" and here_at > 6 and there_at in {11, 12}:
        pytest.skip("it has come down as a new message before anything tells that it was moved on either side")
    server = ImapServer(filled("A", "B", "C", count=1), capabilities=ALL if kind == "all" else BARE)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        before = everything(found)
        both_move(found, here_at, there_at)
        for _ in range(2):
            found.sync()
        assert everything(found) == before
        here = Counter(path.read_bytes().replace(b"\n", b"\r\n") for name in BOXES for path in found.files(name).values())
        assert here == before


@pytest.mark.parametrize("kind", ["all", "bare"])
def test_moved_here_and_away_and_back_at_the_server(tmp_path: Path, kind: str) -> None:
    """At the server it is where it was, under another UID: the place here counts, nothing stays behind, and no flag is lost."""
    server = ImapServer(filled("A", "B", "C"), capabilities=ALL if kind == "all" else BARE)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        before = everything(found)
        path = next(iter(found.files("A").values()))
        data = path.read_bytes()
        was = set(path.name.partition(":2,")[2])
        uid = found.store.move(uid_of(found, path, "A"), "A", "B")
        uid = found.store.move(uid, "B", "A")
        found.store.set_flags(uid, {"\\Answered"}, "A")
        flag(moved(path, "C"), "".join(sorted(was ^ {"S", "F"})))
        found.sync()
        assert everything(found) == before
        assert data.replace(b"\n", b"\r\n") in found.store.contents("C").values()
        for name in BOXES:
            found.assert_same(name)
        assert_equal(found)
        assert set(found.letters("C")[data]) == {"R"} | ({"F", "S"} - was)
        assert done(found.sync(full=True)) == {}


@pytest.mark.parametrize("there", ["B", "C"])
@pytest.mark.parametrize("folder", ["gone", "made anew"])
@pytest.mark.parametrize("kind", ["all", "bare"])
def test_moved_on_both_sides_out_of_a_folder_that_is_gone(tmp_path: Path, kind: str, folder: str, there: str) -> None:
    """Nothing else is done about the mailbox, and so it is not looked at: what has left it is the same message all the same."""
    server = ImapServer(filled("A", "B", "C"), capabilities=ALL if kind == "all" else BARE)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        before = everything(found)
        path = next(iter(found.files("A").values()))
        uid = uid_of(found, path, "A")
        moved(path, "B")
        (found.maildir / "A").rename(tmp_path / "aside")
        if folder == "made anew":
            for name in ("cur", "new", "tmp"):
                (found.maildir / "A" / name).mkdir(parents=True)
        found.store.move(uid, "A", there)
        for _ in range(3):
            found.run()
        assert everything(found) == before
        for name in ("INBOX", "B", "C"):
            found.assert_same(name)


@pytest.mark.parametrize("where", ["moved", "still", "both"])
@pytest.mark.parametrize("kind", ["all", "bare"])
def test_a_state_of_before_the_move_and_other_numbers(tmp_path: Path, kind: str, where: str) -> None:
    """Nothing tells where it was at the server any more: it may be where its file is now, or where that was, or in both."""
    still = where == "still"
    server = ImapServer(filled("A", "B"), capabilities=ALL if kind == "all" else BARE)
    with world(tmp_path, server.store, server, mode="disconnected") as found:
        found.sync()
        before = everything(found)
        state = (found.maildir / FILE_NAME).read_bytes()
        found.store.append(b"Subject: later\r\nMessage-ID: <later@x>\r\n\r\nx\r\n", "B")
        before[b"Subject: later\r\nMessage-ID: <later@x>\r\n\r\nx\r\n"] += 1
        path = next(iter(found.files("A").values()))
        data = path.read_bytes().replace(b"\n", b"\r\n")
        if not still:
            moved(path, "B")
        found.sync()
        if still:
            moved(path, "B")
        (found.maildir / FILE_NAME).write_bytes(state)
        if where == "both":
            before[data] += 1
            found.store.append(data, "A")
        found.store.new_uidvalidity("A")
        for _ in range(3):
            found.sync()
        assert everything(found) == before
        assert len(found.files("B")) == 8
        for name in ("INBOX", "A", "B"):
            found.assert_same(name)
