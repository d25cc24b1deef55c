"""Servers that say what is not so: nothing is lost for it, nothing is doubled, and nothing that nobody meant is deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import ExitStatus
from fetchmail_py.sync import imap_execute
from tests.servers.base import Connection, Server
from tests.servers.imap import ALL, BARE, ImapOptions, ImapServer
from tests.servers.mailbox import Store
from tests.servers.mails import mails
from tests.sync.test_twoway import assert_equal, done
from tests.sync.world import World, world

Hook = Callable[[str, Connection], bytes | None]


def filled(count: int = 6) -> Store:
    store = Store()
    for data in mails(count):
        store.append(data)
    return store


def new_file(found: World, data: bytes = b"Subject: from here\n\nbody\n") -> Path:
    path = found.maildir / "INBOX/cur/1700000001.new.here:2,S"
    path.write_bytes(data)
    return path


class Answers:
    """A hook that answers what begins with one of these words; `{tag}` stands for the command's tag."""

    def __init__(self, server: Server, answers: dict[str, str], times: int = 10**6) -> None:
        self._answers = answers
        self._left = times
        self._tags = 0
        server.faults.hook = self

    def __call__(self, line: str, connection: Connection) -> bytes | None:
        for words, answer in self._answers.items():
            if line.upper().startswith(words) and self._left:
                self._left -= 1
                return answer.format(tag=connection.tag).encode()
        return None


@pytest.mark.parametrize("mode", ["disconnected", "mirror", "offline"])
def test_a_mailbox_that_cannot_be_opened_is_not_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """FETCHes were sent behind a SELECT that fails: a server that still has the mailbox before selected answers them from there."""
    monkeypatch.setattr(imap_execute, "WINDOW", 2)
    store = filled()
    store.create("Second")
    for data in mails(6, seed=9):
        store.append(data, "Second")
    server = ImapServer(store)
    with world(tmp_path, store, server, mode=mode) as found:
        looks = 0

        def hook(line: str, connection: Connection) -> bytes | None:
            nonlocal looks
            if line.startswith('EXAMINE "Second"'):
                looks += 1
                if looks == 2:
                    return f"{connection.tag} NO [SERVERBUG] not now\r\n".encode()
            return None

        wanted = {box: set(store.contents(box).values()) for box in ("INBOX", "Second")}
        server.faults.hook = hook
        assert found.run().failure is not None
        assert looks == 2
        server.faults.hook = None
        found.sync()
        for box, contents in wanted.items():
            assert {path.read_bytes().replace(b"\n", b"\r\n") for path in found.files(box).values()} == contents


class TestUploads:
    @pytest.fixture
    def account(self, tmp_path: Path) -> Iterator[World]:
        store = filled(3)
        with world(tmp_path, store, ImapServer(store), mode="disconnected") as found:
            found.sync()
            yield found

    @pytest.mark.parametrize("answer", ["OK [APPENDUID {validity} 999] done", "OK done", "OK [APPENDUID {validity} 1] done"])
    def test_taken_and_not_there(self, account: World, answer: str) -> None:
        """The file stays, goes up once more in the next run, and is set aside if that was for nothing too."""
        validity = account.store.mailboxes["INBOX"].uidvalidity
        path = new_file(account)
        Answers(account.server, {"APPEND": "{tag} " + answer.replace("{validity}", str(validity)) + "\r\n"})
        statuses = [account.run().exit_status for _ in range(4)]
        assert statuses == [ExitStatus.OK, *[ExitStatus.PARTIAL] * 3]
        assert sum(line.startswith("APPEND") for line in account.commands) == 2
        assert path.exists()
        assert len(account.store.contents()) == 3

    def test_taken_and_not_there_and_then_taken(self, account: World) -> None:
        new_file(account)
        Answers(account.server, {"APPEND": "{tag} OK done\r\n"}, times=1)
        account.run()
        account.sync()
        assert len(account.store.contents()) == 4
        assert_equal(account)

    def test_stored_under_another_uid(self, account: World) -> None:
        """Without a Message-ID too: it is known by its content, and neither deleted nor doubled."""
        new_file(account)

        def hook(line: str, connection: Connection) -> bytes | None:
            if not line.startswith("APPEND"):
                return None
            account.store.append(b"Subject: from here\r\n\r\nbody\r\n", flags=["\\Seen"])
            return f"{connection.tag} OK [APPENDUID {account.store.mailboxes['INBOX'].uidvalidity} 999] done\r\n".encode()

        account.server.faults.hook = hook
        account.sync()
        account.server.faults.hook = None
        assert_equal(account)
        assert len(account.store.contents()) == 4

    def test_moved_and_not_there(self, account: World) -> None:
        account.store.create("Archive")
        account.sync()
        validity = account.store.mailboxes["Archive"].uidvalidity
        path = next(iter(account.files().values()))
        data = path.read_bytes()
        path.rename(account.maildir / "Archive/cur" / f"{path.name.partition(':')[0]}:2,S")
        Answers(account.server, {"UID MOVE": f"* OK [COPYUID {validity} 1 77] moved\r\n{{tag}} OK done\r\n"}, times=1)
        account.run()
        account.run()
        account.sync()
        everything = [m.data for box in account.store.mailboxes.values() for m in box.messages]
        assert everything.count(data.replace(b"\n", b"\r\n")) == 1
        files = [path for name in account.store.mailboxes for path in account.files(name).values()]
        assert [path.read_bytes() for path in files].count(data) == 1
        assert_equal(account)


