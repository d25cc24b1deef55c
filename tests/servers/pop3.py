"""A POP3 server for tests and the demonstration (RFC 1939, 2449, 2595): UIDL, TOP, PIPELINING, STLS, and its bad days."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.servers.base import Connection, Cut, Server, Tls
from tests.servers.mailbox import Message, Store


@dataclass
class Pop3Options:
    """How this server differs from a good one."""

    uidl: bool = True
    uidl_of: Callable[[Message], str] = lambda message: f"uid-{message.uid}"
    size_of: Callable[[Message], int] = lambda message: len(message.data)
    """What LIST claims."""
    stuffing: bool = True
    """False: a line of a message that begins with a dot goes out as it is (against RFC 1939, 3)."""
    top: bool = True
    pipelining: bool = True
    capabilities: tuple[str, ...] = ()
    """Further lines of CAPA, such as "LOGIN-DELAY 60"."""
    refuse_greeting: str | None = None
    refuse_pass: str | None = None
    refuse_quit: str | None = None
    """QUIT is answered with this -ERR, and nothing is deleted."""
    cut_at_quit: bool = False
    """QUIT deletes, and the connection is cut before its answer."""
    patience: float = 10.0
    """Seconds to wait for a maildrop that is in use: the end of a killed client is not noticed at once."""
    refuse_retr: frozenset[int] = frozenset()
    """UIDs whose RETR is answered with -ERR."""


class Pop3Server(Server):
    """One user's INBOX over POP3. The maildrop is locked while a session has it."""

    def __init__(
        self, store: Store, tls: Tls | None = None, *, implicit: bool = False, options: Pop3Options | None = None
    ) -> None:
        super().__init__(tls, implicit=implicit)
        self.store = store
        self.options = options or Pop3Options()
        self._maildrop = threading.Lock()

    def serve(self, connection: Connection) -> None:
        """One session."""
        if self.options.refuse_greeting is not None:
            connection.send(f"-ERR {self.options.refuse_greeting}\r\n".encode())
            raise Cut
        connection.send(b"+OK ready <1.2@localhost>\r\n")
        if self._authorise(connection):
            try:
                self._transact(connection)
            finally:
                self._maildrop.release()

    def _authorise(self, connection: Connection) -> bool:
        user = ""
        while True:
            line = connection.line().decode("utf-8", "replace")
            if self.hooked(line, connection):
                continue
            word, _, rest = line.partition(" ")
            accepted: bool | None = None
            match word.upper():
                case "CAPA":
                    self._capa(connection)
                case "STLS" if self.context is not None and not connection.encrypted:
                    connection.send(b"+OK begin TLS\r\n")
                    connection.start_tls()
                case "USER":
                    user = rest
                    connection.send(b"+OK\r\n")
                case "PASS":
                    accepted = user == self.store.user and rest == self.store.password
                case "AUTH" if rest.upper().startswith("PLAIN"):
                    encoded = rest[5:].strip()
                    if not encoded:
                        connection.send(b"+ \r\n")
                        encoded = connection.line().decode()
                    accepted = base64.b64decode(encoded).split(b"\0")[1:] == [
                        self.store.user.encode(),
                        self.store.password.encode(),
                    ]
                case "QUIT":
                    connection.send(b"+OK bye\r\n")
                    return False
                case _:
                    connection.send(b"-ERR not now\r\n")
            if accepted is None:
                continue
            if self.options.refuse_pass is not None:
                connection.send(f"-ERR {self.options.refuse_pass}\r\n".encode())
            elif not accepted:
                connection.send(b"-ERR [AUTH] invalid user name or password\r\n")
            elif not self._maildrop.acquire(timeout=self.options.patience):
                connection.send(b"-ERR [IN-USE] the maildrop is locked by another session\r\n")
            else:
                connection.send(b"+OK logged in\r\n")
                return True

    def _capa(self, connection: Connection) -> None:
        options = self.options
        lines = ["USER", "SASL PLAIN", "RESP-CODES", "AUTH-RESP-CODE", *options.capabilities]
        lines += ["UIDL"] if options.uidl else []
        lines += ["TOP"] if options.top else []
        lines += ["PIPELINING"] if options.pipelining else []
        lines += ["STLS"] if self.context is not None and not connection.encrypted else []
        connection.send(b"+OK\r\n" + _multiline("\r\n".join(lines).encode() + b"\r\n"))

    def _transact(self, connection: Connection) -> None:
        with self.store.lock:
            messages = list(self.store.mailboxes["INBOX"].messages)
        deleted: set[int] = set()
        while True:
            line = connection.line().decode("ascii", "replace")
            if self.hooked(line, connection):
                continue
            word, *arguments = line.split()
            word = word.upper()
            if word == "QUIT":
                self._quit(connection, [messages[number - 1].uid for number in deleted])
                return
            connection.send(self._answer(word, arguments, messages, deleted, connection))

    def _answer(
        self, word: str, arguments: list[str], messages: list[Message], deleted: set[int], connection: Connection
    ) -> bytes:
        options = self.options
        left = [(number, message) for number, message in enumerate(messages, start=1) if number not in deleted]
        number = int(arguments[0]) if arguments and arguments[0].isdigit() else 0
        if word in {"RETR", "TOP", "DELE"} and not any(number == n for n, _ in left):
            return b"-ERR no such message\r\n"
        match word:
            case "STAT":
                return f"+OK {len(left)} {sum(options.size_of(message) for _, message in left)}\r\n".encode()
            case "LIST":
                return _listing((n, str(options.size_of(message))) for n, message in left)
            case "UIDL" if options.uidl:
                return _listing((n, options.uidl_of(message)) for n, message in left)
            case "RETR":
                message = messages[number - 1]
                if message.uid in options.refuse_retr:
                    return b"-ERR [SYS/TEMP] cannot read this message\r\n"
                status = f"+OK {len(message.data)} octets\r\n".encode()
                return status + (_multiline(message.data) if options.stuffing else message.data + b".\r\n")
            case "TOP" if options.top:
                header, _, _ = messages[number - 1].data.partition(b"\r\n\r\n")
                return b"+OK\r\n" + _multiline(header + b"\r\n\r\n")
            case "DELE":
                deleted.add(number)
                return b"+OK marked\r\n"
            case "RSET":
                deleted.clear()
                return b"+OK\r\n"
            case "NOOP":
                return b"+OK\r\n"
            case "CAPA":
                self._capa(connection)
                return b""
            case _:
                return b"-ERR unknown command\r\n"

    def _quit(self, connection: Connection, uids: list[int]) -> None:
        if self.options.refuse_quit is not None:
            connection.send(f"-ERR {self.options.refuse_quit}\r\n".encode())
            return
        self.store.expunge(uids)
        if self.options.cut_at_quit:
            raise Cut
        connection.send(b"+OK bye\r\n")


def _listing(rows: Iterable[tuple[int, str]]) -> bytes:
    return b"+OK\r\n" + "".join(f"{number} {text}\r\n" for number, text in rows).encode() + b".\r\n"


def _multiline(data: bytes) -> bytes:
    """Dot-stuffed and ended (RFC 1939, 3). A message without a final CRLF gets one, as servers do."""
    if data and not data.endswith(b"\r\n"):
        data += b"\r\n"
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"
