"""IMAP responses: a table read whole, octet by octet, split everywhere and with more behind; limits; any octets at all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetchmail_py.errors import ProtocolError
from fetchmail_py.model import UidSet
from fetchmail_py.wire import imap_grammar, imap_response
from fetchmail_py.wire.imap_response import Event, ResponseDecoder
from fetchmail_py.wire.imap_types import (
    STREAMED,
    BodyChunk,
    BodyEnd,
    BodyStart,
    Capability,
    Code,
    Continuation,
    Enabled,
    Esearch,
    Exists,
    Expunge,
    Fetch,
    FlagsData,
    ListEntry,
    Namespace,
    Search,
    Status,
    StatusData,
    Vanished,
)


def fetch(seq: int = 1, **known: object) -> Fetch:
    values = {"uid": None, "flags": None, "modseq": None, "size": None, "internaldate": None, "sections": {}} | known
    return Fetch(seq, **values)  # type: ignore[arg-type]


SEEN = frozenset({"\\Seen"})
TABLE: list[tuple[bytes, list[Event]]] = [
    (b"* OK ready\r\n", [Status(None, "OK", None, "ready")]),
    (b"* OK\r\n", [Status(None, "OK", None, "")]),
    (b"F1 OK\r\n", [Status("F1", "OK", None, "")]),
    (b"F1 no [AUTHENTICATIONFAILED] wrong\r\n", [Status("F1", "NO", Code("AUTHENTICATIONFAILED", ""), "wrong")]),
    (b"* BYE [UNAVAILABLE]\r\n", [Status(None, "BYE", Code("UNAVAILABLE", ""), "")]),
    (b"* OK [UIDVALIDITY 17] ok {5}\r\n", [Status(None, "OK", Code("UIDVALIDITY", "17"), "ok {5}")]),
    (b"* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n", [Status(None, "OK", Code("PERMANENTFLAGS", "(\\Seen \\*)"), "x")]),
    (b"* OK [broken code text\r\n", [Status(None, "OK", None, "[broken code text")]),
    (b"* PREAUTH hi\n", [Status(None, "PREAUTH", None, "hi")]),
    (b"+ go on\r\n", [Continuation(b"go on")]),
    (b"+\r\n", [Continuation(b"")]),
    (b"+ {12}\r\n", [Continuation(b"{12}")]),
    (b"* CAPABILITY IMAP4rev1 auth=Plain\r\n", [Capability(frozenset({"IMAP4REV1", "AUTH=PLAIN"}))]),
    (b"* ENABLED QRESYNC\r\n", [Enabled(frozenset({"QRESYNC"}))]),
    (b"* 23 EXISTS\r\n* 0 exists\r\n", [Exists(23), Exists(0)]),
    (b"* 23 RECENT\r\n* 4 EXPUNGE\r\n", [Expunge(4)]),
    (b"\r\n* 1 EXISTS\r\n", [Exists(1)]),
    (b"* XUNKNOWN (a (b {3}\r\nabc) c)\r\n* 1 EXISTS\r\n", [Exists(1)]),
    (b"* 5 XUNKNOWN\r\n* \r\n* 1 EXISTS\r\n", [Exists(1)]),
    (b"* FLAGS (\\Seen \\recent $X)\r\n", [FlagsData(frozenset({"\\Seen", "$X"}))]),
    (b'* LIST (\\HasNoChildren) "/" INBOX\r\n', [ListEntry(frozenset({"\\hasnochildren"}), "/", b"INBOX")]),
    (b'* LIST () NIL "a\\"b\\\\c"\r\n', [ListEntry(frozenset(), None, b'a"b\\c')]),
    (b'* LIST () "\\\\" {5}\r\na\r\nbc\r\n', [ListEntry(frozenset(), "\\", b"a\r\nbc")]),
    (b'* LIST () "/" x ("CHILDINFO" ("SUBSCRIBED"))\r\n', [ListEntry(frozenset(), "/", b"x")]),
    (b'* LIST () "/" NIL\r\n', [ListEntry(frozenset(), "/", b"NIL")]),
    (
        b'* STATUS "a b" (MESSAGES 2 UIDNEXT 9 MAILBOXID (F1))\r\n',
        [StatusData(b"a b", {"MESSAGES": 2, "UIDNEXT": 9, "MAILBOXID": "F1"})],
    ),
    (b"* STATUS x ()\r\n", [StatusData(b"x", {})]),
    (
        b'* NAMESPACE (("" "/")) NIL (("Public/" "/" "X" ("y")))\r\n',
        [Namespace(((b"", "/"),), (), ((b"Public/", "/"),))],
    ),
    (b"* SEARCH 1 5 9 \r\n* SEARCH\r\n", [Search((1, 5, 9)), Search(())]),
    (b"* SEARCH 3 (MODSEQ 17)\r\n", [Search((3,))]),
    (b'* ESEARCH (TAG "F5") UID COUNT 3 ALL 1:2,5\r\n', [Esearch("F5", True, UidSet([(1, 2), (5, 5)]))]),
    (b"* ESEARCH UID\r\n", [Esearch(None, True, None)]),
    (b"* VANISHED (EARLIER) 1:3,4294967295\r\n", [Vanished(UidSet([(1, 3), (4294967295, 4294967295)]), True)]),
    (b"* VANISHED 1\r\n", [Vanished(UidSet([(1, 1)]), False)]),
    (b"* VANISHED 5:4\r\n", [Vanished(UidSet([(4, 5)]), False)]),
    (b"* 1 FETCH (UID 7 FLAGS (\\Seen))\r\n", [fetch(uid=7, flags=SEEN)]),
    (b"* 1 FETCH (FLAGS (\\SEEN) UID 7 MODSEQ (12))\r\n", [fetch(uid=7, flags=SEEN, modseq=12)]),
    (b"* 1 fetch (uid 7 flags (\\seen))\r\n", [fetch(uid=7, flags=SEEN)]),
    (b"* 1 FETCH (FLAGS ())\r\n", [fetch(flags=frozenset())]),
    (b"* 1 FETCH ()\r\n", [fetch()]),
    (
        b'* 12 FETCH (UID 7 FLAGS (\\Seen) INTERNALDATE " 1-Jan-2024 01:00:00 +0100" BODY[] {5}\r\nhe\r\no)\r\n',
        [fetch(12, uid=7, flags=SEEN, internaldate=1704067200, sections={"": b"he\r\no"})],
    ),
    (
        b"* 12 FETCH (BODY[] {5}\r\nhello UID 7 RFC822.SIZE 5)\r\n",
        [fetch(12, uid=7, size=5, sections={"": b"hello"})],
    ),
    (b"* 1 FETCH (UID 7 BODY[] NIL)\r\n", [fetch(uid=7, sections={"": None})]),
    (b'* 1 FETCH (UID 7 BODY[] "")\r\n', [fetch(uid=7, sections={"": b""})]),
    (b"* 1 FETCH (UID 7 BODY[] {0}\r\n)\r\n", [fetch(uid=7, sections={"": b""})]),
    (b"* 1 FETCH (UID 7 BODY[] {012}\r\n0123456789ab)\r\n", [fetch(uid=7, sections={"": b"0123456789ab"})]),
    (b"* 1 FETCH (UID 7 BINARY[] ~{2}\r\n\0x)\r\n", [fetch(uid=7, sections={"": b"\0x"})]),
    (b"* 1 FETCH (UID 7 RFC822 {2}\r\nhi)\r\n", [fetch(uid=7, sections={"": b"hi"})]),
    (b"* 1 FETCH (UID 7 BODY[]<0> {2}\r\nhi)\r\n", [fetch(uid=7, sections={"": b"hi"})]),
    (
        b"* 1 FETCH (UID 7 RFC822.SIZE 9 BODY[HEADER.FIELDS (DATE TO)] {4}\r\na:b\n)\r\n",
        [fetch(uid=7, size=9, sections={"HEADER.FIELDS (DATE TO)": b"a:b\n"})],
    ),
    (
        b'* 1 FETCH (UID 7 ENVELOPE ("x" NIL (("a" NIL "b" {1}\r\nc))) X-GM-MSGID 5 FLAGS (a))\r\n',
        [fetch(uid=7, flags=frozenset({"a"}))],
    ),
    (
        b"* 1 FETCH (UID 7 BODY[] {28}\r\n)\r\n* 2 FETCH (UID 8)\r\nF1 OK!)\r\nF1 OK x\r\n",
        [fetch(uid=7, sections={"": b")\r\n* 2 FETCH (UID 8)\r\nF1 OK!"}), Status("F1", "OK", None, "x")],
    ),
    (b'* 1 FETCH (UID 7 INTERNALDATE "00-Jan-0000 00:00:00 +0000")\r\n', [fetch(uid=7)]),
]


def decode(decoder: ResponseDecoder) -> list[Event]:
    return list(iter(decoder.next_event, None))


@pytest.mark.parametrize(("octets", "expected"), TABLE, ids=[repr(octets[:50]) for octets, _ in TABLE])
class TestTable:
    def test_whole(self, octets: bytes, expected: list[Event]) -> None:
        decoder = ResponseDecoder()
        decoder.receive_data(octets)
        assert decode(decoder) == expected
        assert decoder.buffered == 0

    def test_octet_by_octet(self, octets: bytes, expected: list[Event]) -> None:
        decoder = ResponseDecoder()
        found: list[Event] = []
        for index in range(len(octets)):
            decoder.receive_data(octets[index : index + 1])
            found += decode(decoder)
            if index < len(octets) - 1:
                assert len(found) < len(expected) or not expected
        assert found == expected

    def test_split_everywhere_and_followed_by_more(self, octets: bytes, expected: list[Event]) -> None:
        for at in range(len(octets) + 1):
            decoder = ResponseDecoder()
            decoder.receive_data(octets[:at])
            found = decode(decoder)
            decoder.receive_data(octets[at:] + b"* 77 EXI")
            found += decode(decoder)
            assert found == expected
            assert decoder.take_buffered() == b"* 77 EXI"


@pytest.mark.parametrize(
    "octets",
    [
        b"what is this\r\n",
        b"F1 BYE no\r\n",
        b"* 1 FETCH (UID 0)\r\n",
        b"* 1 FETCH (UID 4294967296)\r\n",
        b"* 0 FETCH (UID 1)\r\n",
        b"* 4294967296 EXISTS\r\n",
        b"* 1 FETCH (UID x)\r\n",
        b"* 1 FETCH (UID 1\r\n",
        b"* 1 FETCH (MODSEQ 5)\r\n",
        b'* 1 FETCH (UID 1 BODY[] "abc)\r\n',
        b"* SEARCH 1 x\r\n",
        b"* SEARCH 99999999999\r\n",
        b"* VANISHED 1:*\r\n",
        b"* VANISHED 0\r\n",
        b"* ESEARCH UID ALL 5:\r\n",
        b'* LIST () "/"\r\n',
        b'* LIST "/" x\r\n',
        b"* 1 FETCH (UID 1 BODY[] {99999999999999}\r\n",
        b"* 1 FETCH (UID 1 BODY[] {" + b"9" * 5000 + b"}\r\n",
        b"* 1 FETCH (UID 1 BODY[] {4294967296}\r\n",
        b"* 1 FETCH (UID 1 BODY[] {-5}\r\n",
        b"* 1 FETCH (UID 1 BODY[] {}\r\n",
        b"* 1 FETCH (UID 1 BODY[] {3}\nabc)\r\n",
        b'* LIST () "/" {3}\nabc\r\n',
        b"* LIST () {99999999}\r\n",
        b"* 1 FETCH (X " + b"(" * 200 + b")" * 200 + b")\r\n",
    ],
)
def test_a_broken_response_shows_its_octets(octets: bytes) -> None:
    decoder = ResponseDecoder()
    decoder.receive_data(octets)
    with pytest.raises(ProtocolError) as caught:
        decode(decoder)
    assert caught.value.data
    assert len(caught.value.data) <= 200


class TestLimits:
    def test_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_response, "MAX_LINE", 1000)
        decoder = ResponseDecoder()
        decoder.receive_data(b"* SEARCH " + b"1 " * 600)
        with pytest.raises(ProtocolError, match="1000 octets"):
            decode(decoder)

    def test_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_response, "MAX_FRAGMENTS", 10)
        decoder = ResponseDecoder()
        decoder.receive_data(b"* X " + b"{1}\r\na " * 20 + b"\r\n")
        with pytest.raises(ProtocolError, match="10 parts"):
            decode(decoder)

    def test_all_that_is_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_response, "MAX_LINE", 1000)
        decoder = ResponseDecoder()
        decoder.receive_data((b"* LIST (" + b"{400}\r\n" + b"x" * 400 + b") NIL x\r\n") * 5)
        assert len(decode(decoder)) == 5
        decoder.receive_data(b"* LIST (" + (b"{400}\r\n" + b"x" * 400 + b" ") * 3 + b") NIL x\r\n")
        with pytest.raises(ProtocolError, match="a response of more than 1000 octets"):
            decode(decoder)

    def test_what_is_handed_out_is_not_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_response, "MAX_LINE", 1000)
        monkeypatch.setattr(imap_response, "STREAM_FROM", 500)
        decoder = ResponseDecoder()
        for _ in range(50):
            decoder.receive_data(b"* 1 FETCH (UID 1 BODY[] {900}\r\n" + b"x" * 900 + b" FLAGS ())\r\n")
            assert isinstance(decode(decoder)[-1], Fetch)

    @pytest.mark.parametrize(
        "octets",
        [
            b"* 1 FETCH (UID 1 FLAGS (" + b"a" * 70000 + b"))\r\n",
            b"* CAPABILITY " + b"A " * 40000 + b"\r\n",
            b"* STATUS x (" + b"".join(b"A%d 1 " % item for item in range(101)) + b")\r\n",
            b"* SEARCH" + b" 1" * 2_000_001 + b"\r\n",
            b"* VANISHED 1" + b",1" * 1_000_000 + b"\r\n",
            b"F1 NO " + b"x" * 5_000_000 + b"\r\n",
        ],
        ids=lambda octets: repr(octets[:20]),
    )
    def test_what_nobody_needs(self, octets: bytes) -> None:
        decoder = ResponseDecoder()
        decoder.receive_data(octets)
        with pytest.raises(ProtocolError, match="more than"):
            decode(decoder)

    def test_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imap_grammar, "MAX_ITEMS", 10)
        decoder = ResponseDecoder()
        decoder.receive_data(b"* FLAGS (" + b"a " * 20 + b")\r\n")
        with pytest.raises(ProtocolError, match="10 values"):
            decode(decoder)

    def test_a_range_costs_nothing(self) -> None:
        decoder = ResponseDecoder()
        decoder.receive_data(b"* VANISHED (EARLIER) 1:4294967295\r\n")
        (event,) = decode(decoder)
        assert isinstance(event, Vanished)
        assert len(event.uids.ranges) == 1


@given(body=st.binary(max_size=200), splits=st.lists(st.integers(0, 250), max_size=8))
def test_a_large_body_is_streamed(body: bytes, splits: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(imap_response, "STREAM_FROM", 10)
        octets = b"* 3 FETCH (BODY[] {%d}\r\n%s UID 9)\r\n* 4 EXISTS\r\n" % (len(body), body)
        decoder = ResponseDecoder()
        found: list[Event] = []
        for low, high in itertools.pairwise(sorted({0, len(octets), *(at for at in splits if at < len(octets))})):
            decoder.receive_data(octets[low:high])
            found += decode(decoder)
    assert found[-1] == Exists(4)
    answer = found[-2]
    assert isinstance(answer, Fetch)
    assert answer.uid == 9
    if len(body) < 10:
        assert answer.sections == {"": body}
        return
    assert answer.sections == {"": STREAMED}
    assert found[0] == BodyStart("")
    assert found[-3] == BodyEnd()
    assert b"".join(event.data for event in found if isinstance(event, BodyChunk)) == body


ITEMS = [b"UID 7", b"FLAGS (\\Seen $X)", b"MODSEQ (12)", b'INTERNALDATE "17-Jul-1996 02:44:25 -0700"', b"RFC822.SIZE 5"]


@given(order=st.permutations(ITEMS), lower=st.booleans(), body=st.booleans())
def test_order_and_case_of_items_do_not_matter(order: list[bytes], lower: bool, body: bool) -> None:
    items = b" ".join(order) + (b" BODY[] {5}\r\nhello" if body else b"")
    line = b"* 3 FETCH (" + (items.replace(b"UID", b"uid").replace(b"BODY", b"Body") if lower else items) + b")\r\n"
    decoder = ResponseDecoder()
    decoder.receive_data(line)
    sections = {"": b"hello"} if body else {}
    assert decode(decoder) == [
        fetch(3, uid=7, flags=frozenset({"\\Seen", "$X"}), modseq=12, internaldate=837596665, size=5, sections=sections)
    ]


PIECES = st.sampled_from(
    [b"* ", b"1 ", b"FETCH ", b"(", b")", b"UID ", b"7", b"BODY[] ", b"{3}\r\n", b"abc", b'"', b"\\", b"\r\n", b"\n", b"F1 ",
     b"OK ", b"[", b"] ", b"LIST ", b"STATUS ", b"NIL ", b"VANISHED ", b":", b",", b"+ ", b"{999999}\r\n", b"\0", b"\xff"]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=4)), max_size=40).map(b"".join), st.integers(1, 20))
def test_any_octets_give_events_or_a_protocol_error(octets: bytes, step: int) -> None:
    whole, pieces = ResponseDecoder(), ResponseDecoder()
    results: list[list[Event] | str] = []
    for decoder, size in ((whole, len(octets) or 1), (pieces, step)):
        found: list[Event] = []
        try:
            for at in range(0, len(octets), size):
                decoder.receive_data(octets[at : at + size])
                found += decode(decoder)
            results.append(found)
        except ProtocolError:
            results.append("refused")
    assert results[0] == results[1], "how it is cut must not matter"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"17-Jul-1996 02:44:25 -0700", 837596665),
        (b" 1-Jan-1970 00:00:00 +0000", 0),
        (b"29-Feb-2024 23:59:59 +0000", 1709251199),
        (b"31-Dec-1969 23:59:59 +0000", -1),
        (b"1-Mar-2100 00:00:00 +0000", 4107542400),
        (b"17-Jul-1996 02:44:25", 837571465),
        (b"17-Foo-1996 02:44:25 +0000", None),
        (b"", None),
    ],
)
def test_dates(text: bytes, seconds: int | None) -> None:
    assert imap_grammar.parse_date(text) == seconds