def new_validity(found: World) -> None:
    found.store.new_uidvalidity()


def lost_state(found: World) -> None:
    for path in found.maildir.glob(".fetchmail-py.sqlite3*"):
        path.unlink()


class TestWhatCannotBeRecognised:
    """Messages here may be those at the server, which cannot be looked at: they do not go up for that."""

    @pytest.mark.parametrize("answer", ["NO no", "NO [UNAVAILABLE] no", "BAD no", "OK done"])
    @pytest.mark.parametrize("before", [new_validity, lost_state])
    @pytest.mark.parametrize("capabilities", [ALL, BARE], ids=["all", "bare"])
    def test_bodies_and_headers_are_refused(
        self, tmp_path: Path, capabilities: frozenset[str], before: Callable[[World], None], answer: str
    ) -> None:
        store = filled()
        server = ImapServer(store, capabilities=capabilities)
        with world(tmp_path, store, server, mode="disconnected") as found:
            found.sync()
            before(found)

            def hook(line: str, connection: Connection) -> bytes | None:
                asked = line.startswith("UID FETCH") and "BODY" in line
                return f"{connection.tag} {answer}\r\n".encode() if asked else None

            server.faults.hook = hook
            assert found.run().exit_status is not ExitStatus.OK
            assert len(store.contents()) == 6
            server.faults.hook = None
            found.sync()
            assert len(store.contents()) == 6
            assert_equal(found)

    @pytest.mark.parametrize("before", [new_validity, lost_state])
    def test_a_listing_is_not_complete(self, tmp_path: Path, before: Callable[[World], None]) -> None:
        store = filled()
        options = ImapOptions()
        server = ImapServer(store, capabilities=BARE, options=options)
        with world(tmp_path, store, server, mode="disconnected") as found:
            found.sync()
            before(found)
            options.omit = frozenset({2, 4, 5})
            report = found.run()
            assert report.exit_status is ExitStatus.PROTOCOL
            assert len(store.contents()) == 6
            options.omit = frozenset()
            found.sync()
            assert len(store.contents()) == 6
            assert_equal(found)

    def test_what_is_new_here_goes_up_all_the_same(self, tmp_path: Path) -> None:
        """One message that can never be read at the server holds up no other."""
        store = filled()
        options = ImapOptions(nil=frozenset({3}))
        with world(tmp_path, store, ImapServer(store, options=options), mode="disconnected") as found:
            assert found.run().exit_status is ExitStatus.PARTIAL
            new_file(found)
            report = found.run()
            assert report.exit_status is ExitStatus.PARTIAL
            assert done(report) == {"uploaded": 1}
            assert len(store.contents()) == 7


@pytest.mark.parametrize("mode", ["disconnected", "mirror", "backup", "offline"])
def test_an_incomplete_listing_is_no_success(tmp_path: Path, mode: str) -> None:
    """Silence in a cron job's mail would mean that all is well."""
    store = filled()
    options = ImapOptions(omit=frozenset({2}))
    with world(tmp_path, store, ImapServer(store, capabilities=BARE, options=options), mode=mode) as found:
        report = found.run()
        assert report.exit_status is ExitStatus.PROTOCOL
        assert report.downloaded == 5
        options.omit = frozenset()
        found.sync()
        assert len(found.files()) == 6


