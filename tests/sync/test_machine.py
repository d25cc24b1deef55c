"""Anything may happen on both sides, and to any run: at rest both sides are equal, and no message nobody deleted is missing."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from fetchmail_py.errors import ExitStatus
from fetchmail_py.sync import imap
from tests.servers.base import Connection, Cut
from tests.servers.imap import ALL, BARE, ImapServer
from tests.servers.mailbox import Store
from tests.sync.test_crash import runner
from tests.sync.test_twoway import here, there
from tests.sync.world import World, world

BOXES = ("INBOX", "Archive", "Lists/Python")
LETTERS = st.sets(st.sampled_from("FRSDP")).map(lambda letters: "".join(sorted(letters)))
FLAGS = st.sets(st.sampled_from(["\\Flagged", "\\Answered", "\\Seen", "$Label1"]))
BOX = st.sampled_from(BOXES)
WHICH = st.integers(0, 50)


class Machine(RuleBasedStateMachine):
    """One account. Every message has a number in its body, so that it can be followed wherever it goes."""

    capabilities: frozenset[str] = ALL
    ahead_from: float | None = None
    """Seconds of round trip from which the server counts as far; None: as in earnest."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        if self.ahead_from is not None:
            self.stack.enter_context(patch.object(imap, "AHEAD_FROM", self.ahead_from))
        self.root = Path(tempfile.mkdtemp(prefix="machine-"))
        self.stack.callback(shutil.rmtree, self.root)
        self.store = Store()
        for name in BOXES[1:]:
            self.store.create(name)
        self.server = ImapServer(self.store, capabilities=self.capabilities)
        self.world: World = self.stack.enter_context(
            world(self.root, self.store, self.server, mode="disconnected", max_delete=1.0)
        )
        self.crash: Callable[[int, World], str] = self.stack.enter_context(runner())
        self.numbers = itertools.count(1)
        self.deleted: set[bytes] = set()
        """Messages that somebody deleted on one side: they may be gone, or may have come back."""
        self.made: set[bytes] = set()

    def teardown(self) -> None:
        try:
            self.to_rest()
        finally:
            self.stack.close()

    def message(self) -> bytes:
        number = next(self.numbers)
        identity = b"" if number % 4 == 0 else b"Message-ID: <%d@example.org>\n" % number
        data = b"Subject: message\nDate: Mon, 2 Nov 2026 10:00:00 +0000\n%s\nnumber %06d\n" % (identity, number)
        self.made.add(data)
        return data

    def files(self, box: str) -> list[Path]:
        return sorted(self.world.files(box).values(), key=lambda path: path.read_bytes())

    def pick(self, box: str, which: int) -> Path | None:
        files = self.files(box)
        return files[which % len(files)] if files else None

    # -- what people do

    @initialize(count=st.integers(0, 6))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.store.append(self.message().replace(b"\n", b"\r\n"))
        self.world.sync()

    @rule(box=BOX, flags=FLAGS)
    def new_there(self, box: str, flags: set[str]) -> None:
        self.store.append(self.message().replace(b"\n", b"\r\n"), box, flags)

    @rule(box=BOX, letters=LETTERS)
    def new_here(self, box: str, letters: str) -> None:
        data = self.message()
        if (self.world.maildir / box).is_dir():
            name = f"cur/17{next(self.numbers):08d}.new.here:2,{letters}"
            (self.world.maildir / box / name).write_bytes(data)
        else:
            self.made.discard(data)

    @rule(box=BOX, which=WHICH, letters=LETTERS)
    def flag_here(self, box: str, which: int, letters: str) -> None:
        path = self.pick(box, which)
        if path is not None:
            path.rename(path.parent.parent / "cur" / f"{path.name.partition(':')[0]}:2,{letters}")

    @rule(box=BOX, which=WHICH, flags=FLAGS)
    def flag_there(self, box: str, which: int, flags: set[str]) -> None:
        messages = self.store.mailboxes[box].messages
        if messages:
            self.store.set_flags(messages[which % len(messages)].uid, flags, box)

    @rule(box=BOX, which=WHICH)
    def delete_here(self, box: str, which: int) -> None:
        path = self.pick(box, which)
        if path is not None:
            self.deleted.add(path.read_bytes())
            path.unlink()

    @rule(box=BOX, which=WHICH)
    def delete_there(self, box: str, which: int) -> None:
        messages = self.store.mailboxes[box].messages
        if messages:
            message = messages[which % len(messages)]
            self.deleted.add(message.data.replace(b"\r\n", b"\n"))
            self.store.expunge([message.uid], box)

    @rule(box=BOX, to=BOX, which=WHICH, rename=st.booleans())
    def move_here(self, box: str, to: str, which: int, rename: bool) -> None:
        path = self.pick(box, which)
        if path is not None and box != to and (self.world.maildir / to / "cur").is_dir():
            name = f"17{next(self.numbers):08d}.moved.here:2,S" if rename or ":" not in path.name else path.name
            path.rename(self.world.maildir / to / "cur" / name)

    @rule(box=BOX, to=BOX, which=WHICH)
    def move_there(self, box: str, to: str, which: int) -> None:
        messages = self.store.mailboxes[box].messages
        if messages and box != to:
            self.store.move(messages[which % len(messages)].uid, box, to)

    # -- what goes wrong

    # Once the state or the UIDs are gone, nobody can know what was moved before: so these begin at rest.

    @rule(box=BOX, reverse=st.booleans(), at=st.integers(1, 80))
    def new_uidvalidity(self, box: str, reverse: bool, at: int) -> None:
        self.to_rest()
        self.store.new_uidvalidity(box, reorder=(lambda messages: messages.reverse()) if reverse else None)
        self.run_killed_at_an_effect(at)
        self.world.sync()

    @precondition(lambda self: any(self.files(box) for box in BOXES))  # else it is a wiped folder, which is another story
    @rule(box=BOX, which=WHICH, flags=FLAGS, at=st.integers(1, 80))
    def lose_the_state(self, box: str, which: int, flags: set[str], at: int) -> None:
        self.to_rest()
        if not any(self.files(box) for box in BOXES):
            return
        for path in self.world.maildir.glob(".fetchmail-py.sqlite3*"):
            path.unlink()
        self.new_there(box, flags)
        self.flag_there(box, which, flags)
        self.run_killed_at_an_effect(at)
        self.world.sync()

    @rule(at=st.integers(1, 25))
    def run_cut_at_a_command(self, at: int) -> None:
        left = at

        def hook(line: str, _: Connection) -> bytes | None:
            nonlocal left
            del line
            left -= 1
            if left == 0:
                raise Cut
            return None

        self.server.faults.hook = hook
        self.world.run()
        self.server.faults.hook = None

    @rule(at=st.integers(1, 120))
    def run_killed_at_an_effect(self, at: int) -> None:
        assert self.crash(at, self.world) in {"crashed", "ended"}

    @rule(box=BOX, rights=st.sampled_from(["lrswip", "lrswipt", "lrswipe"]), at=st.integers(1, 160), again=st.booleans())
    def run_without_the_right_to_delete(self, box: str, rights: str, at: int, again: bool) -> None:
        self.server.options.rights = {box: rights}
        assert self.crash(at, self.world) in {"crashed", "ended", f"failed with {ExitStatus.PARTIAL:d}"}
        if again:
            report = self.world.run()
            assert report.failure is None, report.failure
        self.server.options.rights = {}

    @rule()
    def run(self) -> None:
        self.world.sync()

    # -- what must be so

    @invariant()
    def nothing_is_lost(self) -> None:
        there_now = {m.data.replace(b"\r\n", b"\n") for box in self.store.mailboxes.values() for m in box.messages}
        here_now = {path.read_bytes() for box in BOXES for path in self.world.files(box).values()}
        assert self.made - self.deleted <= there_now | here_now

    @rule()
    def to_rest(self) -> None:
        """At rest both sides are the same, and each message that nobody deleted is there exactly once."""
        for _ in range(4):
            report = self.world.sync()
            if not any((report.downloaded, report.uploaded, report.flags_pushed, report.flags_pulled, report.moved_local)):
                break
        for box in BOXES:
            assert here(self.world, box) == there(self.world, box), box
        everywhere: Counter[bytes] = Counter()
        for box in BOXES:
            everywhere.update({data: count for (data, _), count in here(self.world, box).items()})
        for data in self.made - self.deleted:
            assert everywhere[data] == 1, data
        self.server.log.clear()
        report = self.world.sync()
        assert (report.downloaded, report.uploaded, report.deleted_local, report.deleted_remote) == (0, 0, 0, 0)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("capabilities", "ahead_from"),
    [(ALL, None), (ALL, 0.0), (ALL - {"MOVE"}, None), (ALL - {"UIDPLUS", "MOVE"}, None), (BARE, None)],
    ids=["all", "far", "no-move", "no-uidplus", "bare"],
)
def test_anything_may_happen(capabilities: frozenset[str], ahead_from: float | None) -> None:
    kind = type("Chosen", (Machine,), {"capabilities": capabilities, "ahead_from": ahead_from})
    run_state_machine_as_test(
        kind,
        settings=settings(
            # The same examples every time, and not made smaller: one example takes a second. Raise `max_examples` to look further.
            max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True,
            derandomize=True, phases=(Phase.generate,),
        ),
    )
