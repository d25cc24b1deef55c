"""Fetching bodies and deleting at the server: what is left out, refused, mixed up, or gone meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest

from fetchmail_py.errors import ConnectionLost, ProtocolError, ServerBusy, ServerRefused, StoreError
from fetchmail_py.model import Delivered, MailboxName, MessageKey, Uid, UidSet
from fetchmail_py.session import imap_fetch
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_fetch import Fetched, Fetcher, FetchRequest, Identified, MailboxFailed, NotFetched, identify
from fetchmail_py.session.imap_store import Deleted, delete
from fetchmail_py.session.login import Login
from fetchmail_py.wire import imap_response
from fetchmail_py.wire.imap_grammar import parse_uid_set
from tests.session.peer import CUT, Peer, Step

INBOX, OTHER = MailboxName("INBOX"), MailboxName("Other")
T = TypeVar("T")


class Writer:
    """One message in pieces."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.data = b""

    def write(self, chunk: bytes) -> None:
        self.data += chunk

    def finish(self) -> Delivered:
        self.sink.open_writers.remove(self)
        return self.sink.deliver(self.data, None)

    def discard(self) -> None:
        self.sink.open_writers.remove(self)


class Sink:
    """Keeps messages in memory; nothing half done may be left in it."""

    def __init__(self) -> None:
        self.messages: dict[str, bytes] = {}
        self.dates: dict[str, int | None] = {}
        self.open_writers: list[Writer] = []
        self.count = 0
        self.full = False

    def deliver(self, data: bytes, internaldate: int | None) -> Delivered:
        if self.full:
            raise StoreError("disk full")
        self.count += 1
        key = f"k{self.count}"
        self.messages[key] = data
        self.dates[key] = internaldate
        return Delivered(MessageKey(key), len(data), len(data), b"", 0, b"")

    def start(self, internaldate: int | None) -> Writer:
        self.open_writers.append(Writer(self))
        return self.open_writers[-1]

    def date(self, delivered: Delivered, internaldate: int | None) -> None:
        self.dates[delivered.key] = internaldate

    def discard(self, delivered: Delivered) -> None:
        del self.messages[delivered.key]


def peer_with(*steps: Step, capabilities: str = "") -> Peer:
    return Peer(f"S: * PREAUTH [CAPABILITY IMAP4rev1 {capabilities}] hi", *steps)


def session_to(peer: Peer) -> ImapSession:
    return ImapSession.open(peer.endpoint(), Login("ann", "auto", lambda: "secret"))


def in_session(use: Callable[[ImapSession], T], *steps: Step, capabilities: str = "") -> T:
    with peer_with(*steps, capabilities=capabilities) as peer:
        session = session_to(peer)
        try:
            return use(session)
        finally:
            session.close()


def message(uid: int | None, body: bytes, number: int = 1, more: bytes = b"") -> bytes:
    uid_item = b"" if uid is None else b"UID %d " % uid
    return b"* %d FETCH (%sFLAGS (\\Seen)%s BODY[] {%d}\r\n%s)\r\n" % (number, uid_item, more, len(body), body)


def select(tag: str, mailbox: str = "INBOX", uidvalidity: int = 7, *, asked: bool = True) -> str:
    question = f'C: {tag} EXAMINE "{mailbox}"\n' if asked else ""
    return f"{question}S: * 9 EXISTS\nS: * OK [UIDVALIDITY {uidvalidity}] ok\nS: {tag} OK [READ-ONLY] done"


def fetch(tag: str, uids: str, size: str = "") -> str:
    return f"C: {tag} UID FETCH {uids} (FLAGS INTERNALDATE{size} BODY.PEEK[])"


def request(*uids: int, mailbox: MailboxName = INBOX) -> FetchRequest:
    return FetchRequest(mailbox, 7, tuple(Uid(uid) for uid in uids))


