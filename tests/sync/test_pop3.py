"""POP3 against the embedded server: download and delete, keep, and servers that do not keep to the rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fetchmail_py.errors import AuthenticationFailed, ConfigError, ExitStatus, ServerBusy, StoreError
from fetchmail_py.model import Delivered, Flags
from fetchmail_py.report import CheckLine
from fetchmail_py.store.maildir import Maildir, PublishError
from fetchmail_py.sync.check import check_account
from tests.servers.base import Connection, Cut, Tls
from tests.servers.mailbox import Store
from tests.servers.mails import AWKWARD, mails
from tests.servers.pop3 import Pop3Options, Pop3Server
from tests.sync.world import World, world

DAY = 24 * 3600.0


class Clock:
    """This machine's clock, which a test sets."""

    def __init__(self) -> None:
        self.now = time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "time", lambda: found.now)
    return found


@pytest.fixture(params=[True, False], ids=["pipelining", "one at a time"])
def drop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """A maildrop with 30 messages."""
    store = Store()
    for data in mails(30):
        store.append(data)
    options = Pop3Options(pipelining=bool(request.param))
    with world(tmp_path, store, Pop3Server(store, options=options), keep=0.0) as found:
        yield found


def options(found: World) -> Pop3Options:
    assert isinstance(found.server, Pop3Server)
    return found.server.options


def on_disk(found: World) -> list[bytes]:
    """The messages here, as they would be on the wire."""
    return sorted(path.read_bytes().replace(b"\n", b"\r\n") for path in found.files().values())


def test_downloads_and_deletes(drop: World) -> None:
    contents = sorted(drop.store.contents().values())
    report = drop.sync()
    assert (report.downloaded, report.deleted_remote) == (30, 30)
    assert drop.store.contents() == {}
    assert sorted(drop.wire()) == contents
    assert {path.parent.name for path in drop.files().values()} == {"new"}
    drop.commands.clear()
    assert drop.sync().downloaded == 0
    assert not [line for line in drop.commands if line.startswith(("RETR", "DELE", "TOP"))]


def test_dry_run(drop: World) -> None:
    plan = [str(action) for action in drop.run(dry_run=True).plan]
    octets = sum(map(len, drop.store.contents().values()))
    assert plan == [
        f"maildrop: download 30 messages ({octets} octets)",
        "maildrop: delete 30 messages at the server, once stored",
    ]
    assert len(drop.store.contents()) == 30
    assert not drop.maildir.exists()


def test_awkward_mail(tmp_path: Path) -> None:
    store = Store()
    for data in AWKWARD.values():
        store.append(data)
    with world(tmp_path, store, Pop3Server(store)) as found:
        found.sync()
        # POP3 cannot say that a message has no line end at its end: the server adds one.
        expected = sorted(d if not d or d.endswith(b"\r\n") else d + b"\r\n" for d in AWKWARD.values())
        assert sorted(found.wire().elements()) == expected


class TestKeep:
    def test_for_ever(self, drop: World) -> None:
        drop.settings(keep=None)
        assert drop.sync().downloaded == 30
        for path in drop.files().values():
            path.unlink()  # the user has read it, and thrown it away
        report = drop.sync()
        assert (report.downloaded, report.deleted_remote) == (0, 0)
        assert len(drop.store.contents()) == 30

    def test_an_age_counts_from_when_it_was_stored(self, drop: World, clock: Clock) -> None:
        drop.settings(keep=14 * DAY)
        drop.sync()
        for _ in range(7):
            assert drop.sync().deleted_remote == 0
            clock.now += 2 * DAY
        drop.store.append(b"Subject: later\r\n\r\n")
        report = drop.sync()
        assert (report.downloaded, report.deleted_remote) == (1, 30)
        assert len(drop.store.contents()) == 1

    @pytest.mark.parametrize("expire", ["EXPIRE 0", "expire 0 USER"])
    def test_a_server_that_does_not_is_told_of_once(self, drop: World, expire: str) -> None:
        drop.settings(keep=None)
        options(drop).capabilities = (expire,)
        (notice,) = drop.sync().notices
        assert "EXPIRE 0" in notice
        assert drop.sync().notices == []
        options(drop).capabilities = ("EXPIRE 60",)
        assert drop.sync().notices == []
        options(drop).capabilities = (expire,)
        assert drop.sync().notices == [notice]

    @pytest.mark.parametrize(
        ("expire", "shown"),
        [("EXPIRE 0", "end of the session"), ("EXPIRE 30 USER", "after 30 days"), ("EXPIRE NEVER", "ever"), ("EXPIRE", "some day")],
    )
    def test_check_shows_how_long_the_server_does(self, drop: World, expire: str, shown: str) -> None:
        options(drop).capabilities = (expire,)
        lines: list[CheckLine] = []
        assert check_account(drop.account, lambda: drop.store.password, on_line=lines.append) is ExitStatus.OK
        assert [shown in line.text for line in lines if line.what == "EXPIRE"] == [True]

    def test_is_refused_without_uidl(self, drop: World) -> None:
        options(drop).uidl = False
        drop.settings(keep=None)
        report = drop.run()
        assert isinstance(report.failure, ConfigError)
        assert report.failure.key == "keep"
        assert drop.files() == {}


