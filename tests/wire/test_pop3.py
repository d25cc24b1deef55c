"""The POP3 decoder: every answer read whole, in pieces and split anywhere gives the same, and messages come back as they were."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.errors import ProtocolError
from fetchmail_py.wire import pop3
from fetchmail_py.wire.pop3 import LARGE, Lines, Reply, ReplyDecoder

Read = Callable[[ReplyDecoder], object]


def feed(read: Read, pieces: Iterable[bytes], decoder: ReplyDecoder | None = None) -> tuple[object, bytes]:
    """What `read` gives once there is enough, and what is left of the stream then."""
    decoder = decoder or ReplyDecoder()
    result, rest = None, b""
    for piece in pieces:
        if result is not None:
            rest += piece
            continue
        decoder.receive_data(piece)
        result = read(decoder)
        if result is not None:
            rest = bytes(decoder._buffer[decoder._at :])
            assert decoder.buffered == len(rest)
    return result, rest


def in_pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def read_listing() -> Read:
    """A status line and the lines behind it, collected."""
    collected: list[bytes] = []
    begun = False

    def read(decoder: ReplyDecoder) -> object:
        nonlocal begun
        if not begun:
            reply = decoder.next_reply()
            if reply is None:
                return None
            begun = True
        while (lines := decoder.next_lines()) is not None:
            collected.extend(lines.lines)
            if lines.last:
                return tuple(collected)
        return None

    return read


def read_message(size: int) -> Callable[[], Read]:
    return lambda: lambda decoder: decoder.next_message(size)


def read_reply() -> Read:
    return ReplyDecoder.next_reply


def ok(text: str = "", code: str | None = None) -> Reply:
    return Reply("+OK", code, text)


ANSWERS = [
    # Status lines.
    (read_reply, b"+OK\r\n", ok()),
    (read_reply, b"+ok hello\r\n", ok("hello")),
    (read_reply, b"+OK \r\n", ok()),
    (read_reply, b"+OK bare line end\n", ok("bare line end")),
    (read_reply, b"+OK \xc3\xa9 \xff\r\n", ok("\xe9 \ufffd")),
    (read_reply, b"+OK " + b"x" * 10_000 + b"\r\n", ok("x" * 10_000)),
    (read_reply, b"-ERR\r\n", Reply("-ERR", None, "")),
    (read_reply, b"-ERR [IN-USE] Do you have another session?\r\n", Reply("-ERR", "IN-USE", "Do you have another session?")),
    (read_reply, b"-ERR [login-delay 30] later\r\n", Reply("-ERR", "LOGIN-DELAY", "later")),
    (read_reply, b"-err [SYS/TEMP]\r\n", Reply("-ERR", "SYS/TEMP", "")),
    (read_reply, b"-ERR [\r\n", Reply("-ERR", None, "[")),
    (read_reply, b"-ERR no [AUTH] code here\r\n", Reply("-ERR", None, "no [AUTH] code here")),
    (read_reply, b"+ PDE4OTY+\r\n", Reply("+", None, "PDE4OTY+")),
    (read_reply, b"+\r\n", Reply("+", None, "")),
    (read_reply, b"+ \r\n", Reply("+", None, "")),
    # Listings.
    (read_listing, b"+OK\r\n.\r\n", ()),
    (read_listing, b"+OK\n.\n", ()),
    (read_listing, b"+OK 2\r\n1 120\r\n2 200\r\n.\r\n", (b"1 120", b"2 200")),
    (read_listing, b"+OK 2\n1 120\n2 200\n.\n", (b"1 120", b"2 200")),
    (read_listing, b"+OK\r\n..a\r\n...\r\n\r\n.\r\n", (b".a", b"..", b"")),
    (read_listing, b"+OK\r\n1 a\rb\0\xff .\r\n.\r\n", (b"1 a\rb\0\xff .",)),
    # Messages.
    (read_message(0), b"+OK\r\n.\r\n", b""),
    (read_message(5), b"+OK 5 octets\r\nabc\r\n.\r\n", b"abc\r\n"),
    (read_message(5), b"+ok\r\nabc\r\n.\r\n", b"abc\r\n"),
    (read_message(9), b"+OK\r\n..\r\n.x\r\n...\r\n....\r\n.\r\n", b".\r\n.x\r\n..\r\n...\r\n"),
    (read_message(1), b"+OK\r\n...\r\n.\r\n", b"..\r\n"),
    (read_message(9), b"+OK\r\n\r\n\r\n.\r\n", b"\r\n\r\n"),
    (read_message(9), b"+OK\r\na\n.\nb\n..\nc\r\n.\r\n", b"a\n.\nb\n..\nc\r\n"),
    (read_message(9), b"+OK\r\na\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
    (read_message(99), b"+OK\r\na\n.\r\n.\r\n", b"a\n.\r\n"),
    (read_message(9), b"+OK\r\na\r.\r\r\n\0\x1a\xff\r\n.\r\n", b"a\r.\r\r\n\0\x1a\xff\r\n"),
    (read_message(9), b"+OK\r\n\n.\r\n\r\n.\r\n", b"\n.\r\n\r\n"),
    (read_message(9), b"+OK\r\n" + b"x" * 100_000 + b"\r\n.\r\n", b"x" * 100_000 + b"\r\n"),
    # LF "." CRLF behind exactly the announced octets: the file of a message put on the wire as it is.
    (read_message(4), b"+OK\r\na\nb\n.\r\n", b"a\nb\n"),
    (read_message(5), b"+OK\r\n..\r\nb\n.\r\n", b".\r\nb\n"),
    # A server that has no CR in its status line either.
    (read_message(0), b"+OK\n.\n", b""),
    (read_message(0), b"+OK\n.\r\n", b""),
    (read_message(9), b"+OK\na\n..\n...b\n.\n", b"a\n.\n..b\n"),
    (read_message(9), b"+OK text\na\r\n..\n.\r\n", b"a\r\n.\n"),
    (read_message(9), b"-ERR no such message\r\n", Reply("-ERR", None, "no such message")),
]  # fmt: skip


@pytest.mark.parametrize(("make", "data", "expected"), ANSWERS, ids=lambda value: getattr(value, "__name__", repr(value))[:40])
def test_an_answer_is_the_same_however_it_comes(make: Callable[[], Read], data: bytes, expected: object) -> None:
    for rest in (b"", b"+OK and the next\r\n.\r\n"):
        stream = data + rest
        assert feed(make(), [stream]) == (expected, rest)
        assert feed(make(), [stream[index : index + 1] for index in range(len(stream))]) == (expected, rest)
        for cut in range(1, min(len(data), 200)):
            assert feed(make(), [stream[:cut], stream[cut:]]) == (expected, rest)


@pytest.mark.parametrize("line", [b"+OKxyz", b" +OK", b"OK", b"", b"-ERRno", b"* OK IMAP4rev1", b"HTTP/1.1 400", b"+x", b"\xff\0"])
def test_what_is_no_answer_is_an_error_with_its_octets(line: bytes) -> None:
    for read in (read_reply(), read_message(0)()):
        with pytest.raises(ProtocolError) as caught:
            feed(read, [line + b"\r\n"])
        assert caught.value.data == line


def test_lines_have_a_limit_whether_they_end_or_not() -> None:
    long = b"+OK " + b"x" * pop3.MAX_LINE
    for read in (read_reply(), read_message(0)()):
        for data in (long, long + b"\r\n"):
            with pytest.raises(ProtocolError, match="line of more than"):
                feed(read, [data])
    with pytest.raises(ProtocolError, match="line of more than"):
        feed(read_listing(), [b"+OK\r\n", long])


def test_an_endless_listing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_LINES", "MAX_LISTING"):
        with monkeypatch.context() as patch:
            patch.setattr(pop3, limit, 1000)
            with pytest.raises(ProtocolError, match="listing of more than"):
                feed(read_listing(), [b"+OK\r\n", *[b"1 a\r\n" * 10] * 200])


def test_an_endless_message_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pop3, "MAX_MESSAGE", 1000)
    decoder = ReplyDecoder(stream_from=10, chunk=10)
    decoder.receive_data(b"+OK\r\n" + b"x" * 900)
    assert decoder.next_message(0) is LARGE
    assert decoder.next_chunk(0) is not None
    decoder.receive_data(b"x" * 900)
    with pytest.raises(ProtocolError, match="message of more than"):
        decoder.next_chunk(0)


def test_limits_are_for_each_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MAX_LINES", "MAX_LISTING", "MAX_MESSAGE"):
        monkeypatch.setattr(pop3, limit, 1000)
    decoder = ReplyDecoder(stream_from=10, chunk=10)
    for _ in range(10):
        assert feed(read_listing(), [b"+OK\r\n" + b"1 a\r\n" * 100 + b".\r\n"], decoder) == ((b"1 a",) * 100, b"")
    for _ in range(10):
        decoder.receive_data(b"+OK\r\n" + b"x" * 900)
        assert decoder.next_message(0) is LARGE
        assert decoder.next_chunk(0) == (b"x" * 900, False)
        decoder.receive_data(b"\r\n.\r\n")
        assert decoder.next_chunk(0) == (b"\r\n", True)


# -- messages round-trip ---------------------------------------------------------------------------------------------

PARTS = st.sampled_from([b"\r\n", b"\n", b"\r", b".", b"..", b"a", b"\r\n.", b"\r\n.\r", b"\n.\r\n", b"+OK\r\n", b"\0\xff"])
MESSAGES = st.lists(PARTS, max_size=40).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def on_the_wire(message: bytes, line_end: bytes = b"\r\n") -> tuple[bytes, bytes]:
    """What a server that keeps to RFC 1939, 3 sends for `message`, and what of it is content."""
    if message and not message.endswith(line_end):
        message += line_end
    stuffed = [b"." + line if line.startswith(b".") else line for line in message.split(line_end)]
    return line_end.join(stuffed) + b"." + line_end, message


def read_in_chunks(pieces: Iterable[bytes], size: int, chunk: int) -> tuple[bytes, int, bytes]:
    """The message, taken in pieces from its first octet on; the largest piece, and what is left of the stream."""
    decoder = ReplyDecoder(stream_from=0, chunk=chunk)
    content, largest, done = b"", 0, False
    for piece in pieces:
        decoder.receive_data(piece)
        answer = None if done or largest else decoder.next_message(size)
        if isinstance(answer, bytes):
            content, done = answer, True
        if answer is None and not largest:
            continue
        while not done and (taken := decoder.next_chunk(size)) is not None:
            content += taken.data
            largest = max(largest, len(taken.data))
            done = taken.last
    assert done
    return content, largest, bytes(decoder._buffer[decoder._at :])


@given(MESSAGES, CUTS, st.sampled_from([b"", b"+OK\r\nnext\r\n.\r\n"]), st.data())
def test_any_message_of_a_correct_server_comes_back_whole(
    message: bytes, cuts: list[int], rest: bytes, draw: st.DataObject
) -> None:
    data, content = on_the_wire(message)
    # Dovecot does not count the CRLF that it has to add; others count anything.
    size = draw.draw(st.sampled_from([len(content), len(message), len(content) + 1000, len(data)]))
    stream = b"+OK text\r\n" + data + rest
    assert feed(lambda decoder: decoder.next_message(size), in_pieces(stream, cuts)) == (content, rest)


@given(MESSAGES, CUTS, st.integers(1, 8), st.sampled_from([b"", b"+OK\r\nnext\r\n.\r\n"]))
def test_any_message_comes_back_in_chunks(message: bytes, cuts: list[int], chunk: int, rest: bytes) -> None:
    data, content = on_the_wire(message)
    got, _, left = read_in_chunks(in_pieces(b"+OK text\r\n" + data + rest, cuts), len(content), chunk)
    assert (got, left) == (content, rest)


@given(st.lists(st.sampled_from([b"\n", b".", b"..", b"a", b"\n."]), max_size=30).map(b"".join), CUTS, st.integers(1, 8))
def test_a_server_without_cr_is_read_too(message: bytes, cuts: list[int], chunk: int) -> None:
    data, content = on_the_wire(message, b"\n")
    pieces = in_pieces(b"+OK text\n" + data, cuts)
    assert feed(lambda decoder: decoder.next_message(0), pieces) == (content, b"")
    assert read_in_chunks(pieces, 0, chunk)[0] == content


@given(st.lists(st.one_of(PARTS, st.sampled_from([b"+OK\r\n", b"-ERR\r\n", b"1 2\r\n"])), max_size=30).map(b"".join), CUTS)
def test_nothing_but_protocol_errors_whatever_comes(data: bytes, cuts: list[int]) -> None:
    for read in (read_reply(), read_listing(), read_message(3)()):
        with contextlib.suppress(ProtocolError):
            feed(read, in_pieces(data, cuts))


def test_a_large_message_is_held_in_small_pieces() -> None:
    message = b"Subject: large\r\n\r\n" + b".line of text\r\n" * 200_000
    data, _ = on_the_wire(message)
    stream = b"+OK\r\n" + data
    decoder = ReplyDecoder()
    content, held, done = bytearray(), 0, False
    for start in range(0, len(stream), 16_384):
        decoder.receive_data(stream[start : start + 16_384])
        held = max(held, decoder.buffered)
        if content or decoder.next_message(len(message)) is LARGE:
            while not done and (taken := decoder.next_chunk(len(message))) is not None:
                content += taken.data
                done = taken.last
    assert done
    assert content == message
    assert held <= pop3.STREAM_FROM + 16_384


# -- what answers say ------------------------------------------------------------------------------------------------


def test_listings_are_read_with_what_servers_put_into_them() -> None:
    sizes: dict[int, int] = {}
    pop3.add_sizes([b"1 120", b"2\t0", b"3  99 octets", b"2147483648 9999999999"], sizes)
    assert sizes == {1: 120, 2: 0, 3: 99, 2147483648: 9999999999}
    ids: dict[int, bytes] = {}
    pop3.add_unique_ids([b"1 whqtswO00WBw418f9t5JxYwZ", b"2 " + b"x" * 500, b"3 a b\xff/../\0 ", b"4", b"5 "], ids)
    assert ids == {1: b"whqtswO00WBw418f9t5JxYwZ", 2: b"x" * 500, 3: b"a b\xff/../\0 ", 4: b"", 5: b""}


@pytest.mark.parametrize(
    "line",
    [b"0 120", b"-1 120", b"01 120", b"0x1 120", b"1", b"1 -5", b"1 x", b"", b"2147483649 1", b"7 1", b"99999999999 1"],
)
def test_a_listing_that_makes_no_sense_is_an_error_with_its_octets(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        pop3.add_sizes([line], {7: 1})
    assert caught.value.data == line


@pytest.mark.parametrize("line", [b"0 a", b"-1 a", b"01 a", b"x a", b"", b"2147483649 a", b"7 a"])
def test_unique_ids_need_a_message_number(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        pop3.add_unique_ids([line], {7: b"a"})
    assert caught.value.data == line


def test_stat() -> None:
    assert pop3.parse_stat("2 320") == (2, 320)
    assert pop3.parse_stat("0 0 is empty") == (0, 0)
    for text in ("", "2", "x 1", "2 y", "-1 5", "2147483649 1", "\u0661 \u0662"):
        with pytest.raises(ProtocolError):
            pop3.parse_stat(text)


def test_capabilities() -> None:
    lines = [b"TOP", b"uidl", b"SASL PLAIN scram-sha-256", b"PIPELINING", b"EXPIRE 60 user", b"LOGIN-DELAY 900 USER",
             b"IMPLEMENTATION Some Server 1.0", b"STLS", b"USER", b"UTF8 USER", b"", b"X-\xff"]  # fmt: skip
    assert pop3.parse_capabilities(lines) == pop3.Capabilities(
        offered=True, pipelining=True, uidl=True, top=True, user=True, stls=True, utf8=True,
        sasl=frozenset({"PLAIN", "SCRAM-SHA-256"}), expire="60 USER", login_delay=900, implementation="Some Server 1.0",
        lines=tuple(lines),
    )  # fmt: skip
    assert pop3.parse_capabilities([b"LOGIN-DELAY", b"SASL"]) == pop3.Capabilities(offered=True, lines=(b"LOGIN-DELAY", b"SASL"))
    assert pop3.parse_capabilities([b"LOGIN-DELAY soon"]).login_delay is None


@pytest.mark.parametrize(
    ("greeting", "stamp"),
    [
        ("POP3 ready <1896.697170952@dbc.mtview.ca.us>", "<1896.697170952@dbc.mtview.ca.us>"),
        ("<a@b> ready", "<a@b>"),
        ("see <http://x/> <1@y>", "<1@y>"),
        ("<1896.697170952>", None),
        ("<a b@c>", None),
        ("<a@b@c>", None),
        ("<@c>", None),
        ("<\xe9@c>", None),
        ("<a\x01@c>", None),
        ("ready", None),
    ],
)
def test_only_a_message_id_is_a_timestamp(greeting: str, stamp: str | None) -> None:
    assert pop3.timestamp(greeting) == stamp


def test_commands() -> None:
    assert pop3.command("USER", b"a b") == b"USER a b\r\n"
    # The example of RFC 1939, 7.
    expected = b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"
    assert pop3.apop(b"mrose", "<1896.697170952@dbc.mtview.ca.us>", b"tanstaaf") == expected
    for bad in (b"a\r", b"a\nDELE 1", b"\0"):
        with pytest.raises(ValueError, match="line end or NUL in an argument of PASS") as caught:
            pop3.command("PASS", b"hunter2" + bad)
        assert "hunter2" not in str(caught.value)


def test_lines_is_a_batch_of_what_is_there() -> None:
    decoder = ReplyDecoder()
    decoder.receive_data(b"1 a\r\n2 b\r\n3")
    assert decoder.next_lines() == Lines([b"1 a", b"2 b"], last=False)
    assert decoder.next_lines() is None
    decoder.receive_data(b" c\r\n.\r\n+OK")
    assert decoder.next_lines() == Lines([b"3 c"], last=True)
    assert decoder.buffered == 3