class Results:
    """What a fetcher gave, in an order that does not matter."""

    def __init__(self, requests: Iterable[FetchRequest], *steps: Step, wanted: Callable[[], bool] = lambda: True) -> None:
        self.sinks = {INBOX: Sink(), OTHER: Sink()}

        def run(session: ImapSession) -> list[Fetched | NotFetched | MailboxFailed]:
            return list(Fetcher(session, self.sinks.__getitem__, wanted).run(requests))

        found = in_session(run, *steps)
        self.bodies = {
            (entry.mailbox, int(entry.uid)): self.sinks[entry.mailbox].messages[entry.delivered.key]
            for entry in found
            if isinstance(entry, Fetched)
        }
        self.missing = {int(entry.uid): entry for entry in found if isinstance(entry, NotFetched)}
        self.failed = [entry for entry in found if isinstance(entry, MailboxFailed)]
        for sink in self.sinks.values():
            assert not sink.open_writers, "a message was left half written"
        assert sum(len(sink.messages) for sink in self.sinks.values()) == len(self.bodies), "a message was left that nobody has"

    @property
    def uids(self) -> set[int]:
        return {uid for _, uid in self.bodies}


# A question is on its way before the answer to the one before has been read, so the peer reads both first.
ASK_1 = 'C: F1 EXAMINE "INBOX"\n'