class TestAClockThatJumps:
    """Ages are told by it: nothing may become old at once, and nothing may stay for ever."""

    @pytest.fixture
    def kept(self, drop: World, clock: Clock) -> World:
        """Fourteen days at the server, run twice, a day apart."""
        drop.settings(keep=14 * DAY)
        drop.sync()
        clock.now += DAY
        drop.sync()
        return drop

    def waits(self, kept: World) -> None:
        report = kept.run()
        assert report.exit_status is ExitStatus.SAFETY
        assert report.deleted_remote == 0
        assert report.stops[0].detail.startswith("30 of 30 messages at the server would be deleted for their age")
        assert "--allow-mass-delete" in (report.stops[0].hint or "")

    @pytest.mark.parametrize("years", [0.05, 1, 73])
    def test_forward_it_asks_until_it_is_right_again(self, kept: World, clock: Clock, years: float) -> None:
        before = clock.now
        clock.now += years * 365 * DAY
        kept.store.append(b"Subject: came while it was wrong\r\n\r\n")
        assert [action.as_dict()["do"] for action in kept.run(dry_run=True).plan] == ["retrieve"]
        self.waits(kept)
        assert len(kept.files()) == 31, "new mail comes in all the same"
        clock.now += DAY
        self.waits(kept)
        clock.now = before + DAY
        assert kept.sync().deleted_remote == 0
        for _ in range(5):
            clock.now += 2 * DAY
            assert kept.sync().deleted_remote == 0
        clock.now += 2 * DAY
        assert kept.sync().deleted_remote == 30
        clock.now += 2 * DAY
        assert kept.sync().deleted_remote == 1, "it was stored when the clock was right again, at the latest"

    def test_what_comes_in_meanwhile_makes_it_no_smaller(self, kept: World, clock: Clock) -> None:
        clock.now += 73 * 365 * DAY
        for data in mails(40, seed=9):
            kept.store.append(data)
        for _ in range(3):
            self.waits(kept)

    def test_forward_it_may_be_right(self, kept: World, clock: Clock) -> None:
        clock.now += 40 * DAY
        self.waits(kept)
        assert kept.run(allow_mass_delete=True).deleted_remote == 30
        assert kept.sync().failure is None
        for data in mails(5, seed=9):
            kept.store.append(data)
        kept.sync()
        clock.now += 40 * DAY
        assert kept.sync().deleted_remote == 5, "so long a time has passed before"

    def test_a_leap_that_found_nothing_to_delete_makes_the_next_one_no_more_usual(
        self, tmp_path: Path, clock: Clock
    ) -> None:
        store = Store()
        with world(tmp_path, store, Pop3Server(store), keep=14 * DAY) as found:
            found.sync()
            clock.now += 40 * DAY
            found.sync()
            for data in mails(30):
                store.append(data)
            found.sync()
            clock.now += 50 * DAY
            self.waits(found)

    def test_a_holiday_is_usual_for_a_while_only(self, kept: World, clock: Clock) -> None:
        clock.now += 40 * DAY
        assert kept.run(allow_mass_delete=True).deleted_remote == 30
        for _ in range(70):
            clock.now += DAY
            kept.sync()
        for data in mails(30, seed=9):
            kept.store.append(data)
        kept.sync()
        clock.now += 50 * DAY
        self.waits(kept)

    def test_a_few_need_no_word(self, tmp_path: Path, clock: Clock) -> None:
        store = Store()
        for data in mails(2):
            store.append(data)
        with world(tmp_path, store, Pop3Server(store), keep=14 * DAY) as found:
            found.sync()
            clock.now += 20 * DAY
            assert found.sync().deleted_remote == 2

    def test_backward_nothing_is_old_and_the_next_day_is_as_ever(self, kept: World, clock: Clock) -> None:
        before = clock.now
        clock.now = 86400.0
        kept.store.append(b"Subject: came while it was wrong\r\n\r\n")
        report = kept.sync()
        assert (report.downloaded, report.deleted_remote) == (1, 0)
        assert "behind" in report.notices[0]
        clock.now = before + DAY
        report = kept.sync()
        assert (report.deleted_remote, report.notices) == (0, [])
        assert len(kept.store.contents()) == 31

    def test_backward_it_may_be_right(self, kept: World, clock: Clock) -> None:
        clock.now -= 400 * DAY
        assert "--allow-mass-delete" in kept.sync().notices[0]
        assert kept.run(allow_mass_delete=True).deleted_remote == 0
        assert kept.sync().notices == []
        for _ in range(6):
            clock.now += 2 * DAY
            assert kept.sync().deleted_remote == 0
        clock.now += 2 * DAY
        assert kept.sync().deleted_remote == 30

    def test_download_and_delete_needs_no_clock(self, drop: World, clock: Clock) -> None:
        drop.sync()
        for data in mails(30, seed=4):
            drop.store.append(data)
        clock.now += 73 * 365 * DAY
        assert drop.sync().deleted_remote == 30
        clock.now = 0.0
        assert drop.sync().notices == []


