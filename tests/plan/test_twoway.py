"""disconnected: the merge of flags, what each mailbox needs, moves, the plan of an account, and that a plan carried out is done."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.model import (
    NO_FILE,
    NO_FLAGS,
    Flags,
    MailboxName,
    MessageKey,
    Pair,
    RemoteMessage,
    RemoteSnapshot,
    Stage,
    Uid,
    UidValidity,
)
from fetchmail_py.plan import push
from fetchmail_py.plan.actions import Action, DeleteLocal, Download, Forget, MoveLocal, Recognise
from fetchmail_py.plan.guard import Announced
from fetchmail_py.plan.oneway import Move, Plan, Stop
from fetchmail_py.plan.push import DeleteAtServer, MergeFlags, MoveRemote, TrashAtServer
from fetchmail_py.plan.twoway import (
    Change,
    Delta,
    Here,
    LocalCopy,
    LocalMove,
    Missing,
    NewFile,
    Unpaired,
    compare,
    merge,
    moved_here,
    plan_account,
)

INBOX, ARCHIVE, LISTS, TRASH = map(MailboxName, ("INBOX", "Archive", "Lists", "Trash"))
SLIGHT = ("\\Seen", "\\Deleted")
WEIGHTY = ("\\Answered", "\\Flagged", "\\Draft", "$Forwarded", "todo")
EACH = (*SLIGHT, *WEIGHTY)


def fl(letters: str) -> Flags:
    """Flags by their Maildir letters; `k` is a keyword, `-` is none."""
    names = dict(zip("STRFDPk", EACH, strict=True))
    return frozenset(names[letter] for letter in letters.strip("-"))


S, T, F, SF = map(fl, ("S", "T", "F", "SF"))


def key(uid: int) -> MessageKey:
    return MessageKey(f"k{uid}")


def paired(uid: int = 1, flags: Flags = NO_FLAGS, stage: int = Stage.PAIRED) -> Pair:
    return Pair(Uid(uid), key(uid), flags, stage)


def some(*uids: int) -> list[Pair]:
    return [paired(uid) for uid in uids]


def server(changed: Mapping[Any, Flags], gone: Collection[int] = ()) -> RemoteSnapshot:
    messages = {Uid(uid): RemoteMessage(Uid(uid), flags) for uid, flags in changed.items()}
    return RemoteSnapshot(INBOX, UidValidity(1), 100, 0, 0, messages, frozenset(map(Uid, gone)), complete=True)


def local(flags: Mapping[Any, Flags] | None = None, missing: Collection[int] = (), edited: Collection[int] = ()) -> Here:
    return Here(flags or {}, frozenset(map(Uid, missing)), frozenset(map(Uid, edited)))


def delta(mailbox: MailboxName = INBOX, known: int = 100, *, exempt: bool = False, **fields: Any) -> Delta:
    found = Delta(mailbox, known, exempt=exempt)
    assert fields.keys() <= vars(found).keys()
    vars(found).update(fields)
    return found


def needs(found: Delta) -> dict[str, object]:
    """All that a mailbox needs, without what it does not."""
    return {name: value for name, value in vars(found).items() if isinstance(value, list) and value}


def typed(actions: Iterable[Action]) -> list[tuple[str, Action]]:
    """Each with its kind: named tuples of two kinds are equal where their fields are."""
    return [(type(action).__name__, action) for action in actions]


def told(plan: Plan, word: str) -> list[tuple[MailboxName, int]]:
    """The notices, each of which has the word: mailbox and count."""
    assert all(word in text for _, text in plan.notices)
    return [(mailbox, int(re.findall(r"\d+", text)[0])) for mailbox, text in plan.notices]


# -- merge ---------------------------------------------------------------------------------------------------------------

TRUTH = {
    # base, here, there
    (False, False, False): False,
    (False, False, True): True,  # set there
    (False, True, False): True,  # set here
    (False, True, True): True,  # set on both sides
    (True, False, False): False,  # taken away on both sides
    (True, False, True): False,  # taken away here
    (True, True, False): False,  # taken away there
    (True, True, True): True,
}
SETS = st.sets(st.sampled_from(EACH)).map(frozenset)


class TestMerge:
    @pytest.mark.parametrize(("where", "expected"), TRUTH.items())
    @pytest.mark.parametrize("flag", EACH)
    def test_one_flag(self, flag: str, where: tuple[bool, bool, bool], *, expected: bool) -> None:
        base, here, there = (frozenset({flag}) if has else NO_FLAGS for has in where)
        assert merge(base, here, there) == (frozenset({flag}) if expected else NO_FLAGS)

    @given(SETS, SETS, SETS)
    def test_each_flag_by_itself(self, base: Flags, here: Flags, there: Flags) -> None:
        assert merge(base, here, there) == {flag for flag in EACH if TRUTH[flag in base, flag in here, flag in there]}

    @given(SETS, SETS, SETS)
    def test_laws(self, base: Flags, here: Flags, there: Flags) -> None:
        merged = merge(base, here, there)
        assert merged == merge(base, there, here)
        assert merge(base, here, base) == here
        assert merge(base, base, there) == there
        assert merge(base, here, here) == here
        for flag in EACH:
            if (flag in base) == (flag in there):
                assert (flag in merged) == (flag in here), "changed here only"
            if (flag in base) == (flag in here):
                assert (flag in merged) == (flag in there), "changed there only"


# -- compare -------------------------------------------------------------------------------------------------------------

SAME, CHANGED, GONE = "same", "changed", "gone"
TABLE = [
    # here, there, if only \Seen or \Deleted changed, else, with a state that is not trusted
    (SAME, SAME, "nothing", "nothing", "nothing"),
    (SAME, CHANGED, "changes", "changes", "changes"),
    (SAME, GONE, "gone", "gone", "raised"),
    (CHANGED, SAME, "changes", "changes", "changes"),
    (CHANGED, CHANGED, "changes", "changes", "changes"),
    (CHANGED, GONE, "gone", "raised", "raised"),
    (GONE, SAME, "removed", "removed", "new"),
    (GONE, CHANGED, "removed", "fetched again", "new"),
    (GONE, GONE, "lost", "lost", "lost"),
]


def expected(outcome: str, pair: Pair, here: Flags, there: Flags) -> dict[str, object]:
    special: dict[str, dict[str, object]] = {
        "nothing": {},
        "changes": {"changes": [Change(pair, here, there)]},
        "fetched again": {"new": [1], "fetched_again": [1]},
        "new": {"new": [1]},
    }
    return special.get(outcome, {outcome: [pair]})


def check_cell(here: str, there: str, base: Flags, new: Flags, outcome: str, *, trusted: bool = True) -> None:
    """A mailbox of one message that is the same, changed or gone on either side; where it changed on both, not in the same way."""
    at_server = base if there != CHANGED else new ^ {"\\Seen"} if here == CHANGED else new
    side = local(missing=[1]) if here == GONE else local({1: new} if here == CHANGED else {})
    wanted = expected(outcome, paired(1, base), new if here == CHANGED else base, at_server)
    for remote in [server({}, gone=[1])] if there == GONE else [server({1: at_server})] + [None] * (there == SAME):
        assert needs(compare(INBOX, remote, {Uid(1): paired(1, base)}, side, known=9, trusted=trusted)) == wanted


@pytest.mark.parametrize(("here", "there", "slight", "weighty", "untrusted"), TABLE)
class TestTable:
    @pytest.mark.parametrize("base", [NO_FLAGS, frozenset(EACH)], ids=["set", "taken away"])
    @pytest.mark.parametrize("flag", EACH)
    def test_each_flag(self, flag: str, base: Flags, here: str, there: str, slight: str, weighty: str, untrusted: str) -> None:
        check_cell(here, there, base, base ^ {flag}, slight if flag in SLIGHT else weighty)
        check_cell(here, there, base, base ^ {flag}, untrusted, trusted=False)

    def test_several_flags(self, here: str, there: str, slight: str, weighty: str, untrusted: str) -> None:
        for base, new in (("-", "ST"), ("S", "T"), ("SF", "TF")):
            check_cell(here, there, fl(base), fl(new), slight)
        for base, new in (("-", "SF"), ("F", "S"), ("Sk", "-"), ("-", "TF")):
            check_cell(here, there, fl(base), fl(new), weighty)
            check_cell(here, there, fl(base), fl(new), untrusted, trusted=False)


def test_a_file_with_other_content_is_a_message_of_its_own() -> None:
    """The row of what it was goes with that; the file has another, and stays."""
    for flags in ({}, {Uid(1): fl("F")}):
        here = local(flags, edited=[1])
        assert needs(compare(INBOX, server({}, gone=[1]), {Uid(1): paired()}, here, known=1)) == {"lost": [paired()]}
    assert needs(compare(INBOX, None, {Uid(1): paired()}, local(edited=[1]), known=1)) == {}


class TestExpunge:
    @pytest.mark.parametrize(
        "row",
        [
            # The flags at the base, here and there, or x where it is gone.
            "- T - expunged", "- - T expunged", "- T T expunged", "T T T expunged", "S SFT S expunged", "F T SF expunged",
            "- F T expunged", "T - T changes", "T T - changes", "- S F changes", "S S S nothing",
            "- x T removed", "T x T removed", "- T x gone", "T T x gone", "- FT x gone", "- F x raised", "T x x lost",
        ],
    )  # fmt: skip
    def test_marked_messages_go_on_both_sides(self, row: str) -> None:
        before, here, there, outcome = row.split()
        base = fl(before)
        pair = paired(1, base)
        side = local(missing=[1]) if here == "x" else local({1: fl(here)} if here != before else {})
        remote = server({}, gone=[1]) if there == "x" else server({1: fl(there)})
        change = (NO_FLAGS, NO_FLAGS) if "x" in row.split() else (fl(here), fl(there))
        assert needs(compare(INBOX, remote, {Uid(1): pair}, side, known=1, expunge=True)) == expected(outcome, pair, *change)
        if outcome == "expunged":
            kept = "nothing" if base == T else "changes"
            assert needs(compare(INBOX, remote, {Uid(1): pair}, side, known=1)) == expected(kept, pair, *change)

    def test_marked_here_without_word_from_the_server(self) -> None:
        found = compare(INBOX, None, {Uid(1): paired()}, local({1: T}), known=1, expunge=True)
        assert needs(found) == {"expunged": [paired()]}

    def test_what_is_marked_before_it_comes_is_never_fetched(self) -> None:
        remote = server({9: T, 7: fl("FT"), 8: S})
        assert needs(compare(INBOX, remote, {}, local(), known=0, expunge=True)) == {"new": [8], "doomed": [7, 9]}
        assert needs(compare(INBOX, remote, {}, local(), known=0)) == {"new": [9, 8, 7]}
        assert needs(compare(INBOX, remote, {}, local(), known=0, expunge=True, trusted=False)) == {"new": [9, 8, 7]}

    def test_it_may_be_one_that_is_here(self) -> None:
        found = compare(INBOX, server({9: T}), {}, local(), known=0, expunge=True, unpaired=True)
        assert needs(found) == {"new": [9]}


class TestStages:
    @pytest.mark.parametrize("missing", [[], [1]])
    def test_to_be_deleted_at_the_server(self, missing: list[int]) -> None:
        pairs = {Uid(1): paired(1, stage=Stage.DELETING)._replace(key=NO_FILE)}
        for remote, outcome in ((None, "removed"), (server({1: F}), "removed"), (server({}, gone=[1]), "lost")):
            assert needs(compare(INBOX, remote, pairs, local(missing=missing), known=1)) == {outcome: [pairs[Uid(1)]]}

    def test_mode_offline_was_to_delete_it_and_its_file_is_here(self) -> None:
        """Now both sides are to be the same, and the file was never deleted: the message stays, or comes back to the server."""
        pairs = {Uid(1): paired(1, S, stage=Stage.DELETING)}
        assert needs(compare(INBOX, None, pairs, local({1: S}), known=1)) == {"returned": [pairs[Uid(1)]]}
        returned = [paired(1, F, Stage.DELETING)]
        assert needs(compare(INBOX, server({1: F}), pairs, local(), known=1)) == {"returned": returned}
        assert needs(compare(INBOX, server({}, gone=[1]), pairs, local(), known=1)) == {"raised": [pairs[Uid(1)]]}

    def test_kept_here_as_gone(self) -> None:
        pairs = {Uid(1): paired(1, S, Stage.KEPT)}
        assert needs(compare(INBOX, None, pairs, local({1: F}), known=0)) == {}
        assert needs(compare(INBOX, None, pairs, local(missing=[1]), known=0)) == {"lost": [pairs[Uid(1)]]}
        assert needs(compare(INBOX, server({1: F}), pairs, local(), known=0)) == {"returned": [paired(1, F, Stage.KEPT)]}

    @pytest.mark.parametrize("stage", [Stage.KEPT, Stage.SENT, Stage.PAIRED])
    @pytest.mark.parametrize("trusted", [True, False])
    def test_without_a_uid_nothing_is_compared(self, stage: int, *, trusted: bool) -> None:
        pairs = {Uid(uid): paired(uid, stage=stage) for uid in (-1, -2)}
        found = compare(INBOX, server({}), pairs, local({-1: SF}, missing=[-2]), known=0, trusted=trusted)
        assert needs(found) == {"lost": [pairs[Uid(-2)]]}

    @pytest.mark.parametrize("remote", [None, server({9: S}, gone=[4, 6])])
    def test_what_was_set_aside_is_tried_again_unless_it_came_or_is_gone(self, remote: RemoteSnapshot | None) -> None:
        pairs = {Uid(uid): paired(uid) for uid in (3, 4, 6)}
        new = compare(INBOX, remote, pairs, local(), known=3, retry=[Uid(5), Uid(3), Uid(4), Uid(8)]).new
        assert new == ([8, 5] if remote is None else [9, 8, 5])

    def test_what_the_guard_needs_to_know(self) -> None:
        found = compare(ARCHIVE, None, {}, local(), known=7, exempt=True)
        assert (found.mailbox, found.known, found.exempt, found.read_only, found.storable) == (ARCHIVE, 7, True, False, None)
        assert not compare(ARCHIVE, None, {}, local(), known=7).exempt


# -- moves here ----------------------------------------------------------------------------------------------------------

ONE = b"digest of 1"


def lost(mailbox: MailboxName, uid: int) -> Missing:
    return Missing(mailbox, paired(uid), 10, ONE)


def came(mailbox: MailboxName, name: int, digest: bytes | None = None, *, size: int = 10) -> NewFile:
    return NewFile(mailbox, key(name), NO_FLAGS, size, digest)


@pytest.mark.parametrize(
    ("missing", "new", "moves"),
    [
        # The same name and size in another mailbox.
        ([lost(INBOX, 1)], [came(ARCHIVE, 1)], [(0, 0)]),
        ([lost(INBOX, 1)], [came(ARCHIVE, 1, size=11)], []),
        ([lost(INBOX, 1)._replace(size=11)], [came(ARCHIVE, 1)], []),
        ([lost(INBOX, 1)], [came(ARCHIVE, 2)], []),
        # Another name, the same octets.
        ([lost(INBOX, 1)], [came(ARCHIVE, 2, ONE)], [(0, 0)]),
        ([lost(INBOX, 1)], [came(INBOX, 2, ONE)], [(0, 0)]),
        ([lost(INBOX, 1)], [came(ARCHIVE, 2, b"other")], []),
        # The file itself is not where it went.
        ([lost(INBOX, 1)], [came(INBOX, 1)], []),
        ([lost(INBOX, 1)], [came(INBOX, 1, ONE)], []),
        ([lost(ARCHIVE, 1), lost(INBOX, 1)], [came(ARCHIVE, 1)], [(1, 0)]),
        # Two copies of one: the name says more than the octets, whichever comes first; the other is a new file.
        ([lost(INBOX, 1)], [came(ARCHIVE, 1), came(LISTS, 1)], [(0, 0)]),
        ([lost(INBOX, 1)], [came(ARCHIVE, 2, ONE), came(LISTS, 3, ONE)], [(0, 0)]),
        ([lost(INBOX, 1)], [came(ARCHIVE, 2, ONE), came(LISTS, 1, ONE)], [(0, 1)]),
        # Two alike are missing: each goes once. The same UID in two mailboxes is two messages.
        ([lost(INBOX, 1), lost(INBOX, 2)], [came(ARCHIVE, n, ONE) for n in (5, 6, 7)], [(0, 0), (1, 1)]),
        ([lost(INBOX, 1), lost(LISTS, 1)], [came(ARCHIVE, n, ONE) for n in (5, 6, 7)], [(0, 0), (1, 1)]),
    ],
)
def test_which_files_are_moved_ones(missing: list[Missing], new: list[NewFile], moves: list[tuple[int, int]]) -> None:
    assert moved_here(missing, new) == [LocalMove(missing[gone], new[file]) for gone, file in moves]


# -- the whole account ---------------------------------------------------------------------------------------------------


def merged(uid: int, before: str, words: str, mailbox: MailboxName = INBOX, name: MessageKey | None = None) -> MergeFlags:
    """From the file's flags before, and: its flags after, what the server is told to add, to remove, and what is agreed on."""
    here, add, remove, agreed = map(fl, words.split())
    return MergeFlags(mailbox, Uid(uid), key(uid) if name is None else name, here, add, remove, agreed, here != fl(before))


