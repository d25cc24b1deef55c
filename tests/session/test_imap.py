"""IMAP sessions against scripted servers: greeting, TLS, every way to log in, and what keeps commands and answers in step."""

from __future__ import annotations

import base64
import hmac
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest
import scramp

from fetchmail_py.cli.explain import explain
from fetchmail_py.errors import (
    SAID_MAX,
    AuthenticationFailed,
    ConnectionLost,
    CredentialError,
    ExitStatus,
    ProtocolError,
    ServerBusy,
    ServerRefused,
    TlsError,
    WrongService,
)
from fetchmail_py.session import imap as module
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.login import Login, NotOffered
from fetchmail_py.session.transport import Transport
from fetchmail_py.wire.imap_command import Literal, astring
from fetchmail_py.wire.imap_types import BodyChunk, Exists
from tests.session.peer import CUT, START_TLS, Authority, Octets, Peer, Step, authority

PASSWORD = "correct horse"


def greeting(capabilities: str) -> str:
    return f"S: * OK [CAPABILITY IMAP4rev1 {capabilities}] hi"


def login(auth: str = "auto", user: str = "ann", secret: str = PASSWORD) -> Login:
    return Login(user, auth, lambda: secret)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def logged_in(*steps: Step, capabilities: str = "") -> Peer:
    """A peer whose client has logged in already."""
    return Peer(f"S: * PREAUTH [CAPABILITY IMAP4rev1 {capabilities}] hi", *steps)


def open_session(peer: Peer, who: Login | None = None, tls: str = "none") -> ImapSession:
    return ImapSession.open(peer.endpoint(tls), who or login())


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls"))


# -- logging in ------------------------------------------------------------------------------------------------------


def cram_md5(peer: Peer) -> None:
    assert peer.read_line() == b"F1 AUTHENTICATE CRAM-MD5"
    peer.send(b"+ " + base64.b64encode(b"<1.2@host>") + b"\r\n")
    digest = hmac.new(PASSWORD.encode(), b"<1.2@host>", "md5").hexdigest()
    assert base64.b64decode(peer.read_line()) == f"ann {digest}".encode()


def scram(peer: Peer) -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    server = mechanism.make_server(lambda _: mechanism.make_auth_info(PASSWORD, iteration_count=4096))
    assert peer.read_line() == b"F1 AUTHENTICATE SCRAM-SHA-256"
    peer.send(b"+ \r\n")
    server.set_client_first(base64.b64decode(peer.read_line()).decode())
    peer.send(f"+ {b64(server.get_server_first())}\r\n".encode())
    server.set_client_final(base64.b64decode(peer.read_line()).decode())
    peer.send(f"+ {b64(server.get_server_final())}\r\n".encode())
    assert peer.read_line() == b""


PLAIN = b64("\0ann\0correct horse")
XOAUTH2 = b64("user=ann\1auth=Bearer token\1\1")
LOGINS: dict[str, tuple[Login, str, list[Step]]] = {
    "plain at once": (login(), "SASL-IR AUTH=PLAIN", [f"C: F1 AUTHENTICATE PLAIN {PLAIN}"]),
    "plain when asked": (login("plain"), "AUTH=PLAIN", [f"C: F1 AUTHENTICATE PLAIN\nS: +\nC: {PLAIN}"]),
    "plain when asked in words": (login("plain"), "AUTH=PLAIN", [f"C: F1 AUTHENTICATE PLAIN\nS: + go on\nC: {PLAIN}"]),
    "the strongest": (login(), "AUTH=PLAIN AUTH=CRAM-MD5 AUTH=SCRAM-SHA-256", [scram]),
    "cram-md5 by name": (login("cram-md5"), "AUTH=PLAIN AUTH=CRAM-MD5", [cram_md5]),
    "login mechanism": (
        login("login"), "AUTH=LOGIN",
        [f"C: F1 AUTHENTICATE LOGIN\nS: + {b64('User:')}\nC: {b64('ann')}\nS: + {b64('Pass:')}\nC: {b64(PASSWORD)}"],
    ),
    "login command": (login(), "", ['C: F1 LOGIN "ann" "correct horse"']),
    "login command by name": (login("login"), "AUTH=PLAIN", ['C: F1 LOGIN "ann" "correct horse"']),
    "quotes": (login(user='a"n', secret="b\\c"), "", ['C: F1 LOGIN "a\\"n" "b\\\\c"']),
    "8-bit": (
        login(user="\xe4", secret="\xfc"), "",
        ["C: F1 LOGIN {2}\nS: * OK wait\nS: + go on\nC: \xc3\xa4 {2}\nS: +\nC: \xc3\xbc"],
    ),
    "8-bit unasked": (
        login(user="\xe4", secret="\xfc"), "LITERAL+", [Octets(b"F1 LOGIN {2+}\r\n\xc3\xa4 {2+}\r\n\xc3\xbc\r\n")],
    ),
    "external": (login("external", secret=""), "SASL-IR AUTH=EXTERNAL", ["C: F1 AUTHENTICATE EXTERNAL ="]),
    "xoauth2": (login("xoauth2", secret="token"), "SASL-IR AUTH=XOAUTH2", [f"C: F1 AUTHENTICATE XOAUTH2 {XOAUTH2}"]),
}  # fmt: skip