class TestQuit:
    def test_refused_costs_nothing_and_doubles_nothing(self, drop: World) -> None:
        options(drop).refuse_quit = "some messages were not removed"
        report = drop.run()
        assert report.exit_status is ExitStatus.TRY_AGAIN
        assert len(drop.files()) == 30
        options(drop).refuse_quit = None
        report = drop.sync()
        assert (report.downloaded, report.deleted_remote) == (0, 30)
        assert drop.store.contents() == {}

    @pytest.mark.parametrize("deleted", [True, False])
    def test_answer_lost(self, drop: World, *, deleted: bool) -> None:
        if deleted:
            options(drop).cut_at_quit = True
        else:
            drop.server.faults.hook = cut_at("QUIT")
        assert drop.run().exit_status is ExitStatus.TRY_AGAIN
        options(drop).cut_at_quit = False
        drop.server.faults.hook = None
        drop.store.append(b"Subject: meanwhile\r\n\r\n")
        assert drop.sync().downloaded == 1
        assert len(drop.files()) == 31
        assert drop.store.contents() == {}


def cut_at(word: str) -> Callable[[str, Connection], bytes | None]:
    """A fault: the connection is cut when this command comes."""

    def hook(line: str, _: Connection) -> bytes | None:
        if line.startswith(word):
            raise Cut
        return None

    return hook


