"""backup, mirror, offline: what each mailbox needs, the plan of an account, and that a plan carried out leaves nothing to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.model import (
    NO_FLAGS,
    Coverage,
    Flags,
    Look,
    MailboxName,
    MessageKey,
    Pair,
    RemoteMessage,
    RemoteSnapshot,
    Stage,
    Uid,
    UidValidity,
)
from fetchmail_py.plan.actions import (
    Action,
    DeleteLocal,
    DeleteRemote,
    Download,
    Forget,
    Keep,
    MoveLocal,
    Recognise,
    SetLocalFlags,
)
from fetchmail_py.plan.guard import Announced
from fetchmail_py.plan.oneway import BACKUP, MIRROR, OFFLINE, Delta, Move, Plan, Stop, compare, plan_account
from fetchmail_py.plan.snapshot import from_listing

INBOX = MailboxName("INBOX")
SEEN: Flags = frozenset({"\\Seen"})
FLAGGED: Flags = frozenset({"\\Flagged"})
MODES = (BACKUP, MIRROR, OFFLINE)


def key(uid: int) -> MessageKey:
    return MessageKey(f"k{uid}")


def pairs(*uids: int, flags: Flags = NO_FLAGS, stage: int = Stage.PAIRED) -> dict[Uid, Pair]:
    return {Uid(uid): Pair(Uid(uid), key(uid), flags, stage) for uid in uids}


def files(*uids: int, flags: Flags = NO_FLAGS) -> dict[MessageKey, Flags]:
    return {key(uid): flags for uid in uids}


def server(changed: Mapping[int, Flags], gone: Collection[int] = (), *, complete: bool = True) -> RemoteSnapshot:
    messages = {Uid(uid): RemoteMessage(Uid(uid), flags) for uid, flags in changed.items()}
    return RemoteSnapshot(INBOX, UidValidity(1), 100, 0, 0, messages, frozenset(map(Uid, gone)), complete)


def plan(
    mode: str,
    remote: RemoteSnapshot | None,
    known: dict[Uid, Pair],
    local: dict[MessageKey, Flags] | None,
    *,
    retry: Collection[int] = (),
    may_delete: bool = True,
) -> list[str]:
    """What one mailbox needs, as the lines of a dry run without the mailbox's name."""
    delta = compare(mode, INBOX, remote, known, local, known=len(known), retry=[Uid(uid) for uid in retry])
    return [str(action).removeprefix("INBOX: ") for action in plan_account(mode, [delta], may_delete=may_delete).actions]


def typed(actions: Iterable[Action]) -> list[tuple[str, Action]]:
    """Each with its kind: named tuples of two kinds are equal where their fields are."""
    return [(type(action).__name__, action) for action in actions]


class TestEveryMode:
    @pytest.mark.parametrize("mode", MODES)
    def test_nothing_new_nothing_to_do(self, mode: str) -> None:
        assert plan(mode, None, {}, None) == []
        assert plan(mode, server({}), {}, {}) == []

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_what_both_have_is_left_alone(self, mode: str) -> None:
        assert plan(mode, server({1: SEEN}), pairs(1, 2, flags=SEEN), files(1, 2, flags=SEEN)) == []

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_new_mail_the_newest_first(self, mode: str) -> None:
        delta = compare(mode, INBOX, server({7: NO_FLAGS, 9: SEEN, 8: SEEN}), {}, None, known=0)
        assert typed(plan_account(mode, [delta]).actions) == typed((Download(INBOX, (Uid(9), Uid(8), Uid(7))),))

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_what_was_set_aside_is_tried_again_unless_it_is_gone_or_came(self, mode: str) -> None:
        retried = plan(mode, server({}, gone=[4]), pairs(3, 4), None, retry=[3, 4, 5])
        assert retried[0] == "download 1 message (UID 5)"
        assert plan(mode, None, {}, None, retry=[5]) == ["download 1 message (UID 5)"]

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_a_file_removed_here_comes_back(self, mode: str) -> None:
        assert plan(mode, None, pairs(1, 2), files(2)) == ["download 1 message (UID 1)"]
        assert plan(mode, server({1: SEEN}), pairs(1, 2), files(2)) == ["download 1 message (UID 1)"]

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_gone_on_both_sides(self, mode: str) -> None:
        assert plan(mode, server({}, gone=[1]), pairs(1, 2), files(2)) == ["forget 1 message gone from the server (UID 1)"]

    @pytest.mark.parametrize("mode", MODES)
    def test_an_arrival_under_way_is_no_business_of_the_plan(self, mode: str) -> None:
        assert plan(mode, None, pairs(1, stage=Stage.ARRIVING), files()) == []

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_kept_and_removed_here_is_forgotten(self, mode: str) -> None:
        forgotten = ["forget 1 message gone from the server (UID 1)"]
        assert plan(mode, None, pairs(1, stage=Stage.KEPT), files()) == forgotten

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_kept_and_at_the_server_after_all(self, mode: str) -> None:
        delta = compare(mode, INBOX, server({1: SEEN}), pairs(1, stage=Stage.KEPT), files(1), known=0)
        assert typed(plan_account(mode, [delta]).actions) == typed((Recognise(INBOX, Uid(1), Uid(1), SEEN),))
        # Its file was removed here meanwhile.
        assert plan(mode, server({1: SEEN}), pairs(1, stage=Stage.KEPT), files()) == ["download 1 message (UID 1)"]