class TestFetcher:
    def test_messages_as_they_come(self) -> None:
        found = Results(
            [request(3, 5)],
            ASK_1 + fetch("F2", "3,5") + "\n" + select("F1", asked=False),
            message(5, b"five", more=b' INTERNALDATE "01-Jan-2024 00:00:00 +0000"') + message(3, b"three") + b"F2 OK\r\n",
        )
        assert found.bodies == {(INBOX, 3): b"three", (INBOX, 5): b"five"}
        assert found.sinks[INBOX].dates == {"k1": 1704067200, "k2": None}
        assert not found.missing

    def test_a_message_of_the_next_question_may_come_early(self) -> None:
        found = Results(
            [request(1), request(2)],
            ASK_1 + fetch("F2", "1") + "\n" + fetch("F3", "2") + "\n" + select("F1", asked=False),
            message(2, b"two") + message(1, b"one") + b"F2 OK\r\nF3 OK\r\n",
        )
        assert found.bodies == {(INBOX, 1): b"one", (INBOX, 2): b"two"}

    def test_but_never_a_message_of_the_next_mailbox(self) -> None:
        found = Results(
            [request(1), request(2, mailbox=OTHER)],
            ASK_1 + fetch("F2", "1") + '\nC: F3 EXAMINE "Other"\n' + fetch("F4", "2") + "\n" + select("F1", asked=False),
            message(2, b"not asked for here") + message(1, b"one") + b"F2 OK\r\n",
            select("F3", asked=False),
            message(1, b"nor this there") + message(2, b"two") + b"F4 OK\r\n",
        )
        assert found.bodies == {(INBOX, 1): b"one", (OTHER, 2): b"two"}

    @pytest.mark.parametrize(
        "stranger",
        [
            message(99, b"nobody asked"),
            message(None, b"whose is this?"),
            message(1, b"one again"),
            b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n",
            b"* 1 FETCH (UID 1 BODY[HEADER] {1}\r\nx)\r\n",
            b"* 9 FETCH (UID 99 BODY[] {3}\r\nabc BODY[] {3}\r\nxyz)\r\n",
            b"* 9 FETCH (UID 99 X-ODD (BODY[] {3}\r\nabc))\r\n",
        ],
    )
    def test_what_was_not_asked_for_is_dropped(self, stranger: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        for stream_from in (1, 1000):
            monkeypatch.setattr(imap_response, "STREAM_FROM", stream_from)
            found = Results(
                [request(1, 2)],
                ASK_1 + fetch("F2", "1:2") + "\n" + select("F1", asked=False),
                message(1, b"one") + stranger + message(2, b"two") + b"F2 OK\r\n",
            )
            assert found.bodies == {(INBOX, 1): b"one", (INBOX, 2): b"two"}
            assert not found.missing

    def test_large_messages_come_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_response, "STREAM_FROM", 10)
        body = bytes(range(256)) * 100
        late = b"* 1 FETCH (BODY[] {%d}\r\n%s UID 1 INTERNALDATE \"01-Jan-2024 00:00:00 +0000\")\r\nF2 OK\r\n" % (len(body), body)
        found = Results([request(1)], ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False), late)
        assert found.bodies == {(INBOX, 1): body}
        assert list(found.sinks[INBOX].dates.values()) == [1704067200]

    def test_one_bad_message_does_not_keep_the_others(self) -> None:
        first = ASK_1 + fetch("F2", "1:4") + "\n" + select("F1", asked=False)

        def server(peer: Peer) -> None:
            # Whatever it is asked, it refuses every set that holds message 3.
            for tag in range(3, 7):
                line = peer.read_line().decode()
                assert line.startswith(f"F{tag} UID FETCH "), line
                uids = parse_uid_set(line.split()[3].encode())
                if 3 in uids:
                    peer.send(b"F%d NO [SERVERBUG] cannot read it\r\n" % tag)
                else:
                    peer.send(b"".join(message(uid, b"%d" % uid) for uid in uids) + b"F%d OK\r\n" % tag)

        found = Results([request(1, 2, 3, 4)], first, "S: F2 NO [SERVERBUG] cannot read it", server)
        assert found.uids == {1, 2, 4}
        assert found.missing == {3: NotFetched(INBOX, Uid(3), "the server refused it: cannot read it")}

    def test_a_large_set_is_halved(self) -> None:
        asked: list[int] = []

        def server(peer: Peer) -> None:
            tag = 2
            waiting = 64
            while waiting:
                line = peer.read_line().decode()
                assert line.startswith(f"F{tag} UID FETCH "), line
                uids = parse_uid_set(line.split()[3].encode())
                asked.append(len(uids))
                if tag == 2:
                    peer.send(select("F1", asked=False).replace("S: ", "").replace("\n", "\r\n").encode() + b"\r\n")
                if 7 in uids and len(uids) > 1:
                    peer.send(b"F%d BAD too much\r\n" % tag)
                else:
                    peer.send(b"".join(message(uid, b"x") for uid in uids) + b"F%d OK\r\n" % tag)
                    waiting -= len(uids)
                tag += 1

        found = Results([request(*range(1, 65))], 'C: F1 EXAMINE "INBOX"', server)
        assert found.uids == set(range(1, 65))
        assert asked[0] == 64
        assert len(asked) < 20, "logarithmic, not one by one"

    def test_a_message_left_out_is_asked_for_once_more_and_then_set_aside(self) -> None:
        found = Results(
            [request(1, 2)],
            ASK_1 + fetch("F2", "1:2") + "\n" + select("F1", asked=False),
            message(1, b"one") + b"F2 OK\r\n",
            fetch("F3", "2", " RFC822.SIZE") + "\nS: F3 OK",
        )
        assert found.uids == {1}
        assert not found.missing[2].gone, "silence is not a deletion"
        assert "without the message" in found.missing[2].reason

    @pytest.mark.parametrize("body", [b"NIL", b'""'])
    def test_no_body_is_no_message(self, body: bytes) -> None:
        answer = b"* 1 FETCH (UID 1 RFC822.SIZE 500 FLAGS () BODY[] " + body + b")\r\n"
        steps: list[Step] = [
            ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False), answer.replace(b"RFC822.SIZE 500 ", b"") + b"F2 OK\r\n",
        ]  # fmt: skip
        if body == b'""':
            steps += [fetch("F3", "1", " RFC822.SIZE"), answer + b"F3 OK\r\n"]
        found = Results([request(1)], *steps)
        assert not found.bodies
        assert not found.missing[1].gone

    def test_an_empty_message_is_one(self) -> None:
        found = Results(
            [request(1)],
            ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False),
            b'* 1 FETCH (UID 1 FLAGS () BODY[] "")\r\nF2 OK\r\n',
            fetch("F3", "1", " RFC822.SIZE"),
            b'* 1 FETCH (UID 1 RFC822.SIZE 0 FLAGS () BODY[] {0}\r\n)\r\nF3 OK\r\n',
        )
        assert found.bodies == {(INBOX, 1): b""}

    @pytest.mark.parametrize("word", ["VANISHED 1", "VANISHED 1:9", "1 EXPUNGE"])
    def test_gone_meanwhile(self, word: str) -> None:
        steps: list[Step] = [ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False), f"S: * {word}\nS: F2 OK"]
        found = Results([request(1)], *steps)
        assert found.missing[1].gone

    @pytest.mark.parametrize(
        ("answer", "code"),
        [("S: F1 NO [NONEXISTENT] gone", "NONEXISTENT"), (select("F1", uidvalidity=8, asked=False), None)],
    )
    @pytest.mark.parametrize("stream_from", [1, 1000])
    def test_a_mailbox_that_is_not_what_it_was(
        self, answer: str, code: str | None, stream_from: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(imap_response, "STREAM_FROM", stream_from)
        question = 'C: F3 EXAMINE "Other"\n' + fetch("F4", "2") + "\n"
        found = Results(
            [request(1), request(2, mailbox=OTHER)],
            ASK_1 + fetch("F2", "1") + "\n" + question + answer,
            message(1, b"of another time") + b"F2 OK\r\n",
            select("F3", asked=False),
            message(2, b"two") + b"F4 OK\r\n",
        )
        assert found.bodies == {(OTHER, 2): b"two"}
        (failed,) = found.failed
        assert failed.mailbox == INBOX
        assert (failed.error.code if failed.error is not None else None) == code

    def test_nor_is_what_was_asked_for_behind_the_same_question(self) -> None:
        """A server that keeps the mailbox before selected answers from there."""
        found = Results(
            [request(1), request(2, mailbox=OTHER), request(3, mailbox=OTHER)],
            ASK_1 + fetch("F2", "1") + '\nC: F3 EXAMINE "Other"\n' + fetch("F4", "2") + "\n" + fetch("F5", "3"),
            select("F1", asked=False),
            message(1, b"one") + b"F2 OK\r\nF3 NO [SERVERBUG] not now\r\n",
            message(2, b"of the mailbox before") + b"F4 OK\r\n" + message(3, b"and this") + b"F5 OK\r\n",
        )
        assert found.bodies == {(INBOX, 1): b"one"}
        assert [failed.mailbox for failed in found.failed] == [OTHER]

    def test_the_end_is_asked_for_before_each_command(self) -> None:
        asked = iter([True, False, False, False, False, False])
        found = Results(
            [request(1), request(2)],
            ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False),
            message(1, b"one") + b"F2 OK\r\n",
            wanted=lambda: next(asked),
        )
        assert found.uids == {1}

    @pytest.mark.parametrize("stream_from", [1, 1000])
    def test_cut_in_a_message_nothing_is_left_of_it(self, stream_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_response, "STREAM_FROM", stream_from)
        sink = Sink()

        def run(session: ImapSession) -> None:
            with pytest.raises(ConnectionLost):
                list(Fetcher(session, lambda _: sink).run([request(1)]))

        half = message(1, b"x" * 500)[:300]
        in_session(run, ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False), half, CUT)
        assert not sink.messages
        assert not sink.open_writers

    def test_cut_between_a_large_body_and_its_uid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_response, "STREAM_FROM", 1)
        sink = Sink()

        def run(session: ImapSession) -> None:
            with pytest.raises(ConnectionLost):
                list(Fetcher(session, lambda _: sink).run([request(1)]))

        half = b"* 1 FETCH (BODY[] {3}\r\nabc UID"
        in_session(run, ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False), half, CUT)
        assert sink.count == 1, "it had been complete"
        assert not sink.messages

    def test_a_full_disk_ends_it(self) -> None:
        sink = Sink()
        sink.full = True

        def run(session: ImapSession) -> None:
            with pytest.raises(StoreError):
                list(Fetcher(session, lambda _: sink).run([request(1)]))

        in_session(run, ASK_1 + fetch("F2", "1") + "\n" + select("F1", asked=False), message(1, b"x"))


    @pytest.mark.parametrize("large", [False, True])
    @pytest.mark.parametrize("uid", [1, 99, None])
    def test_the_same_message_over_and_over(self, uid: int | None, monkeypatch: pytest.MonkeyPatch, *, large: bool) -> None:
        """What was asked for comes, and then no end: the run must come to one."""
        if large:
            monkeypatch.setattr(imap_response, "STREAM_FROM", 4)
        more = message(uid, b"once more") * (imap_fetch.MAX_UNASKED + 1)
        with pytest.raises(ProtocolError, match="not asked for, or were there already"):
            Results([request(1, 2)], select("F1"), fetch("F2", "1:2"), message(1, b"first") + more)

    def test_a_few_once_more_do_no_harm(self) -> None:
        more = message(1, b"once more") * imap_fetch.MAX_UNASKED
        answers = message(1, b"first") + more + message(2, b"second") + b"F2 OK\r\n"
        found = Results([request(1, 2)], select("F1"), fetch("F2", "1:2"), answers)
        assert found.bodies == {(INBOX, 1): b"first", (INBOX, 2): b"second"}


