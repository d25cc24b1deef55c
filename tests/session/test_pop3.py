"""POP3 sessions against scripted servers: logging in, the listing, messages, deletions, and every way to fail on the way."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import cast

import pytest
import scramp

from fetchmail_py.errors import (
    SAID_MAX,
    AuthenticationFailed,
    ConnectionLost,
    CredentialError,
    ExitStatus,
    ProtocolError,
    ServerBusy,
    ServerRefused,
    StoreError,
    TlsError,
)
from fetchmail_py.model import Delivered, MaildropEntry, MessageKey
from fetchmail_py.session import pop3, pop3_connection
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.login import Login, NotOffered
from fetchmail_py.session.pop3 import Capabilities, NotRetrieved, Pop3Session, Retrieved
from fetchmail_py.session.pop3_window import FENCE_EVERY, WINDOW
from fetchmail_py.session.transport import Transport
from tests.session.peer import CUT, RESET, START_TLS, Authority, Event, Peer, authority

PASSWORD = "correct horse"
GREETING = "S: +OK ready <1896.697170952@dbc.mtview.ca.us>"
CAPA = """
    C: CAPA
    S: +OK
    S: USER
    S: UIDL
    S: .
"""
PIPELINING = CAPA.replace("S: UIDL", "S: UIDL\n S: PIPELINING")
LOGIN = GREETING + CAPA + "C: USER ann\nS: +OK\nC: PASS correct horse\nS: +OK\n" + CAPA
LOGIN_PIPELINING = GREETING + CAPA + "C: USER ann\nS: +OK\nC: PASS correct horse\nS: +OK\n" + PIPELINING


def login(auth: str = "user", user: str = "ann", secret: str = PASSWORD) -> Login:
    return Login(user, auth, lambda: secret)


def open_session(peer: Peer, who: Login | None = None, tls: str = "none") -> Pop3Session:
    return Pop3Session.open(peer.endpoint(tls), who or login())


def entries(*sizes: int) -> list[MaildropEntry]:
    return [MaildropEntry(number, b"id%d" % number, size) for number, size in enumerate(sizes, 1)]


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


class Writer:
    """A message in pieces; counts what became of it."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.data = b""
        self.pieces = 0

    def write(self, chunk: bytes) -> None:
        self.data += chunk
        self.pieces += 1
        if self.sink.fails:
            raise StoreError("disk full")

    def finish(self) -> Delivered:
        return self.sink.deliver(self.data, None)

    def discard(self) -> None:
        self.sink.discarded += 1


class Sink:
    """Keeps messages in memory."""

    def __init__(self, *, fails: bool = False) -> None:
        self.messages: list[bytes] = []
        self.writers: list[Writer] = []
        self.discarded = 0
        self.taken_back: list[str] = []
        """Messages that were complete, and were not to be believed."""
        self.fails = fails

    def deliver(self, data: bytes, internaldate: int | None) -> Delivered:
        if self.fails:
            raise StoreError("disk full")
        self.messages.append(data)
        return Delivered(MessageKey(str(len(self.messages))), len(data), len(data), b"", 0, b"")

    def start(self, internaldate: int | None) -> Writer:
        self.writers.append(Writer(self))
        return self.writers[-1]

    def date(self, delivered: Delivered, internaldate: int | None) -> None:
        raise AssertionError("POP3 has no dates")

    def discard(self, delivered: Delivered) -> None:
        self.taken_back.append(delivered.key)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls"))


# -- logging in ------------------------------------------------------------------------------------------------------


def sasl_capa(mechanisms: str) -> str:
    return f"C: CAPA\nS: +OK\nS: SASL {mechanisms}\nS: USER\nS: .\n"


def cram_md5(peer: Peer) -> None:
    assert peer.read_line() == b"AUTH CRAM-MD5"
    peer.send(b"+ " + base64.b64encode(b"<1.2@host>") + b"\r\n")
    digest = hmac.new(PASSWORD.encode(), b"<1.2@host>", "md5").hexdigest()
    assert base64.b64decode(peer.read_line()) == f"ann {digest}".encode()


def scram(peer: Peer) -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    server = mechanism.make_server(lambda _: mechanism.make_auth_info(PASSWORD, iteration_count=4096))
    word, name, first = peer.read_line().split(b" ")
    assert (word, name) == (b"AUTH", b"SCRAM-SHA-256")
    server.set_client_first(base64.b64decode(first).decode())
    peer.send(f"+ {b64(server.get_server_first())}\r\n".encode())
    server.set_client_final(base64.b64decode(peer.read_line()).decode())
    peer.send(f"+ {b64(server.get_server_final())}\r\n".encode())
    assert peer.read_line() == b""


LONG = "x" * 200
PLAIN_SHORT = b64("\0ann\0correct horse")
PLAIN_LONG = b64(f"\0ann\0{LONG}")
XOAUTH2 = b64("user=ann\x01auth=Bearer token\x01\x01")