def waiting(*rows: int) -> list[Unpaired]:
    return [Unpaired(Uid(row), key(row)) for row in rows]


def moved(uid: int, flags: Flags = NO_FLAGS, *, to: MailboxName = ARCHIVE, base: Flags = NO_FLAGS) -> LocalMove:
    """Moved from INBOX, under another name."""
    return LocalMove(Missing(INBOX, paired(uid, base), 10, ONE), NewFile(to, key(uid + 50), flags, 10))


def test_the_order_of_everything() -> None:
    """The same UIDs in both mailboxes are other messages: what is said of one mailbox is not done in the other."""
    changes = [Change(paired(2), F, NO_FLAGS), Change(paired(11), NO_FLAGS, S)]
    inbox = delta(new=[51, 9, 8], changes=changes, gone=some(3, 10), removed=some(4), lost=some(5, 6), raised=some(7, 10))
    inbox.returned, inbox.unpaired = [paired(6, S, Stage.KEPT)], waiting(-1, -3, -9)
    other = delta(ARCHIVE, new=[51, 9, 8], changes=changes, gone=some(10), removed=some(4, 2), raised=some(10))
    other.unpaired = waiting(-1, -3, -9)
    found = plan_account(
        [inbox, other],
        recognised=[(Recognise(ARCHIVE, Uid(-9), Uid(8), S), SF)],
        moves=[Move(INBOX, paired(10), ARCHIVE, Uid(51), S)],
        local_moves=[moved(11, F)],
        copies=[LocalCopy(INBOX, Uid(2), ARCHIVE, Uid(-3))],
    )
    actions = [action._replace(found_in=None) if isinstance(action, MoveLocal) else action for action in found.actions]
    assert typed(actions) == typed((
        Recognise(ARCHIVE, Uid(-9), Uid(8), S),
        merged(8, "SF", "SF F - SF", ARCHIVE, MessageKey("")),
        MoveLocal(INBOX, Uid(10), key(10), ARCHIVE, Uid(51), S),
        merged(11, "SF", "SF F - SF"),
        MoveRemote(INBOX, (Uid(11),), ARCHIVE, (key(61),), (SF,)),
        push.CopyRemote(INBOX, (Uid(2),), ARCHIVE, (Uid(-3),)),
        Download(INBOX, (Uid(51), Uid(9), Uid(8))),
        Download(ARCHIVE, (Uid(9),)),
        push.UploadAgain(INBOX, Uid(7), key(7)),
        push.Upload(INBOX, (Uid(-1), Uid(-3), Uid(-9)), (key(-1), key(-3), key(-9))),
        push.UploadAgain(ARCHIVE, Uid(10), key(10)),
        push.Upload(ARCHIVE, (Uid(-1),), (key(-1),)),
        Recognise(INBOX, Uid(6), Uid(6), S),
        merged(2, "F", "F F - F"),
        merged(2, "F", "F F - F", ARCHIVE),
        merged(11, "-", "S - - S", ARCHIVE),
        Forget(INBOX, (Uid(5), Uid(6))),
        DeleteLocal(INBOX, Uid(3), key(3)),
        DeleteAtServer(INBOX, (Uid(4),)),
        DeleteLocal(ARCHIVE, Uid(10), key(10)),
        DeleteAtServer(ARCHIVE, (Uid(2), Uid(4))),
    ))  # fmt: skip
    assert not found.stops
    assert plan_account([delta(), delta(ARCHIVE)]) == Plan(())