@pytest.mark.parametrize("case", LOGINS)
def test_login(case: str) -> None:
    who, capabilities, steps = LOGINS[case]
    with Peer(greeting(capabilities), *steps, "S: F1 OK [CAPABILITY IMAP4rev1 IDLE] welcome") as peer:
        session = open_session(peer, who)
        assert session.capabilities == {"IMAP4REV1", "IDLE"}, "what is announced after the login is what counts"
        session.close()


def test_capabilities_are_asked_for_where_nobody_told_them() -> None:
    script = """
        S: * OK hi
        C: F1 CAPABILITY
        S: * CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR
        S: F1 OK
        C: F2 AUTHENTICATE PLAIN %s
        S: F2 OK
        C: F3 CAPABILITY
        S: * CAPABILITY imap4rev1 UidPlus
        S: F3 OK
    """
    with Peer(script % PLAIN) as peer:
        session = open_session(peer)
        assert session.capabilities == {"IMAP4REV1", "UIDPLUS"}
        session.close()


def test_capabilities_beside_the_login_spare_the_question() -> None:
    with Peer(greeting(""), 'C: F1 LOGIN "ann" "correct horse"\nS: * CAPABILITY IMAP4rev1 ID\nS: F1 OK') as peer:
        session = open_session(peer)
        assert session.capabilities == {"IMAP4REV1", "ID"}
        session.close()


def test_preauth_needs_no_login() -> None:
    def secret() -> str:
        raise AssertionError("nobody asked for the password")

    with Peer("S: * PREAUTH hi\nC: F1 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: F1 OK") as peer:
        open_session(peer, Login("ann", "auto", secret)).close()


REFUSALS: list[tuple[str, type[ServerRefused], str | None, ExitStatus]] = [
    ("F1 NO [AUTHENTICATIONFAILED] wrong", AuthenticationFailed, "AUTHENTICATIONFAILED", ExitStatus.REFUSED_LOGIN),
    ("F1 NO wrong", AuthenticationFailed, None, ExitStatus.REFUSED_LOGIN),
    ("F1 BAD what?", AuthenticationFailed, None, ExitStatus.REFUSED_LOGIN),
    ("F1 NO [EXPIRED] change it", AuthenticationFailed, "EXPIRED", ExitStatus.REFUSED_LOGIN),
    ("F1 NO [UNAVAILABLE] later", ServerBusy, "UNAVAILABLE", ExitStatus.TRY_AGAIN),
    ("F1 NO [LIMIT] sessions", ServerBusy, "LIMIT", ExitStatus.TRY_AGAIN),
    ("F1 NO [ALERT] Too many simultaneous connections.", ServerBusy, "ALERT", ExitStatus.TRY_AGAIN),
    ("F1 NO Request is throttled.", ServerBusy, None, ExitStatus.TRY_AGAIN),
    ("* BYE [UNAVAILABLE] going down", ServerBusy, "UNAVAILABLE", ExitStatus.TRY_AGAIN),
]


