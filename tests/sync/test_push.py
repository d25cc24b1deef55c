"""What the server refuses, and what goes on on either side while a run is at work: nothing is lost for it, and nothing doubled."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.base import Connection
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.sync.test_folders import filled
from tests.sync.test_twoway import a_file, assert_equal, done
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
