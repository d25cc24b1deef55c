"""The state database: pairs and intents, commits, damage, versions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fetchmail_py.errors import StateTooNew, StoreError
from fetchmail_py.model import NO_FLAGS, Delivered, Flags, MailboxName, MessageKey, Stage, Uid, UidSet
from fetchmail_py.store import state_schema
from fetchmail_py.store.state import FILE_NAME, MailboxRow, StateDb
from fetchmail_py.store.state_base import StateDamaged

SEEN: Flags = frozenset({"\\Seen", "$Work"})


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / FILE_NAME)


@pytest.fixture
def state(path: str) -> Iterator[StateDb]:
    with closing(StateDb.open(path)) as found:
        yield found


def message(number: int, octet: bytes = b"\1") -> Delivered:
    return Delivered(MessageKey(f"{number}.key\udcff"), 100 + number, 90 + number, octet * 32, 1, octet * 16)


@pytest.fixture
def box(state: StateDb) -> MailboxRow:
    row = state.add_mailbox(MailboxName("Ünïcödé/\udc26x"), "/", "path/\udcff")
    state.add_arriving(row.id, [(Uid(number), SEEN if number % 2 else NO_FLAGS, 5, message(number)) for number in range(1, 6)])
    return row


def test_mailboxes_there_and_back(state: StateDb, box: MailboxRow) -> None:
    box.uidvalidity, box.highestmodseq, box.settled, box.signature, box.last_error = 17, 2**63 - 1, True, (1, 2, 3), "x"
    state.save_mailbox(box)
    assert state.mailboxes() == {box.name: box}


def test_an_arrival_becomes_a_pair(state: StateDb, box: MailboxRow) -> None:
    assert len(state.arriving()) == 5
    assert state.count_present(box.id) == 0
    state.arrived()
    assert state.arriving() == []
    pairs = state.pairs(box.id)
    assert list(pairs) == [1, 2, 3, 4, 5]
    assert pairs[Uid(1)] == (1, "1.key\udcff", SEEN, Stage.PAIRED)
    assert state.pairs_of(box.id, [2, 9]) == {2: pairs[Uid(2)]}
    assert state.known_within(box.id, UidSet([(4, 2**32 - 1)])) == {4, 5}
    assert state.totals() == {box.id: (5, 5 * 90 + 15)}
    assert state.line_ends()[MessageKey("1.key\udcff")] == 1


def test_only_what_is_committed_lasts(state: StateDb, box: MailboxRow, path: str) -> None:
    state.commit()
    state.forget(box.id, [1, 2])
    state.rollback()
    state.set_stage(box.id, [5], Stage.KEPT)
    with closing(StateDb.open_to_read(path)) as other:
        assert len(other.pairs(box.id)) == 5
        assert other.pairs(box.id)[Uid(5)].stage == Stage.ARRIVING
    state.commit()
    with closing(StateDb.open_to_read(path)) as other:
        assert other.pairs(box.id)[Uid(5)].stage == Stage.KEPT


def test_a_changed_uidvalidity_makes_room_for_new_uids(state: StateDb, box: MailboxRow) -> None:
    state.arrived()
    for _ in range(2):
        state.renumber(box.id)
        assert all(uid < 0 and pair.stage == Stage.KEPT for uid, pair in state.pairs(box.id).items())
        assert len(state.known_messages(box.id, unpaired=True)) == 5
    state.add_arriving(box.id, [(Uid(3), NO_FLAGS, None, message(77))])
    state.renumber(box.id)
    assert len(state.pairs(box.id)) == 6
    assert state.next_unpaired_uid(box.id) not in state.pairs(box.id)
    old = next(iter(state.pairs(box.id)))
    state.rebind(box.id, old, box.id, Uid(9), SEEN)
    assert state.pairs(box.id)[Uid(9)].stage == Stage.PAIRED
    known = state.known_message(box.id, 9)
    assert known is not None
    state.set_wire(box.id, Uid(9), known.size, 0)
    changed = state.known_message(box.id, 9)
    assert changed is not None
    assert changed.wire_size == changed.size == known.size


def test_a_move_is_an_intent_in_the_other_mailbox(state: StateDb, box: MailboxRow) -> None:
    state.arrived()
    other = state.add_mailbox(MailboxName("other"), "/", "other")
    state.move(box.id, Uid(2), other.id, Uid(40), SEEN)
    assert state.arriving() == [(other.id, 40, "2.key\udcff", SEEN)]
    assert Uid(2) not in state.pairs(box.id)


def test_the_maildrop(state: StateDb) -> None:
    state.add_maildrop([(b"uidl-1", 10, 1.5, message(1)), (None, 20, 2.5, message(2))])
    assert [row.stage for row in state.maildrop()] == [Stage.ARRIVING] * 2
    state.maildrop_arrived()
    first, second = state.maildrop()
    assert (first.uidl, first.listed_size, first.stored_at, first.stage) == (b"uidl-1", 10, 1.5, Stage.PAIRED)
    state.set_uidl([(second.id, b"\xff" * 100)])
    state.set_maildrop_stage([second.id], Stage.DELETING)
    state.forget_maildrop([first.id])
    assert [(row.uidl, row.stage) for row in state.maildrop()] == [(b"\xff" * 100, Stage.DELETING)]


def test_messages_set_aside(state: StateDb) -> None:
    state.defer(1, "7", "why", 1.0)
    state.defer(1, "7", "why now", 2.0)
    assert [(row.ident, row.reason, row.since, row.tries) for row in state.deferred()] == [("7", "why now", 1.0, 2)]
    state.undefer(1, ["7"])
    assert state.deferred() == []


def filled(path: str) -> None:
    with closing(StateDb.open(path)) as state:
        row = state.add_mailbox(MailboxName("INBOX"), "/", "INBOX")
        state.add_arriving(row.id, [(Uid(number), SEEN, 5, message(number)) for number in range(1, 2000)])
        state.commit()


def test_a_dry_run_works_on_a_copy(path: str) -> None:
    filled(path)
    before = Path(path).read_bytes()
    with closing(StateDb.open_copy(path)) as copy:
        copy.arrived()
        copy.put("x", "y")
        copy.commit()
        assert len(copy.pairs(1)) == 1999
    assert Path(path).read_bytes() == before
    with closing(StateDb.open_copy(path + "-not-there")) as empty:
        assert empty.mailboxes() == {}
    assert not Path(path + "-not-there").exists()


@pytest.mark.parametrize("how", ["truncated", "not a database", "zero pages", "one page lost"])
def test_damage_is_told_from_a_full_disk(path: str, how: str) -> None:
    filled(path)
    data = bytearray(Path(path).read_bytes())
    match how:
        case "truncated":
            del data[len(data) // 2 :]
        case "not a database":
            data[:] = b"no database at all, but long enough to be one" * 1000
        case "zero pages":
            data[4096:] = bytes(len(data) - 4096)
        case _:
            data[5 * 4096 : 30 * 4096] = b"\x5a" * 25 * 4096
    Path(path).write_bytes(data)
    with pytest.raises(StateDamaged):
        read_everything(path)
    aside = StateDb.set_aside(path)
    assert Path(aside).read_bytes() == bytes(data)
    assert not Path(path).exists()


def test_our_own_mistake_is_no_damage(path: str) -> None:
    """Else a slip of ours would cost the whole state."""
    with closing(StateDb.open(path)) as state:
        state.add_mailbox(MailboxName("A"), "/", "A")
        with pytest.raises(sqlite3.IntegrityError):
            state.add_mailbox(MailboxName("B"), "/", "A")


def read_everything(path: str) -> None:
    """Damage may show when the file is opened, or only when a page is needed."""
    with closing(StateDb.open(path)) as state:
        state.mailboxes()
        state.pairs(1)
        state.count_present(1)


def test_a_newer_file_is_left_alone(path: str) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
        db.commit()
    before = Path(path).read_bytes()
    for opening in (StateDb.open, StateDb.open_to_read, StateDb.open_copy):
        with pytest.raises(StateTooNew):
            opening(path)
    assert Path(path).read_bytes() == before


def test_an_older_file_is_migrated_after_a_backup_one_step_at_a_time(path: str) -> None:
    filled(path)
    version = len(state_schema.MIGRATIONS)

    def add(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE message ADD COLUMN extra TEXT")

    def fail(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half(x)")
        raise RuntimeError("cut here")

    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        with pytest.raises(RuntimeError, match="cut here"):
            state_schema.bring_up_to_date(db, path, (*state_schema.MIGRATIONS, add, fail))
        assert db.execute("PRAGMA user_version").fetchone() == (version + 1,)
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()
        state_schema.bring_up_to_date(db, path, (*state_schema.MIGRATIONS, add, add_nothing))
        assert db.execute("PRAGMA user_version").fetchone() == (version + 2,)
    backup = f"{path}.before-v{version + 2}"
    assert Path(backup).stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(backup)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (version,)
        assert db.execute("SELECT count(*) FROM message").fetchone() == (1999,)


def add_nothing(_: sqlite3.Connection) -> None:
    """A step without any change."""


def test_another_programs_database_is_refused(path: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs(x)")
        db.commit()
    with pytest.raises(StoreError, match="not a state database"):
        StateDb.open(path)


def test_it_is_private_and_durable(state: StateDb, path: str) -> None:
    assert Path(path).stat().st_mode & 0o777 == 0o600
    connection: sqlite3.Connection = vars(state)["_db"]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