class TestFlags:
    @pytest.mark.parametrize(
        ("mode", "base", "there", "here", "expected"),
        [
            # The server changed them.
            (BACKUP, NO_FLAGS, SEEN, NO_FLAGS, SEEN),
            (MIRROR, NO_FLAGS, SEEN, NO_FLAGS, SEEN),
            # We did: a backup leaves that, a mirror undoes it.
            (BACKUP, SEEN, SEEN, FLAGGED, None),
            (MIRROR, SEEN, SEEN, FLAGGED, SEEN),
            # Both did.
            (BACKUP, NO_FLAGS, SEEN, FLAGGED, SEEN),
            (MIRROR, NO_FLAGS, SEEN, FLAGGED, SEEN),
            # Both did the same: the state has to learn it.
            (BACKUP, NO_FLAGS, SEEN, SEEN, SEEN),
            (MIRROR, NO_FLAGS, SEEN, SEEN, SEEN),
            (BACKUP, SEEN, SEEN, SEEN, None),
            (MIRROR, SEEN, SEEN, SEEN, None),
        ],
    )
    def test_three_sides(self, mode: str, base: Flags, there: Flags, here: Flags, expected: Flags | None) -> None:
        delta = compare(mode, INBOX, server({1: there}), pairs(1, flags=base), files(1, flags=here), known=1)
        wanted = () if expected is None else (SetLocalFlags(INBOX, Uid(1), key(1), expected),)
        assert typed(plan_account(mode, [delta]).actions) == typed(wanted)

    def test_without_a_look_here_the_server_is_still_followed(self) -> None:
        for mode in (BACKUP, MIRROR):
            assert plan(mode, server({1: SEEN}), pairs(1), None) == ["set the flags of UID 1 here to (\\Seen)"]

    def test_a_mirror_undoes_a_change_here_without_word_from_the_server(self) -> None:
        assert plan(MIRROR, None, pairs(1), files(1, flags=SEEN)) == ["set the flags of UID 1 here to ()"]
        assert plan(BACKUP, None, pairs(1), files(1, flags=SEEN)) == []