class TestIdentify:
    HEADER = "BODY.PEEK[HEADER.FIELDS (DATE FROM MESSAGE-ID SUBJECT TO)]"

    def test_size_and_header(self) -> None:
        def use(session: ImapSession) -> list[Identified]:
            found = identify(session, INBOX, 7, UidSet.of([1, 2, 3]))
            assert found is not None
            return list(found)

        header = b"BODY[HEADER.FIELDS (DATE FROM MESSAGE-ID SUBJECT TO)] {11}\r\nSubject: x\n"
        found = in_session(
            use,
            select("F1"),
            f"C: F2 UID FETCH 1:3 (RFC822.SIZE INTERNALDATE {self.HEADER})",
            b'* 1 FETCH (UID 1 RFC822.SIZE 100 INTERNALDATE "01-Jan-1970 00:01:40 +0000" ' + header + b")\r\n"
            b"* 2 FETCH (UID 2 " + header + b")\r\n"
            b"* 9 FETCH (UID 9 RFC822.SIZE 100 " + header + b")\r\n* 3 FETCH (UID 3 FLAGS ())\r\nF2 OK\r\n",
        )
        assert found == [Identified(Uid(1), 100, b"Subject: x\n", 100)]

    def test_another_uidvalidity(self) -> None:
        assert in_session(lambda session: identify(session, INBOX, 7, UidSet.of([1])), select("F1", uidvalidity=8)) is None

    def test_refused(self) -> None:
        def use(session: ImapSession) -> None:
            with pytest.raises(ServerBusy):
                list(identify(session, INBOX, 7, UidSet.of([1])) or ())

        in_session(use, select("F1"), f"C: F2 UID FETCH 1 (RFC822.SIZE INTERNALDATE {self.HEADER})\nS: F2 NO [INUSE] wait")


