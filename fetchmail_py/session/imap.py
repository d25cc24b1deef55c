"""One logged-in IMAP connection: greeting, TLS, login, and commands whose answers are read in the order they were sent.

RFC 9051 and RFC 3501 servers. What the commands mean is in `imap_look` (LIST, SELECT, listings), `imap_fetch` (bodies) and
`imap_store` (deletions).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from fetchmail_py.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ProtocolError,
    ServerBusy,
    ServerRefused,
    TlsError,
    cut,
)
from fetchmail_py.model import MailboxName
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.login import LOGIN_COMMAND, Login, choose, credentials, start
from fetchmail_py.session.redactor import Redactor
from fetchmail_py.session.transport import Transport
from fetchmail_py.wire import imap_command
from fetchmail_py.wire.imap_response import (
    BodyChunk,
    BodyEnd,
    BodyStart,
    Capability,
    Code,
    Continuation,
    Enabled,
    Esearch,
    Event,
    Exists,
    Expunge,
    Fetch,
    ListEntry,
    ResponseDecoder,
    Search,
    Status,
    StatusData,
    Vanished,
)
from fetchmail_py.wire.sasl import octets

PROGRESS_OCTETS = 4096
"""Within one `timeout` a whole response or this many octets must come, or the server counts as silent."""
PATIENCE = 10
"""How many times `timeout` a server may send nothing that belongs to what it was asked."""
MAX_ALERTS = 20
"""Different alerts of one session that are passed on."""
MAX_STRAY = 1_000_000
"""How many responses may come meanwhile."""
MAX_ANSWERS = 1_000_000
"""How many responses may come before a command's answer, beside a few for each message: the same ones, over and over, would do."""
MAX_EARLY = 64 * 1024 * 1024
"""Octets that may come while a literal waits for the server's word: they are kept until their turn comes."""

SEND_AT_ONCE = 65536
"""Octets that are put together before they are sent."""

_BUSY_CODES = {"UNAVAILABLE", "INUSE", "LIMIT", "THROTTLED", "SERVERBUG"}
_KNOWN_CODES = {
    *_BUSY_CODES, "ALERT", "ALREADYEXISTS", "APPENDUID", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "BADCHARSET",
    "CANNOT", "CAPABILITY", "CLIENTBUG", "CLOSED", "COMPRESSIONACTIVE", "CONTACTADMIN", "COPYUID", "CORRUPTION", "EXPIRED",
    "EXPUNGEISSUED", "HASCHILDREN", "HIGHESTMODSEQ", "MAILBOXID", "MODIFIED", "NOMODSEQ", "NONEXISTENT", "NOPERM", "NOTSAVED",
    "OVERQUOTA", "PARSE", "PERMANENTFLAGS", "PRIVACYREQUIRED", "READ-ONLY", "READ-WRITE", "TRYCREATE", "UIDNEXT", "UIDNOTSTICKY",
    "UIDVALIDITY", "UNKNOWN-CTE", "UNSEEN",
}  # fmt: skip
"""Response codes that a password cannot be taken for (RFC 9051, 7.1, and extensions): what they say is acted upon."""
_LOGIN_CODES = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "CONTACTADMIN"}


_BODY: Final = frozenset({Fetch, BodyStart, BodyChunk, BodyEnd})
_GONE: Final = frozenset({Expunge, Vanished})
# What a command asks for. All else a server may say at any time, and so for ever.
_ANSWERS: Final[Mapping[str, frozenset[type]]] = {
    "AUTHENTICATE": frozenset({Continuation}),
    "EXAMINE": frozenset({Fetch, Vanished}),
    "EXPUNGE": _GONE,
    "LIST": frozenset({ListEntry, StatusData}),
    "SELECT": frozenset({Fetch, Vanished}),
    "STATUS": frozenset({StatusData}),
    "UID EXPUNGE": _GONE,
    "UID FETCH": _BODY,
    "UID MOVE": _GONE,
    "UID SEARCH": frozenset({Search, Esearch}),
    "UID STORE": frozenset({Fetch}),
}
_NOTHING: Final[frozenset[type]] = frozenset()