def oauthbearer(peer: Peer) -> None:
    header = f"n,a=ann,\x01host=127.0.0.1\x01port={peer.port}\x01auth=Bearer token\x01\x01"
    assert peer.read_line() == f"AUTH OAUTHBEARER {b64(header)}".encode()


APOP_DIGEST = hashlib.md5(b"<1896.697170952@dbc.mtview.ca.us>" + PASSWORD.encode()).hexdigest()

LOGINS: list[tuple[str, Login, str, list[str | Callable[[Peer], None]]]] = [
    ("user", login("user"), "", ["C: USER ann\nS: +OK\nC: PASS correct horse"]),
    ("auto without SASL", login("auto"), "", ["C: USER ann\nS: +OK\nC: PASS correct horse"]),
    ("8-bit", login("user", "\xe4", "\xfc"), "", ["C: USER \xc3\xa4\nS: +OK\nC: PASS \xc3\xbc"]),
    ("apop", login("apop"), "", [f"C: APOP ann {APOP_DIGEST}"]),
    ("plain", login("plain"), "LOGIN PLAIN", [f"C: AUTH PLAIN {PLAIN_SHORT}"]),
    ("plain, long", login("plain", secret=LONG), "PLAIN", [f"C: AUTH PLAIN\nS: +\nC: {PLAIN_LONG}"]),
    ("login", login("login"), "LOGIN", [f"C: AUTH LOGIN\nS: + {b64('User:')}\nC: {b64('ann')}\nS: + \nC: {b64(PASSWORD)}"]),
    ("cram-md5", login("cram-md5"), "CRAM-MD5", [cram_md5]),
    ("scram, strongest", login("auto"), "PLAIN SCRAM-SHA-256", [scram]),
    ("xoauth2", login("xoauth2", secret="token"), "XOAUTH2", [f"C: AUTH XOAUTH2\nS: + \nC: {XOAUTH2}"]),
    ("oauthbearer", login("oauthbearer", secret="token"), "OAUTHBEARER", [oauthbearer]),
    ("external", login("external"), "EXTERNAL", ["C: AUTH EXTERNAL ="]),
]


@pytest.mark.parametrize(("who", "mechanisms", "steps"), [row[1:] for row in LOGINS], ids=[row[0] for row in LOGINS])
def test_login(who: Login, mechanisms: str, steps: list[str | Callable[[Peer], None]]) -> None:
    with Peer(GREETING, sasl_capa(mechanisms), *steps, "S: +OK", PIPELINING) as peer:
        seen: list[Capabilities] = []
        session = Pop3Session.open(peer.endpoint(), who, before_login=seen.append)
        assert seen[0].sasl == frozenset(mechanisms.split())
        # What is announced after the login is what counts.
        assert session.capabilities.pipelining
        assert not session.capabilities.sasl
        session.close()


def test_a_server_without_capa() -> None:
    capa = "C: CAPA\nS: -ERR what?\n"
    with Peer("S: +OK", capa, "C: USER ann\nS: +OK\nC: PASS correct horse\nS: +OK", capa) as peer:
        session = open_session(peer, login("auto"))
        assert session.capabilities == Capabilities()
        session.close()


def test_a_login_that_is_not_offered_sends_nothing() -> None:
    with Peer("S: +OK no timestamp", sasl_capa("PLAIN")) as peer, pytest.raises(NotOffered, match="APOP"):
        open_session(peer, login("apop"))
    with Peer("S: +OK", "C: CAPA\nS: +OK\nS: SASL GSSAPI\nS: .") as peer, pytest.raises(NotOffered, match="GSSAPI"):
        open_session(peer, login("auto"))


def test_an_oauth2_refusal_is_told_without_the_token() -> None:
    error = b64('{"status":"400","echo":"token"}')
    script = f"C: AUTH XOAUTH2\nS: +\nC: {XOAUTH2}\nS: + {error}\nC:\nS: -ERR [AUTH] no, {XOAUTH2}"
    with Peer(GREETING, sasl_capa("XOAUTH2"), script) as peer:
        with pytest.raises(AuthenticationFailed) as caught:
            open_session(peer, login("xoauth2", secret="token"))
        assert '"status":"400"' in caught.value.detail
        assert "token" not in caught.value.detail
        assert XOAUTH2 not in caught.value.detail


@pytest.mark.parametrize("challenge", ["!!", "=", "x"])
def test_a_challenge_that_is_no_base64_ends_the_session(challenge: str) -> None:
    with Peer(GREETING, sasl_capa("CRAM-MD5"), f"C: AUTH CRAM-MD5\nS: + {challenge}") as peer:
        with pytest.raises(ProtocolError):
            open_session(peer, login("cram-md5"))
        assert PASSWORD.encode() not in peer.received


def test_scram_without_proof_of_the_server_fails() -> None:
    def accept(peer: Peer) -> None:
        peer.read_line()
        peer.send(b"+OK welcome\r\n")

    with Peer(GREETING, sasl_capa("SCRAM-SHA-1"), accept) as peer, pytest.raises(ProtocolError, match="without proving"):
        open_session(peer, login("scram-sha-1"))