@pytest.mark.parametrize(("answer", "kind", "code", "status"), REFUSALS)
def test_a_refused_login(answer: str, kind: type[ServerRefused], code: str | None, status: ExitStatus) -> None:
    with Peer(greeting("SASL-IR AUTH=PLAIN"), f"C: F1 AUTHENTICATE PLAIN {PLAIN}\nS: {answer}") as peer:
        with pytest.raises(ServerRefused) as caught:
            open_session(peer)
        assert type(caught.value) is kind
        assert (caught.value.code, caught.value.exit_status) == (code, status)


@pytest.mark.parametrize(
    "answer", ["F1 NO no such login: ann correct horse", "F1 BAD LOGIN ann correct horse", "* BYE ann correct horse"]
)
def test_a_password_that_is_echoed_is_not_shown(answer: str) -> None:
    with Peer(greeting(""), f'C: F1 LOGIN "ann" "correct horse"\nS: {answer}') as peer:
        with pytest.raises(ServerRefused) as caught:
            open_session(peer)
        assert PASSWORD not in str(caught.value) + caught.value.text


ECHOED = 'Hunter2 "is" \xfcber'


@pytest.mark.parametrize(
    "said",
    [
        'F1 NO bad: LOGIN "ann" "Hunter2 \\"is\\" \xfcber"',
        f"F1 NO [{ECHOED}] no",
        f"* BYE [{ECHOED}] {ECHOED.upper()}",
        "?" * 195 + f" {ECHOED}",
        f"* OK [ALERT] {ECHOED}\nS: F1 OK [CAPABILITY IMAP4rev1] in\nC: F2 NOOP\nS: F2 NO {ECHOED}",
        f"F1 OK [CAPABILITY IMAP4rev1] in\nC: F2 NOOP\nS: * OK [ALERT] {ECHOED}\nS: F2 NO {ECHOED}",
        f"F1 OK [CAPABILITY IMAP4rev1] in\nC: F2 NOOP\nS: {ECHOED}",
        f"F1 OK [CAPABILITY IMAP4rev1] in\nC: F2 NOOP\nS: + {ECHOED}",
    ],
)
def test_a_password_is_never_shown_at_any_time_of_the_session(said: str) -> None:
    begin = "S: * OK [CAPABILITY IMAP4rev1] hi\nC: F1 LOGIN \"ann\" {18}\nS: + go\nC: Hunter2 \"is\" \xc3\xbcber\nS: "
    alerts: list[str] = []

    def use(peer: Peer) -> None:
        session = ImapSession.open(peer.endpoint(), login(secret=ECHOED), on_alert=alerts.append)
        try:
            session.run(b"NOOP")
        finally:
            session.close()

    with Peer(begin + said) as peer, pytest.raises((ProtocolError, ServerRefused)) as caught:
        use(peer)
    shown = (repr(vars(caught.value)) + str(caught.value) + repr(alerts)).lower()
    assert "hun" not in shown
    assert "ber" not in shown
    assert len(alerts) == said.count("ALERT")


def test_a_password_that_is_a_response_code_takes_none_away() -> None:
    script = 'C: F1 LOGIN "ann" "alert"\nS: F1 OK [CAPABILITY IMAP4rev1] in\nC: F2 NOOP\nS: * OK [ALERT] read this: alert\nS: F2 OK'
    alerts: list[str] = []
    with Peer("S: * OK [CAPABILITY IMAP4rev1] hi", script) as peer:
        session = ImapSession.open(peer.endpoint(), login(secret="alert"), on_alert=alerts.append)
        session.run(b"NOOP")
        session.close()
    assert alerts == ["read this: …"]


def test_why_a_token_was_refused() -> None:
    script = f"C: F1 AUTHENTICATE XOAUTH2 {XOAUTH2}\nS: + {b64('{status: 401}')}\nC:\nS: F1 NO SASL failed"
    with Peer(greeting("SASL-IR AUTH=XOAUTH2"), script) as peer, pytest.raises(AuthenticationFailed, match="401"):
        open_session(peer, login("xoauth2", secret="token"))