class _Patience:
    """With a server that says things that belong to nothing it was asked: they keep a connection alive, but not for ever."""

    __slots__ = ("_command", "_left", "_limit", "since")

    def __init__(self, command: str, timeout: float) -> None:
        self._command = command
        self._limit = PATIENCE * timeout
        self._left = MAX_STRAY
        self.since: float | None = None
        """When the first of these came; None once something that was asked for comes."""

    def stray(self) -> None:
        """One more of them has come."""
        now = time.monotonic()
        if self.since is None:
            self.since, self._left = now, MAX_STRAY
        self._left -= 1
        if now - self.since > self._limit:
            raise ConnectionLost(f"{self._command}: the server says nothing but that it is still there", timed_out=True)
        if self._left <= 0:
            raise ProtocolError(f"{self._command}: {MAX_STRAY} responses that nobody asked for")


class Ticket(NamedTuple):
    """A command that was sent and whose answer is yet to be read."""

    tag: str
    name: str


def quirk_throttled(text: str) -> bool:
    """Gmail ("Account exceeded command or bandwidth limits") and Exchange ("Request is throttled") say "later" without a code."""
    lower = text.lower()
    return "throttl" in lower or "bandwidth limits" in lower or "try again later" in lower or "too many simultaneous" in lower


def refusal(command: str, status: Status, mailbox: MailboxName | None = None) -> ServerRefused:
    """The error that a NO, BAD or BYE is."""
    code = status.code.name if status.code is not None else None
    kind: type[ServerRefused] = ServerRefused
    if code in _BUSY_CODES or quirk_throttled(status.text):
        kind = ServerBusy
    return kind(command, status.status, status.text, code=code, mailbox=mailbox)


def busy(command: str, status: Status) -> ServerBusy:
    """The error that a BYE is in the middle of the work: trying again can help."""
    code = status.code.name if status.code is not None else None
    return ServerBusy(command, status.status, status.text, code=code)