@pytest.mark.parametrize("bad", ["a\rb", "a\nDELE 1", "a\0"])
@pytest.mark.parametrize("auth", ["user", "apop", "plain"])
def test_line_ends_in_user_or_password_are_refused_before_anything_is_sent(auth: str, bad: str) -> None:
    for who in (login(auth, user=bad), login(auth, secret=bad)):
        with Peer(GREETING, sasl_capa("PLAIN")) as peer:
            with pytest.raises(CredentialError) as caught:
                open_session(peer, who)
            assert peer.received == b"CAPA\r\n"
            assert bad not in str(caught.value)


def test_a_password_that_the_server_repeats_is_not_shown() -> None:
    refused = GREETING + CAPA + "C: USER ann\nS: +OK\nC: PASS correct horse\nS: "
    with Peer(refused + "-ERR unknown: PASS correct horse") as peer, pytest.raises(AuthenticationFailed) as caught:
        open_session(peer)
    assert PASSWORD not in repr(vars(caught.value)) + str(caught.value)
    with Peer(refused + "unknown: PASS correct horse") as peer, pytest.raises(ProtocolError) as broken:
        open_session(peer)
    assert PASSWORD.encode() not in broken.value.data
    assert b"unknown" in broken.value.data


ECHOED = "Hunter2 is \xfcber"
AFTER_PASS = GREETING + CAPA + f"C: USER ann\nS: +OK\nC: PASS {ECHOED.encode().decode('latin-1')}\nS: "


@pytest.mark.parametrize(
    "said",
    [
        AFTER_PASS + f"-ERR [{ECHOED}] no",
        AFTER_PASS + f"-ERR {ECHOED.upper()}",
        AFTER_PASS + "?" * 195 + f" {ECHOED}",
        AFTER_PASS + "+OK\nC: CAPA\nS: -ERR\nC: STAT\nS: " + f"-ERR sorry, ann:{ECHOED}",
        AFTER_PASS + "+OK\nC: CAPA\nS: -ERR\nC: STAT\nS: " + f"+OK {ECHOED}",
        AFTER_PASS + "+OK\nC: CAPA\nS: -ERR\nC: STAT\nS: " + f"{ECHOED}",
        AFTER_PASS + "+OK\nC: CAPA\nS: -ERR\nC: STAT\nS: +OK 1 1\nC: LIST\nS: +OK\nS: " + f"{ECHOED}\nS: .",
    ],
)
def test_a_password_is_never_shown_at_any_time_of_the_session(said: str) -> None:
    with Peer(said) as peer, pytest.raises((ProtocolError, ServerRefused)) as caught:
        all_of_it(peer, login(secret=ECHOED))
    shown = (repr(vars(caught.value)) + str(caught.value)).lower()
    assert "hun" not in shown
    assert "ber" not in shown.replace("number", "")


def test_a_password_in_the_refusal_of_a_message_or_a_deletion_is_not_shown() -> None:
    steps = "C: RETR 1\nS: -ERR for correct horse\nC: STAT\nS: +OK 1 1\nC: DELE 1\nS: -ERR [SYS/TEMP] Correct Horse\n"
    with Peer(LOGIN, steps) as peer, closing(open_session(peer)) as session:
        (outcome,) = session.retrieve(entries(1), Sink())
        assert isinstance(outcome, NotRetrieved)
        assert outcome.reason == "for …"
        ((_, refused),) = session.delete(entries(1))
        assert isinstance(refused, ServerBusy)
        assert refused.words == "[SYS/TEMP] …"


def test_numbers_are_read_whatever_the_password_is() -> None:
    steps = "C: CAPA\nS: -ERR\nC: STAT\nS: +OK 1 4321\nC: LIST\nS: +OK\nS: 1 4321\nS: .\nC: UIDL\nS: +OK\nS: 1 4321\nS: ."
    begin = GREETING + CAPA + "C: USER ann\nS: +OK\nC: PASS 4321\nS: +OK\n"
    with Peer(begin, steps) as peer, closing(open_session(peer, login(secret="4321"))) as session:
        assert listed(session) == [(1, b"4321", 4321)]


REFUSALS = [
    ("[IN-USE] Do you have another POP session running?", ServerBusy, ExitStatus.TRY_AGAIN),
    ("[LOGIN-DELAY 30] too soon", ServerBusy, ExitStatus.TRY_AGAIN),
    ("[SYS/TEMP] Server error", ServerBusy, ExitStatus.TRY_AGAIN),
    ("[SYS/PERM] This mailbox is busy being removed", ServerRefused, ExitStatus.UNAVAILABLE),
    ("[AUTH] Web login required", AuthenticationFailed, ExitStatus.REFUSED_LOGIN),
    ("ann lock busy!  Is another session active? (11)", ServerBusy, ExitStatus.TRY_AGAIN),
    ("Mailbox Locked", ServerBusy, ExitStatus.TRY_AGAIN),
    ("unable to lock maildrop", ServerBusy, ExitStatus.TRY_AGAIN),
    ("Can't get lock.  Mailbox in use", ServerBusy, ExitStatus.TRY_AGAIN),
    ("user already logged in", ServerBusy, ExitStatus.TRY_AGAIN),
    ("Exceeded the login limit for a 15 minute period.", ServerBusy, ExitStatus.TRY_AGAIN),
    ("login allowed only every 15 minutes", ServerBusy, ExitStatus.TRY_AGAIN),
    ("Server Unavailable. 15", ServerBusy, ExitStatus.TRY_AGAIN),
]


