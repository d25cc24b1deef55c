"""One POP3 connection, from the greeting to the login: TLS, capabilities, and how an answer is waited for.

RFC 1939, 2449 (CAPA, response codes), 2595 (STLS), 3206 (AUTH and SYS codes), 5034 (SASL). Answers carry no tag: which command
one belongs to follows from the order alone, so a connection that was left in the middle of an answer takes no further command.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Final, Self, TypeVar

from fetchmail_py.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ProtocolError,
    ServerBusy,
    ServerRefused,
    TlsError,
    cut,
)
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.login import APOP, USER, Login, choose, credentials, start
from fetchmail_py.session.redactor import Redactor
from fetchmail_py.session.transport import Transport
from fetchmail_py.wire import pop3, sasl
from fetchmail_py.wire.pop3 import Capabilities, Reply, ReplyDecoder

PROGRESS_OCTETS: Final = 4096
"""Within one `timeout` a line or this many octets must come, or the server counts as silent."""
PATIENCE: Final = 10
"""How many times `timeout` a listing may take for as many: servers that compute UIDLs one by one are slow."""
BUSY_CODES: Final = {"IN-USE", "LOGIN-DELAY", "SYS/TEMP"}
"""Response codes of what may pass by itself."""

T = TypeVar("T")


def quirk_locked(text: str) -> bool:
    """Qpopper ("lock busy! Is another session active?"), VPOP3 ("Mailbox Locked"), RFC 1939's own "unable to lock maildrop".

    An account that is locked is another matter: waiting does not help there.
    """
    lower = text.lower()
    return re.search(r"\block(ed|ing)?\b", lower) is not None and "account" not in lower and "locked out" not in lower


def quirk_in_use(text: str) -> bool:
    """UW ipop3d ("Mailbox in use") and others that say so, or "already logged in", without [IN-USE]."""
    lower = text.lower()
    return "in use" in lower or "another session" in lower or "already" in lower


def quirk_too_often(text: str) -> bool:
    """Outlook.com ("Exceeded the login limit", "login allowed only every 15 minutes") counts logins without [LOGIN-DELAY]."""
    lower = text.lower()
    return "login limit" in lower or "allowed only every" in lower


def quirk_server_busy(text: str) -> bool:
    """Exchange ("Server Unavailable. 15"), and servers under load ("busy", "Too many connections", "try again later")."""
    lower = text.lower()
    return any(words in lower for words in ("busy", "unavailable", "too many connections", "again later", "temporar"))


def quirk_token_on_its_own_line(mechanism: str) -> bool:
    """Exchange Online's POP3 refuses XOAUTH2 with the token behind AUTH; on a line of its own all servers take it."""
    return mechanism == "XOAUTH2"


_BUSY_WORDS = (quirk_locked, quirk_in_use, quirk_too_often, quirk_server_busy)


def refusal(command: str, reply: Reply, *, logging_in: bool = False) -> ServerRefused:
    """The error that an -ERR is. `logging_in`: to the greeting or the login, where servers without codes use plain words."""
    kind: type[ServerRefused] = ServerRefused
    if reply.code in BUSY_CODES:
        kind = ServerBusy
    elif reply.code == "AUTH":
        kind = AuthenticationFailed
    elif logging_in and reply.code != "SYS/PERM" and any(quirk(reply.text) for quirk in _BUSY_WORDS):
        kind = ServerBusy
    return kind(command, reply.status, reply.text, code=reply.code)


def _ignore(_: Capabilities) -> None:
    pass