ANY: dict[str, Any] = {}
PERMANENT, NONE, READ_ONLY = {"storable": SF}, {"storable": NO_FLAGS}, {"read_only": True}


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        # Base, here, there: here afterwards, add, remove, agreed.
        (ANY, ["- S -: S S - S", "- - S: S - - S", "S - S: - - S -", "S S -: - - - -", "- F S: SF F - SF", "S F S: F F S F"]),
        (ANY, ["SF S F: - - F -", "- S S: S - - S", "- T -: T T - T", "- k T: kT k - kT"]),
        (PERMANENT, ["- k -:", "- kS -: kS S - S", "- k F: kF - - F", "S k S: k - S -", "- k k: k - - k", "k - k: - - k -"]),
        (NONE, ["- S -:", "S - S: - - S -"]),
        (READ_ONLY, ["- S -:", "S - S:", "- - F: F - - F", "- S F: SF - - F", "S - SF: F - - SF"]),
    ],
)
def test_flags(limits: dict[str, Any], rows: list[str]) -> None:
    """What cannot be sent is not agreed upon: it stays to be done. A read-only mailbox follows the server."""
    for row in rows:
        sides, _, words = row.partition(":")
        base, here, there = sides.split()
        changes = [Change(paired(uid, fl(base)), fl(here), fl(there)) for uid in (1, 2)]
        found = plan_account([delta(changes=changes, **limits)])
        assert typed(found.actions) == typed(merged(uid, here, words) for uid in (1, 2) if words), row
        assert told(found, "read-only") == ([(INBOX, 2)] if limits is READ_ONLY and here != base else []), row


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        # There, here: here afterwards, add, remove, agreed.
        (ANY, ["S S:", "S SF: SF F - SF", "SF S: SF - - SF", "S F: SF F - SF"]),
        (PERMANENT, ["S Fk: SFk F - SF"]),
        (READ_ONLY, ["S F: SF - - S"]),
    ],
)
def test_a_recognised_message_loses_no_flag(limits: dict[str, Any], rows: list[str]) -> None:
    for row in rows:
        sides, _, words = row.partition(":")
        there, here = sides.split()
        action = Recognise(INBOX, Uid(-1), Uid(1), fl(there))
        flags = [merged(1, here, words, name=MessageKey(""))] if words else []
        for deltas in [[delta(new=[1], unpaired=waiting(-1), **limits)]] + [[]] * (limits is ANY):
            found = plan_account(deltas, recognised=[(action, fl(here))])
            assert typed(found.actions) == typed([action, *flags]), row
            assert not found.notices