class TestDeletions:
    def test_a_backup_keeps_and_a_mirror_follows(self) -> None:
        gone = server({}, gone=[1])
        assert plan(BACKUP, gone, pairs(1, 2), None) == ["keep 1 message here that the server deleted (UID 1)"]
        assert plan(MIRROR, gone, pairs(1, 2), None) == ["delete UID 1 here"]

    def test_a_run_that_must_not_trust_its_state_deletes_nowhere(self) -> None:
        assert plan(MIRROR, server({}, gone=[1]), pairs(1, 2), None, may_delete=False) == []
        assert plan(OFFLINE, server({1: SEEN, 2: SEEN}), pairs(1), None, may_delete=False) == ["download 1 message (UID 2)"]
        for mode, snapshot in ((MIRROR, server({}, gone=[1])), (OFFLINE, server({1: SEEN}))):
            delta = compare(mode, INBOX, snapshot, pairs(1, 2), None, known=2)
            (notice,) = plan_account(mode, [delta], may_delete=False).notices
            assert notice[0] == INBOX

    @pytest.mark.parametrize("mode", [BACKUP, MIRROR])
    def test_a_count_that_is_wrong_deletes_nothing(self, mode: str) -> None:
        seen = Look(INBOX, UidValidity(1), 9, 3, 0, Coverage.ALL, {Uid(1): RemoteMessage(Uid(1), NO_FLAGS)})
        assert plan(mode, from_listing(seen, pairs(1, 2, 3)), pairs(1, 2, 3), None) == []

    def mass(self, name: str, *, exempt: bool = False) -> Delta:
        delta = compare(MIRROR, MailboxName(name), server({}, gone=[1, 2, 3]), pairs(1, 2, 3), None, known=3, exempt=exempt)
        delta.new = [Uid(9)]
        return delta

    def test_the_guard_stops_one_mailbox_and_the_others_go_on(self) -> None:
        few = compare(MIRROR, MailboxName("few"), server({}, gone=[1]), pairs(1, 2), None, known=2)
        found = plan_account(MIRROR, [self.mass("many"), few])
        assert found.stops == (Stop(MailboxName("many"), 3, 3, (Uid(1), Uid(2), Uid(3))),)
        assert typed(found.actions) == typed((DeleteLocal(MailboxName("few"), Uid(1), key(1)),)), "the other is left as it is"

    @pytest.mark.parametrize(
        ("announced", "let_through"),
        [
            ({}, False),
            ({"many": [1, 2, 3]}, True),
            ({"many": [1, 2, 3, 4]}, True),
            # More is gone than was announced.
            ({"many": [1, 2]}, False),
            ({"many": []}, False),
            ({"other": [1, 2, 3]}, False),
        ],
    )
    def test_only_what_was_announced_is_let_through(
        self, announced: dict[str, list[int]], *, let_through: bool
    ) -> None:
        words = {MailboxName(name): Announced(3, frozenset(map(Uid, uids))) for name, uids in announced.items()}
        assert plan_account(MIRROR, [self.mass("many")], announced=words).stops
        found = plan_account(MIRROR, [self.mass("many")], announced=words, allowed=True)
        assert bool(found.stops) is not let_through
        assert sum(isinstance(action, DeleteLocal) for action in found.actions) == (3 if let_through else 0)

    def test_exempt_mailboxes_and_a_guard_that_is_off(self) -> None:
        assert not plan_account(MIRROR, [self.mass("Trash", exempt=True)]).stops
        assert not plan_account(MIRROR, [self.mass("many")], max_delete=1.0).stops

    def test_moves_are_no_deletions(self) -> None:
        source = self.mass("many")
        moves = [Move(MailboxName("many"), pair, MailboxName("to"), Uid(50 + pair.uid), SEEN) for pair in source.gone]
        target = compare(MIRROR, MailboxName("to"), server({51: SEEN, 52: SEEN, 53: SEEN, 54: SEEN}), {}, None, known=0)
        found = plan_account(MIRROR, [source, target], moves=moves)
        assert not found.stops
        assert typed(found.actions) == typed((
            *(MoveLocal(MailboxName("many"), Uid(n), key(n), MailboxName("to"), Uid(50 + n), SEEN) for n in (1, 2, 3)),
            Download(MailboxName("many"), (Uid(9),)),
            Download(MailboxName("to"), (Uid(54),)),
        ))


class TestOffline:
    def test_what_comes_is_deleted_once_stored_and_what_is_stored_as_well(self) -> None:
        delta = compare(OFFLINE, INBOX, server({1: NO_FLAGS, 2: SEEN}), pairs(1, stage=Stage.DELETING), None, known=1)
        assert typed(plan_account(OFFLINE, [delta]).actions) == typed((
            Download(INBOX, (Uid(2),)),
            DeleteRemote(INBOX, (Uid(1), Uid(2))),
        ))

    def test_a_confirmed_deletion_is_forgotten_and_the_file_stays(self) -> None:
        forgotten = ["forget 2 messages gone from the server (UID 1:2)"]
        assert plan(OFFLINE, server({}, gone=[1, 2]), pairs(1, 2, stage=Stage.DELETING), None) == forgotten

    def test_what_is_not_here_any_more_is_fetched_again_before_it_is_deleted_there(self) -> None:
        assert plan(OFFLINE, server({1: SEEN, 2: SEEN}), pairs(1, 2), files(2)) == [
            "download 1 message (UID 1)",
            "delete 2 messages at the server, once stored (UID 1:2)",
        ]

    def test_a_message_without_a_uid_is_deleted_nowhere(self) -> None:
        assert plan(OFFLINE, None, pairs(-3, 1), files(-3, 1)) == ["delete 1 message at the server, once stored (UID 1)"]


