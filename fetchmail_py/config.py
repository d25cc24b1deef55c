"""The configuration: TOML into frozen values. Every error names the file, the key, and what is allowed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from fetchmail_py.config_values import COMMON, IMAP, KEYS, POP3, Place, converted, meant
from fetchmail_py.errors import ConfigError

DEFAULT_PORTS = {
    ("imap", "implicit"): 993,
    ("imap", "starttls"): 143,
    ("imap", "none"): 143,
    ("pop3", "implicit"): 995,
    ("pop3", "starttls"): 110,
    ("pop3", "none"): 110,
}
NOT_YET: Mapping[str, str] = {
    "keep_deleted": "belongs to `undo`, which is not in this version",
    "max_size": "is not in this version: every message comes in whole",
    "oauth2": "is not in this version; a token from another program can be had with password_command",
    "poll": "belongs to `watch`, which is not in this version",
}
"""Keys that users may know of and that this version does not have."""

_AT = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_TOML = (
    'a line is [accounts.NAME] or key = value; a text stands in straight quotes, "…", with each backslash in it doubled; true and '
    "false are in small letters; a key, and a [table], stands there once"
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LOOPBACK = re.compile(r"localhost|.*\.localhost|127(\.\d{1,3}){3}|::1|\[::1\]", re.IGNORECASE)
_SOURCES = ("password", "password_command", "password_file", "password_env")
_TWO_WAY = ("trash", "expunge")


class Account(NamedTuple):
    """One account with every value filled in; made with keywords."""

    name: str
    protocol: str
    """"imap" or "pop3"."""
    host: str
    port: int
    tls: str
    """"implicit", "starttls" (STLS in POP3) or "none"."""
    user: str
    maildir: str
    """Absolute."""
    allow_cleartext: bool = False
    ca_file: str | None = None
    tls_fingerprint: bytes | None = None
    """SHA-256 of the certificate to accept."""
    client_cert: str | None = None
    client_key: str | None = None
    auth: str = "auto"
    password_command: tuple[str, ...] | str | None = None
    """A command and its arguments, or a line for the shell."""
    password_file: str | None = None
    password_env: str | None = None
    password: str | None = None
    timeout: float = 60.0
    """Seconds."""
    on_new: tuple[str, ...] | str | None = None
    report_after: int = 1
    # IMAP
    mode: str = "disconnected"
    mailboxes: tuple[str, ...] = ("*",)
    map: Mapping[str, str] = MappingProxyType({})
    layout: str = "fs"
    connections: int | None = None
    """None: decided from the round trip."""
    max_delete: float = 0.5
    """A fraction; 1.0 switches the guard off."""
    compress: bool | None = None
    """None: decided from the round trip."""
    trash: str | None = None
    """Where a message deleted here goes at the server; None: it is expunged."""
    expunge: bool = False
    """Messages marked \\Deleted are removed on both sides."""
    # POP3
    keep: float | None = 0.0
    """Seconds that a stored message stays at the server; None: for ever."""

    def __repr__(self) -> str:
        """Without its values: one is a password."""
        return f"<account {self.name}>"


class Target(NamedTuple):
    """An account to work on, and which of its mailboxes; None: those of its configuration."""

    account: Account
    mailboxes: tuple[str, ...] | None


class Config(NamedTuple):
    """A configuration file, read and checked."""

    file: str | None
    accounts: Mapping[str, Account]
    groups: Mapping[str, tuple[str, ...]]

    def account(self, name: str, hint: str | None = None) -> Account:
        """The account of that name. Raises ConfigError, with the names there are."""
        if name not in self.accounts:
            known = ", ".join(self.accounts)
            raise ConfigError(
                f"there is no account {name!r}; there are: {known}{meant(name, tuple(self.accounts))}", file=self.file, hint=hint
            )
        return self.accounts[name]

    def targets(self, words: Sequence[str], *, whole: bool = False) -> list[Target]:
        """The accounts that ACCOUNT, ACCOUNT/MAILBOX and group names stand for, each once; none means all.

        With `whole`, mailboxes cannot be named. Raises ConfigError for a name there is not.
        """
        if not words:
            return [Target(account, None) for account in self.accounts.values()]
        found: dict[str, set[str] | None] = {}
        order: dict[str, list[str]] = {}
        for word in words:
            name, slash, mailbox = word.partition("/")
            if slash and not mailbox:
                raise ConfigError(f"{word!r} names no mailbox behind the slash", file=self.file)
            if slash and whole and name in self.accounts:
                raise ConfigError(f"{word!r} names a mailbox, and this command takes whole accounts", hint=f"name {name} alone")
            if name in self.accounts:
                if slash:
                    chosen = found.setdefault(name, set())
                    if chosen is not None:
                        chosen.add(mailbox)
                        order.setdefault(name, []).append(mailbox)
                else:
                    found[name] = None
            elif name in self.groups and not slash:
                for member in self.groups[name]:
                    found[member] = None
            else:
                known = ", ".join((*self.accounts, *self.groups)) or "none"
                raise ConfigError(
                    f"there is no account or group {name!r}; there are: {known}{meant(name, (*self.accounts, *self.groups))}",
                    file=self.file,
                )
        return [
            Target(self.accounts[name], None if boxes is None else tuple(dict.fromkeys(order[name])))
            for name, boxes in found.items()
        ]


def default_file(environ: Mapping[str, str]) -> str:
    """Where the configuration is looked for without --config."""
    named = environ.get("FETCHMAIL_PY_CONFIG")
    if named:
        return os.path.expanduser(named)
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.config")
    return f"{base}/fetchmail-py/config.toml"


def load(file: str | None, environ: Mapping[str, str]) -> Config:
    """Reads and checks the configuration. Raises ConfigError."""
    if file == "":
        raise ConfigError("--config names no file")
    path = os.path.expanduser(file) if file is not None else default_file(environ)
    try:
        with open(path, "rb") as stream:
            readable_by_others = os.fstat(stream.fileno()).st_mode & (stat.S_IRGRP | stat.S_IROTH)
            data = stream.read()
    except FileNotFoundError as error:
        raise ConfigError(
            "there is no configuration",
            file=path,
            hint="write it: [accounts.NAME] with host, user, maildir (sample-config.toml has all keys), or name it with --config",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", file=path, hint="make it a file that you can read, or name another with --config"
        ) from error
    document = _document(data, path)
    config = parse(document, path)
    if readable_by_others and _holds_password(document):
        raise ConfigError(
            "holds a password and can be read by others", file=path, hint=f"chmod 600 {path}, or use password_command"
        )
    return config


def _document(data: bytes, path: str) -> dict[str, object]:
    """What is in the file. The byte order mark that some editors begin with is no part of it."""
    import tomllib  # noqa: PLC0415 - `backup URL` needs no configuration

    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"line {line}: this is no text in UTF-8", file=path, hint="save the file as UTF-8") from error
    except ValueError as error:
        # TOMLDecodeError, and what Python says of an integer of thousands of digits.
        found = _AT.fullmatch(str(error))
        what, where = (found[1], f"line {found[2]}, column {found[3]}: ") if found else (str(error), "")
        raise ConfigError(f"{where}no valid TOML: {what}", file=path, hint=_TOML) from error
    except RecursionError as error:
        raise ConfigError("is nested too deeply", file=path, hint=_TOML) from error


def _holds_password(document: Mapping[str, object]) -> bool:
    accounts = document.get("accounts")
    tables = [document.get("defaults"), *(accounts.values() if isinstance(accounts, dict) else ())]
    return any(isinstance(table, dict) and "password" in table for table in tables)


def parse(document: Mapping[str, object], file: str | None) -> Config:
    """Checks a configuration that was read. Raises ConfigError."""
    for key in document:
        if key in KEYS:
            raise ConfigError("belongs to an account", file=file, key=key, hint="write it below a line [accounts.NAME]")
        if key not in {"defaults", "groups", "accounts"}:
            raise _unknown(file, key, ("defaults", "groups", "accounts"))
    defaults = _table(document, "defaults", file)
    for key, value in defaults.items():
        if key in {"user", "maildir"}:
            raise ConfigError("cannot be the same for all: each account has its own", file=file, key=f"defaults.{key}")
        if key not in KEYS:
            _refuse_not_yet(file, f"defaults.{key}", key)
            raise _unknown(file, f"defaults.{key}", [name for name in KEYS if name not in {"user", "maildir"}])
        # Also one that fits none of the accounts there are now.
        converted(key, value, Place(file, f"defaults.{key}"))
    accounts: dict[str, Account] = {}
    for name, table in _table(document, "accounts", file).items():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} is no account name: letters, digits, '-', '_' and '.', the first neither '-' nor '.'",
                file=file,
                key=f"accounts.{name}",
            )
        if not isinstance(table, dict):
            raise ConfigError("must be a table", file=file, key=f"accounts.{name}", hint=f"write [accounts.{name}]")
        accounts[name] = _account(name, table, defaults, file)
    if not accounts:
        raise ConfigError("there is no account", file=file, hint="write one: [accounts.NAME] with host, user and maildir")
    _refuse_shared_maildirs(accounts, file)
    return Config(file, accounts, _groups(_table(document, "groups", file), accounts, file))


def account_of(name: str, table: Mapping[str, object]) -> Account:
    """An account that is in no file, from its keys and values as they would be there. Raises ConfigError."""
    return _account(name, table, {}, None)


def _account(name: str, table: Mapping[str, object], defaults: Mapping[str, object], file: str | None) -> Account:
    where = f"accounts.{name}"
    if "protocol" in table:
        # First: which keys there may be depends on it.
        converted("protocol", table["protocol"], Place(file, f"{where}.protocol"))
    protocol = table.get("protocol", defaults.get("protocol", "imap"))
    own = IMAP if protocol == "imap" else POP3
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in KEYS:
            if isinstance(value, dict) and key not in NOT_YET:
                whole = f"{name}.{key}"
                hint = f'if that is an account, a name with a dot stands in quotes: [accounts."{whole}"]'
                raise ConfigError("is no key", file=file, key=f"{where}.{key}", hint=hint)
            _refuse_not_yet(file, f"{where}.{key}", key)
            raise _unknown(file, f"{where}.{key}", (*COMMON, *own))
        if key not in COMMON and key not in own:
            raise ConfigError(f"has no meaning for {protocol} accounts", file=file, key=f"{where}.{key}")
        values[key] = converted(key, value, Place(file, f"{where}.{key}"))
    has_source = any(source in table for source in _SOURCES)
    for key, value in defaults.items():
        # An account's own password replaces whatever way the defaults have of getting one.
        if key not in values and (key in COMMON or key in own) and not (has_source and key in _SOURCES):
            values[key] = converted(key, value, Place(file, f"defaults.{key}"))
    if values.get("mode", "disconnected") != "disconnected":
        for key in _TWO_WAY:
            if key not in table:
                values.pop(key, None)  # of the defaults: meant for other accounts
    if "provider" in table and "host" not in table:
        values.pop("host", None)  # the account's own provider names another than the defaults
    _fill_in(values, where, file)
    _check_together(values, where, file)
    known = set(Account._fields)
    return Account(name=name, **{key: value for key, value in values.items() if key in known})  # type: ignore[arg-type]


def _fill_in(values: dict[str, object], where: str, file: str | None) -> None:
    """What follows from other values."""
    protocol = values.setdefault("protocol", "imap")
    provider = values.pop("provider", None)
    if provider is not None:
        from fetchmail_py.providers import PROVIDERS  # noqa: PLC0415

        place = Place(file, f"{where}.provider")
        if provider == "outlook":
            raise place.error("Outlook needs OAuth2, which is not in this version")
        known = PROVIDERS.get(str(provider))
        if known is None:
            raise place.error(f"is not known; known are {', '.join(PROVIDERS)}{meant(provider, tuple(PROVIDERS))}")
        host = known.imap if protocol == "imap" else known.pop3
        if host is None:
            raise place.error(f"{provider} has no {protocol}")
        values.setdefault("host", host)
    for key in ("host", "user", "maildir"):
        if key not in values:
            raise ConfigError("is missing", file=file, key=f"{where}.{key}", hint=f"every account needs {key}")
    tls = values.setdefault("tls", "implicit")
    values.setdefault("port", DEFAULT_PORTS[str(protocol), str(tls)])


def _check_together(values: Mapping[str, object], where: str, file: str | None) -> None:
    """Combinations that cannot be."""
    if values.get("mode", "disconnected") != "disconnected":
        for key in _TWO_WAY:
            if key in values:
                raise ConfigError(
                    f'has no meaning in mode "{values["mode"]}"', file=file, key=f"{where}.{key}",
                    hint='only mode "disconnected" deletes at the server what is deleted here',
                )  # fmt: skip
    if values["tls"] == "none" and not values.get("allow_cleartext") and not _LOOPBACK.fullmatch(str(values["host"])):
        raise ConfigError(
            "mail and password would travel in the clear",
            file=file,
            key=f"{where}.tls",
            hint='use "implicit" or "starttls"; or allow_cleartext = true, if the network is trusted',
        )
    sources = [source for source in _SOURCES if source in values]
    if len(sources) > 1:
        raise ConfigError(f"{' and '.join(sources)} are both set: one is enough", file=file, key=f"{where}.{sources[0]}")
    if "client_key" in values and "client_cert" not in values:
        raise ConfigError("needs client_cert beside it", file=file, key=f"{where}.client_key")
    auth, protocol = values.get("auth"), values["protocol"]
    if auth == "external" and "client_cert" not in values:
        raise ConfigError('"external" needs client_cert', file=file, key=f"{where}.auth")
    if auth in {"apop", "user"} and protocol != "pop3":
        raise ConfigError(f'"{auth}" is for POP3 only', file=file, key=f"{where}.auth")


def _refuse_shared_maildirs(accounts: Mapping[str, Account], file: str | None) -> None:
    """Two accounts in one place, or one inside the other, would take each other's mail for their own."""
    for index, account in enumerate(accounts.values()):
        for other in list(accounts.values())[:index]:
            where = overlap(account.maildir, other.maildir)
            if where is not None:
                raise ConfigError(
                    f"is {where} the one of account {other.name}",
                    file=file,
                    key=f"accounts.{account.name}.maildir",
                    hint="give each account its own",
                )