class TestMoves:
    def test_here_in_groups(self) -> None:
        """All of a mailbox's three: no deletion."""
        moves = [moved(1, S, base=S), moved(2, to=LISTS), moved(3, T, base=T)]
        copies = [LocalCopy(INBOX, Uid(n), to, Uid(-n)) for n, to in ((1, ARCHIVE), (2, LISTS), (3, ARCHIVE))]
        found = plan_account([delta(known=3), delta(ARCHIVE), delta(LISTS)], local_moves=moves, copies=copies)
        assert not found.stops
        assert typed(found.actions) == typed((
            MoveRemote(INBOX, (Uid(1), Uid(3)), ARCHIVE, (key(51), key(53)), (S, T)),
            MoveRemote(INBOX, (Uid(2),), LISTS, (key(52),), (NO_FLAGS,)),
            push.CopyRemote(INBOX, (Uid(1), Uid(3)), ARCHIVE, (Uid(-1), Uid(-3))),
            push.CopyRemote(INBOX, (Uid(2),), LISTS, (Uid(-2),)),
        ))  # fmt: skip

    @pytest.mark.parametrize(
        "row", ["S SF S: SF F - SF: SF", "S - S: - - S -: -", "S S SF:: SF", "S Sk F:: Fk", "S FR F: FR R - FR: FR", "- k -:: k"]
    )
    def test_here_with_flags_changed_on_the_way(self, row: str) -> None:
        """Base, here, there: what changed here is sent before the message goes; the file has what both changed afterwards."""
        sides, words, flags = row.split(":")
        base, here, there = map(fl, sides.split())
        source = delta(changes=[Change(paired(1, base), base, there)] if there != base else [], storable=fl("SFR"))
        found = plan_account([source, delta(ARCHIVE)], local_moves=[moved(1, here, base=base)])
        sent = [merged(1, flags.strip(), words)] if words else []
        assert typed(found.actions) == typed([*sent, MoveRemote(INBOX, (Uid(1),), ARCHIVE, (key(51),), (fl(flags.strip()),))])

    def test_there_and_on_both_sides(self) -> None:
        """The server's place counts: the file goes there from wherever it is, and nothing moves at the server."""
        moves = [Move(INBOX, paired(uid), LISTS, Uid(70 + uid), S, here) for uid, here in ((1, None), (2, SF))]
        found = plan_account([delta(), delta(ARCHIVE), delta(LISTS, new=[72, 71])], moves=moves, local_moves=[moved(2, F)])
        first, second = found.actions
        assert isinstance(first, MoveLocal)
        assert (first.found_in or first.mailbox) == INBOX
        assert first._replace(found_in=None) == MoveLocal(INBOX, Uid(1), key(1), LISTS, Uid(71), S)
        assert typed([second]) == typed([MoveLocal(INBOX, Uid(2), key(52), LISTS, Uid(72), S, ARCHIVE, SF)])