class TestUidl:
    def test_none_at_all(self, drop: World) -> None:
        options(drop).uidl = False
        assert drop.sync().deleted_remote == 30
        drop.store.append(b"Subject: new\r\n\r\n")
        assert drop.sync().downloaded == 1
        assert len(drop.files()) == 31

    def test_none_and_the_link_is_lost_before_quit(self, drop: World) -> None:
        options(drop).uidl = False
        drop.server.faults.hook = cut_at("QUIT")
        assert drop.run().exit_status is ExitStatus.TRY_AGAIN
        drop.server.faults.hook = None
        assert drop.sync().deleted_remote == 30
        assert len(drop.files()) == 30

    def test_the_same_for_all(self, drop: World) -> None:
        options(drop).uidl_of = lambda _: "same"
        assert drop.sync().downloaded == 30
        assert drop.store.contents() == {}

    @pytest.mark.parametrize("keep", [0.0, None])
    def test_one_for_copies_and_for_another_message(self, drop: World, keep: float | None) -> None:
        """Copies are stored once and deleted together; what differs is another message whatever its UIDL."""
        options(drop).uidl_of = lambda message: "same" if message.uid in {3, 9, 20, 25} else f"u{message.uid}"
        inbox = drop.store.mailboxes["INBOX"].messages
        inbox[8].data = inbox[24].data = inbox[2].data
        drop.settings(keep=keep)
        expected = sorted({message.data for message in inbox})
        assert len(expected) == 28
        drop.sync()
        assert on_disk(drop) == expected
        if keep == 0:
            assert drop.store.contents() == {}
            return
        for _ in range(2):
            assert drop.sync().downloaded == 0
        drop.settings(keep=0.0)
        drop.sync()
        assert on_disk(drop) == expected
        assert drop.store.contents() == {}

    def test_copies_stay_at_the_server_where_the_one_could_not_be_stored(
        self, drop: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        options(drop).uidl_of = lambda _: "same"
        for message in drop.store.mailboxes["INBOX"].messages:
            message.data = b"Subject: the same\r\n\r\n"

        def full(_: Maildir, items: list[tuple[Delivered, Flags, str]]) -> tuple[str, ...]:
            raise PublishError(StoreError("disk full"), [delivered.key for delivered, _, _ in items], ())

        with monkeypatch.context() as broken:
            broken.setattr(Maildir, "publish", full)
            assert drop.run().exit_status is ExitStatus.DISK
        assert len(drop.store.contents()) == 30
        drop.sync()
        assert len(drop.files()) == 1
        assert drop.store.contents() == {}

    def test_changed_by_a_migration(self, drop: World) -> None:
        drop.settings(keep=None)
        drop.sync()
        options(drop).uidl_of = lambda message: f"after-the-move-{message.uid}-{'x' * 100}"
        drop.commands.clear()
        assert drop.sync().downloaded == 0
        assert not [line for line in drop.commands if line.startswith("RETR")]
        assert len([line for line in drop.commands if line.startswith("TOP")]) == 30
        drop.commands.clear()
        drop.sync()
        assert not [line for line in drop.commands if line.startswith("TOP")], "the new UIDLs are known now"

    def test_changed_and_no_top(self, drop: World) -> None:
        drop.settings(keep=None)
        drop.sync()
        options(drop).uidl_of = lambda message: f"other-{message.uid}"
        options(drop).top = False
        drop.run()
        assert len(drop.files()) == 30

    def test_sizes_that_are_lies(self, drop: World) -> None:
        options(drop).size_of = lambda message: len(message.data) // 2 + 7
        drop.settings(keep=None)
        drop.sync()
        drop.assert_same()
        assert drop.sync().downloaded == 0


@pytest.mark.parametrize(
    ("announced", "told"),
    [(0, False), (1000, False), (910, False), (909, True), (1111, False), (1112, True), (1, True), (10**10, True)],
)
def test_sizes_that_are_far_off_are_told_of_once(drop: World, announced: int, told: bool) -> None:
    for message in drop.store.mailboxes["INBOX"].messages:
        message.data = b"Subject: %03d\r\n\r\n" % message.uid + b"x" * 982 + b"\r\n"
    assert {len(data) for data in drop.store.contents().values()} == {1000}
    options(drop).size_of = lambda message: announced if message.uid in {3, 4} else len(message.data)
    report = drop.sync()
    assert (report.downloaded, report.deleted_remote) == (30, 30)
    expected = f"message 3 is complete, but 1000 octets came where {announced} were announced, and 1 more"
    assert [notice.startswith(expected) for notice in report.notices] == [True] * told


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "status"),
        [
            ("[IN-USE] somebody is there", ExitStatus.TRY_AGAIN),
            ("[LOGIN-DELAY] too soon", ExitStatus.TRY_AGAIN),
            ("[SYS/TEMP] later", ExitStatus.TRY_AGAIN),
            ("[SYS/PERM] never", ExitStatus.UNAVAILABLE),
            ("[AUTH] no", ExitStatus.REFUSED_LOGIN),
        ],
    )
    def test_at_the_login(self, drop: World, text: str, status: ExitStatus) -> None:
        options(drop).refuse_pass = text
        assert drop.run().exit_status is status
        assert drop.files() == {}

    def test_greeting(self, drop: World) -> None:
        options(drop).refuse_greeting = "[SYS/TEMP] down for maintenance"
        assert drop.run().exit_status is ExitStatus.TRY_AGAIN

    def test_wrong_user(self, drop: World) -> None:
        drop.settings(user="eve")
        assert isinstance(drop.run().failure, AuthenticationFailed)

    def test_one_message(self, drop: World) -> None:
        options(drop).refuse_retr = frozenset({5})
        report = drop.run()
        assert (report.downloaded, report.deferred) == (29, 1)
        assert report.exit_status is ExitStatus.PARTIAL
        assert list(drop.store.contents()) == [5]
        options(drop).refuse_retr = frozenset()
        assert drop.sync().downloaded == 1

    @pytest.mark.parametrize(
        ("text", "status"),
        [
            ("[SYS/TEMP] later", ExitStatus.TRY_AGAIN),
            ("[IN-USE] somebody is there", ExitStatus.TRY_AGAIN),
            ("[SYS/PERM] never", ExitStatus.UNAVAILABLE),
            ("", ExitStatus.UNAVAILABLE),
        ],
    )
    def test_of_a_deletion(self, drop: World, text: str, status: ExitStatus) -> None:
        refused = f"-ERR {text}\r\n".encode()
        drop.server.faults.hook = lambda line, _: refused if line in {"DELE 3", "DELE 7"} else None
        report = drop.run()
        assert report.exit_status is status
        assert (report.deleted_remote, len(drop.store.contents())) == (28, 2)
        drop.server.faults.hook = None
        assert drop.sync().downloaded == 0, "nothing was forgotten"
        assert drop.store.contents() == {}

    def test_login_delay_is_respected(self, drop: World) -> None:
        options(drop).capabilities = ("LOGIN-DELAY 600",)
        drop.sync()
        connections = len([line for line in drop.commands if line.startswith("AUTH")])
        report = drop.run()
        assert isinstance(report.failure, ServerBusy)
        assert "LOGIN-DELAY 600" in report.failure.detail
        assert len([line for line in drop.commands if line.startswith("AUTH")]) == connections