@pytest.mark.parametrize(
    ("capabilities", "who", "offers"),
    [
        ("LOGINDISABLED", login(), "no way to log in"),
        ("LOGINDISABLED AUTH=GSSAPI", login(), "GSSAPI"),
        ("AUTH=PLAIN", login("scram-sha-1"), "PLAIN"),
        ("LOGINDISABLED AUTH=PLAIN", login("login"), "PLAIN"),
    ],
)
def test_nothing_is_sent_where_nothing_fits(capabilities: str, who: Login, offers: str) -> None:
    with Peer(greeting(capabilities)) as peer, pytest.raises(NotOffered, match=offers) as caught:
        open_session(peer, who)
    assert caught.value.exit_status == ExitStatus.REFUSED_LOGIN
    assert "password" not in str(explain(caught.value, "imap.gmail.com")), "which nobody has looked at"
    assert peer.received == b""


def test_a_line_end_in_a_password_is_not_sent() -> None:
    with Peer(greeting("")) as peer, pytest.raises(CredentialError):
        open_session(peer, login(secret="a\r\nF2 LOGOUT"))
    assert peer.received == b""


def test_a_server_that_asks_for_more_than_there_is() -> None:
    script = f"C: F1 AUTHENTICATE PLAIN {PLAIN}\nS: + more"
    with Peer(greeting("SASL-IR AUTH=PLAIN"), script) as peer, pytest.raises(ProtocolError):
        open_session(peer)


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"* BYE full\r\n", ServerRefused),
        (b"* BYE [UNAVAILABLE] later\r\n", ServerBusy),
        (b"* NO hi\r\n", ProtocolError),
        (b"F1 OK hi\r\n", ProtocolError),
        (b"* 3 EXISTS\r\n", ProtocolError),
        (b"+OK POP3 ready\r\n", WrongService),
        (b"220 smtp.example.org ESMTP\r\n", WrongService),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", WrongService),
    ],
)
def test_what_is_no_greeting(octets: bytes, kind: type[Exception]) -> None:
    with Peer(octets) as peer:
        with pytest.raises(kind) as caught:
            open_session(peer)
        assert type(caught.value) is kind


# -- STARTTLS --------------------------------------------------------------------------------------------------------