# -- a plan carried out ----------------------------------------------------------------------------------------------


@dataclass
class World:
    """One mailbox: the server, the state, and the files."""

    there: dict[Uid, Flags]
    known: dict[Uid, Pair]
    here: dict[MessageKey, Flags]
    only_here: set[MessageKey] = field(default_factory=set)

    def plan(self, mode: str) -> Plan:
        messages = {uid: RemoteMessage(uid, flags) for uid, flags in self.there.items()}
        seen = Look(INBOX, UidValidity(1), 100, len(messages), 0, Coverage.ALL, messages)
        present = [uid for uid, pair in self.known.items() if pair.stage in {Stage.PAIRED, Stage.DELETING}]
        local = None if mode == OFFLINE else self.here
        delta = compare(mode, INBOX, from_listing(seen, present), self.known, local, known=len(present))
        return plan_account(mode, [delta], max_delete=1.0)

    def carry_out(self, action: Action) -> None:
        match action:
            case Download(_, uids):
                for uid in uids:
                    self.known[uid] = Pair(uid, key(uid), self.there[uid], Stage.PAIRED)
                    self.here[key(uid)] = self.there[uid]
            case SetLocalFlags(_, uid, name, flags):
                self.known[uid] = self.known[uid]._replace(flags=flags)
                self.here[name] = flags
            case Recognise(_, old, uid, flags):
                pair = self.known.pop(old)
                self.known[uid] = pair._replace(uid=uid, flags=flags, stage=Stage.PAIRED)
                if pair.key in self.here:
                    self.here[pair.key] = flags
            case DeleteLocal(_, uid, name):
                del self.known[uid], self.here[name]
            case Keep(_, uids):
                for uid in uids:
                    self.known[uid] = self.known[uid]._replace(stage=Stage.KEPT)
            case Forget(_, uids):
                for uid in uids:
                    del self.known[uid]
            case DeleteRemote(_, uids):
                for uid in uids:
                    assert key(uid) in self.here, "deleted at the server, and not here"
                    del self.there[uid]
                    self.known[uid] = self.known[uid]._replace(stage=Stage.DELETING)
            case _:
                raise AssertionError(f"unexpected: {action}")


UIDS = st.integers(1, 6).map(Uid)
SOME_FLAGS = st.sets(st.sampled_from(["\\Seen", "\\Flagged"])).map(frozenset)


@st.composite
def worlds(draw: st.DrawFn, stages: tuple[int, ...]) -> World:
    there = draw(st.dictionaries(UIDS, SOME_FLAGS))
    known = {
        uid: Pair(uid, key(uid), flags, stage)
        for uid, (flags, stage) in draw(st.dictionaries(UIDS, st.tuples(SOME_FLAGS, st.sampled_from(stages)))).items()
    }
    here = {key(uid): draw(SOME_FLAGS) for uid in known if draw(st.booleans())}
    return World(there, known, here)


@pytest.mark.parametrize("mode", [BACKUP, MIRROR])
@given(world=worlds((Stage.PAIRED, Stage.KEPT)))
def test_a_plan_carried_out_leaves_nothing_to_do(mode: str, world: World) -> None:
    had = set(world.here)
    there = dict(world.there)
    found = world.plan(mode)
    assert world.plan(mode) == found, "the same facts, the same plan"
    for action in found.actions:
        world.carry_out(action)
    assert world.plan(mode).actions == ()
    assert world.there == there, "nothing changes at the server"
    assert {key(uid) for uid in there} <= set(world.here)
    if mode == BACKUP:
        assert had <= set(world.here)
    else:
        for uid, flags in there.items():
            assert world.here[key(uid)] == flags


@given(world=worlds((Stage.PAIRED, Stage.DELETING)))
def test_offline_empties_the_server_into_the_maildir(world: World) -> None:
    world.here = {pair.key: pair.flags for pair in world.known.values()}
    wanted = set(world.here) | {key(uid) for uid in world.there}
    for _ in range(2):
        for action in world.plan(OFFLINE).actions:
            world.carry_out(action)
    assert world.there == {}
    assert world.known == {}
    assert set(world.here) == wanted
    assert world.plan(OFFLINE).actions == ()