@pytest.mark.parametrize(("text", "kind", "status"), REFUSALS, ids=[text for text, _, _ in REFUSALS])
def test_why_a_login_is_refused(text: str, kind: type[ServerRefused], status: ExitStatus) -> None:
    at_password = GREETING + CAPA + f"C: USER ann\nS: +OK\nC: PASS correct horse\nS: -ERR {text}"
    for script in (f"S: -ERR {text}", at_password):
        with Peer(script) as peer, pytest.raises(ServerRefused) as caught:
            open_session(peer)
        assert type(caught.value) is kind
        assert caught.value.exit_status is status
        assert caught.value.text in text


@pytest.mark.parametrize("text", ["invalid password", "Your account is locked", "Your IP is blocked", "locked out", ""])
def test_any_other_refusal_at_the_password_is_a_wrong_login(text: str) -> None:
    script = GREETING + CAPA + f"C: USER ann\nS: +OK\nC: PASS correct horse\nS: -ERR {text}"
    with Peer(script) as peer, pytest.raises(AuthenticationFailed):
        open_session(peer)
    with Peer(f"S: -ERR {text}") as peer, pytest.raises(ServerRefused) as caught:
        open_session(peer)
    assert type(caught.value) is ServerRefused


@pytest.mark.parametrize("greeting", ["hello", "+OKready", " +OK ready"])
def test_what_is_no_greeting(greeting: str) -> None:
    with Peer(f"S: {greeting}") as peer, pytest.raises(ProtocolError) as caught:
        open_session(peer)
    assert "did not greet" in caught.value.detail


# -- TLS -------------------------------------------------------------------------------------------------------------

STLS = GREETING + "\nC: CAPA\nS: +OK\nS: STLS\nS: SASL LOGIN\nS: PIPELINING\nS: .\nC: STLS\n"


def test_stls_forgets_what_was_announced_before_it(tls: Authority) -> None:
    steps = (STLS + "S: +OK go", START_TLS, CAPA, "C: USER ann\nS: +OK\nC: PASS correct horse\nS: +OK", CAPA)
    with Peer(*steps, tls=tls) as peer:
        seen: list[Capabilities] = []
        session = Pop3Session.open(peer.endpoint("starttls"), login("auto"), before_login=seen.append)
        assert seen == [Capabilities(offered=True, user=True, uidl=True, lines=(b"USER", b"UIDL"))]
        assert session.transport.encrypted
        session.close()


def test_implicit_tls(tls: Authority) -> None:
    with Peer(LOGIN, "C: QUIT\nS: +OK", tls=tls, implicit=True) as peer:
        open_session(peer, tls="implicit").quit()


def test_octets_behind_the_agreement_to_stls_end_the_session(tls: Authority) -> None:
    with Peer(STLS, b"+OK go\r\n+OK injected\r\n", tls=tls) as peer, pytest.raises(ProtocolError, match="TLS"):
        open_session(peer, tls="starttls")


@pytest.mark.parametrize("script", [GREETING + CAPA, STLS + "S: -ERR not now"])
def test_no_login_without_the_tls_that_was_asked_for(script: str) -> None:
    with Peer(script) as peer:
        with pytest.raises(TlsError, match="STLS"):
            open_session(peer, tls="starttls")
        assert b"USER" not in peer.received


# -- the listing -----------------------------------------------------------------------------------------------------


def listed(session: Pop3Session) -> list[tuple[int, bytes | None, int]]:
    return [(entry.number, entry.uidl, entry.size) for entry in session.listing()]


STAT_LIST = """
    C: STAT
    S: +OK 2 320
    C: LIST
    S: +OK 2 messages
    S: 1 120
    S: 2 200
    S: .
    C: UIDL
"""
UIDL = "S: +OK\nS: 1 first\nS: 2 second\nS: ."


def test_the_listing_one_command_after_the_other() -> None:
    with Peer(LOGIN, STAT_LIST, UIDL) as peer:
        session = open_session(peer)
        assert listed(session) == [(1, b"first", 120), (2, b"second", 200)]
        session.close()