class TestStartTls:
    def test_nothing_said_before_counts(self, tls: Authority) -> None:
        steps: list[Step] = [
            greeting("STARTTLS AUTH=PLAIN SASL-IR LITERAL+ X-FORGED"),
            "C: F1 STARTTLS\nS: F1 OK [CAPABILITY IMAP4rev1 X-FORGED] go",
            START_TLS,
            "C: F2 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: F2 OK",
            'C: F3 LOGIN "ann" "correct horse"\nS: F3 OK [CAPABILITY IMAP4rev1 ID] hi',
        ]
        with Peer(*steps, tls=tls) as peer:
            session = open_session(peer, tls="starttls")
            assert session.transport.encrypted
            assert session.capabilities == {"IMAP4REV1", "ID"}
            session.close()

    def test_nothing_said_before_is_remembered_or_shown(self, tls: Authority) -> None:
        heard: list[str] = []
        steps: list[Step] = [
            "S: * OK [ALERT] call this number\nC: F1 CAPABILITY\nS: * CAPABILITY IMAP4rev1 STARTTLS\nS: F1 OK [ALERT] call me",
            "C: F2 STARTTLS\nS: * ENABLED UTF8=ACCEPT QRESYNC\nS: * 7 EXISTS\nS: * OK [ALERT] now\nS: F2 OK [ALERT] really",
            START_TLS,
            "C: F3 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: F3 OK",
            'C: F4 LOGIN "ann" "correct horse"\nS: F4 OK [ALERT] welcome\nC: F5 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: F5 OK',
        ]
        with Peer(*steps, tls=tls) as peer:
            session = ImapSession.open(peer.endpoint("starttls"), login(), on_alert=heard.append)
            assert (session.enabled, session.exists, session.utf8, session.selected) == (frozenset(), 0, False, None)
            session.close()
        assert heard == ["welcome"]

    @pytest.mark.parametrize(
        ("script", "kind"),
        [
            ("S: * PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi", ProtocolError),
            (greeting("AUTH=PLAIN"), TlsError),
            ("S: * OK hi\nC: F1 CAPABILITY\nS: * CAPABILITY IMAP4rev1\nS: F1 OK", TlsError),
            (greeting("STARTTLS") + "\nC: F1 STARTTLS\nS: F1 NO not today", TlsError),
            (greeting("STARTTLS") + "\nC: F1 STARTTLS\nS: F1 BAD what?", TlsError),
            (greeting("STARTTLS") + "\nC: F1 STARTTLS\nS: + go", ProtocolError),
            (greeting("STARTTLS") + "\nC: F1 STARTTLS\nS: F2 OK go", ProtocolError),
            (greeting("STARTTLS") + "\nC: F1 STARTTLS\nS: * BYE", ServerRefused),
        ],
    )
    def test_without_tls_there_is_no_login(self, tls: Authority, script: str, kind: type[Exception]) -> None:
        with Peer(script, tls=tls) as peer, pytest.raises(kind):
            open_session(peer, tls="starttls")
        assert b"LOGIN" not in peer.received
        assert b"AUTHENTICATE" not in peer.received

    def test_what_is_glued_to_the_agreement_ends_it(self, tls: Authority) -> None:
        injected = b"F1 OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nF2 OK\r\n"
        with Peer(greeting("STARTTLS"), "C: F1 STARTTLS", injected, tls=tls) as peer, pytest.raises(ProtocolError, match="between"):
            open_session(peer, tls="starttls")

    def test_an_agreement_before_the_question_is_none(self, tls: Authority) -> None:
        with Peer(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi\r\nF1 OK go\r\n", "C: F1 STARTTLS\nS: F1 NO", CUT, tls=tls) as peer:
            with pytest.raises((ProtocolError, TlsError, ConnectionLost)):
                open_session(peer, tls="starttls")
            assert b"LOGIN" not in peer.received


# -- commands and answers --------------------------------------------------------------------------------------------


def test_answers_may_come_in_any_order() -> None:
    with logged_in("C: F1 NOOP\nC: F2 CHECK\nS: F2 NO never\nS: F1 OK") as peer:
        session = open_session(peer)
        first, second = session.send(b"NOOP"), session.send(b"CHECK")
        assert list(session.events(first)) == []
        assert session.answer(first).status == "OK"
        assert list(session.events(second)) == []
        with pytest.raises(ServerRefused, match="CHECK: the server answered NO never"):
            session.finish(second)
        session.close()


@pytest.mark.parametrize("answer", ["F2 OK", "X1 OK", "+ go on", "F1 BYE", "F1"])
def test_an_answer_nobody_waits_for(answer: str) -> None:
    with logged_in(f"C: F1 NOOP\nS: {answer}") as peer:
        session = open_session(peer)
        with pytest.raises(ProtocolError):
            session.run(b"NOOP")
        session.close()


def test_an_answer_that_comes_twice() -> None:
    with logged_in("C: F1 NOOP", b"F1 OK\r\nF1 OK\r\n", "C: F2 NOOP") as peer:
        session = open_session(peer)
        session.run(b"NOOP")
        with pytest.raises(ProtocolError, match="never sent"):
            session.run(b"NOOP")
        session.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("F1 NO full", ServerRefused),
        ("F1 NO [INUSE] locked", ServerBusy),
        ("F1 BAD eh?", ServerRefused),
        ("* BYE bye", ServerBusy),
        ("* BYE Autologout; idle for too long", ServerBusy),
    ],
)
def test_refused(answer: str, kind: type[ServerRefused]) -> None:
    with logged_in(f"C: F1 NOOP\nS: {answer}") as peer:
        session = open_session(peer)
        with pytest.raises(kind, match=r"^NOOP: the server answered") as caught:
            session.run(b"NOOP")
        assert type(caught.value) is kind
        session.close()