def deleted(plan: Plan, mailbox: MailboxName, *, at_server: bool) -> list[int]:
    """Which UIDs go from a mailbox; on the other side, none."""
    here = [action.uid for action in plan.actions if isinstance(action, DeleteLocal) and action.mailbox == mailbox]
    there = [action.uids for action in plan.actions if isinstance(action, DeleteAtServer) and action.mailbox == mailbox]
    assert not (here if at_server else there)
    return [uid for uids in there for uid in uids] if at_server else list(here)


@pytest.mark.parametrize(("field", "at_server"), [("gone", False), ("removed", True)])
class TestGuard:
    @pytest.mark.parametrize(
        ("count", "known", "max_delete", "asks"),
        [
            (2, 2, 0.5, False), (3, 3, 0.5, True), (3, 3, 0.99, True), (3, 4, 0.5, False), (20, 21, 0.5, False),
            (21, 42, 0.5, False), (21, 41, 0.5, True), (21, 1000, 0.0, True), (500, 500, 1.0, False),
        ],
    )  # fmt: skip
    def test_one_mailbox_waits_the_others_go_on(
        self, field: str, count: int, known: int, max_delete: float, *, at_server: bool, asks: bool
    ) -> None:
        uids = tuple(map(Uid, range(1, count + 1)))
        fields: list[dict[str, Any]] = [{field: some(*uids)}, {field: some(1)}]
        found = plan_account([delta(INBOX, known, **fields[0]), delta(ARCHIVE, 9, **fields[1])], max_delete=max_delete)
        assert found.stops == ((Stop(INBOX, count, known, uids, at_server),) if asks else ())
        assert deleted(found, INBOX, at_server=at_server) == ([] if asks else list(uids))
        assert deleted(found, ARCHIVE, at_server=at_server) == [1]

    @pytest.mark.parametrize(
        ("mailbox", "uids", "let_through"),
        [(INBOX, [1, 2, 3], True), (INBOX, [3, 4, 2, 1], True), (INBOX, [1, 2], False), (ARCHIVE, [1, 2, 3], False)],
    )
    def test_only_what_was_announced_is_let_through(
        self, field: str, mailbox: MailboxName, uids: list[Uid], *, at_server: bool, let_through: bool
    ) -> None:
        fields: dict[str, Any] = {field: some(1, 2, 3)}
        told = {mailbox: Announced(3, frozenset(uids))}
        here, there = ({}, told) if at_server else (told, {})
        kinds = [delta(known=3, **fields)]
        assert plan_account(kinds, announced_here=here, announced_there=there).stops, "nobody has let it through"
        found = plan_account(kinds, announced_here=here, announced_there=there, allowed=True)
        assert bool(found.stops) is not let_through
        assert deleted(found, INBOX, at_server=at_server) == ([1, 2, 3] if let_through else [])
        if field != "expunged":  # which are deleted on both sides
            assert plan_account(kinds, announced_here=there, announced_there=here, allowed=True).stops, "said of the other side"

    def test_what_has_come_since_makes_it_no_smaller(self, field: str, *, at_server: bool) -> None:
        """Ten of ten are asked about for as long as they wait, also where there are a hundred now."""
        fields: dict[str, Any] = {field: some(*range(1, 11))}
        told = {INBOX: Announced(10, frozenset(map(Uid, range(1, 11))))}
        here, there = ({}, told) if at_server else (told, {})
        assert not plan_account([delta(known=100, **fields)]).stops
        assert plan_account([delta(known=100, **fields)], announced_here=here, announced_there=there).stops

    def test_most_of_it_came_back(self, field: str, *, at_server: bool) -> None:
        """What is left of an announcement is measured as any other deletion."""
        fields: dict[str, Any] = {field: some(1, 2)}
        told = {INBOX: Announced(10, frozenset(map(Uid, range(1, 11))))}
        here, there = ({}, told) if at_server else (told, {})
        found = plan_account([delta(known=10, **fields)], announced_here=here, announced_there=there)
        assert not found.stops
        assert deleted(found, INBOX, at_server=at_server) == [1, 2]

    def test_a_mailbox_that_waits_is_left_as_it_is(self, field: str, *, at_server: bool) -> None:
        del at_server
        fields: dict[str, Any] = {field: some(1, 2, 3), "new": [Uid(9)], "unpaired": [Unpaired(Uid(-1), key(1))]}
        fields |= {"lost": some(5), "raised": some(6), "returned": some(7), "changes": [Change(paired(8), S, NO_FLAGS)]}
        assert plan_account([delta(known=3, **fields)]).actions == ()

    def test_trash_and_junk_are_exempt(self, field: str, *, at_server: bool) -> None:
        fields: dict[str, Any] = {field: some(1, 2, 3)}
        found = plan_account([delta(known=3, exempt=True, **fields)])
        assert not found.stops
        assert deleted(found, INBOX, at_server=at_server) == [1, 2, 3]