def overlap(place: str, other: str) -> str | None:
    """Where a directory lies as seen from another: "the same as", "inside", "around", or None for apart."""
    one, two = os.path.realpath(place), os.path.realpath(other)
    if one == two:
        return "the same as"
    if one.startswith(two.rstrip("/") + "/"):
        return "inside"
    return "around" if two.startswith(one.rstrip("/") + "/") else None


def _groups(table: Mapping[str, object], accounts: Mapping[str, Account], file: str | None) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for name, members in table.items():
        place = Place(file, f"groups.{name}")
        if not _NAME.fullmatch(name):
            raise place.error("is no name: letters, digits, '-', '_' and '.', the first neither '-' nor '.'")
        if name in accounts:
            raise place.error("is the name of an account too")
        if not isinstance(members, list) or not members:
            raise place.error('must be a list of accounts, such as ["work", "home"]')
        for member in members:
            if not isinstance(member, str) or member not in accounts:
                raise place.error(f"{member!r} is no account; there are: {', '.join(accounts)}{meant(member, tuple(accounts))}")
        groups[name] = tuple(str(member) for member in members)
    return groups


_HEADINGS = {"defaults": "defaults", "groups": "groups", "accounts": "accounts.NAME"}


def _table(document: Mapping[str, object], name: str, file: str | None) -> dict[str, object]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError("must be a table", file=file, key=name, hint=f"write [{_HEADINGS[name]}]")
    return table


def _unknown(file: str | None, key: str, allowed: Sequence[str]) -> ConfigError:
    last = key.rpartition(".")[2]
    return ConfigError(
        f"is no key{meant(last, allowed)}", file=file, key=key, hint=f"allowed are {', '.join(sorted(allowed))}"
    )


def _refuse_not_yet(file: str | None, where: str, key: str) -> None:
    if key in NOT_YET:
        raise ConfigError(NOT_YET[key], file=file, key=where, hint="take the key out for now")