def test_the_listing_in_one_round_trip() -> None:
    steps = "C: STAT\nC: LIST\nC: UIDL\nS: +OK 2 320\nS: +OK\nS: 1 120\nS: 2 200\nS: .\n" + UIDL
    with Peer(LOGIN_PIPELINING, steps) as peer:
        session = open_session(peer)
        assert listed(session) == [(1, b"first", 120), (2, b"second", 200)]
        session.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("S: -ERR what?", [(1, None, 120), (2, None, 200)]),
        ("S: +OK\nS: 1 " + "x" * 500 + "\nS: 2\nS: .", [(1, b"x" * 500, 120), (2, None, 200)]),
        ("S: +OK\nS: 3 third\nS: 2 b\nS: 1 a\nS: .", [(1, b"a", 120), (2, b"b", 200)]),
    ],
)
def test_what_uidl_may_answer(answer: str, expected: list[tuple[int, bytes | None, int]]) -> None:
    with Peer(LOGIN, STAT_LIST, answer) as peer:
        session = open_session(peer)
        assert listed(session) == expected
        session.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("S: -ERR [SYS/TEMP] later", ServerBusy),
        ("S: +OK\nS: 1 a\nS: .", ProtocolError),
        ("S: +OK\nS: 1 a\nS: 1 b\nS: .", ProtocolError),
        ("S: +OK\nS: 0 a\nS: .", ProtocolError),
    ],
)
def test_a_listing_that_must_not_be_believed(answer: str, kind: type[Exception]) -> None:
    with Peer(LOGIN, STAT_LIST, answer) as peer:
        session = open_session(peer)
        with pytest.raises(kind):
            session.listing()
        session.close()


def test_an_empty_maildrop() -> None:
    with Peer(LOGIN, "C: STAT\nS: +OK 0 0\nC: QUIT\nS: +OK") as peer:
        session = open_session(peer)
        assert session.listing() == []
        session.quit()
    steps = "C: STAT\nC: LIST\nC: UIDL\nS: +OK 0 0\nS: -ERR no messages\nS: +OK\nS: .\nC: QUIT\nS: +OK"
    with Peer(LOGIN_PIPELINING, steps) as peer:
        session = open_session(peer)
        assert session.listing() == []
        session.quit()


def test_list_refused() -> None:
    with Peer(LOGIN, "C: STAT\nS: +OK 2 320\nC: LIST\nS: -ERR [SYS/TEMP] no") as peer:
        session = open_session(peer)
        with pytest.raises(ServerBusy):
            session.listing()
        session.close()


# -- messages --------------------------------------------------------------------------------------------------------


def test_messages_one_after_the_other_and_a_refusal_between_them() -> None:
    steps = """
        C: RETR 1
        S: +OK
        S: Subject: one
        S:
        S: ..
        S: .
        C: RETR 2
        S: -ERR [SYS/TEMP] cannot read it
        C: RETR 3
        S: +OK
        S: three
        S: .
        C: STAT
        S: +OK 3 123
        C: QUIT
        S: +OK
    """
    with Peer(LOGIN, steps) as peer:
        session, sink = open_session(peer), Sink()
        first, second, third = entries(17, 99, 7)
        results = list(session.retrieve([first, second, third], sink))
        assert [result.entry for result in results] == [first, second, third]
        assert results[1] == NotRetrieved(second, "[SYS/TEMP] cannot read it")
        assert sink.messages == [b"Subject: one\r\n\r\n.\r\n", b"three\r\n"]
        session.quit()


def test_pipelined_messages_arrive_in_order_and_wrong_sizes_do_not_matter() -> None:
    script = ""
    answers = b""
    for number in range(1, 71):
        script += f"C: RETR {number}\n"
        answers += b"+OK\r\nmessage %d\r\n.\r\n" % number
        if number in {32, 64, 70}:
            script += "C: STAT\n"
            answers += b"+OK 70 999\r\n"
    with Peer(LOGIN_PIPELINING, script, answers) as peer:
        session, sink = open_session(peer), Sink()
        results = list(session.retrieve(entries(*range(70)), sink))
        assert all(isinstance(result, Retrieved) for result in results)
        assert sink.messages == [b"message %d\r\n" % number for number in range(1, 71)]
        session.close()


def test_a_large_message_goes_to_the_sink_in_pieces() -> None:
    message = b"Subject: large\r\n\r\n" + b".dots and text\r\n" * 100_000
    answers = b"+OK\r\n" + message.replace(b"\n.", b"\n..") + b".\r\n+OK 2 9\r\n+OK\r\n.\r\n+OK 2 9\r\n"
    with Peer(LOGIN_PIPELINING, "C: RETR 1\nC: STAT\nC: RETR 2\nC: STAT", answers) as peer:
        session, sink = open_session(peer), Sink()
        results = list(session.retrieve(entries(len(message), 0), sink))
        assert sink.messages == [message, b""]
        assert [type(result) for result in results] == [Retrieved, Retrieved]
        assert (sink.writers[0].pieces > 1, sink.discarded) == (True, 0)
        session.close()