class TestDeletions:
    def test_all_kinds_at_the_server_count_together(self) -> None:
        kinds = delta(known=30, removed=some(*range(21, 14, -1)), expunged=some(*range(1, 8)), doomed=list(range(8, 15)))
        everything = tuple(map(Uid, range(1, 22)))
        assert plan_account([kinds]) == Plan((), (Stop(INBOX, 21, 30, everything, at_server=True, marked=14),))
        told = {INBOX: Announced(30, frozenset(everything))}
        found = plan_account([kinds], announced_there=told, allowed=True)
        assert typed(found.actions) == typed((DeleteAtServer(INBOX, everything[7:]), DeleteAtServer(INBOX, everything[:7], True)))

    @pytest.mark.parametrize(("moving", "asks"), [(6, False), (5, True)])
    def test_moves_are_no_deletions(self, moving: int, *, asks: bool) -> None:
        gone = some(*range(1, 27))
        moves = [Move(INBOX, pair, ARCHIVE, Uid(50 + pair.uid), NO_FLAGS) for pair in gone[:moving]]
        found = plan_account([delta(known=40, gone=gone)], moves=moves)
        left = tuple(pair.uid for pair in gone[moving:])
        assert found.stops == ((Stop(INBOX, 21, 40, left),) if asks else ())
        assert deleted(found, INBOX, at_server=False) == ([] if asks else list(left))

    def test_what_a_move_left_over_is_no_deletion(self) -> None:
        """It is in another place, so nobody is asked, and the trash needs no copy."""
        left_over = [paired(uid, stage=Stage.DELETING)._replace(key=NO_FILE) for uid in (4, 5, 6)]
        uids = tuple(pair.uid for pair in left_over)
        (stop,) = plan_account([delta(known=3, removed=[paired(uid, stage=Stage.DELETING) for uid in (4, 5, 6)])]).stops
        assert stop.deletions == 3, "with a file these are deletions like any other"
        assert plan_account([delta(known=3, removed=left_over)]) == Plan((DeleteAtServer(INBOX, uids),))
        found = plan_account([delta(removed=[*left_over, paired(1)])], trash=TRASH)
        assert typed(found.actions) == typed((DeleteAtServer(INBOX, uids), TrashAtServer(INBOX, (Uid(1),), TRASH)))
        found = plan_account([delta(removed=[*left_over, paired(1)])])
        assert typed(found.actions) == typed((DeleteAtServer(INBOX, (Uid(1), *uids)),))

    def test_marked_here_and_never_sent(self) -> None:
        """Counted with the rest of what would go here, among all that is here."""
        unsent = waiting(-1, -2, -3)
        assert plan_account([delta(known=1, unsent=unsent)]).actions == tuple(
            DeleteLocal(INBOX, entry.uid, entry.key) for entry in unsent
        )
        (stop,) = plan_account([delta(known=1, unsent=unsent, gone=some(1))]).stops
        assert stop == Stop(INBOX, 4, 4, (*sorted(entry.uid for entry in unsent), Uid(1)), marked=3)
        assert not plan_account([delta(known=0, unsent=unsent, unpaired=waiting(-4))]).stops

    def test_to_the_trash_and_from_it(self) -> None:
        fields: dict[str, Any] = {"removed": some(2), "doomed": [1], "expunged": some(3)}
        found = plan_account([delta(**fields), delta(TRASH, **fields)], trash=TRASH)
        assert typed(found.actions) == typed((
            TrashAtServer(INBOX, (Uid(1), Uid(2)), TRASH),
            TrashAtServer(INBOX, (Uid(3),), TRASH, also_here=True),
            DeleteAtServer(TRASH, (Uid(1), Uid(2))),
            DeleteAtServer(TRASH, (Uid(3),), also_here=True),
        ))  # fmt: skip

    def test_read_only(self) -> None:
        """Nothing is sent, and that is said; what the server did is followed."""
        first = delta(read_only=True, new=[9], gone=some(5), raised=some(1), unpaired=waiting(-1, -2), removed=some(2, 3))
        found = plan_account([first, delta(ARCHIVE, 2, read_only=True, removed=some(1, 2))])
        assert typed(found.actions) == typed((Download(INBOX, (Uid(9),)), DeleteLocal(INBOX, Uid(5), key(5))))
        assert told(found, "read-only") == [(INBOX, 3), (INBOX, 2), (ARCHIVE, 2)]
        assert told(plan_account([delta(read_only=True, raised=some(1, 2))]), "read-only") == [(INBOX, 2)]
        marked = plan_account([delta(known=3, read_only=True, removed=some(1), expunged=some(2), doomed=[3])])
        assert (marked.actions, marked.stops) == ((), ())

    def test_what_is_fetched_again_is_said(self) -> None:
        found = plan_account([delta(new=[3, 2, 1], fetched_again=[1, 2]), delta(ARCHIVE, new=[5])])
        assert told(found, "fetched again") == [(INBOX, 2)]
        assert typed(found.actions) == typed((Download(INBOX, (Uid(3), Uid(2), Uid(1))), Download(ARCHIVE, (Uid(5),))))