CUT_SHORT = b"Subject: cut\r\nMessage-ID: <1@x>\r\n\r\nfirst part\r\n.\r\n"


class TestBrokenServers:
    """Nothing that came damaged is kept for the message, and its original stays."""

    @pytest.mark.parametrize("rest", [b"THE REST\r\n", b"+OK THE REST\r\n", b"-ERR THE REST\r\n", b"+OK\r\nTHE REST\r\n.\r\n"])
    @pytest.mark.parametrize("lies", [False, True])
    def test_that_do_not_stuff(self, drop: World, rest: bytes, *, lies: bool) -> None:
        """One message ends early, and its rest passes for answers: all others come in within three runs, whatever LIST says."""
        options(drop).stuffing = False
        if lies:
            options(drop).size_of = lambda message: len(message.data) - message.data.count(b"\n")
        whole = CUT_SHORT + rest
        for number, message in enumerate(drop.store.mailboxes["INBOX"].messages):
            message.data = whole if number == 14 else b"Subject: plain\r\n\r\ntext %02d\r\n" % number
        everything = drop.store.contents()
        good = sorted(data for data in everything.values() if data != whole)
        for _ in range(4):
            assert drop.run().exit_status is ExitStatus.PROTOCOL
            assert drop.store.contents() == everything, "no original is deleted"
            assert set(on_disk(drop)) <= set(good), "nothing cut short is kept"
            assert drop.in_tmp() == []
        assert on_disk(drop) == good
        options(drop).stuffing = True
        drop.sync()
        assert drop.store.contents() == {}
        assert on_disk(drop) == sorted([*good, whole])

    @pytest.mark.parametrize("spurious", [b"+OK spurious\r\n", b"-ERR spurious\r\n"])
    @pytest.mark.parametrize("word", ["UIDL", "RETR 7", "RETR 30", "STAT", "DELE 3"])
    def test_that_say_a_line_too_many(self, drop: World, spurious: bytes, word: str) -> None:
        same = b"Subject: of one size\r\n\r\n%02d\r\n"
        for number, message in enumerate(drop.store.mailboxes["INBOX"].messages):
            message.data = same % number
        good = sorted(drop.store.contents().values())

        def hook(line: str, connection: Connection) -> bytes | None:
            if line == word:
                drop.server.faults.hook = None
                connection.send(spurious)
            return None

        drop.server.faults.hook = hook
        drop.run()
        assert set(on_disk(drop)) <= set(good)
        assert set(good) <= {*drop.store.contents().values(), *on_disk(drop)}
        drop.server.faults.hook = None
        drop.sync()
        assert on_disk(drop) == good
        assert drop.store.contents() == {}


def test_stls(tmp_path: Path) -> None:
    store = Store()
    store.append(b"Subject: x\r\n\r\n")
    tls = Tls()
    ca = tls.write_ca(str(tmp_path / "ca.pem"))
    with world(tmp_path, store, Pop3Server(store, tls), tls="starttls", ca_file=ca) as found:
        assert found.sync().downloaded == 1
        assert found.commands.index("STLS") < next(i for i, line in enumerate(found.commands) if line.startswith("AUTH"))