@pytest.mark.parametrize("end", [CUT, RESET])
@pytest.mark.parametrize("large", [False, True])
def test_a_connection_cut_in_the_middle_leaves_nothing(large: bool, end: Event) -> None:
    begin = b"+OK\r\nfirst\r\n.\r\n+OK\r\n" + (b"x" * 1_000_000 if large else b"begins\r\n.")
    with Peer(LOGIN_PIPELINING, "C: RETR 1\nC: RETR 2\nC: STAT", begin, end) as peer:
        session, sink = open_session(peer), Sink()
        with pytest.raises(ConnectionLost):
            list(session.retrieve(entries(7, 1_000_000), sink))
        if end is CUT:
            assert sink.messages == [b"first\r\n"]
            assert len(sink.writers) == large
        assert sink.discarded == len(sink.writers)
        session.close()


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_full_disk_leaves_the_session_out_of_step(size: int) -> None:
    answers = b"+OK\r\n" + b"x" * size + b"\r\n.\r\n"
    with Peer(LOGIN_PIPELINING, "C: RETR 1\nC: RETR 2\nC: STAT", answers) as peer:
        session, sink = open_session(peer), Sink(fails=True)
        with pytest.raises(StoreError):
            list(session.retrieve(entries(size, size), sink))
        assert sink.discarded == len(sink.writers)
        # The answer to the second RETR would be taken for QUIT's.
        with pytest.raises(ConnectionLost, match="middle of an answer"):
            session.quit()


def under_suspicion(
    capabilities: str, answers: list[bytes], listed: list[MaildropEntry], *, fenced: bool = True
) -> tuple[list[int], list[int], Sink, ProtocolError]:
    """What came in, what is doubtful, where it was put and why the session ended.

    A server without PIPELINING gives one answer a command, and a last one may wait for the fence.
    """
    pipelining = capabilities == LOGIN_PIPELINING
    commands = [f"C: RETR {entry.number}" for entry in listed] + ["C: STAT"] * fenced
    steps: list[str | bytes] = []
    if pipelining:
        steps = ["\n".join(commands), b"".join(answers)]
    else:
        for command, answer in zip(commands, answers, strict=True):
            steps += [command, answer]
    with Peer(capabilities, *steps) as peer:
        session, sink = open_session(peer), Sink()
        results: list[Retrieved | NotRetrieved] = []
        with pytest.raises(ProtocolError) as caught:
            results.extend(session.retrieve(listed, sink))  # what came before the error stays
        session.close()
    came = [result.entry.number for result in results if isinstance(result, Retrieved)]
    doubtful = [result.entry.number for result in results if isinstance(result, NotRetrieved)]
    return came, doubtful, sink, caught.value


UNSTUFFED = b"+OK\r\nSubject: x\r\n\r\nhello\r\n.\r\nthe rest\r\n.\r\n"
UNSTUFFED_SIZE = len(UNSTUFFED) - len(b"+OK\r\n.\r\n")
FIRST = b"+OK\r\nfirst\r\n.\r\n"


@pytest.mark.parametrize("capabilities", [LOGIN, LOGIN_PIPELINING], ids=["one at a time", "pipelining"])
def test_a_message_that_a_server_without_stuffing_cut_short_is_not_taken(capabilities: str) -> None:
    """RFC 1939, 3: a line "." within the message ended it, and its rest is taken for answers."""
    one, two = entries(7, UNSTUFFED_SIZE)
    came, doubtful, sink, _ = under_suspicion(
        capabilities, [FIRST, UNSTUFFED], [one, two], fenced=capabilities == LOGIN_PIPELINING
    )
    assert (came, doubtful) == ([1], [2])
    assert sink.taken_back == ["2"]


def test_a_rest_that_comes_late_meets_the_fence() -> None:
    begin, _, rest = UNSTUFFED.partition(b".\r\n")
    came, doubtful, sink, error = under_suspicion(LOGIN, [begin + b".\r\n", rest], entries(UNSTUFFED_SIZE))
    assert (came, doubtful, sink.taken_back) == ([], [1], ["1"])
    assert error.data == b"the rest"


@pytest.mark.parametrize("rest", [b"+OK looks like an answer\r\nfoo", b"-ERR looks like one too", b"+OK"])
def test_a_rest_that_looks_like_an_answer_shifts_no_message_to_another(rest: bytes) -> None:
    """All messages behind it are of one size: only that something was wrong before tells."""
    short = b"+OK\r\nSubject: x\r\n.\r\n" + rest + b"\r\n.\r\n"
    others = [b"+OK\r\nother %d\r\n.\r\n" % number for number in (2, 3, 4)]
    answers = [FIRST, short, *others, b"+OK 5 99\r\n"]
    came, doubtful, sink, _ = under_suspicion(LOGIN_PIPELINING, answers, entries(7, 999, 9, 9, 9))
    assert came == [1]
    assert 2 in doubtful
    assert len(sink.taken_back) == len(sink.messages) - 1


@pytest.mark.parametrize("spurious", [b"+OK spurious\r\n", b"-ERR spurious\r\n"])
@pytest.mark.parametrize("size", [9, 10_000])
def test_a_line_too_many_among_pipelined_answers(spurious: bytes, size: int) -> None:
    body = b"x" * (size - 2) + b"\r\n"
    answers = [b"+OK\r\n" + body + b".\r\n"] * 4 + [b"+OK 5 99\r\n"]
    answers.insert(1, spurious)
    came, doubtful, _, _ = under_suspicion(LOGIN_PIPELINING, answers, entries(*[size] * 4))
    assert came == [1]
    assert 2 in doubtful