# -- a plan carried out ----------------------------------------------------------------------------------------------


@dataclass
class World:
    """One mailbox: the server, the files, and what both agreed on; a file without a counterpart has a number below zero."""

    there: dict[Uid, Flags]
    here: dict[MessageKey, Flags]
    known: dict[Uid, Pair]
    trusted: bool = True
    expunge: bool = False
    read_only: bool = False
    storable: Flags | None = None

    def plan(self) -> Plan:
        uids = [uid for uid in self.known if uid > 0]
        flags = {uid: self.here[pair.key] for uid, pair in self.known.items() if self.here.get(pair.key, pair.flags) != pair.flags}
        side = local(flags, [uid for uid, pair in self.known.items() if pair.key not in self.here])
        remote = server(self.there, [uid for uid in uids if uid not in self.there])
        found = compare(INBOX, remote, self.known, side, known=len(uids), trusted=self.trusted, expunge=self.expunge)
        found.unpaired = [Unpaired(uid, self.known[uid].key) for uid in sorted(self.known) if uid < 0 and uid not in side.missing]
        found.read_only, found.storable = self.read_only, self.storable
        return plan_account([found], max_delete=1.0)

    def send(self, uid: Uid) -> None:
        pair = self.known.pop(uid)
        new = Uid(max([99, *self.there, *self.known]) + 1)
        sent = self.here[pair.key] if self.storable is None else self.here[pair.key] & self.storable
        self.there[new], self.known[new] = sent, Pair(new, pair.key, sent, Stage.PAIRED)

    def carry_out(self, action: Action) -> None:
        match action:
            case Download(_, uids):
                for uid in uids:
                    self.known[uid] = paired(uid, self.there[uid])
                    self.here[key(uid)] = self.there[uid]
            case push.Upload(_, uids, _):
                for uid in uids:
                    self.send(uid)
            case push.UploadAgain(_, uid, _):
                assert uid not in self.there
                self.send(uid)
            case MergeFlags(_, uid, name, flags, add, remove, agreed, pull):
                assert pull == (self.here[name] != flags)
                self.here[name] = flags
                self.there[uid] = (self.there[uid] | add) - remove
                self.known[uid] = self.known[uid]._replace(flags=agreed)
            case DeleteLocal(_, uid, name):
                del self.known[uid], self.here[name]
            case Forget(_, uids):
                for uid in uids:
                    del self.known[uid]
            case DeleteAtServer(_, uids, also_here):
                for uid in uids:
                    del self.there[uid]
                    pair = self.known.pop(uid, None)
                    assert also_here == (pair is not None and self.here.pop(pair.key, None) is not None)
            case _:
                raise AssertionError(f"unexpected: {action}")

    def run(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            for action in self.plan().actions:
                self.carry_out(action)
        assert self.plan().actions == ()

    def outcome(self) -> dict[MessageKey, Flags]:
        """Which messages there are to be on both sides, and with which flags."""
        found = {key(uid): flags for uid, flags in self.there.items() if uid not in self.known}
        for uid, (_, name, base, _) in self.known.items():
            here, there = self.here.get(name), self.there.get(uid)
            left = here if there is None else there
            if here is not None and there is not None:
                found[name] = frozenset(flag for flag in EACH if TRUTH[flag in base, flag in here, flag in there])
            elif left is not None and (uid < 0 or not self.trusted or any((flag in left) != (flag in base) for flag in WEIGHTY)):
                found[name] = left
        return {name: flags for name, flags in found.items() if not self.expunge or "\\Deleted" not in flags}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    flags = st.sets(st.sampled_from(["\\Seen", "\\Deleted", "\\Flagged", "todo"])).map(frozenset)
    numbers = draw(st.dictionaries(st.integers(-2, 6).filter(bool).map(Uid), flags))
    known = {uid: paired(uid, base, Stage.PAIRED if uid > 0 else Stage.KEPT) for uid, base in numbers.items()}
    there = draw(st.dictionaries(st.integers(1, 6).map(Uid), flags))
    return World(there, {key(uid): draw(flags) for uid in known if draw(st.booleans())}, known)


@pytest.mark.parametrize(("trusted", "expunge"), [(True, False), (True, True), (False, False)])
@given(world=worlds())
def test_a_plan_carried_out_leaves_both_sides_alike_and_nothing_to_do(world: World, *, trusted: bool, expunge: bool) -> None:
    world.trusted, world.expunge = trusted, expunge
    wanted = world.outcome()
    # With `expunge`, what is fetched or sent with the mark goes in a second round.
    world.run(rounds=2 if expunge else 1)
    assert world.here == wanted
    assert {world.known[uid].key: flags for uid, flags in world.there.items()} == wanted
    assert {pair.key: pair.flags for pair in world.known.values()} == wanted


@given(world=worlds(), storable=st.sampled_from([NO_FLAGS, S, SF]))
def test_what_cannot_be_sent_stays_here_and_is_no_loss(world: World, storable: Flags) -> None:
    had, wanted = dict(world.there), world.outcome()
    waiting_here = {pair.key for uid, pair in world.known.items() if uid < 0} & world.here.keys()
    closed = World(dict(had), dict(world.here), dict(world.known), read_only=True)
    closed.run()
    assert closed.there == had
    assert waiting_here <= closed.here.keys()
    world.storable = storable
    world.run()
    assert world.here == wanted
    for uid, flags in world.there.items():
        assert flags <= (storable | had.get(uid, NO_FLAGS)) & wanted[world.known[uid].key]


@given(world=worlds(), trusted=st.booleans(), expunge=st.booleans())
def test_the_same_facts_the_same_plan(world: World, *, trusted: bool, expunge: bool) -> None:
    world.trusted, world.expunge = trusted, expunge
    found = world.plan()
    assert world.plan() == found
    world.there, world.known = dict(reversed(world.there.items())), dict(reversed(world.known.items()))
    again = world.plan()
    assert Counter(str(action.as_dict()) for action in again.actions) == Counter(str(action.as_dict()) for action in found.actions)
    assert [type(action) for action in again.actions] == [type(action) for action in found.actions]
    assert again.notices == found.notices