def test_the_connection_ends_in_an_answer() -> None:
    with logged_in("C: F1 NOOP", b"* 3 EXI", CUT) as peer:
        session = open_session(peer)
        with pytest.raises(ConnectionLost):
            session.run(b"NOOP")
        session.close()


def test_an_alert_is_passed_on() -> None:
    heard: list[str] = []
    with logged_in("C: F1 NOOP\nS: * OK [ALERT] your mailbox is full\nS: F1 OK [ALERT] very full") as peer:
        session = ImapSession.open(peer.endpoint(), login(), on_alert=heard.append)
        session.run(b"NOOP")
        session.close()
    assert heard == ["your mailbox is full", "very full"]


def test_an_alert_is_passed_on_once_and_not_whole() -> None:
    heard: list[str] = []
    script = "C: F1 NOOP\nS: * OK [ALERT] full\nS: * OK [ALERT] full\nS: * OK [ALERT] " + "x" * 3000 + "\nS: F1 OK [ALERT] full"
    with logged_in(script) as peer:
        session = ImapSession.open(peer.endpoint(), login(), on_alert=heard.append)
        session.run(b"NOOP")
        session.close()
    assert heard == ["full", "x" * SAID_MAX + "…"]


def test_alerts_have_a_limit() -> None:
    heard: list[str] = []
    many = b"".join(b"* OK [ALERT] number %d\r\n" % number for number in range(1000))
    with logged_in("C: F1 NOOP", many + b"F1 OK\r\n") as peer:
        session = ImapSession.open(peer.endpoint(), login(), on_alert=heard.append)
        session.run(b"NOOP")
        session.close()
    assert len(heard) == module.MAX_ALERTS


@pytest.mark.parametrize("answer", ["F1 NO ", "F1 NO [INUSE] ", "F1 NO [" + "X" * 3000 + "] ", "* BYE "])
def test_a_long_refusal_is_cut(answer: str) -> None:
    with logged_in(f"C: F1 NOOP\nS: {answer}" + "x" * 100_000) as peer:
        session = open_session(peer)
        with pytest.raises(ServerRefused) as caught:
            session.run(b"NOOP")
        session.close()
    assert caught.value.text == "x" * SAID_MAX + "…"
    assert len(caught.value.detail) < 1000


def test_capabilities_change_when_the_server_says_so() -> None:
    with logged_in("C: F1 NOOP\nS: * CAPABILITY IMAP4rev1 MOVE\nS: F1 OK", capabilities="IDLE") as peer:
        session = open_session(peer)
        assert "IDLE" in session.capabilities
        session.run(b"NOOP")
        assert session.capabilities == {"IMAP4REV1", "MOVE"}
        session.close()


def test_how_many_messages_there_are() -> None:
    with logged_in(
        "C: F1 NOOP\nS: * 5 EXISTS\nS: * 5 EXPUNGE\nS: * 1 EXPUNGE\nS: * VANISHED 8\nS: * VANISHED (EARLIER) 1:7\nS: F1 OK"
    ) as peer:
        session = open_session(peer)
        session.run(b"NOOP")
        assert session.exists == 2
        session.close()


@pytest.mark.parametrize("number", [0, 4])
def test_a_message_that_is_not_there_cannot_be_expunged(number: int) -> None:
    with logged_in(f"C: F1 NOOP\nS: * 3 EXISTS\nS: * {number} EXPUNGE") as peer:
        session = open_session(peer)
        with pytest.raises(ProtocolError, match=f"EXPUNGE of message {number} of 3"):
            session.run(b"NOOP")
        session.close()


def test_a_literal_waits_for_the_server() -> None:
    with logged_in("C: F1 STATUS {2}\nS: * 3 EXISTS\nS: + go", Octets(b"\xc3\xa4\r\n"), "S: F1 OK") as peer:
        session = open_session(peer)
        session.run(b"STATUS ", astring(b"\xc3\xa4"))
        assert session.exists == 3
        session.close()