def test_a_line_too_many_before_a_large_message() -> None:
    message = b"+OK spurious\r\n+OK\r\n" + b"x" * 1_000_000 + b"\r\n.\r\n"
    came, doubtful, sink, _ = under_suspicion(LOGIN_PIPELINING, [message, b"+OK 1 9\r\n"], entries(1_000_002))
    assert (came, doubtful, sink.taken_back) == ([], [1], ["1"])


def test_a_message_may_begin_like_an_answer() -> None:
    body = b"+OK this is how it begins\r\n"
    with Peer(LOGIN, "C: RETR 1", b"+OK\r\n" + body + b".\r\n", "C: STAT\nS: +OK 1 9") as peer:
        session, sink = open_session(peer), Sink()
        assert len(list(session.retrieve(entries(len(body)), sink))) == 1
        session.close()


def all_of_it(peer: Peer, who: Login | None = None) -> None:
    """From the greeting to QUIT."""
    with closing(open_session(peer, who)) as session:
        list(session.retrieve(session.listing(), Sink()))
        list(session.delete(entries(7)))
        session.quit()


@pytest.mark.parametrize("where", ["greeting", "CAPA", "USER", "PASS", "UIDL", "RETR", "DELE"])
def test_a_line_that_nothing_asked_for_ends_the_session(where: str) -> None:
    """It would be the answer to the next command, and each answer after it another's."""
    spoken = {
        "greeting": (None, "+OK"),
        "CAPA": ("CAPA", "-ERR"),
        "USER": ("USER ann", "+OK"),
        "PASS": ("PASS correct horse", "+OK"),
        "again": ("CAPA", "-ERR"),
        "STAT": ("STAT", "+OK 1 7"),
        "LIST": ("LIST", "+OK/1 7/."),
        "UIDL": ("UIDL", "+OK/1 a/."),
        "RETR": ("RETR 1", "+OK/first/."),
        "fence": ("STAT", "+OK 1 7"),
        "DELE": ("DELE 1", "+OK"),
    }
    steps: list[str | bytes] = []
    for name, (command, answer) in spoken.items():
        steps += [] if command is None else [f"C: {command}"]
        # In one packet: the line too many is there before the next command is due.
        lines = [*answer.split("/"), *(["+OK spurious"] if name == where else [])]
        steps.append(b"".join(line.encode() + b"\r\n" for line in lines))
        if name == where:
            break
    with Peer(*steps) as peer, pytest.raises(ProtocolError) as caught:
        all_of_it(peer)
    assert caught.value.data == b"+OK spurious\r\n"
    assert b"QUIT" not in peer.received


def test_fences_cost_no_round_trip_where_the_server_pipelines() -> None:
    wire, sink = Wire(lambda number: b"+OK\r\n%d\r\n.\r\n" % number), Sink()
    list(in_process(wire).retrieve(entries(*[3] * 3 * FENCE_EVERY), sink))
    assert wire.packets == 1


def test_headers() -> None:
    steps = "C: TOP 1 0\nC: TOP 2 0\nC: TOP 3 0\nC: STAT\nS: +OK\nS: Subject: one\nS: \nS: .\nS: -ERR no"
    whole = b"+OK\r\nSubject: three\r\n\r\n" + b"x" * 1_000_000 + b"\r\n.\r\n+OK 3 9\r\n"
    with Peer(LOGIN_PIPELINING, steps, whole, "C: NOOP\nS: +OK") as peer:
        session = open_session(peer)
        headers = [header for _, header in session.top(entries(1, 1, 1))]
        assert headers[:2] == [b"Subject: one\r\n\r\n", None]
        assert headers[2] is not None
        assert headers[2].startswith(b"Subject: three\r\n\r\nxxx")
        assert len(headers[2]) <= pop3.HEADER_OCTETS
        session.noop()
        session.close()


def test_deletions_and_their_refusals() -> None:
    steps = "C: DELE 1\nC: DELE 2\nC: DELE 3\nS: +OK\nS: -ERR [SYS/TEMP] not now\nS: -ERR\nC: RSET\nS: +OK\nC: QUIT\nS: +OK bye"
    with Peer(LOGIN_PIPELINING, steps) as peer:
        session = open_session(peer)
        refusals = [refused for _, refused in session.delete(entries(1, 1, 1))]
        assert [refused and refused.words for refused in refusals] == [None, "[SYS/TEMP] not now", "the server gave no reason"]
        assert [type(refused) for refused in refusals[1:]] == [ServerBusy, ServerRefused]
        session.reset()
        session.quit()


