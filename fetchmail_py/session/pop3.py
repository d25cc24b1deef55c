"""One logged-in POP3 connection: greeting, TLS, login, the listing, and messages fetched or deleted in a bounded window.

RFC 1939, 2449 (CAPA, PIPELINING, response codes), 2595 (STLS), 3206 (AUTH and SYS codes), 5034 (SASL). Answers carry no tag:
which command one belongs to follows from the order alone, so a session that was left in the middle of an answer takes no
further command.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, NamedTuple, TypeVar, cast

from fetchmail_py.errors import (
    AuthenticationFailed,
    ConnectionLost,
    FetchmailError,
    ProtocolError,
    ServerBusy,
    ServerRefused,
    TlsError,
    cut,
)
from fetchmail_py.model import Delivered, MaildropEntry
from fetchmail_py.session.endpoint import Endpoint
from fetchmail_py.session.login import APOP, USER, Login, choose, credentials, start
from fetchmail_py.session.pop3_window import WINDOW, Fence, Window
from fetchmail_py.session.redactor import Redactor
from fetchmail_py.session.sink import MessageSink
from fetchmail_py.session.transport import Transport
from fetchmail_py.wire import pop3, sasl
from fetchmail_py.wire.pop3 import Capabilities, Reply, ReplyDecoder

__all__ = ["Capabilities", "NotRetrieved", "Pop3Session", "Retrieved", "refusal"]

PROGRESS_OCTETS: Final = 4096
"""Within one `timeout` a line or this many octets must come, or the server counts as silent."""
PATIENCE: Final = 10
"""How many times `timeout` a listing may take for as many: servers that compute UIDLs one by one are slow."""
HEADER_OCTETS: Final = 256 * 1024
"""So much of an answer to TOP is kept; servers without a working TOP send the whole message."""

_BUSY_CODES: Final = {"IN-USE", "LOGIN-DELAY", "SYS/TEMP"}

_STATUS_LINE: Final = re.compile(rb"(?:\+OK|-ERR)(?:[ \t][^\n]*)?\r?\n")

T = TypeVar("T")


class Retrieved(NamedTuple):
    """A message that lies complete in the sink, and is the one that was asked for."""

    entry: MaildropEntry
    delivered: Delivered


class NotRetrieved(NamedTuple):
    """A message that the server refused to give, in its own words, or one whose answer cannot be believed."""

    entry: MaildropEntry
    reason: str


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
    if reply.code in _BUSY_CODES:
        kind = ServerBusy
    elif reply.code == "AUTH":
        kind = AuthenticationFailed
    elif logging_in and reply.code != "SYS/PERM" and any(quirk(reply.text) for quirk in _BUSY_WORDS):
        kind = ServerBusy
    return kind(command, reply.status, reply.text, code=reply.code)


def _always() -> bool:
    return True


def _ignore(_: Capabilities) -> None:
    pass


class Pop3Session:
    """A connection in the transaction state (RFC 1939, 5). Not for use by two threads, but for `abort`.

    Any method may raise ConnectionLost, ProtocolError and ServerRefused. What is iterated over must be read to its end before
    another command, or the session is given up.
    """

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
    ) -> Pop3Session:
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

    def _send_more(self, data: bytes, under_way: bool) -> None:
        """Sends commands of a window, behind others if some are `under_way`."""
        if under_way:
            self.transport.send(data)
        else:
            self._send(data)

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

    # -- the listing -------------------------------------------------------------------------------------------------

    def listing(self) -> list[MaildropEntry]:
        """The messages of the maildrop, by STAT, LIST and UIDL, in the order of their numbers.

        Where LIST and UIDL disagree about which messages there are, those in both. Raises ProtocolError where they make no sense,
        or where fewer messages are listed than STAT counts: what is missing would be taken for deleted.
        """
        with self._redactor:
            self._require_step()
            pipelining = self.capabilities.pipelining
            if pipelining:
                self._send(b"STAT\r\nLIST\r\nUIDL\r\n")
            else:
                self._send(b"STAT\r\n")
            count, _ = pop3.parse_stat(self._expect("STAT").text)
            sizes: dict[int, int] = {}
            if not pipelining:
                if count == 0:
                    self._in_step = True
                    return []
                self._send(b"LIST\r\n")
            # A maildrop without messages may have no LIST either: RFC 1939 shows both answers.
            if self._expect("LIST", or_refused=count == 0).ok:
                for lines in self._lines():
                    pop3.add_sizes(lines, sizes)
            if not pipelining:
                self._send(b"UIDL\r\n")
            unique_ids: dict[int, bytes] | None = None
            # Asked for whatever CAPA says: UIDL is older than CAPA, and some announce what they have not.
            reply = self._expect("UIDL", or_refused=True)
            if reply.ok:
                unique_ids = {}
                for lines in self._lines():
                    pop3.add_unique_ids(lines, unique_ids)
            elif reply.code in _BUSY_CODES:
                # Not "no UIDL": that would make every message an unknown one.
                raise refusal("UIDL", reply)
            self._in_step = True
            return _join(count, sizes, unique_ids)

    def _expect(self, command: str, *, or_refused: bool = False) -> Reply:
        reply = self._reply(more=True)
        if not reply.ok and not or_refused:
            raise refusal(command, reply)
        return reply

    # -- messages ----------------------------------------------------------------------------------------------------

    def retrieve(
        self, entries: Iterable[MaildropEntry], sink: MessageSink, wanted: Callable[[], bool] = _always
    ) -> Iterator[Retrieved | NotRetrieved]:
        """Fetches messages into `sink`, in their order, each yielded once the fence behind it proves that it is itself.

        A server that does not stuff (RFC 1939, 3) ends a message at a line "." within it, and goes on with the rest; one that
        says a line too many gives each message under the name of another. So what has come since the last fence is held back.
        Where the session breaks first, those are yielded whose size is the announced one, up to the first that is not; the
        others are discarded, and yielded as not retrieved where the protocol was broken.

        `wanted` is asked before more is asked for: False ends the work after what is under way.
        """
        self._require_step()
        window = self._window(b"RETR %d\r\n", entries, wanted, fence=True)
        held: deque[Retrieved | NotRetrieved] = deque()
        try:
            while (front := window.next()) is not None:
                if isinstance(front, Fence):
                    self._pass_fence(window)
                    while held:
                        yield held.popleft()
                else:
                    self._retrieve_one(front, window, sink, held)
        except FetchmailError as error:
            self._redactor.clean(error)
            while held and _is_exact(held[0]):
                yield held.popleft()
            if isinstance(error, ProtocolError):
                for entry in [outcome.entry for outcome in held] or ([window.front] if window.front is not None else []):
                    yield NotRetrieved(entry, f"what the server sent for it cannot be believed: {error.detail}")
            raise
        finally:
            for outcome in held:
                if isinstance(outcome, Retrieved):
                    sink.discard(outcome.delivered)

    def _retrieve_one(
        self, entry: MaildropEntry, window: Window, sink: MessageSink, held: deque[Retrieved | NotRetrieved]
    ) -> None:
        answer = self._answer(entry.size)
        if isinstance(answer, Reply):
            reason = self._redactor.hide(_reason(answer))
            self._in_step = window.answered()
            held.append(NotRetrieved(entry, reason))
        else:
            if isinstance(answer, bytes):
                self._in_step = window.answered()
                head, delivered = answer, sink.deliver(answer, None)
            else:
                head, delivered = self._stream(entry, sink)
                self._in_step = window.answered()
            held.append(Retrieved(entry, delivered))
            if delivered.wire_size != entry.size and (line := _STATUS_LINE.match(head)) is not None:
                raise ProtocolError("a message that begins with an answer", data=line[0])
        if self._in_step:
            self._refuse_unasked()

    def _pass_fence(self, window: Window) -> None:
        reply = self._reply(more=True)
        self._in_step = window.answered()
        if not reply.ok:
            if reply.code in _BUSY_CODES:
                raise refusal("STAT", reply)
            # It was not refused before (`listing`): this is another command's answer, or part of a message.
            raise ProtocolError("a refusal of STAT between messages", data=reply.text.encode("utf-8"))
        pop3.parse_stat(reply.text)
        if self._in_step:
            self._refuse_unasked()

    def _answer(self, size: int) -> pop3.Answer:
        """The answer to RETR or TOP."""
        # mypy joins the members of the union to object.
        return cast("pop3.Answer", self._await(partial(self._decoder.next_message, size)))

    def _stream(self, entry: MaildropEntry, sink: MessageSink) -> tuple[bytes, Delivered]:
        """A message too large for memory, and how it begins."""
        writer = sink.start(None)
        head = b""
        try:
            for data in self._chunks(entry):
                head = head or data
                writer.write(data)
            return head, writer.finish()
        except BaseException:
            writer.discard()
            raise

    def _chunks(self, entry: MaildropEntry) -> Iterator[bytes]:
        pull = partial(self._decoder.next_chunk, entry.size)
        last = False
        while not last:
            data, last = self._await(pull)
            yield data

    def top(self, entries: Iterable[MaildropEntry]) -> Iterator[tuple[MaildropEntry, bytes | None]]:
        """The header of each message by TOP, with the empty line behind it; None where the server refuses.

        Whatever a server sends beyond that is part of the answer too, up to `HEADER_OCTETS`. To be believed once all have
        come: a fence behind them that is not met raises ProtocolError.
        """
        self._require_step()
        with self._redactor:
            window = self._window(b"TOP %d 0\r\n", entries, _always, fence=True)
            while (entry := window.next()) is not None:
                if isinstance(entry, Fence):
                    self._pass_fence(window)
                    continue
                answer = self._answer(0)
                if isinstance(answer, Reply):
                    _reason(answer)
                    header = None
                elif isinstance(answer, bytes):
                    header = answer
                else:
                    kept = bytearray()
                    for data in self._chunks(entry):
                        kept += data[: HEADER_OCTETS - len(kept)]
                    header = bytes(kept)
                self._in_step = window.answered()
                yield entry, header

    def delete(self, entries: Iterable[MaildropEntry]) -> Iterator[tuple[MaildropEntry, ServerRefused | None]]:
        """Marks messages as deleted; what `quit` then removes. With each the server's refusal, or None."""
        self._require_step()
        with self._redactor:
            window = self._window(b"DELE %d\r\n", entries, _always)
            while (entry := window.next()) is not None:
                assert not isinstance(entry, Fence)
                reply = self._reply(more=True)
                self._in_step = window.answered()
                refused = None if reply.ok else refusal("DELE", reply)
                if refused is not None:
                    self._redactor.clean(refused)
                yield entry, refused

    def _window(
        self, command: bytes, entries: Iterable[MaildropEntry], wanted: Callable[[], bool], *, fence: bool = False
    ) -> Window:
        size = WINDOW if self.capabilities.pipelining else 1
        # The answer to STAT is a count and a size, which no other single line of a server is.
        return Window(self._send_more, command, entries, wanted, size, b"STAT\r\n" if fence else b"")

    # -- the end -----------------------------------------------------------------------------------------------------

    def noop(self) -> None:
        """Keeps the server from closing."""
        self._require("NOOP")

    def reset(self) -> None:
        """Takes back every deletion of this session."""
        self._require("RSET")

    def quit(self) -> None:
        """Ends the session; only now does the server delete. Raises ServerRefused where it could not, and closes anyway."""
        try:
            self._require("QUIT")
        finally:
            self.close()

    def _require(self, word: str) -> None:
        with self._redactor:
            reply = self._run(word)
            if not reply.ok:
                raise refusal(word, reply)

    def close(self) -> None:
        """Closes the connection as it is: the server deletes nothing (RFC 1939, 6)."""
        self._in_step = False
        self.transport.close()

    def abort(self) -> None:
        """From another thread: wakes whoever reads or writes, who gets ConnectionLost."""
        self.transport.abort()


def _is_exact(outcome: Retrieved | NotRetrieved) -> bool:
    """Whether as much came as the server had announced: no other message, and no part of one, but by chance."""
    return isinstance(outcome, Retrieved) and outcome.delivered.wire_size == outcome.entry.size


def _reason(reply: Reply) -> str:
    """The server's words for its refusal of one message."""
    if reply.status != "-ERR":
        raise ProtocolError("a challenge that nothing asked for", data=reply.text.encode("utf-8"))
    words = f"[{reply.code}] {reply.text}" if reply.code else reply.text
    return cut(words.strip()) or "the server gave no reason"


def _join(count: int, sizes: dict[int, int], unique_ids: dict[int, bytes] | None) -> list[MaildropEntry]:
    """LIST and UIDL, by message number. `count` is STAT's."""
    if unique_ids is None:
        entries = [MaildropEntry(number, None, size) for number, size in sorted(sizes.items())]
    else:
        entries = [
            MaildropEntry(number, unique_ids[number] or None, size)
            for number, size in sorted(sizes.items())
            if number in unique_ids
        ]
    if len(entries) < count:
        raise ProtocolError(f"the server lists {len(entries)} of the {count} messages that it counts")
    return entries