def test_a_literal_that_is_refused() -> None:
    with logged_in("C: F1 STATUS {2}\nS: F1 NO [LIMIT] too large") as peer:
        session = open_session(peer)
        with pytest.raises(ServerBusy):
            session.run(b"STATUS ", astring(b"\xc3\xa4"))
        session.close()


def test_what_comes_before_the_server_takes_a_literal_is_not_lost() -> None:
    with logged_in(
        "C: F1 NOOP\nC: F2 STATUS {2}\nS: * 3 EXISTS\nS: F1 OK\nS: * 4 EXISTS\nS: + go", Octets(b"\xc3\xa4\r\n"), "S: F2 OK"
    ) as peer:
        session = open_session(peer)
        first = session.send(b"NOOP")
        second = session.send(b"STATUS ", astring(b"\xc3\xa4"))
        seen = list(session.events(first))
        assert session.finish(first).status == "OK"
        seen += session.events(second)
        assert session.finish(second).status == "OK"
        assert seen == [Exists(3), Exists(4)]
        assert session.exists == 4
        session.close()


def test_logout_waits_for_nothing() -> None:
    with logged_in("C: F1 LOGOUT") as peer:
        open_session(peer).logout()


class TestCompress:
    def compress(self, *steps: Step, capabilities: str = "COMPRESS=DEFLATE") -> bool:
        with logged_in(*steps, capabilities=capabilities) as peer:
            session = ImapSession.open(peer.endpoint(), login(), compress=True)
            session.close()
        return session.compressed

    def test_agreed(self) -> None:
        assert self.compress("C: F1 COMPRESS DEFLATE\nS: F1 OK")

    def test_refused_is_no_reason_to_stop(self) -> None:
        assert not self.compress("C: F1 COMPRESS DEFLATE\nS: F1 NO [COMPRESSIONACTIVE] no")

    def test_not_offered(self) -> None:
        assert not self.compress(capabilities="")


class Drip:
    """A connection that gives `data` at each reading, while a clock that is not ours goes on by a second."""

    timeout = 10.0

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read = 0

    def send(self, data: bytes, *, secret: bool = False) -> None:
        pass

    def receive(self) -> bytes:
        self.read += 1
        assert self.read < 10_000, "this would go on for ever"
        return self.data