class ImapSession:
    """A connection in the authenticated or selected state. Not for use by two threads, but for `abort`."""

    def __init__(self, transport: Transport, on_alert: Callable[[str], None]) -> None:
        self.transport = transport
        self.capabilities: frozenset[str] = frozenset()
        self.enabled: frozenset[str] = frozenset()
        self.selected: MailboxName | None = None
        self.selected_read_only = True
        self.exists = 0
        """Messages in the selected mailbox, as the last EXISTS and what was expunged since say."""
        self.on_alert = on_alert
        self.compressed = False
        self.introduced = False
        """ID and ENABLE have been sent: ENABLE has its place before the first SELECT only (RFC 5161, 3.1)."""
        self.mechanism: str | None = None
        """The way the login went; None after PREAUTH."""
        self._decoder = ResponseDecoder()
        self._tags = 0
        self._pending: deque[Ticket] = deque()
        self._answered: dict[str, Status] = {}
        self._early: deque[tuple[int, Event]] = deque()
        """What came while a literal waited for the server's word, with its octets: it is yet to be read, by whom it concerns."""
        self._early_octets = 0
        self._capabilities_fresh = False
        self._redactor = Redactor()
        self._before_tls = False
        """STARTTLS is yet to come: whatever is said may be anybody's."""
        self._open = False
        """Logged in."""
        self._alerts: set[str] = set()

    # -- opening -----------------------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        endpoint: Endpoint,
        login: Login,
        *,
        compress: bool = False,
        on_alert: Callable[[str], None] = lambda _: None,
        connect: Callable[[Endpoint], Transport] = Transport.connect,
    ) -> ImapSession:
        """Connects, by `connect`, and logs in; `compress` asks for COMPRESS=DEFLATE at once.

        Raises ServerUnreachable, TlsError, ConnectionLost, ProtocolError, ServerRefused, AuthenticationFailed.
        """
        login.prepare()
        transport = connect(endpoint)
        session = cls(transport, on_alert)
        try:
            session._greet(endpoint, login)
            if compress:
                session.compress()
        except BaseException:
            transport.close()
            raise
        return session

    def _greet(self, endpoint: Endpoint, login: Login) -> None:
        self._before_tls = endpoint.tls == "starttls"
        self._decoder.receive_data(self.transport.first_words("IMAP"))
        greeting = self._next_event()
        if not isinstance(greeting, Status) or greeting.tag is not None:
            raise ProtocolError("the server did not greet as an IMAP server does", data=repr(greeting).encode())
        if greeting.status == "BYE":
            raise refusal("greeting", greeting)
        if greeting.status not in {"OK", "PREAUTH"}:
            raise ProtocolError(f"the server greeted with {greeting.status}", data=greeting.text.encode())
        self._note_code(greeting.code, greeting.text)
        if endpoint.tls == "starttls":
            if greeting.status == "PREAUTH":
                # RFC 3501 has no STARTTLS once authenticated: whoever sends this wants the session in the clear.
                raise ProtocolError("the server greeted with PREAUTH before TLS could start")
            self._start_tls()
        if greeting.status != "PREAUTH":
            if not self._capabilities_fresh:
                self._ask_capabilities()
            self._log_in(endpoint, login)
        if not self._capabilities_fresh:
            self._ask_capabilities()
        self._open = True

    def _start_tls(self) -> None:
        if not self._capabilities_fresh:
            self._ask_capabilities()
        if "STARTTLS" not in self.capabilities:
            raise TlsError(
                "the server does not offer STARTTLS", hint='use tls = "implicit", or ask the provider which port has TLS'
            )
        ticket = self.send(b"STARTTLS")
        status = self._await(ticket)
        if status.status != "OK":
            raise TlsError(f"the server refused STARTTLS: {cut(status.text)}")
        self.transport.start_tls(self._decoder.buffered)
        # What was said before TLS may have been said by anybody (RFC 9051, 6.2.1): nothing of it is kept.
        self._decoder = ResponseDecoder()
        self.capabilities = self.enabled = frozenset()
        self.selected = None
        self.exists = 0
        self._answered.clear()
        self._early.clear()
        self._early_octets = 0
        self._capabilities_fresh = self._before_tls = False
        self._ask_capabilities()

    def _ask_capabilities(self) -> None:
        self.run(b"CAPABILITY")
        self._capabilities_fresh = True

    def _log_in(self, endpoint: Endpoint, login: Login) -> None:
        offered = frozenset(name[5:] for name in self.capabilities if name.startswith("AUTH="))
        mechanism = choose(
            login,
            offered,
            encrypted=self.transport.confidential,
            plain_login="LOGINDISABLED" not in self.capabilities,
            apop=False,
        )
        self._capabilities_fresh = False
        if mechanism != "EXTERNAL":
            self._redactor.learn(login.secret())
        with self._redactor:
            status = self._prove(mechanism, endpoint, login)
        self.mechanism = mechanism
        if status.status != "OK":
            refused = refusal("login", status)
            if isinstance(refused, ServerBusy) and refused.code not in _LOGIN_CODES:
                raise refused
            raise AuthenticationFailed("login", status.status, status.text, code=refused.code)

    def _prove(self, mechanism: str, endpoint: Endpoint, login: Login) -> Status:
        if mechanism == LOGIN_COMMAND:
            user, secret = (octets(text) for text in credentials(login))
            parts = [b"LOGIN ", imap_command.astring(user), b" ", imap_command.astring(secret)]
            return self._await(self.send(*parts, secret=True, name="LOGIN"))
        return self._authenticate(mechanism, endpoint, login)

    def _authenticate(self, mechanism: str, endpoint: Endpoint, login: Login) -> Status:
        exchange = start(login, mechanism, host=endpoint.host, port=endpoint.port)
        line = b"AUTHENTICATE " + mechanism.encode()
        if "SASL-IR" not in self.capabilities:
            exchange.defer_initial()
        elif exchange.initial is not None:
            line += b" " + exchange.initial
            self._redactor.learn_response(exchange.initial)
        ticket = self.send(line, secret=True, name="AUTHENTICATE")
        for event in self.events(ticket):
            if isinstance(event, Continuation):
                response = exchange.respond(event.text)
                self._redactor.learn_response(response)
                self.transport.send(response + b"\r\n", secret=True)
        status = self.answer(ticket)
        if status.status == "OK":
            exchange.finish()
        elif exchange.error:
            status = status._replace(text=self._redactor.hide(f"{status.text} ({exchange.error})"))
        return status

    def compress(self) -> None:
        """COMPRESS=DEFLATE (RFC 4978), where the server offers it. No command may be under way."""
        ticket = self.ask_compress()
        if ticket is not None:
            self.settle_compress(ticket)

    def ask_compress(self) -> Ticket | None:
        """Sends COMPRESS behind other commands; nothing may be sent until `settle_compress` (RFC 4978, 3)."""
        if "COMPRESS=DEFLATE" not in self.capabilities or self.compressed:
            return None
        return self.send(b"COMPRESS DEFLATE")

    def settle_compress(self, ticket: Ticket) -> None:
        """Reads the answer to COMPRESS; every answer before it has been read."""
        status = self._await(ticket)
        # RFC 4978: refused is no reason to stop, the session goes on as it is.
        if status.status == "OK":
            self.compressed = True
            self.transport.start_deflate(self._decoder.take_buffered())

    # -- commands ----------------------------------------------------------------------------------------------------

    def send(self, *parts: bytes | imap_command.Literal, secret: bool = False, name: str | None = None) -> Ticket:
        """Sends a command without waiting for its answer; literals that need it wait for the server's word."""
        self._tags += 1
        tag = f"F{self._tags}"
        first = parts[0]
        assert isinstance(first, bytes)
        ticket = Ticket(tag, name or first.decode("ascii", "replace").strip())
        pieces = imap_command.command(
            tag,
            *parts,
            literal_plus="LITERAL+" in self.capabilities,
            literal_minus="LITERAL-" in self.capabilities or "IMAP4REV2" in self.capabilities,
        )
        self._pending.append(ticket)
        for index, piece in enumerate(pieces):
            if index:
                self._await_continuation(ticket)
            self.transport.send(piece, secret=secret)
        return ticket

    def send_streamed(self, *parts: bytes | imap_command.Stream, name: str) -> Ticket:
        """Like `send`, for literals that are too large to be held: their octets are produced while they are sent.

        Raises ServerRefused where the server refuses one before it has been sent. A stream that does not give the octets it
        promised leaves nothing but to break the connection: ConnectionLost.
        """
        self._tags += 1
        ticket = Ticket(f"F{self._tags}", name)
        self._pending.append(ticket)
        plus = "LITERAL+" in self.capabilities
        minus = "LITERAL-" in self.capabilities or "IMAP4REV2" in self.capabilities
        waiting = bytearray(ticket.tag.encode("ascii") + b" ")
        for part in parts:
            if isinstance(part, bytes):
                waiting += part
                continue
            unasked = plus or (minus and part.size <= imap_command.LITERAL_MINUS_MAX)
            waiting += b"{%d%s}\r\n" % (part.size, b"+" if unasked else b"")
            if not unasked:
                self.transport.send(bytes(waiting))
                waiting.clear()
                self._await_continuation(ticket)
            sent = 0
            for chunk in part.chunks():
                sent += len(chunk)
                waiting += chunk
                if len(waiting) >= SEND_AT_ONCE:
                    self.transport.send(bytes(waiting))
                    waiting.clear()
            if sent != part.size:
                self.transport.close()
                raise ConnectionLost(f"a message of {part.size} octets had {sent} when it was sent: it was changed meanwhile")
        self.transport.send(bytes(waiting) + b"\r\n")
        return ticket

    def _await_continuation(self, ticket: Ticket) -> None:
        patience = _Patience(ticket.name, self.transport.timeout)
        while True:
            before = self._decoder.consumed
            event = self._read_event()
            if isinstance(event, Continuation):
                return
            octets = self._decoder.consumed - before
            self._early_octets += octets
            if self._early_octets > MAX_EARLY:
                raise ProtocolError(f"{ticket.name}: {MAX_EARLY} octets instead of the word that the command may go on")
            if self._was_asked(type(event)):
                patience.since = None
            else:
                patience.stray()
            if isinstance(event, Status):
                if event.tag == ticket.tag:
                    self._pending.remove(ticket)
                    raise refusal(ticket.name, event)
                if event.status == "BYE":
                    self._note(event)
            self._early.append((octets, event))

    def events(self, ticket: Ticket) -> Iterator[Event]:
        """The untagged data that belongs to a command, ending with its tagged answer, which `answer` then gives.

        Answers must be read in the order in which the commands were sent.
        """
        patience = _Patience(ticket.name, self.transport.timeout)
        asked = _ANSWERS.get(ticket.name, _NOTHING)
        count = 0
        while ticket.tag not in self._answered:
            event = self._next_event()
            kind = type(event)
            count += kind is not BodyChunk
            if count > MAX_ANSWERS + 3 * self.exists:
                raise ProtocolError(f"{ticket.name}: {count} responses in a mailbox of {self.exists} messages, and no end")
            if kind in asked:
                patience.since = None
            elif isinstance(event, Status) and event.tag is not None:
                self._take_answer(event)
                continue
            elif isinstance(event, Continuation):
                said = self._redactor.hide_octets(event.text)
                raise ProtocolError("a continuation request that nothing waits for", data=said)
            elif self._was_asked(kind):
                patience.since = None
            else:
                patience.stray()
            self._note(event)
            yield event
        self._pending.remove(ticket)

    def _was_asked(self, kind: type) -> bool:
        """Whether this belongs to some command that is under way: servers may work on several at a time."""
        return any(kind in _ANSWERS.get(ticket.name, _NOTHING) for ticket in self._pending)

    def _take_answer(self, status: Status) -> None:
        if not any(ticket.tag == status.tag for ticket in self._pending) or status.tag in self._answered:
            tag = self._redactor.hide_octets((status.tag or "").encode())
            raise ProtocolError("an answer to a command that was never sent", data=tag)
        assert status.tag is not None
        self._answered[status.tag] = status
        self._note_code(status.code, status.text)

    def answer(self, ticket: Ticket) -> Status:
        """The tagged answer of a command whose `events` have been read to the end."""
        return self._answered.pop(ticket.tag)

    def _await(self, ticket: Ticket) -> Status:
        for _ in self.events(ticket):
            pass
        return self.answer(ticket)

    def run(self, *parts: bytes | imap_command.Literal, mailbox: MailboxName | None = None) -> Status:
        """Sends a command and reads its answer, ignoring the data; raises ServerRefused unless it is OK."""
        ticket = self.send(*parts)
        status = self._await(ticket)
        if status.status != "OK":
            raise refusal(ticket.name, status, mailbox)
        return status

    def finish(self, ticket: Ticket, mailbox: MailboxName | None = None) -> Status:
        """Like `answer`, but raises ServerRefused unless it is OK."""
        status = self.answer(ticket)
        if status.status != "OK":
            raise refusal(ticket.name, status, mailbox)
        return status

    # -- reading -----------------------------------------------------------------------------------------------------

    def _next_event(self) -> Event:
        if not self._early:
            return self._read_event()
        octets, event = self._early.popleft()
        self._early_octets -= octets
        return event

    def _read_event(self) -> Event:
        """The next event of the stream; raises ConnectionLost when the server goes silent or trickles."""
        event = self._decode()
        if event is not None:
            return event
        timeout = self.transport.timeout
        since = time.monotonic()
        octets = idle = 0
        ignored = self._decoder.ignored
        while True:
            data = self.transport.receive()
            self._decoder.receive_data(data)
            event = self._decode()
            if event is not None:
                return event
            octets += len(data)
            now = time.monotonic()
            if now - since > timeout:
                if octets < PROGRESS_OCTETS:
                    raise ConnectionLost(f"the server sent {octets} octets in {timeout:.0f} seconds", timed_out=True)
                # A large response may take long. Blank lines and what we do not know are no response.
                idle += self._decoder.ignored > ignored
                if idle >= PATIENCE:
                    raise ConnectionLost("the server says nothing that has a meaning", timed_out=True)
                since, octets, ignored = now, 0, self._decoder.ignored

    def _decode(self) -> Event | None:
        """The one place where a server's words come in, and may be shown from: whatever repeats a secret ends here."""
        try:
            event = self._decoder.next_event()
        except ProtocolError as error:
            self._redactor.clean(error)
            raise
        if type(event) is not Status:
            return event
        code = event.code
        if code is None or code.name in _KNOWN_CODES:
            return event._replace(text=self._redactor.hide(event.text))
        name, text = self._redactor.words(code.name, event.text)
        return event._replace(code=None if name is None else code._replace(name=name), text=text)

    def _note(self, event: Event) -> None:
        """What concerns the session as a whole, whatever command it comes with."""
        kind = type(event)
        if kind is BodyChunk:
            return
        if isinstance(event, Status):
            self._note_code(event.code, event.text)
            if event.status == "BYE":
                command = self._pending[0].name if self._pending else "session"
                # Once logged in, BYE is no word about us: the server goes down, or has waited too long (RFC 9051, 7.1.5).
                raise refusal(command, event) if not self._open else busy(command, event)
        elif isinstance(event, Capability):
            self.capabilities = event.names
            self._capabilities_fresh = True
        elif isinstance(event, Enabled):
            self.enabled |= event.names
        elif isinstance(event, Exists):
            self.exists = event.messages
        elif isinstance(event, Expunge):
            if not 0 < event.seq <= self.exists:
                raise ProtocolError(f"EXPUNGE of message {event.seq} of {self.exists}")
            self.exists -= 1
        elif isinstance(event, Vanished) and not event.earlier:
            self.exists = max(0, self.exists - len(event.uids))

    def _note_code(self, code: Code | None, text: str) -> None:
        if code is None:
            return
        if code.name == "CAPABILITY":
            self.capabilities = frozenset(name.upper() for name in code.words())
            self._capabilities_fresh = True
        elif code.name == "ALERT" and not self._before_tls:
            alert = cut(text)
            if alert not in self._alerts and len(self._alerts) < MAX_ALERTS:
                self._alerts.add(alert)
                self.on_alert(alert)

    # -- the end -----------------------------------------------------------------------------------------------------

    @property
    def utf8(self) -> bool:
        """Whether mailbox names on the wire are UTF-8 (RFC 6855)."""
        return "UTF8=ACCEPT" in self.enabled

    def logout(self) -> None:
        """Says LOGOUT and closes, without waiting a round trip for the farewell: every answer that mattered has been read."""
        try:
            self.send(b"LOGOUT")
        except ConnectionLost:
            pass  # the server was faster
        finally:
            self.close()

    def close(self) -> None:
        """Closes the connection as it is."""
        self.transport.close()

    def abort(self) -> None:
        """From another thread: wakes whoever reads or writes, who gets ConnectionLost."""
        self.transport.abort()