def test_quit_that_the_server_refuses_or_does_not_answer() -> None:
    with Peer(LOGIN, "C: QUIT\nS: -ERR some deleted messages not removed") as peer:
        session = open_session(peer)
        with pytest.raises(ServerRefused, match="not removed"):
            session.quit()
    with Peer(LOGIN, "C: QUIT", CUT) as peer:
        session = open_session(peer)
        with pytest.raises(ConnectionLost):
            session.quit()


# -- limits, with a server in this process ---------------------------------------------------------------------------


class Wire:
    """A transport whose server answers each RETR by a function of the number, and each fence."""

    timeout = 60.0

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self.answer = answer
        self.waiting: deque[int] = deque()
        self.most = 0
        self.packets = 0
        self.sent: list[int] = []

    def send(self, data: bytes, *, secret: bool = False) -> None:
        assert len(data) <= 8192
        numbers = [int(line[5:] or 0) for line in data.splitlines()]
        self.packets += 1
        self.sent += [number for number in numbers if number]
        self.waiting += numbers
        self.most = max(self.most, sum(1 for number in self.waiting if number))

    def receive(self) -> bytes:
        number = self.waiting.popleft()
        return self.answer(number) if number else b"+OK 2000 99999\r\n"


def in_process(wire: Wire, *, pipelining: bool = True) -> Pop3Session:
    session = Pop3Session(cast(Transport, wire))
    session.capabilities = Capabilities(offered=True, pipelining=pipelining)
    return session


@pytest.mark.parametrize(
    ("sizes", "pipelining", "most"),
    [
        ([100] * 2000, True, WINDOW - WINDOW // (FENCE_EVERY + 1)),
        ([100] * 40, False, 1),
        ([2**20] * 30, True, 8),
        ([2**30, 5, 2**30], True, 1),
    ],
)
def test_the_window_is_bounded(sizes: list[int], pipelining: bool, most: int) -> None:
    wire, sink = Wire(lambda number: b"+OK\r\n%d\r\n.\r\n" % number), Sink()
    session = in_process(wire, pipelining=pipelining)
    assert len(list(session.retrieve(entries(*sizes), sink))) == len(sizes)
    assert wire.sent == list(range(1, len(sizes) + 1))
    assert wire.most == most


def test_what_is_no_longer_wanted_is_not_asked_for() -> None:
    wire, sink = Wire(lambda number: b"+OK\r\n%d\r\n.\r\n" % number), Sink()
    session = in_process(wire)
    results = list(session.retrieve(entries(*[10] * 300), sink, lambda: len(sink.messages) < 50))
    # What is under way is read to its end, so that the session goes on.
    assert 50 <= len(results) == len(sink.messages) == len(wire.sent) < 50 + WINDOW
    assert not wire.waiting
    assert list(session.retrieve(entries(10), sink))


def test_a_server_that_trickles_counts_as_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 25.0
        return now

    monkeypatch.setattr(pop3_connection, "time", SimpleNamespace(monotonic=clock))
    wire = Wire(lambda _: b"+")
    wire.waiting.extend(range(1, 1000))
    session = in_process(wire)
    with pytest.raises(ConnectionLost, match="sent 3 octets") as caught:
        list(session.retrieve(entries(10), Sink()))
    assert caught.value.timed_out


def listing_at(rate: int, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """LIST of `count` messages, `rate` lines each minute."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 15.0  # read some four times a minute
        return now

    monkeypatch.setattr(pop3_connection, "time", SimpleNamespace(monotonic=clock))
    numbers = iter(range(1, count + 1))

    def answer(_: int) -> bytes:
        lines = b"".join(b"%d 1000\r\n" % number for _, number in zip(range(rate), numbers, strict=False))
        return lines or b".\r\n"

    wire = Wire(answer)
    wire.waiting.extend(range(1, 10 * count))
    session = in_process(wire)
    return sum(len(lines) for lines in session._lines())


def test_a_listing_that_trickles_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionLost, match="listed") as caught:
        listing_at(1, 100_000, monkeypatch)
    assert caught.value.timed_out


def test_a_slow_listing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert listing_at(40, 100_000, monkeypatch) == 100_000


def test_a_long_refusal_is_cut() -> None:
    session = in_process(Wire(lambda _: b"-ERR " + b"x" * 100_000 + b"\r\n"))
    (refused,) = session.retrieve(entries(10), Sink())
    assert isinstance(refused, NotRetrieved)
    assert refused.reason == "x" * SAID_MAX + "…"


def test_a_silent_server() -> None:
    with Peer(LOGIN, "C: NOOP") as peer:
        session = open_session(peer)
        session.transport._socket.settimeout(0.01)
        with pytest.raises(ConnectionLost) as caught:
            session.noop()
        assert caught.value.timed_out
        session.close()


def test_a_password_is_not_sent_in_the_clear() -> None:
    class Remote(Wire):
        encrypted = False
        loopback = False
        confidential = False

    session = in_process(Remote(lambda _: b""))
    with pytest.raises(TlsError, match="not encrypted"):
        session._authenticate(Endpoint("pop.example.org", 110, "none"), login("user"), None)