def dripping(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[ImapSession, Iterator[int]]:
    clock = itertools.count()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    return ImapSession(cast("Transport", Drip(data)), lambda _: None), clock


TRICKLES = [
    # Octets, but never a response: lost after one `timeout`.
    (b"x", (10, 15)),
    # Whole responses that say nothing: a server may need long, but not for ever.
    (b"* OK Still here\r\n", (90, 400)),
    (b"* 5 EXISTS\r\n", (90, 400)),
    (b"* FLAGS ()\r\n", (90, 400)),
    (b"* CAPABILITY IMAP4rev1\r\n", (90, 400)),
    (b'* LIST () "/" x\r\n', (90, 400)),
    (b"* 1 FETCH (FLAGS ())\r\n", (90, 400)),
    # Many octets, but no response that we know.
    (b"\r\n" * 3000, (90, 400)),
    (b"* XFOO bar\r\n" * 1000, (90, 400)),
    (b"* XFOO bar\r\n" * 1000 + b"* 5 EXISTS\r\n", (90, 400)),
]


@pytest.mark.parametrize(("data", "seconds"), TRICKLES, ids=[repr(data[:20]) for data, _ in TRICKLES])
@pytest.mark.parametrize("command", [(b"NOOP",), (b"CREATE ", astring(b"\xe4"))], ids=["answer", "literal"])
def test_a_server_that_trickles(
    command: tuple[bytes | Literal, ...], data: bytes, seconds: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, clock = dripping(data, monkeypatch)
    with pytest.raises(ConnectionLost) as caught:
        session.run(*command)
    assert caught.value.timed_out
    assert seconds[0] <= next(clock) <= seconds[1]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("UID FETCH", b"* 1 FETCH (UID 1 FLAGS ())\r\n"),
        ("LIST", b'* LIST () "/" x\r\n'),
        ("STATUS", b"* STATUS x (MESSAGES 1)\r\n"),
        ("UID EXPUNGE", b"* 2 EXISTS\r\n* 1 EXPUNGE\r\n"),
        ("UID STORE", b"* 1 FETCH (FLAGS ())\r\n"),
    ],
)
def test_a_slow_server_that_answers_is_waited_for(name: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    session, clock = dripping(data, monkeypatch)
    events = session.events(session.send(name.encode()))
    for _ in range(2000):
        next(events)
    # What another command asked for is progress too: servers work on several at a time.
    session.send(b"NOOP")
    other = session.events(session.send(b"NOOP"))
    for _ in range(2000):
        next(other)
    assert next(clock) > 0


def test_a_large_message_over_a_slow_link_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = dripping(b"x" * 500, monkeypatch)
    session._decoder.receive_data(b"* 1 FETCH (UID 1 BODY[] {4000000}\r\n")
    events = session.events(session.send(b"UID FETCH"))
    assert sum(len(event.data) for event in itertools.islice(events, 8001) if isinstance(event, BodyChunk)) == 4_000_000


def test_a_long_line_over_a_slow_link_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = dripping(b"1 " * 250, monkeypatch)
    session._decoder.receive_data(b"* X\r\n* SEARCH ")
    with pytest.raises(AssertionError, match="for ever"):
        next(session.events(session.send(b"UID SEARCH")))


@pytest.mark.parametrize("answer", ["+ go on", "+", "* LIST () NIL a\nS: + x"])
def test_a_word_to_go_on_where_nothing_waits(answer: str) -> None:
    with logged_in(f"C: F1 LIST\nS: {answer}") as peer:
        session = open_session(peer)
        with pytest.raises(ProtocolError, match="nothing waits for"):
            list(session.events(session.send(b"LIST")))
        session.close()


def test_responses_that_nobody_asked_for_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STRAY", 100)
    with logged_in("C: F1 NOOP", b"* 1 EXISTS\r\n" * 200) as peer:
        session = open_session(peer)
        with pytest.raises(ProtocolError, match="nobody asked"):
            session.run(b"NOOP")
        session.close()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("UID FETCH", "1 FETCH (UID 1 FLAGS ())"),
        ("UID SEARCH", "SEARCH 1"),
        ("LIST", "LIST () NIL a"),
        ("STATUS", "STATUS a (UIDNEXT 2)"),
    ],
)
def test_the_answers_to_what_was_asked_have_a_limit_too(command: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWERS", 100)
    endless = f"* {answer}\r\n".encode() * 200
    with logged_in("C: F1 NOOP\nS: * 20 EXISTS\nS: F1 OK", f"C: F2 {command}", endless) as peer:
        session = open_session(peer)
        session.run(b"NOOP")
        with pytest.raises(ProtocolError, match="161 responses in a mailbox of 20 messages"):
            list(session.events(session.send(command.encode())))
        session.close()


def test_what_comes_before_the_server_takes_a_literal_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EARLY", 2000)
    with logged_in(
        "C: F1 LIST\nC: F2 STATUS {2}", b"* LIST () NIL a\r\n" * 100 + b"+ go\r\n", Octets(b"\xc3\xa4\r\n"),
        b"F1 OK\r\nF2 OK\r\n", "C: F3 LIST\nC: F4 STATUS {2}", b"* LIST () NIL a\r\n" * 200,
    ) as peer:  # fmt: skip
        session = open_session(peer)
        first = session.send(b"LIST")
        second = session.send(b"STATUS ", astring(b"\xc3\xa4"))
        for ticket in (first, second):
            assert len(list(session.events(ticket))) == (100 if ticket is first else 0)
            session.finish(ticket)
        session.send(b"LIST")
        with pytest.raises(ProtocolError, match="2000 octets"):
            session.send(b"STATUS ", astring(b"\xc3\xa4"))
        session.close()