@pytest.mark.parametrize("listing", [b"", b'* LIST () "/" Archive\r\n'])
def test_an_account_without_inbox_has_not_been_listed(tmp_path: Path, listing: bytes) -> None:
    store = filled()
    store.create("Archive")
    server = ImapServer(store)
    with world(tmp_path, store, server, mode="disconnected") as found:
        found.sync()

        def hook(line: str, connection: Connection) -> bytes | None:
            return listing + connection.tag.encode() + b" OK done\r\n" if line.startswith("LIST") else None

        server.faults.hook = hook
        assert found.run().exit_status is ExitStatus.PROTOCOL
        server.faults.hook = None
        assert_equal(found)


@pytest.mark.parametrize("times", [1, 10])
def test_uidvalidity_changes_during_the_run(tmp_path: Path, times: int) -> None:
    """It is looked at again; a mailbox that is another at each look is an error."""
    store = filled()
    server = ImapServer(store)
    with world(tmp_path, store, server, mode="disconnected") as found:
        left = times

        def hook(line: str, _: Connection) -> bytes | None:
            nonlocal left
            if line.startswith("EXAMINE") and left:
                left -= 1
                server.faults.hook = after
            return None

        def after(line: str, connection: Connection) -> bytes | None:
            if line.startswith(("LIST", "UID FETCH", "UID SEARCH")) and "BODY" not in line:
                return None
            if line.startswith("UID FETCH") and "BODY.PEEK[]" in line:
                store.new_uidvalidity()
                server.faults.hook = hook
                return f"{connection.tag} NO gone\r\n".encode()
            return None

        server.faults.hook = hook
        found.run()
        found.run()
        server.faults.hook = None
        found.sync()
        assert_equal(found)
        assert len(store.contents()) == 6


class TestUidsGivenAgain:
    @pytest.mark.parametrize("trash", [None, "Trash"])
    def test_another_message_is_not_deleted(self, tmp_path: Path, trash: str | None) -> None:
        """A UID that names another message now, under the same UIDVALIDITY, as some bridges have it."""
        store = filled()
        store.create("Trash")
        with world(tmp_path, store, ImapServer(store), mode="disconnected", trash=trash) as found:
            found.sync()
            message = store.mailboxes["INBOX"].messages[2]
            content = message.data.replace(b"\r\n", b"\n")
            next(path for path in found.files().values() if path.read_bytes() == content).unlink()
            message.data = b"Message-ID: <another@example.org>\r\nSubject: another\r\n\r\nNobody has seen this.\r\n"
            found.sync()
            assert message.data in store.contents().values()
            assert message.data.replace(b"\r\n", b"\n") in [path.read_bytes() for path in found.files().values()]

    def test_offline(self, tmp_path: Path) -> None:
        store = filled()
        server = ImapServer(store)
        with world(tmp_path, store, server, mode="offline") as found:
            Answers(server, {"UID STORE": "{tag} NO not now\r\n"})
            found.run()
            server.faults.hook = None
            message = store.mailboxes["INBOX"].messages[2]
            message.data = b"Message-ID: <another@example.org>\r\nSubject: another\r\n\r\nNobody has seen this.\r\n"
            found.sync()
            assert message.data.replace(b"\r\n", b"\n") in [path.read_bytes() for path in found.files().values()]
            assert len(found.files()) == 7


@pytest.mark.parametrize("mode", ["disconnected", "offline"])
def test_a_substitute_is_not_the_message(tmp_path: Path, mode: str) -> None:
    """Exchange answers OK with a message of its own where it cannot read one: the original is not deleted for that."""
    store = filled(2)
    original = store.mailboxes["INBOX"].messages[1]
    kept, original.data = original.data, (
        b"From: Microsoft Exchange Server\r\n"
        b"Subject: Retrieval using the IMAP4 protocol failed for the following message: 7\r\n\r\n"
        b"The server couldn't retrieve the following message\r\n"
    )
    with world(tmp_path, store, ImapServer(store), mode=mode) as found:
        report = found.run()
        assert report.exit_status is ExitStatus.PARTIAL
        assert original in store.mailboxes["INBOX"].messages
        assert len(found.files()) == 1
        original.data = kept
        found.sync()
        assert len(found.files()) == 2
