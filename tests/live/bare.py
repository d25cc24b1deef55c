"""A filter before an IMAP server that leaves of it what RFC 3501 has: an old, bare server with a good one's memory.

It hides capabilities and refuses what it hides, with the server's own tagged BAD and in the order of the commands: a client that
looked at the capabilities never meets one (`Bare.refused`). Response codes and LIST attributes of later standards are taken out
of the answers. Both sides are plain TCP on loopback.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import BufferedReader
from queue import SimpleQueue
from typing import NamedTuple, Self

KEPT = frozenset({"IMAP4REV1", "AUTH=PLAIN"})

_COMMANDS = frozenset({
    "CAPABILITY", "NOOP", "LOGOUT", "AUTHENTICATE", "LOGIN", "SELECT", "EXAMINE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE",
    "UNSUBSCRIBE", "LIST", "LSUB", "STATUS", "APPEND", "CHECK", "CLOSE", "EXPUNGE", "SEARCH", "FETCH", "STORE", "COPY",
    "UID SEARCH", "UID FETCH", "UID STORE", "UID COPY",
})  # fmt: skip
"""The commands of RFC 3501 without STARTTLS."""

_LATER_COMMANDS = {
    "ENABLE": "ENABLE",
    "ID": "ID",
    "IDLE": "IDLE",
    "MOVE": "MOVE",
    "MYRIGHTS": "ACL",
    "NAMESPACE": "NAMESPACE",
    "NOTIFY": "NOTIFY",
    "UID EXPUNGE": "UIDPLUS",
    "UID MOVE": "MOVE",
    "UNSELECT": "UNSELECT",
}
"""A command, and the capability that allows it. What is in neither table is refused always."""


class _Rule(NamedTuple):
    commands: frozenset[str]
    pattern: re.Pattern[str]
    """What the arguments, in upper case and without quoted strings, must not hold."""
    capabilities: frozenset[str]
    """Any of these allows it."""


def _rule(commands: str, pattern: str, capabilities: str) -> _Rule:
    return _Rule(frozenset(commands.split(",")), re.compile(pattern), frozenset(capabilities.split()))


# A parenthesis is in no atom, and so in no mailbox name that is not quoted.
_RULES = (
    _rule("AUTHENTICATE", r"^\s*\S+ +\S", "SASL-IR"),
    _rule("SELECT,EXAMINE", r"\(.*CONDSTORE", "CONDSTORE QRESYNC"),
    _rule("SELECT,EXAMINE", r"\(.*QRESYNC", "QRESYNC"),
    _rule("CREATE", r"\(", "CREATE-SPECIAL-USE"),
    _rule("LIST", r"\(", "LIST-EXTENDED"),
    _rule("LIST", r"\(.*SPECIAL-USE", "SPECIAL-USE"),
    _rule("LIST", r"\(.*STATUS", "LIST-STATUS"),
    _rule("STATUS", r"\(.*\bHIGHESTMODSEQ\b", "CONDSTORE QRESYNC"),
    _rule("STATUS", r"\(.*\bMAILBOXID\b", "OBJECTID"),
    _rule("STATUS", r"\(.*\bSIZE\b", "STATUS=SIZE"),
    _rule("SEARCH,UID SEARCH", r"^\s*RETURN\b", "ESEARCH"),
    _rule("SEARCH,UID SEARCH", r"\bMODSEQ\b", "CONDSTORE QRESYNC"),
    _rule("FETCH,UID FETCH", r"\b(CHANGEDSINCE|MODSEQ)\b", "CONDSTORE QRESYNC"),
    _rule("FETCH,UID FETCH", r"\bVANISHED\b", "QRESYNC"),
    _rule("FETCH,UID FETCH", r"\b(EMAILID|THREADID)\b", "OBJECTID"),
    _rule("FETCH,UID FETCH", r"\bBINARY\b", "BINARY"),
    _rule("STORE,UID STORE", r"\bUNCHANGEDSINCE\b", "CONDSTORE QRESYNC"),
)

_CODES = frozenset({
    "ALERT", "BADCHARSET", "CAPABILITY", "PARSE", "PERMANENTFLAGS", "READ-ONLY", "READ-WRITE", "TRYCREATE", "UIDNEXT",
    "UIDVALIDITY", "UNSEEN",
})  # fmt: skip
"""The response codes of RFC 3501; all others are taken out, except those of capabilities that are allowed."""
_LATER_CODES = {
    "APPENDUID": "UIDPLUS",
    "COPYUID": "UIDPLUS",
    "UIDNOTSTICKY": "UIDPLUS",
    "HIGHESTMODSEQ": "CONDSTORE",
    "MODIFIED": "CONDSTORE",
    "NOMODSEQ": "CONDSTORE",
    "CLOSED": "QRESYNC",
    "MAILBOXID": "OBJECTID",
}
_ATTRIBUTES = frozenset({b"\\noinferiors", b"\\noselect", b"\\marked", b"\\unmarked"})

_LITERAL = re.compile(rb"(~?)\{(\d+)(\+?)\}\r?\n\Z")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_STATUS = re.compile(rb"(\S+ (?:OK|NO|BAD|BYE|PREAUTH) )(?:\[([^] ]+)([^]]*)\] ?)?", re.IGNORECASE)
_LISTED = re.compile(rb"(\* (?:LIST|LSUB) \()([^)]*)", re.IGNORECASE)
_CAPABILITY = re.compile(rb"(\* CAPABILITY)([^\r\n]*)", re.IGNORECASE)


class Bare:
    """The filter, as a context manager: listens on `host` and `port`, and speaks to `server_port` of this machine.

    `allow` names capabilities that stay: each is shown if the server has it, and what it allows is let through. COMPRESS and
    STARTTLS cannot stay: nothing could be read any more.
    """

    host = "127.0.0.1"

    def __init__(self, server_port: int, *, allow: Iterable[str] = ()) -> None:
        self.allowed = frozenset(name.upper() for name in allow)
        if any(name == "STARTTLS" or name.startswith("COMPRESS") for name in self.allowed):
            raise ValueError("nothing could be filtered behind that")
        self.commands: list[str] = []
        """What went through: the first line of each command without its tag; of LOGIN and AUTHENTICATE nothing more."""
        self.refused: list[str] = []
        """What was refused, likewise."""
        self._server_port = server_port
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._connections: list[_Connection] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake who waits in accept
        self._thread.join()
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            self._connections.append(_Connection(self, client, server))

    def objection(self, command: str, arguments: bytes) -> bool:
        """Whether a line of a command holds what is not allowed."""
        if command not in _COMMANDS and _LATER_COMMANDS.get(command) not in self.allowed:
            return True
        literal = _LITERAL.search(arguments)
        if literal is not None and literal[3] and "LITERAL+" not in self.allowed:
            return True
        if literal is not None and literal[1] and "BINARY" not in self.allowed:
            return True
        text = _QUOTED.sub(b'""', arguments).decode("latin-1").upper()
        return any(
            command in rule.commands and not rule.capabilities & self.allowed and rule.pattern.search(text) for rule in _RULES
        )

    def answer(self, line: bytes) -> bytes:
        """The first line of a response, without what is hidden."""
        status = _STATUS.match(line)
        if status is not None and status[2] is not None:
            name = status[2].decode("latin-1").upper()
            code = b""
            if name == "CAPABILITY":
                code = b"[CAPABILITY" + self._capabilities(status[3]) + b"] "
            elif name in _CODES or _LATER_CODES.get(name) in self.allowed:
                code = b"[" + status[2] + status[3] + b"] "
            return status[1] + code + line[status.end() :]
        line = _CAPABILITY.sub(lambda found: found[1] + self._capabilities(found[2]), line, count=1)
        return _LISTED.sub(lambda found: found[1] + self._attributes(found[2]), line, count=1)

    def _capabilities(self, words: bytes) -> bytes:
        keep = KEPT | self.allowed
        return b"".join(b" " + word for word in words.split() if word.decode("latin-1").upper() in keep)

    def _attributes(self, words: bytes) -> bytes:
        kept = []
        for word in words.split():
            if word.lower() in _ATTRIBUTES or "SPECIAL-USE" in self.allowed:
                kept.append(word)
            elif word.lower() == b"\\nonexistent":
                kept.append(b"\\Noselect")
        return b" ".join(kept)


class _Connection:
    """A client, and the filter's connection to the server on its behalf."""

    def __init__(self, bare: Bare, client: socket.socket, server: socket.socket) -> None:
        self._bare = bare
        self._client = client
        self._server = server
        self._said: SimpleQueue[bytes] = SimpleQueue()
        """From the server: "+", and the tag of each command that is answered; nothing (b"") at the end."""

        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._threads = [
            threading.Thread(target=self._run, args=(target,), daemon=True) for target in (self._commands, self._answers)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the connection on both sides."""
        self._end()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def _end(self) -> None:
        for each in (self._client, self._server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._said.put(b"")

    def _run(self, target: Callable[[], None]) -> None:
        with suppress(OSError):  # either side may go at any time
            target()
        self._end()

    # What the client says

    def _commands(self) -> None:
        with self._client.makefile("rb") as reader:
            while line := reader.readline():
                self._command(reader, line)

    def _command(self, reader: BufferedReader, line: bytes) -> None:
        tag, _, rest = line.partition(b" ")
        verb, _, arguments = rest.rstrip(b"\r\n").partition(b" ")
        if verb.upper() == b"UID":
            second, _, arguments = arguments.partition(b" ")
            verb += b" " + second
        command = verb.decode("latin-1").upper()
        shown = command if command in {"LOGIN", "AUTHENTICATE"} else rest.decode("latin-1").rstrip("\r\n")
        part = arguments + b"\r\n"
        literals = messages = 0
        while True:
            literal = _LITERAL.search(part)
            # The only literal of APPEND that is no message is a mailbox name, and it comes first, alone.
            messages += command == "APPEND" and literal is not None and (literals > 0 or literal.start() > 0)
            several = messages > 1 and "MULTIAPPEND" not in self._bare.allowed
            if several or self._bare.objection(command, part):
                self._bare.refused.append(shown)
                # The server itself is given something to refuse, so that its answer comes in its turn.
                self._server.sendall(b" ((\r\n" if literals else tag + b" XREFUSED\r\n")
                _skip(reader, part)
                return
            self._server.sendall(line)
            if literal is None:
                break
            literals += 1
            if not literal[3] and not self._may_go_on(tag):
                return
            _relay(reader, self._server, int(literal[2]))
            line = part = reader.readline()
        self._bare.commands.append(shown)
        if command in {"AUTHENTICATE", "IDLE"}:
            while self._may_go_on(tag):
                self._server.sendall(reader.readline())

    def _may_go_on(self, tag: bytes) -> bool:
        """Whether the server asks for more; False: it has answered the command, or is gone."""
        while said := self._said.get():
            if said in {b"+", tag}:
                return said == b"+"
        return False

    # What the server says

    def _answers(self) -> None:
        with self._server.makefile("rb") as reader:
            while line := reader.readline():
                self._client.sendall(self._bare.answer(line))
                tag, _, _ = line.partition(b" ")
                if tag.rstrip() != b"*":
                    self._said.put(tag.rstrip())
                elif _STATUS.match(line) is None:
                    while (literal := _LITERAL.search(line)) is not None:
                        _relay(reader, self._client, int(literal[2]))
                        line = reader.readline()
                        self._client.sendall(line)


def _relay(reader: BufferedReader, to: socket.socket, octets: int) -> None:
    while octets and (data := reader.read1(min(octets, 65536))):
        to.sendall(data)
        octets -= len(data)


def _skip(reader: BufferedReader, part: bytes) -> None:
    """Reads what a client sends with a refused command without waiting for leave."""
    while (literal := _LITERAL.search(part)) is not None and literal[3]:
        reader.read(int(literal[2]))
        part = reader.readline()
