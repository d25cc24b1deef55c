"""An IMAP server for tests and the demonstration (RFC 3501 with many extensions), and its bad days.

`capabilities` says what it offers: an extension that is left out is refused, so that the barest of servers can be played.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

from tests.servers.base import Connection, Cut, Server, Tls
from tests.servers.mailbox import Mailbox, Message, Store

ALL = frozenset({
    "IMAP4REV1", "SASL-IR", "LITERAL+", "ID", "ENABLE", "NAMESPACE", "LIST-EXTENDED", "LIST-STATUS", "SPECIAL-USE", "UIDPLUS",
    "ESEARCH", "CONDSTORE", "QRESYNC", "MOVE", "UNSELECT", "COMPRESS=DEFLATE", "OBJECTID", "UTF8=ACCEPT", "AUTH=PLAIN",
})  # fmt: skip
BARE = frozenset({"IMAP4REV1"})

_LITERAL = re.compile(rb"\{(\d+)(\+?)\}$")
_TOKEN = re.compile(
    rb'\s*(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|\x00(\d+)\x00|((?:BODY(?:\.PEEK)?|BINARY(?:\.PEEK)?)\[[^\]]*\](?:<[\d.]+>)?|[^\s()"\x00]+))',
    re.IGNORECASE,
)
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

Value = bytes | list["Value"]


@dataclass
class ImapOptions:
    """How this server differs from a good one."""

    preauth: bool = False
    logindisabled: bool = False
    refuse_login: str | None = None
    refuse_select: frozenset[str] = frozenset()
    omit: frozenset[int] = frozenset()
    """UIDs that FETCH leaves out of its answer, which is OK all the same."""
    nil: frozenset[int] = frozenset()
    """UIDs whose body is NIL."""
    refuse_fetch: frozenset[int] = frozenset()
    """UIDs for which a FETCH of any set with them is answered NO."""
    exists_lie: int = 0
    """Added to EXISTS."""
    read_only: bool = False
    read_only_mailboxes: frozenset[str] = frozenset()
    """In these nothing can be changed; RFC 4314 tells it, where ACL is among the capabilities."""
    refuse_append: bytes = b""
    """A message with these octets is answered NO."""
    refuse_create: frozenset[str] = frozenset()
    """Names of which no mailbox can be made."""
    refuse_rename_to: str = ""
    """So is a RENAME to this name."""
    rights: dict[str, str] = field(default_factory=dict)
    """What the user may do in a mailbox (RFC 4314); all where it is not named. MYRIGHTS tells it where ACL is offered."""
    says_no: bool = False
    """What the rights do not allow is refused; else it is answered OK and left undone, as Dovecot does (but for MOVE)."""


@dataclass
class _Selected:
    box: Mailbox
    read_only: bool
    seen: list[int] = field(default_factory=list)
    """UIDs by sequence number, as this client knows them."""


class ImapServer(Server):
    """One user's mailboxes over IMAP."""

    def __init__(
        self,
        store: Store,
        tls: Tls | None = None,
        *,
        implicit: bool = False,
        capabilities: Iterable[str] = ALL,
        options: ImapOptions | None = None,
    ) -> None:
        super().__init__(tls, implicit=implicit)
        self.store = store
        self.capabilities = frozenset(capabilities)
        self.options = options or ImapOptions()

    def serve(self, connection: Connection) -> None:
        """One session."""
        _Session(self, connection).run()