def writable(uidvalidity: int = 7, more: str = "") -> str:
    return f'C: F1 SELECT "INBOX"\nS: * 9 EXISTS\nS: * OK [UIDVALIDITY {uidvalidity}] ok\nS: F1 OK {more}'


class TestDelete:
    UIDS = (Uid(1), Uid(2), Uid(5))

    def delete(self, *steps: Step, capabilities: str = "") -> Deleted:
        return in_session(lambda session: delete(session, INBOX, 7, self.UIDS), *steps, capabilities=capabilities)

    def test_exactly_these(self) -> None:
        marks = "C: F2 UID STORE 1:2,5 +FLAGS.SILENT (\\Deleted)\nS: F2 OK"
        expunge = "C: F3 UID EXPUNGE 1:2,5\nS: * 1 EXPUNGE\nS: * 1 EXPUNGE\nS: * 3 EXPUNGE\nS: F3 OK"
        found = self.delete(writable(), marks, expunge, capabilities="UIDPLUS")
        assert found == Deleted(self.UIDS, (), None)

    @pytest.mark.parametrize(
        ("answer", "left"),
        [
            ("S: * VANISHED 1:2,5\nS: F3 OK", None),
            ("S: * VANISHED 1:2\nS: F3 OK\n{asked}\nS: F4 OK\nS: * ESEARCH UID ALL 5\nS: F5 OK", (5,)),
            ("S: * 1 EXPUNGE\nS: F3 OK\n{asked}\nS: F4 OK\nS: * SEARCH\nS: F5 OK", None),
            ("S: F3 OK\n{asked}\nS: F4 OK\nS: * SEARCH 1 2 5\nS: F5 OK", (1, 2, 5)),
            ("S: F3 NO [NOPERM] no\n{asked}\nS: F4 OK\nS: * SEARCH 1 2 5\nS: F5 OK", (1, 2, 5)),
            # Dovecot works on both at a time, and may be done with the second first.
            ("S: F3 OK\n{asked}\nS: * SEARCH 1 2 5\nS: F5 OK\nS: F4 OK", (1, 2, 5)),
            # Where it cannot be told, nothing counts as gone.
            ("S: F3 OK\n{asked}\nS: F4 OK\nS: F5 NO not now", (1, 2, 5)),
        ],
    )
    def test_what_is_not_told_as_gone_is_looked_for(self, answer: str, left: tuple[int, ...] | None) -> None:
        marks = "C: F2 UID STORE 1:2,5 +FLAGS.SILENT (\\Deleted)\nS: F2 OK"
        asked = "C: F4 NOOP\nC: F5 UID SEARCH UID 1:2,5"
        expunge = "C: F3 UID EXPUNGE 1:2,5\n" + answer.format(asked=asked)
        found = self.delete(writable(), marks, expunge, capabilities="UIDPLUS")
        assert found.left == (left or ())
        assert {*found.uids, *found.left} == {*self.UIDS}
        assert (found.reason is None) is (left is None)

    def test_what_is_marked_already_is_not_marked_again(self) -> None:
        expunge = "C: F3 UID EXPUNGE 1:2,5\nS: * VANISHED 1:2,5\nS: F3 OK"
        marks = "C: F2 UID STORE 2 +FLAGS.SILENT (\\Deleted)\nS: F2 OK"

        def use(session: ImapSession) -> Deleted:
            return delete(session, INBOX, 7, self.UIDS, {Uid(1), Uid(5)})

        found = in_session(use, writable(), marks, expunge, capabilities="UIDPLUS")
        assert found.uids == self.UIDS

    @pytest.mark.parametrize(
        ("answer", "expunged"),
        [
            ("S: * SEARCH 1 2 5\n", True),
            ("S: * SEARCH 1 5\n", True),
            ("S: * ESEARCH UID ALL 1:2\n", True),
            ("S: * SEARCH 1 2 5 9\n", False),
            ("S: * SEARCH 9\n", False),
            ("S: * ESEARCH UID ALL 1:4294967295\n", False),
            # No answer is no leave.
            ("S: * SEARCH\n", False),
            ("S: * ESEARCH UID\n", False),
            ("", False),
        ],
    )
    def test_without_uidplus_only_where_nobody_else_has_marked_any(self, answer: str, *, expunged: bool) -> None:
        held = any(word in answer for word in ("9", "ALL 1:4294967295"))
        found = self.delete(
            writable(),
            "C: F2 UID STORE 1:2,5 +FLAGS.SILENT (\\Deleted)\nS: F2 OK",
            f"C: F3 UID SEARCH DELETED\n{answer}S: F3 OK",
            *(["C: F4 EXPUNGE\nS: * 1 EXPUNGE\nS: * 1 EXPUNGE\nS: * 3 EXPUNGE\nS: F4 OK"] if expunged else []),
            *([] if expunged or held else ["C: F4 NOOP\nS: F4 OK\nC: F5 UID SEARCH UID 1:2,5\nS: * SEARCH 1 2 5\nS: F5 OK"]),
        )
        assert found.uids == (self.UIDS if expunged else ())
        assert found.left == (() if expunged else self.UIDS)
        assert (found.reason is None) is expunged

    @pytest.mark.parametrize(
        ("opened", "why"), [(writable(8), "UIDVALIDITY"), (writable(more="[READ-ONLY] done"), "read-only")]
    )
    def test_a_mailbox_that_is_not_what_it_was_is_left_alone(self, opened: str, why: str) -> None:
        found = self.delete(opened, capabilities="UIDPLUS")
        assert found.left == self.UIDS
        assert why in (found.reason or "")

    def test_a_mailbox_is_selected_once_and_again_where_it_was_only_examined(self) -> None:
        def use(session: ImapSession) -> None:
            assert identify(session, INBOX, 7, UidSet()) is not None
            for _ in range(2):
                assert delete(session, INBOX, 7, (Uid(1),)).uids == (Uid(1),)

        marks = "C: F{} UID STORE 1 +FLAGS.SILENT (\\Deleted)\nS: F{} OK\nC: F{} UID EXPUNGE 1\nS: * 1 EXPUNGE\nS: F{} OK\n"
        reselected = writable().replace("F1", "F2")
        in_session(
            use, select("F1"), reselected, marks.format(3, 3, 4, 4) + marks.format(5, 5, 6, 6), capabilities="UIDPLUS"
        )

    def test_refused(self) -> None:
        with pytest.raises(ServerRefused, match="SELECT"):
            self.delete('C: F1 SELECT "INBOX"\nS: F1 NO no')
        with pytest.raises(ServerRefused, match="UID STORE"):
            self.delete(writable(), "C: F2 UID STORE 1:2,5 +FLAGS.SILENT (\\Deleted)\nS: F2 NO no")

    def test_an_answer_out_of_step_ends_it(self) -> None:
        with pytest.raises(ProtocolError):
            self.delete('C: F1 SELECT "INBOX"\nS: F2 OK')
