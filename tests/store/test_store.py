"""The durable Maildir: deliveries, names, the scan, keyword letters, the lock, what is remembered."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchmail_py.errors import Locked, StoreError
from fetchmail_py.identity import NO_IDENTITY
from fetchmail_py.model import LineEnds, MessageKey
from fetchmail_py.store import delivery, durable, memory
from fetchmail_py.store.content import inspect, read_wire
from fetchmail_py.store.durable import Barrier, rename_no_replace, write_small
from fetchmail_py.store.keywords import KeywordTable
from fetchmail_py.store.lock import FILE_NAME, Lock
from fetchmail_py.store.maildir import LocalFile, Maildir, PublishError, Signature, split_name, with_letters

MESSAGES = st.lists(
    st.sampled_from([b"\r\n", b"\n", b"\r", b"a", b"Subject: x", b"\r\n\r\n", b".", b"\0", b"\xff", b"text " * 40])
).map(b"".join)


@pytest.fixture
def box(tmp_path: Path) -> Maildir:
    maildir = Maildir(str(tmp_path / "box"), Barrier(str(tmp_path)))
    maildir.create()
    return maildir


@settings(max_examples=300)
@given(message=MESSAGES, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_message_in_any_pieces_is_stored_as_one_in_one_piece(
    tmp_path_factory: pytest.TempPathFactory, message: bytes, cuts: list[int]
) -> None:
    tmp = str(tmp_path_factory.getbasetemp() / "deliveries")
    os.makedirs(tmp, exist_ok=True)
    whole = delivery.deliver(tmp, message, 1_600_000_000)
    pieces = delivery.Delivery(tmp, None)
    points = sorted({0, len(message), *(cut for cut in cuts if cut < len(message))})
    for low, high in itertools.pairwise(points):
        pieces.write(message[low:high])
    parts = pieces.finish()
    for found in (whole, parts):
        stored = Path(tmp, found.key).read_bytes()
        assert b"".join(read_wire(f"{tmp}/{found.key}", found.line_ends)) == message
        assert (found.wire_size, found.size) == (len(message), len(stored))
        assert found.sha256 == hashlib.sha256(stored).digest()
        seen = inspect(f"{tmp}/{found.key}")
        assert (seen.size, seen.sha256, seen.identity) == (found.size, found.sha256, found.identity)
        os.unlink(f"{tmp}/{found.key}")
    assert (whole.identity, whole.sha256, whole.line_ends) == (parts.identity, parts.sha256, parts.line_ends)
    only_crlf = message.count(b"\r\n") == message.count(b"\n") == message.count(b"\r") > 0
    assert whole.line_ends == (LineEnds.CRLF if only_crlf else LineEnds.AS_RECEIVED)


def test_identity_does_not_depend_on_line_ends(box: Maildir) -> None:
    unix = b"Subject: a\nFrom: b\n c\nMessage-ID: <1@x>\n\nbody\n"
    first, second = box.deliver(unix, None), box.deliver(unix.replace(b"\n", b"\r\n"), None)
    assert first.identity == second.identity != NO_IDENTITY
    assert box.deliver(b"no header", None).identity == NO_IDENTITY


def test_the_first_bare_lf_after_a_gigabyte_of_crlf_turns_the_file_back(box: Maildir) -> None:
    writer = box.start(None)
    for _ in range(40):
        writer.write(b"line\r\n" * 10_000)
    writer.write(b"\n")
    found = writer.finish()
    assert found.line_ends == LineEnds.AS_RECEIVED
    assert found.size == found.wire_size == 40 * 60_000 + 1
    assert os.listdir(box.tmp) == [found.key]


def test_a_delivery_given_up_leaves_nothing(box: Maildir) -> None:
    with box.start(None) as writer:
        writer.write(b"half")
    assert os.listdir(box.tmp) == []


class TestPublish:
    def test_new_and_cur(self, box: Maildir) -> None:
        plain, seen = box.deliver(b"a", None), box.deliver(b"b", None)
        directories = box.publish([(plain, frozenset(), ""), (seen, frozenset({"\\Seen", "\\Flagged"}), "ca")])
        assert set(directories) == {box.new, box.cur}
        assert os.listdir(box.new) == [plain.key]
        assert os.listdir(box.cur) == [f"{seen.key}:2,FSac"]

    def test_never_replaces(self, box: Maildir) -> None:
        found = box.deliver(b"mine", None)
        Path(box.new, found.key).write_bytes(b"theirs")
        other = box.deliver(b"other", None)
        with pytest.raises(PublishError) as caught:
            box.publish([(found, frozenset(), ""), (other, frozenset(), "")])
        assert caught.value.keys == (found.key,)
        assert Path(box.new, found.key).read_bytes() == b"theirs"
        assert Path(box.new, other.key).read_bytes() == b"other"

    def test_names_are_never_the_same(self, box: Maildir) -> None:
        keys: list[str] = []

        def deliver() -> None:
            keys.extend(box.deliver(b"x", None).key for _ in range(200))

        threads = [threading.Thread(target=deliver) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(keys)) == 800


class TestScan:
    def test_only_mail_counts(self, box: Maildir) -> None:
        Path(box.new, "1.a").write_bytes(b"")
        Path(box.cur, "2.b:2,SF").write_bytes(b"")
        Path(box.cur, "3.c!2,S").write_bytes(b"")
        Path(box.cur, "4.d,S=5:2,a").write_bytes(b"")
        Path(box.cur, ".hidden").write_bytes(b"")
        Path(box.cur, "link").symlink_to("/etc/passwd")
        os.mkfifo(Path(box.cur, "pipe"))
        odd: list[str] = []
        found = box.scan(odd)
        assert {key: (file.subdir, file.letters) for key, file in found.items()} == {
            "1.a": ("new", ""),
            "2.b": ("cur", "FS"),
            "3.c": ("cur", "S"),
            "4.d,S=5": ("cur", "a"),
        }
        assert sorted(odd) == ["cur/link", "cur/pipe"]

    def test_a_missing_directory_is_no_empty_one(self, box: Maildir) -> None:
        os.rmdir(box.new)
        with pytest.raises(StoreError):
            box.scan()

    def test_unchanged_needs_a_clock_that_is_fine_enough(self, box: Maildir) -> None:
        long_ago = 1_700_000_000_123_456_789
        for directory in (box.new, box.cur):
            os.utime(directory, ns=(long_ago, long_ago))
        assert box.unchanged_since(Signature(long_ago, long_ago, long_ago + 10**9))
        assert not box.unchanged_since(Signature(long_ago, long_ago, long_ago + 1000)), "looked within the clock's grain"
        Path(box.new, "x").write_bytes(b"")
        assert not box.unchanged_since(Signature(long_ago, long_ago, long_ago + 10**9))


class TestChanges:
    def test_flags_follow_a_file_that_a_mail_reader_renamed(self, box: Maildir) -> None:
        key = MessageKey("1.a")
        Path(box.cur, "1.a:2,R").write_bytes(b"x")
        changed = box.set_flags(key, LocalFile("new", "1.a", ""), add="S")
        assert changed == LocalFile("cur", "1.a:2,RS", "RS")
        assert os.listdir(box.cur) == ["1.a:2,RS"]
        gone = box.set_flags(MessageKey("2.b"), LocalFile("new", "2.b", ""), add="S")
        assert gone is None

    def test_letters_of_others_stay(self, box: Maildir) -> None:
        Path(box.cur, "1.a:2,FTz").write_bytes(b"x")
        changed = box.set_flags(MessageKey("1.a"), LocalFile("cur", "1.a:2,FTz", "FTz"), add="S", remove="F")
        assert changed is not None
        assert changed.letters == "STz"

    def test_remove_and_move(self, box: Maildir, tmp_path: Path) -> None:
        other = Maildir(str(tmp_path / "other"), box.barrier)
        other.create()
        for name in ("1.a:2,S", "2.b"):
            Path(box.cur if ":" in name else box.new, name).write_bytes(b"x")
        assert box.remove(MessageKey("1.a"), LocalFile("new", "1.a", ""))
        assert not box.remove(MessageKey("1.a"), LocalFile("new", "1.a", ""))
        moved = box.move(MessageKey("2.b"), LocalFile("new", "2.b", ""), other, "")
        assert moved == LocalFile("new", "2.b", "")
        assert os.listdir(other.new) == ["2.b"]

    def test_only_our_own_leftovers_are_removed(self, box: Maildir) -> None:
        host = os.uname().nodename
        dead = f"1700000000.M1P{2**22 + 7}Q1R0123abcd.{host}"
        alive = f"1700000000.M1P{os.getppid()}Q1R0123abcd.{host}"
        for name in (dead, alive, "foreign", "1700000000.M1P99Q1R0123abcd.elsewhere"):
            Path(box.tmp, name).write_bytes(b"")
        assert box.leftovers(()) == 1
        assert dead not in os.listdir(box.tmp)
        assert len(os.listdir(box.tmp)) == 3


@pytest.mark.parametrize(
    ("name", "key", "letters", "with_s"),
    [
        ("1.a", "1.a", "", "1.a:2,S"),
        ("1.a:2,", "1.a", "", "1.a:2,S"),
        ("1.a:2,FR", "1.a", "FR", "1.a:2,S"),
        ("1.a:1,x", "1.a", "", "1.a:2,S"),
        ("1.a;2,FR", "1.a", "FR", "1.a;2,S"),
        ("1.a,S=5:2,F,more", "1.a,S=5", "F", "1.a,S=5:2,S,more"),
    ],
)
def test_names(name: str, key: str, letters: str, with_s: str) -> None:
    assert split_name(name) == (key, letters)
    assert with_letters(name, "S") == with_s


class TestDurable:
    def test_a_rename_never_replaces(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"a")
        (tmp_path / "b").write_bytes(b"b")
        with pytest.raises(FileExistsError):
            rename_no_replace(str(tmp_path / "a"), str(tmp_path / "b"))
        assert (tmp_path / "b").read_bytes() == b"b"

    def test_without_renameat2(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durable, "_libc", lambda: None)
        self.test_a_rename_never_replaces(tmp_path)
        rename_no_replace(str(tmp_path / "a"), str(tmp_path / "c"))
        assert not (tmp_path / "a").exists()
        assert (tmp_path / "c").read_bytes() == b"a"

    @pytest.mark.parametrize("count", [1, 40])
    def test_a_failed_sync_is_never_a_success(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        paths = [str(tmp_path / f"{number}") for number in range(count)]
        for path in paths:
            Path(path).write_bytes(b"x")

        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(durable, "_libc", lambda: None)
        monkeypatch.setattr(os, "fsync", fail)
        with Barrier(str(tmp_path)) as barrier:
            for sync in (barrier.files, barrier.directories):
                with pytest.raises(StoreError) as caught:
                    sync(paths if sync == barrier.files else [str(tmp_path)])
                assert caught.value.errno == errno.EIO

    def test_a_small_file_is_replaced_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "small"
        write_small(str(path), b"first")
        assert path.stat().st_mode & 0o777 == 0o600

        def fail(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError):
            write_small(str(path), b"second")
        assert path.read_bytes() == b"first"
        assert [entry.name for entry in tmp_path.iterdir()] == ["small"]

    def test_a_full_disk_says_so(self) -> None:
        with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
            durable.write_all(full.fileno(), b"x")

    @pytest.mark.parametrize(("release", "new"), [("5.8.0-1", True), ("6.1.0-44-amd64", True), ("5.7.19", False), ("odd", False)])
    def test_old_kernels_are_not_trusted_with_syncfs(self, release: str, new: bool) -> None:
        assert durable.new_enough(release) is new


class TestKeywords:
    def test_letters_keep_their_names(self, tmp_path: Path) -> None:
        (tmp_path / "dovecot-keywords").write_text("0 $Junk\n2 Work\nnot a line\n")
        table = KeywordTable.load(str(tmp_path))
        assert [table.letter_for(word) for word in ("$junk", "Work", "new", "$Junk")] == ["a", "c", "b", "a"]
        assert table.name_of("b") == "new"
        table.save()
        assert (tmp_path / "dovecot-keywords").read_text() == "0 $Junk\n1 new\n2 Work\nnot a line\n"

    def test_the_27th_has_no_letter(self, tmp_path: Path) -> None:
        table = KeywordTable.load(str(tmp_path))
        letters = [table.letter_for(f"k{number}") for number in range(27)]
        assert letters[25:] == ["z", None]
        assert table.letter_for("two words") is None
        assert KeywordTable.load(str(tmp_path / "nowhere")).name_of("a") is None


class TestLock:
    def test_held_by_another_process(self, tmp_path: Path) -> None:
        script = "import sys; from fetchmail_py.store.lock import Lock; k=Lock.acquire(sys.argv[1]); print(1, flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(Locked) as caught:
                Lock.acquire(str(tmp_path))
            assert caught.value.pid == other.pid
            other.kill()
        Lock.acquire(str(tmp_path)).close()

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError):
            Lock.acquire(str(tmp_path))
        assert not (tmp_path / "elsewhere").exists()

    def test_a_dry_run_makes_no_file(self, tmp_path: Path) -> None:
        Lock.acquire(str(tmp_path), create=False).close()
        assert list(tmp_path.iterdir()) == []


class TestMemory:
    def test_there_and_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert memory.load("work") == (None, False)
        found = memory.Remembered("id", 7, "/m", 1.5, 42)
        directory = Path(memory.directory())
        directory.mkdir(parents=True)
        left, busy = directory / "work.json.4194304.1.tmp", directory / f"work.json.{os.getppid()}.1.tmp"
        for path in (left, busy):
            path.write_bytes(b"{")
        memory.save("work", found)
        assert memory.load("work") == (found, False)
        assert busy.exists()
        assert not left.exists(), "no process of Linux has this number"
        assert (tmp_path / "fetchmail-py" / "work.json").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", json.dumps({"store_id": 1, "run": "x"}).encode()])
    def test_damaged(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        (tmp_path / "fetchmail-py").mkdir()
        (tmp_path / "fetchmail-py" / "work.json").write_bytes(data)
        assert memory.load("work") == (None, True)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system in which nothing can be made")
def test_a_directory_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(StoreError):
        durable.make_directories("/proc/none/below")


def test_several_make_the_same_directories_at_once(tmp_path: Path) -> None:
    """Accounts side by side on their first run: whoever finds the one above missing may find it made a moment later."""
    start = threading.Barrier(4)
    errors: list[StoreError] = []

    def make(number: int) -> None:
        for count in range(100):
            start.wait()
            try:
                durable.make_directories(f"{tmp_path}/{count}/local/state/fetchmail-py")
                durable.make_directories(f"{tmp_path}/{count}/local/state/{number}")
            except StoreError as error:
                errors.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