class Pop3Connection:
    """A connection, and the login on it. Not for use by two threads, but for `abort`."""

    def __init__(self, transport: Transport) -> None:
        """Takes over a connected transport; `open` is the usual way."""
        self.transport = transport
        self.capabilities = Capabilities()
        self.mechanism: str | None = None
        """The way the login went."""
        self._decoder = ReplyDecoder()
        self._in_step = True
        """Every answer to what was sent has been read to its end."""
        self._redactor = Redactor()

    # -- opening -----------------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        endpoint: Endpoint,
        login: Login,
        *,
        before_login: Callable[[Capabilities], None] = _ignore,
        connect: Callable[[Endpoint], Transport] = Transport.connect,
    ) -> Self:
        """Connects, by `connect`, starts TLS, and logs in. `before_login` gets what the server announces before the login.

        Raises ServerUnreachable, TlsError, ConnectionLost, ProtocolError, ServerBusy (the maildrop is in use, too many
        logins), AuthenticationFailed, other ServerRefused, CredentialError.
        """
        login.prepare()
        transport = connect(endpoint)
        session = cls(transport)
        try:
            with session._redactor:
                session._log_in(endpoint, login, before_login)
        except BaseException:
            transport.close()
            raise
        return session

    def _log_in(self, endpoint: Endpoint, login: Login, before_login: Callable[[Capabilities], None]) -> None:
        stamp = self._greet()
        self._ask_capabilities()
        if endpoint.tls == "starttls":
            self._start_tls()
        before_login(self.capabilities)
        self._authenticate(endpoint, login, stamp)
        self._ask_capabilities()

    def _greet(self) -> str | None:
        """Reads the greeting, and returns APOP's timestamp, if there is one."""
        self._in_step = False
        self._decoder.receive_data(self.transport.first_words("POP3"))
        try:
            reply = self._reply()
        except ProtocolError as error:
            raise ProtocolError("the server did not greet as a POP3 server does", data=error.data) from error
        if not reply.ok:
            raise refusal("greeting", reply, logging_in=True)
        return pop3.timestamp(reply.text)

    def _ask_capabilities(self) -> None:
        """CAPA; a server that does not know it announces nothing."""
        self._send(pop3.command("CAPA"))
        lines: list[bytes] = []
        if self._reply(more=True).ok:
            for batch in self._lines():
                lines += batch
            self.capabilities = pop3.parse_capabilities(lines)
        else:
            self.capabilities = Capabilities()
        self._in_step = True

    def _start_tls(self) -> None:
        if self.capabilities.offered and not self.capabilities.stls:
            raise TlsError(
                "the server does not offer STLS", hint='use tls = "implicit", or ask the provider which port has TLS'
            )
        reply = self._run("STLS")
        if not reply.ok:
            raise TlsError(f"the server refused STLS: {cut(reply.text)}")
        self.transport.start_tls(self._decoder.buffered)
        # What was said before TLS may have been said by anybody (RFC 2595, 4): nothing of it is kept. APOP's timestamp is
        # not said again; whoever forged it would make the login fail, and never see the answer to it.
        self._decoder = ReplyDecoder()
        self._ask_capabilities()

    def _authenticate(self, endpoint: Endpoint, login: Login, stamp: str | None) -> None:
        announced = self.capabilities
        mechanism = choose(
            login,
            announced.sasl,
            encrypted=self.transport.confidential,
            # A server that announces no way to log in at all is one that does not announce this one (RFC 1939 requires none).
            plain_login=announced.user or not announced.sasl,
            apop=stamp is not None,
            protocol="pop3",
        )
        self.mechanism = mechanism
        if mechanism == USER:
            user, secret = self._credentials(login)
            self._accept("USER", self._run("USER", sasl.octets(user)))
            self._accept("PASS", self._run("PASS", sasl.octets(secret), secret=True))
        elif mechanism == APOP:
            assert stamp is not None
            user, secret = self._credentials(login)
            self._send(pop3.apop(sasl.octets(user), stamp, sasl.octets(secret)), secret=True)
            self._accept("APOP", self._reply())
        else:
            self._exchange(mechanism, endpoint, login)

    def _credentials(self, login: Login) -> tuple[str, str]:
        user, secret = credentials(login)
        self._redactor.learn(secret)
        return user, secret

    def _exchange(self, name: str, endpoint: Endpoint, login: Login) -> None:
        """SASL (RFC 5034, 4)."""
        exchange = start(login, name, host=endpoint.host, port=endpoint.port)
        secret = "" if name == "EXTERNAL" else login.secret()
        self._redactor.learn(secret)
        initial = exchange.initial
        line = pop3.command("AUTH", name.encode("ascii"))
        if initial is not None:
            whole = pop3.command("AUTH", name.encode("ascii"), initial)
            if quirk_token_on_its_own_line(name) or len(whole) > pop3.MAX_AUTH_LINE:
                exchange.defer_initial()
            else:
                line = whole
                self._redactor.learn_response(initial)
        self._send(line, secret=True)
        while (reply := self._reply(challenge=True)).status == "+":
            response = exchange.respond(reply.text.encode("utf-8"))
            self._redactor.learn_response(response)
            self._send(response + b"\r\n", secret=True)
        if exchange.error is not None and not reply.ok:
            reply = reply._replace(text=f"{reply.text} ({exchange.error})")
        self._accept(f"AUTH {name}", reply)
        exchange.finish()

    def _accept(self, command: str, reply: Reply) -> None:
        """Raises what a refusal during the login means."""
        if reply.ok:
            return
        error = refusal(command, reply, logging_in=True)
        if type(error) is ServerRefused and error.code != "SYS/PERM":
            raise AuthenticationFailed(command, error.status, error.text, code=error.code)
        raise error

    # -- sending and reading -----------------------------------------------------------------------------------------

    def _send(self, data: bytes, *, secret: bool = False) -> None:
        """Sends what begins something new: every answer has been read."""
        self._in_step = False
        self._refuse_unasked()
        self.transport.send(data, secret=secret)

    def _refuse_unasked(self) -> None:
        """Nothing is under way: what has come all the same would be taken for the answer to the next command."""
        if self._decoder.buffered:
            self._in_step = False
            raise ProtocolError("the server says more than it was asked", data=self._decoder.peek())

    def _run(self, word: str, *arguments: bytes, secret: bool = False) -> Reply:
        """A command whose answer is one line."""
        self._require_step()
        self._send(pop3.command(word, *arguments), secret=secret)
        return self._reply()

    def _require_step(self) -> None:
        """What was left unread would be taken for the answer to what is sent now."""
        if not self._in_step:
            self.close()
            raise ConnectionLost("the session was given up in the middle of an answer")

    def _reply(self, *, challenge: bool = False, more: bool = False) -> Reply:
        """The next status line. `more`: it is not the end of what is under way."""
        reply = self._await(self._decoder.next_reply)
        if reply.status == "+" and not challenge:
            raise ProtocolError("a challenge that nothing asked for", data=reply.text.encode("utf-8"))
        self._in_step = not more and reply.status != "+"
        return reply

    def _lines(self) -> Iterator[list[bytes]]:
        last = False
        since, octets = time.monotonic(), 0
        while not last:
            lines, last = self._await(self._decoder.next_lines)
            octets += sum(map(len, lines)) + 2 * len(lines)
            now = time.monotonic()
            # A line now and then is no silence, but a listing must come to its end some day.
            if now - since > PATIENCE * self.transport.timeout:
                if octets < PROGRESS_OCTETS and not last:
                    seconds = PATIENCE * self.transport.timeout
                    raise ConnectionLost(f"the server listed {octets} octets in {seconds:.0f} seconds", timed_out=True)
                since, octets = now, 0
            yield lines

    def _await(self, pull: Callable[[], T | None]) -> T:
        """What `pull` finds, as soon as there is enough; raises ConnectionLost when the server goes silent or trickles."""
        found = pull()
        if found is not None:
            return found
        timeout = self.transport.timeout
        since = time.monotonic()
        octets = 0
        while True:
            data = self.transport.receive()
            self._decoder.receive_data(data)
            found = pull()
            if found is not None:
                return found
            octets += len(data)
            now = time.monotonic()
            if now - since > timeout:
                if octets < PROGRESS_OCTETS:
                    raise ConnectionLost(f"the server sent {octets} octets in {timeout:.0f} seconds", timed_out=True)
                since, octets = now, 0
    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Closes the connection as it is: the server deletes nothing (RFC 1939, 6)."""
        self._in_step = False
        self.transport.close()

    def abort(self) -> None:
        """From another thread: wakes whoever reads or writes, who gets ConnectionLost."""
        self.transport.abort()