class _Refused(Exception):
    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Session:
    def __init__(self, server: ImapServer, connection: Connection) -> None:
        self.server = server
        self.store = server.store
        self.options = server.options
        self.connection = connection
        self.authenticated = self.options.preauth
        self.selected: _Selected | None = None
        self.enabled: set[str] = set()
        self.out: list[bytes] = []

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        word = "PREAUTH" if self.options.preauth else "OK"
        self.connection.send(f"* {word} [CAPABILITY {self._capability()}] ready\r\n".encode())
        while True:
            line, literals = self._command()
            tag, _, rest = line.partition(b" ")
            self.connection.tag = tag.decode()
            shown = _shown(rest, literals)
            if self.server.hooked(shown, self.connection):
                continue
            try:
                text = self._dispatch(rest, literals, tag.decode())
                answer = f"{tag.decode()} OK {text}"
            except _Refused as refused:
                answer = f"{tag.decode()} {refused.status} {refused}"
            self.connection.send(b"".join(self.out) + self.server.faults.before_answer + answer.encode() + b"\r\n")
            self.out.clear()
            if text_of(rest) == "STARTTLS" and " OK " in answer:
                self.connection.start_tls()
            elif text_of(rest) == "COMPRESS DEFLATE" and " OK " in answer:
                self.connection.start_deflate()
            elif text_of(rest) == "LOGOUT":
                raise Cut

    def _command(self) -> tuple[bytes, list[bytes]]:
        """A whole command; each literal is replaced by its number between NULs."""
        line, literals = b"", list[bytes]()
        while True:
            piece = self.connection.line()
            found = _LITERAL.search(piece)
            if found is None:
                return line + piece, literals
            if not found[2]:
                self.connection.send(b"+ go on\r\n")
            literals.append(self.connection.octets(int(found[1])))
            line += piece[: found.start()] + b"\0%d\0" % (len(literals) - 1)

    def _capability(self) -> str:
        names = set(self.server.capabilities)
        if self.server.context is not None and not self.connection.encrypted:
            names.add("STARTTLS")
        if self.options.logindisabled:
            names.add("LOGINDISABLED")
        return " ".join(sorted(names))

    def _dispatch(self, rest: bytes, literals: list[bytes], tag: str) -> str:
        word, _, tail = rest.partition(b" ")
        name = word.upper().decode("ascii", "replace")
        if name == "UID":
            word, _, tail = tail.partition(b" ")
            name = "UID " + word.upper().decode("ascii", "replace")
        needs = {
            "ENABLE": "ENABLE", "ID": "ID", "NAMESPACE": "NAMESPACE", "UID EXPUNGE": "UIDPLUS", "UID MOVE": "MOVE",
            "UNSELECT": "UNSELECT", "COMPRESS": "COMPRESS=DEFLATE", "MYRIGHTS": "ACL",
        }.get(name)  # fmt: skip
        method = getattr(self, "do_" + name.lower().replace(" ", "_"), None)
        if method is None or (needs is not None and needs not in self.server.capabilities):
            raise _Refused("BAD", "unknown command")
        if not self.authenticated and name not in {"CAPABILITY", "STARTTLS", "LOGIN", "AUTHENTICATE", "ID", "LOGOUT", "NOOP"}:
            raise _Refused("BAD", "log in first")
        # FETCH sends while it works, and must not hold up a test that looks at the store meanwhile.
        with nullcontext() if name == "UID FETCH" else self.store.lock:
            return str(method(_values(tail, literals), tag))

    # -- any state ---------------------------------------------------------------------------------------------------

    def do_capability(self, _: list[Value], __: str) -> str:
        self.out.append(f"* CAPABILITY {self._capability()}\r\n".encode())
        return "done"

    def do_noop(self, _: list[Value], __: str) -> str:
        self._news()
        return "done"

    def do_id(self, _: list[Value], __: str) -> str:
        self.out.append(b'* ID ("name" "test server")\r\n')
        return "done"

    def do_logout(self, _: list[Value], __: str) -> str:
        self.out.append(b"* BYE see you\r\n")
        return "done"

    def do_starttls(self, _: list[Value], __: str) -> str:
        if self.server.context is None or self.connection.encrypted:
            raise _Refused("BAD", "no TLS here")
        return "begin TLS"

    def do_compress(self, _: list[Value], __: str) -> str:
        return "DEFLATE active"

    def do_login(self, values: list[Value], _: str) -> str:
        if self.options.logindisabled:
            raise _Refused("NO", "LOGIN is disabled")
        return self._log_in(text_of(values[0]), text_of(values[1]))

    def do_authenticate(self, values: list[Value], _: str) -> str:
        if text_of(values[0]).upper() != "PLAIN":
            raise _Refused("NO", "[CANNOT] no such mechanism")
        if len(values) > 1:
            encoded = text_of(values[1])
        else:
            self.connection.send(b"+ \r\n")
            encoded = self.connection.line().decode()
        _, user, password = base64.b64decode(encoded).decode().split("\0")
        return self._log_in(user, password)

    def _log_in(self, user: str, password: str) -> str:
        if self.options.refuse_login is not None:
            raise _Refused("NO", self.options.refuse_login)
        if (user, password) != (self.store.user, self.store.password):
            raise _Refused("NO", "[AUTHENTICATIONFAILED] wrong user or password")
        self.authenticated = True
        return f"[CAPABILITY {self._capability()}] logged in"

    # -- mailboxes ---------------------------------------------------------------------------------------------------

    def do_enable(self, values: list[Value], _: str) -> str:
        wanted = {text_of(value).upper() for value in values} & {"CONDSTORE", "QRESYNC", "UTF8=ACCEPT"}
        self.enabled |= wanted & self.server.capabilities
        self.out.append(f"* ENABLED {' '.join(sorted(self.enabled))}\r\n".encode())
        return "done"

    def do_namespace(self, _: list[Value], __: str) -> str:
        self.out.append(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
        return "done"

    def do_list(self, values: list[Value], _: str) -> str:
        returns = values[3] if len(values) > 3 and text_of(values[2]).upper() == "RETURN" else []
        assert isinstance(returns, list)
        words = [text_of(value).upper() if isinstance(value, bytes) else value for value in returns]
        items = words[words.index("STATUS") + 1] if "STATUS" in words else None
        pattern = re.escape(text_of(values[0]) + text_of(values[1])).replace(r"\*", ".*").replace("%", "[^/]*")
        for box in list(self.store.mailboxes.values()):
            if not re.fullmatch(pattern, box.name):
                continue
            attributes = ["\\HasNoChildren"] + ([box.special_use] if box.special_use else [])
            attributes += ["\\Subscribed"] if "SUBSCRIBED" in words and box.subscribed else []
            self.out.append(b'* LIST (%s) "/" %s\r\n' % (" ".join(attributes).encode(), self._name(box.name)))
            if isinstance(items, list):
                self._status(box, items)
        for name in sorted(self.store.levels):
            if re.fullmatch(pattern, name):
                self.out.append(b'* LIST (\\Noselect \\HasChildren) "/" %s\r\n' % self._name(name))
        return "done"

    def do_status(self, values: list[Value], _: str) -> str:
        items = values[1]
        assert isinstance(items, list)
        self._status(self._box(values[0]), items)
        return "done"

    def _status(self, box: Mailbox, items: list[Value]) -> None:
        known: dict[str, Callable[[], object]] = {
            "MESSAGES": lambda: len(box.messages),
            "UIDNEXT": lambda: box.uidnext,
            "UIDVALIDITY": lambda: box.uidvalidity,
            "UNSEEN": lambda: sum("\\Seen" not in message.flags for message in box.messages),
            "SIZE": lambda: sum(len(message.data) for message in box.messages),
        }
        if "CONDSTORE" in self.server.capabilities:
            known["HIGHESTMODSEQ"] = lambda: box.highestmodseq
        if "OBJECTID" in self.server.capabilities:
            known["MAILBOXID"] = lambda: f"({box.mailbox_id})"
        wanted = [text_of(item).upper() for item in items]
        told = " ".join(f"{item} {known[item]()}" for item in wanted if item in known)
        self.out.append(b"* STATUS %s (%s)\r\n" % (self._name(box.name), told.encode()))

    def do_create(self, values: list[Value], _: str) -> str:
        name = self._decoded(values[0])
        if name in self.options.refuse_create:
            raise _Refused("NO", "[CANNOT] that is a folder of folders")
        self.store.create(name)
        return "done"

    def do_delete(self, values: list[Value], _: str) -> str:
        self.store.delete(self._box(values[0]).name)
        return "done"

    def do_rename(self, values: list[Value], _: str) -> str:
        if self._decoded(values[1]) in {*self.store.mailboxes, self.options.refuse_rename_to}:
            raise _Refused("NO", "[CANNOT] not to this name")
        self.store.rename(self._box(values[0]).name, self._decoded(values[1]))
        return "done"

    def _may(self, right: str) -> bool:
        """Whether the user has a right in the selected mailbox; where not, that is said, or not."""
        if right in self.options.rights.get(self._current().box.name, right):
            return True
        if self.options.says_no:
            raise _Refused("NO", "[NOPERM] you may not do that here")
        return False

    def do_append(self, values: list[Value], _: str) -> str:
        box, data = self._box(values[0]), values[-1]
        assert isinstance(data, bytes)
        self._changeable(box)
        if self.options.refuse_append and self.options.refuse_append in data:
            raise _Refused("NO", "[TOOBIG] not this one")
        flags = next((value for value in values[1:-1] if isinstance(value, list)), [])
        uid = self.store.append(data, box.name, [text_of(flag) for flag in flags], int(time.time()))
        return f"[APPENDUID {box.uidvalidity} {uid}] done" if "UIDPLUS" in self.server.capabilities else "done"

    def do_select(self, values: list[Value], _: str) -> str:
        read_only = self.options.read_only or self._box(values[0]).name in self.options.read_only_mailboxes
        return self._select(values, read_only=read_only)

    def do_examine(self, values: list[Value], _: str) -> str:
        return self._select(values, read_only=True)

    def _select(self, values: list[Value], *, read_only: bool) -> str:
        if self.selected is not None and "QRESYNC" in self.enabled:
            self.out.append(b"* OK [CLOSED] closed\r\n")
        self.selected = None
        box = self._box(values[0])
        if box.name in self.options.refuse_select:
            raise _Refused("NO", "[SERVERBUG] this mailbox is broken")
        self.selected = _Selected(box, read_only, [message.uid for message in box.messages])
        exists = len(box.messages) + self.options.exists_lie
        self.out.append(b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n")
        self.out.append(f"* {exists} EXISTS\r\n* OK [UIDVALIDITY {box.uidvalidity}] ok\r\n".encode())
        self.out.append(f"* OK [UIDNEXT {box.uidnext}] ok\r\n".encode())
        if "CONDSTORE" in self.server.capabilities:
            self.out.append(f"* OK [HIGHESTMODSEQ {box.highestmodseq}] ok\r\n".encode())
        parameters = values[1] if len(values) > 1 else []
        if isinstance(parameters, list) and len(parameters) > 1 and "QRESYNC" in self.enabled:
            self._resync(box, parameters[1])
        return f"[{'READ-ONLY' if read_only else 'READ-WRITE'}] done"

    def _resync(self, box: Mailbox, parameters: Value) -> None:
        if int(text_of(parameters[0])) != box.uidvalidity:
            return
        since = int(text_of(parameters[1]))
        gone = [uid for uid, modseq in box.expunged if modseq > since]
        if gone:
            self.out.append(f"* VANISHED (EARLIER) {','.join(map(str, gone))}\r\n".encode())
        for number, message in enumerate(box.messages, start=1):
            if message.modseq > since:
                self._fetch(number, message, ["FLAGS", "MODSEQ"])

    def _box(self, value: Value) -> Mailbox:
        name = self._decoded(value)
        box = self.store.mailboxes.get("INBOX" if name.upper() == "INBOX" else name)
        if box is None:
            raise _Refused("NO", "[NONEXISTENT] there is no such mailbox")
        return box

    def _decoded(self, value: Value) -> str:
        assert isinstance(value, bytes)
        return value.decode() if "UTF8=ACCEPT" in self.enabled else from_utf7(value)

    def _name(self, name: str) -> bytes:
        wire = name.encode() if "UTF8=ACCEPT" in self.enabled else to_utf7(name)
        return b'"' + wire.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'

    # -- messages ----------------------------------------------------------------------------------------------------

    def _current(self) -> _Selected:
        if self.selected is None:
            raise _Refused("BAD", "select a mailbox first")
        return self.selected

    def _news(self) -> None:
        """What has changed behind this client's back."""
        selected = self.selected
        if selected is None:
            return
        now = [message.uid for message in selected.box.messages]
        for number in range(len(selected.seen), 0, -1):
            uid = selected.seen[number - 1]
            if uid not in now:
                gone = f"* VANISHED {uid}\r\n" if "QRESYNC" in self.enabled else f"* {number} EXPUNGE\r\n"
                self.out.append(gone.encode())
                del selected.seen[number - 1]
        if now != selected.seen:
            self.out.append(f"* {len(now)} EXISTS\r\n".encode())
            selected.seen = now

    def _chosen(self, sets: Value) -> list[tuple[int, Message]]:
        with self.store.lock:
            box = self._current().box
            wanted = _uid_set(text_of(sets), box)
            return [(n, message) for n, message in enumerate(box.messages, start=1) if message.uid in wanted]

    def do_uid_fetch(self, values: list[Value], _: str) -> str:
        items = values[1] if isinstance(values[1], list) else [values[1]]
        words = [text_of(item) if isinstance(item, bytes) else item for item in items]
        since = 0
        modifiers = values[2] if len(values) > 2 else []
        if modifiers:
            if "CONDSTORE" not in self.server.capabilities:
                raise _Refused("BAD", "no CHANGEDSINCE here")
            since = int(text_of(modifiers[1]))
            words.append("MODSEQ")
        chosen = self._chosen(values[0])
        if any(message.uid in self.options.refuse_fetch for _, message in chosen):
            raise _Refused("NO", "[SERVERBUG] cannot read one of these")
        for number, message in chosen:
            if message.modseq > since and message.uid not in self.options.omit:
                self._fetch(number, message, words)
                if sum(map(len, self.out)) > 1 << 18:
                    self.connection.send(b"".join(self.out))
                    self.out.clear()
        return "done"

    def _fetch(self, number: int, message: Message, items: list[str | list[Value]]) -> None:
        told = [b"UID %d" % message.uid]
        for item in items:
            assert isinstance(item, str)
            upper = item.upper()
            if upper == "FLAGS":
                told.append(b"FLAGS (%s)" % " ".join(sorted(message.flags)).encode())
            elif upper == "MODSEQ":
                told.append(b"MODSEQ (%d)" % message.modseq)
            elif upper == "INTERNALDATE":
                told.append(b'INTERNALDATE "%s"' % _date(message.internaldate).encode())
            elif upper == "RFC822.SIZE":
                told.append(b"RFC822.SIZE %d" % len(message.data))
            elif upper.startswith("BODY"):
                section = item[item.index("[") + 1 : item.rindex("]")]
                body = _section(message.data, section)
                if message.uid in self.options.nil and not section:
                    told.append(b"BODY[] NIL")
                else:
                    told.append(b"BODY[%s] {%d}\r\n%s" % (section.encode(), len(body), body))
        self.out.append(b"* %d FETCH (%s)\r\n" % (number, b" ".join(told)))

    def do_uid_store(self, values: list[Value], _: str) -> str:
        if self._current().read_only:
            raise _Refused("NO", "[READ-ONLY] nothing can be changed here")
        word = text_of(values[1]).upper()
        flags = {text_of(flag) for flag in values[2]} if isinstance(values[2], list) else {text_of(values[2])}
        if "\\Deleted" in flags and not self._may("t"):
            flags -= {"\\Deleted"}
        for number, message in self._chosen(values[0]):
            new = message.flags | flags if word[0] == "+" else message.flags - flags if word[0] == "-" else flags
            self.store.set_flags(message.uid, new, self._current().box.name)
            if "SILENT" not in word:
                self._fetch(number, message, ["FLAGS"])
        return "done"

    def do_uid_search(self, values: list[Value], tag: str) -> str:
        words = [text_of(value).upper() for value in values if isinstance(value, bytes)]
        among = _uid_set(words[-1], self._current().box) if words[-2:-1] == ["UID"] else set()
        found = [
            message.uid
            for message in self._current().box.messages
            if words[-1] == "ALL" or message.uid in among or (words[-1] == "DELETED" and "\\Deleted" in message.flags)
        ]
        if words[0] == "RETURN":
            if "ESEARCH" not in self.server.capabilities:
                raise _Refused("BAD", "no RETURN here")
            everything = f" ALL {','.join(map(str, found))}" if found else ""
            self.out.append(f'* ESEARCH (TAG "{tag}") UID{everything}\r\n'.encode())
        else:
            self.out.append(f"* SEARCH {' '.join(map(str, found))}\r\n".encode())
        return "done"

    def do_uid_expunge(self, values: list[Value], _: str) -> str:
        return self._expunge(_uid_set(text_of(values[0]), self._current().box))

    def do_expunge(self, _: list[Value], __: str) -> str:
        return self._expunge({message.uid for message in self._current().box.messages})

    def _expunge(self, among: set[int]) -> str:
        selected = self._current()
        if selected.read_only:
            raise _Refused("NO", "[READ-ONLY] nothing can be deleted here")
        marked = [m.uid for m in selected.box.messages if "\\Deleted" in m.flags and m.uid in among and self._may("e")]
        self.store.expunge(marked, selected.box.name)
        self._news()
        return "done"

    def _changeable(self, box: Mailbox) -> None:
        if box.name in self.options.read_only_mailboxes:
            raise _Refused("NO", "[NOPERM] nothing can be changed there")

    def do_myrights(self, values: list[Value], _: str) -> str:
        box = self._box(values[0])
        rights = self.options.rights.get(box.name, "lrswipkxtecda")
        if box.name in self.options.read_only_mailboxes:
            rights = "lr"
        self.out.append(b"* MYRIGHTS %s %s\r\n" % (self._name(box.name), rights.encode()))
        return "done"

    def do_uid_copy(self, values: list[Value], _: str) -> str:
        return self._copy(values, move=False)

    def do_uid_move(self, values: list[Value], _: str) -> str:
        return self._copy(values, move=True)

    def _copy(self, values: list[Value], *, move: bool) -> str:
        target, source = self._box(values[1]), self._current().box
        self._changeable(target)
        if move:
            self._changeable(source)
        old = [message.uid for _, message in self._chosen(values[0])]
        move = move and self._may("t") and self._may("e")
        new = [self.store.copy(uid, source.name, target.name) for uid in old]
        if move:
            self.store.expunge(old, source.name)
            self._news()
        if not old or "UIDPLUS" not in self.server.capabilities:
            return "done"
        return f"[COPYUID {target.uidvalidity} {','.join(map(str, old))} {','.join(map(str, new))}] done"

    def do_unselect(self, _: list[Value], __: str) -> str:
        self.selected = None
        return "done"


# -- the grammar, as far as a server needs it ----------------------------------------------------------------------------


def _values(data: bytes, literals: list[bytes]) -> list[Value]:
    """Arguments: strings and lists of them."""
    stack: list[list[Value]] = [[]]
    at = 0
    while at < len(data):
        found = _TOKEN.match(data, at)
        if found is None:
            break
        at = found.end()
        opened, closed, quoted, literal, atom = found.groups()
        if opened:
            stack.append([])
        elif closed:
            done = stack.pop()
            stack[-1].append(done)
        elif quoted is not None:
            stack[-1].append(re.sub(rb"\\(.)", rb"\1", quoted))
        elif literal is not None:
            stack[-1].append(literals[int(literal)])
        else:
            stack[-1].append(atom)
    return stack[0]


def _shown(line: bytes, literals: list[bytes]) -> str:
    """A command for the log, its literals put back."""
    return re.sub(rb"\x00(\d+)\x00", lambda found: literals[int(found[1])], line).decode("utf-8", "replace")


def text_of(value: Value | int) -> str:
    """A string argument as text."""
    assert isinstance(value, bytes), value
    return value.decode("utf-8", "surrogateescape")


def _uid_set(text: str, box: Mailbox) -> set[int]:
    there = [message.uid for message in box.messages]
    wanted: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition(":")
        top = max(there, default=0)
        first = top if low == "*" else int(low)
        last = first if not high else top if high == "*" else int(high)
        wanted |= {uid for uid in there if min(first, last) <= uid <= max(first, last)}
    return wanted


def _date(seconds: int) -> str:
    t = time.gmtime(seconds)
    return f"{t.tm_mday:2d}-{_MONTHS[t.tm_mon - 1]}-{t.tm_year} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"


def _section(data: bytes, section: str) -> bytes:
    if not section:
        return data
    header, _, _ = data.partition(b"\r\n\r\n")
    if not section.upper().startswith("HEADER.FIELDS"):
        return header + b"\r\n\r\n"
    wanted = {word.upper() for word in re.findall(r"[A-Za-z-]+", section[len("HEADER.FIELDS") :])}
    fields = re.findall(rb"([^\s:]+):((?:[^\n]|\n[ \t])*\n?)", header + b"\r\n")
    chosen = [b"%s:%s" % (name, value) for name, value in fields if name.decode("latin-1").upper() in wanted]
    return b"".join(chosen) + b"\r\n"


def to_utf7(name: str) -> bytes:
    """Modified UTF-7 (RFC 3501, 5.1.3), written apart from the program's own."""
    parts = []
    for run in re.findall("[ -~]+|[^ -~]+", name):
        if run.isascii() and run.isprintable():
            parts.append(run.replace("&", "&-").encode())
        else:
            parts.append(b"&" + base64.b64encode(run.encode("utf-16-be")).rstrip(b"=").replace(b"/", b",") + b"-")
    return b"".join(parts)


def from_utf7(wire: bytes) -> str:
    """The other way."""

    def decode(found: re.Match[bytes]) -> bytes:
        if not found[1]:
            return b"&"
        encoded = found[1].replace(b",", b"/")
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4)).decode("utf-16-be").encode()

    return re.sub(rb"&([^-]*)-", decode, wire).decode()
