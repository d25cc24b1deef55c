"""The configuration: what is accepted, and what an error says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fetchmail_py.cli.sources import account_from_url, as_backup, in_words_of_a_url
from fetchmail_py.config import Config, default_file, load, parse
from fetchmail_py.config_values import KEYS
from fetchmail_py.errors import ConfigError, ExitStatus

IMAP = {"host": "imap.example.org", "user": "ann", "maildir": "/m/work", "mode": "mirror"}
POP3 = {"protocol": "pop3", "host": "pop.example.org", "user": "ann", "maildir": "/m/isp"}
ROOT = Path(__file__).parent.parent


def one(**changes: object) -> Config:
    return parse({"accounts": {"a": IMAP | changes}}, "f.toml")


def test_defaults_of_an_account() -> None:
    account = one().accounts["a"]
    assert (account.protocol, account.port, account.tls, account.auth) == ("imap", 993, "implicit", "auto")
    plain = parse({"accounts": {"a": {key: value for key, value in IMAP.items() if key != "mode"}}}, None).accounts["a"]
    assert (plain.mode, plain.trash, plain.expunge) == ("disconnected", None, False)
    mixed = parse({"defaults": {"trash": "Trash"}, "accounts": {"a": IMAP}}, None).accounts["a"]
    assert (mixed.mode, mixed.trash) == ("mirror", None)
    assert (account.timeout, account.mailboxes, account.max_delete, account.connections) == (60.0, ("*",), 0.5, None)
    pop3 = parse({"accounts": {"p": POP3}}, None).accounts["p"]
    assert (pop3.port, pop3.keep) == (995, 0.0)


@pytest.mark.parametrize(
    ("key", "value", "attribute", "expected"),
    [
        ("timeout", "5m", "timeout", 300.0),
        ("max_delete", "12.5%", "max_delete", 0.125),
        ("max_delete", "100%", "max_delete", 1.0),
        ("tls", "starttls", "port", 143),
        ("port", 1143, "port", 1143),
        ("password_command", ["pass", "x"], "password_command", ("pass", "x")),
        ("password_command", "pass x | head -1", "password_command", "pass x | head -1"),
        ("tls_fingerprint", "sha256:" + ":".join(["AB"] * 32), "tls_fingerprint", b"\xab" * 32),
        ("compress", "auto", "compress", None),
        ("compress", True, "compress", True),
        ("mailboxes", ["*", "!\\Junk"], "mailboxes", ("*", "!\\Junk")),
    ],
)
def test_values(key: str, value: object, attribute: str, expected: object) -> None:
    assert getattr(one(**{key: value}).accounts["a"], attribute) == expected


@pytest.mark.parametrize(("keep", "seconds"), [("0", 0.0), ("14d", 14 * 86400.0), ("2h", 7200.0), ("forever", None)])
def test_keep(keep: str, seconds: float | None) -> None:
    assert parse({"accounts": {"p": POP3 | {"keep": keep}}}, None).accounts["p"].keep == seconds


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"hots": "x"}, "accounts.a.hots", 'did you mean "host"'),
        ({"port": "993"}, "accounts.a.port", "whole number from 1 to 65535"),
        ({"port": True}, "accounts.a.port", "whole number"),
        ({"tls": "ssl"}, "accounts.a.tls", "implicit, starttls, none"),
        ({"tls": "none"}, "accounts.a.tls", "in the clear"),
        ({"timeout": "60"}, "accounts.a.timeout", '"60s"'),
        ({"timeout": 60}, "accounts.a.timeout", '"60s"'),
        ({"timeout": "0s"}, "accounts.a.timeout", "from"),
        ({"max_delete": "150%"}, "accounts.a.max_delete", "100%"),
        ({"max_delete": "nan%"}, "accounts.a.max_delete", "share"),
        ({"max_delete": 0.5}, "accounts.a.max_delete", "share"),
        ({"mode": "both"}, "accounts.a.mode", "disconnected, mirror, backup, offline"),
        ({"mailboxes": "INBOX"}, "accounts.a.mailboxes", "list"),
        ({"map": {"a": "x", "b": "x"}}, "accounts.a.map", "one-to-one"),
        ({"keep": "0"}, "accounts.a.keep", "no meaning for imap"),
        ({"mode": "backup", "trash": "Trash"}, "accounts.a.trash", "no meaning in mode"),
        ({"poll": "10m"}, "accounts.a.poll", "not in this version"),
        ({"password": "a", "password_file": "/b"}, "accounts.a.password", "both set"),
        ({"auth": "external"}, "accounts.a.auth", "client_cert"),
        ({"auth": "apop"}, "accounts.a.auth", "POP3"),
        ({"user": "ann\r\nX"}, "accounts.a.user", "control character"),
        ({"user": ""}, "accounts.a.user", "not be empty"),
        ({"tls_fingerprint": "sha1:00"}, "accounts.a.tls_fingerprint", "64 hexadecimal"),
        ({"provider": "gmial"}, "accounts.a.provider", 'did you mean "gmail"'),
        ({"connections": 0}, "accounts.a.connections", "from 1 to 16"),
        ({"protocol": "pop", "keep": "0"}, "accounts.a.protocol", "imap, pop3"),
        ({"protocol": ["imap"]}, "accounts.a.protocol", "imap, pop3"),
        ({"host": "imap.example.org:993"}, "accounts.a.host", "keys of their own"),
        ({"host": "imaps://imap.example.org"}, "accounts.a.host", "keys of their own"),
        ({"mailboxes": ["*", "!a\r\nb"]}, "accounts.a.mailboxes", "control character"),
        ({"map": {"a\n": "x"}}, "accounts.a.map", "control character"),
        ({"map": {"a": "x\x9b"}}, "accounts.a.map", "control character"),
        ({"on_new": ["notmuch", "a\0b"]}, "accounts.a.on_new", "list"),
        ({"password_command": "\0"}, "accounts.a.password_command", "list"),
        ({"password_command": [1]}, "accounts.a.password_command", "list"),
        ({"password_command": []}, "accounts.a.password_command", "not be empty"),
        ({"password": 1234}, "accounts.a.password", "text in quotes"),
        ({"password_env": "$MAIL"}, "accounts.a.password_env", "MAIL_PASSWORD"),
        ({"maildir": "/"}, "accounts.a.maildir", "of this account's own"),
        ({"maildir": "~nobody-here/Mail"}, "accounts.a.maildir", "whole path"),
        ({"b": {"host": "h"}}, "accounts.a.b", '[accounts."a.b"]'),
    ],
)
def test_an_error_names_file_key_and_what_is_allowed(changes: dict[str, object], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        one(**changes)
    assert caught.value.file == "f.toml"
    assert caught.value.key == key
    assert words in f"{caught.value.detail} {caught.value.hint}"


@pytest.mark.parametrize("missing", ["host", "user", "maildir"])
def test_what_is_required(missing: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"accounts": {"a": {key: value for key, value in IMAP.items() if key != missing}}}, "f")
    assert caught.value.key == f"accounts.a.{missing}"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"account": {}},
        {"accounts": {"a/b": IMAP}},
        {"accounts": {"a": 3}},
        {"accounts": {"a": IMAP}, "groups": {"a": ["a"]}},
        {"accounts": {"a": IMAP}, "groups": {"g": ["b"]}},
        {"accounts": {"a": IMAP}, "groups": {"g": []}},
        {"accounts": {"a": IMAP}, "groups": {"g": [["a"]]}},
        {"accounts": {"a": IMAP}, "groups": {"g/h": ["a"]}},
        {"accounts": {".a": IMAP}},
        {"accounts": {"a": IMAP}, "defaults": {"keep": "soon"}},
        {"accounts": {"a": IMAP}, "defaults": []},
        {"accounts": {"a": IMAP}, "defaults": {"user": "x"}},
        {"accounts": {"a": IMAP, "b": IMAP}},
        {"accounts": {"a": IMAP, "b": IMAP | {"maildir": "/m/work/below"}}},
    ],
)
def test_whole_documents_that_cannot_be(document: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse(document, None)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "[accounts.NAME] with host, user and maildir"),
        ({"host": "h"}, "below a line [accounts.NAME]"),
        ({"accounts": [1]}, "write [accounts.NAME]"),
        ({"accounts": {"a": "x"}}, "write [accounts.a]"),
        ({"accounts": {"a": IMAP}, "defaults": "x"}, "write [defaults]"),
        ({"accounts": {"a": IMAP}, "defaults": {"user": "x"}}, "each account has its own"),
    ],
)
def test_what_stands_in_the_wrong_place_is_told_where_it_belongs(document: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document, "f")
    assert words in f"{caught.value.detail} {caught.value.hint}"


def test_defaults_apply_where_they_fit_and_an_account_wins() -> None:
    found = parse(
        {
            "defaults": {"timeout": "10s", "keep": "forever", "mode": "backup", "password_env": "P"},
            "accounts": {
                "a": {key: value for key, value in IMAP.items() if key != "mode"},
                "b": POP3 | {"timeout": "20s", "password_file": "/p"},
            },
        },
        None,
    ).accounts
    assert (found["a"].timeout, found["a"].mode, found["a"].password_env) == (10.0, "backup", "P")
    assert (found["b"].timeout, found["b"].keep, found["b"].password_env) == (20.0, None, None)


def test_an_account_s_own_provider_beats_the_host_of_the_defaults() -> None:
    own = {key: value for key, value in IMAP.items() if key != "host"} | {"provider": "fastmail"}
    found = parse({"defaults": {"host": "localhost"}, "accounts": {"a": own, "b": own | {"host": "h", "maildir": "/b"}}}, None)
    assert [account.host for account in found.accounts.values()] == ["imap.fastmail.com", "h"]


def test_targets() -> None:
    found = parse({"accounts": {"a": IMAP, "p": POP3}, "groups": {"g": ["p", "a"]}}, None)
    assert [target.account.name for target in found.targets([])] == ["a", "p"]
    assert [target.account.name for target in found.targets(["g", "a"])] == ["p", "a"]
    assert found.targets(["a/x/y", "a/z"])[0].mailboxes == ("x/y", "z")
    assert found.targets(["a/x", "a"])[0].mailboxes is None
    for wrong in ("b", "a/", "g/x"):
        with pytest.raises(ConfigError):
            found.targets([wrong])
    with pytest.raises(ConfigError, match="whole accounts"):
        found.targets(["a/x"], whole=True)


class TestFile:
    @pytest.mark.parametrize(
        "value",
        ["9" * 5000, "[" * 5000 + "]" * 5000, "{a=" * 3000 + "1" + "}" * 3000, "0x" + "f" * 100_000],
        ids=lambda value: value[:5],
    )
    def test_what_python_cannot_read(self, tmp_path: Path, value: str) -> None:
        path = tmp_path / "config.toml"
        path.write_text(f'[accounts.a]\nhost="h"\nuser="u"\nmaildir="/m"\nport={value}\n')
        with pytest.raises(ConfigError) as caught:
            load(str(path), {})
        assert caught.value.file == str(path)
        assert len(caught.value.detail) < 300

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load(str(tmp_path / "no.toml"), {})
        assert caught.value.hint is not None

    def test_no_toml(self, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        file.write_text("[accounts.a\n")
        with pytest.raises(ConfigError, match="no valid TOML"):
            load(str(file), {})

    @pytest.mark.parametrize(
        ("content", "where"),
        [
            (b"[accounts.a]\nhost = imap.example.org\n", "line 2, column 8: no valid TOML: "),
            (b'[accounts.a]\n\nhost="x"\nhost="y"\n', "line 4, column 9: no valid TOML: "),
            (b'[accounts.a]\nhost="x"\nuser="\xe4"\n', "line 3: this is no text in UTF-8"),
            ('[accounts.a]\nhost="x"\n'.encode("utf-16"), "line 1: this is no text in UTF-8"),
        ],
    )
    def test_where_the_mistake_is_and_what_is_allowed(self, tmp_path: Path, content: bytes, where: str) -> None:
        file = tmp_path / "c.toml"
        file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load(str(file), {})
        assert caught.value.file == str(file)
        assert caught.value.detail.startswith(where)
        assert caught.value.hint is not None

    def test_a_relative_path_begins_at_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        file = tmp_path / "c.toml"
        file.write_text('[accounts.a]\nhost = "h"\nuser = "u"\nmaildir = "mail/a"\nca_file = "../ca.pem"\n')
        monkeypatch.chdir(elsewhere)

        account = load("../c.toml", {}).accounts["a"]

        assert account.maildir == str(tmp_path / "mail/a")
        assert account.ca_file == str(tmp_path.parent / "ca.pem")

    def test_a_byte_order_mark_is_no_mistake(self, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        file.write_text('\ufeff[accounts.a]\nhost="h"\nuser="u"\nmaildir="/m"\n', encoding="utf-8")
        assert list(load(str(file), {}).accounts) == ["a"]

    def test_a_password_must_not_be_readable(self, tmp_path: Path) -> None:
        file = tmp_path / "c.toml"
        file.write_text('[accounts.a]\nhost="h"\nuser="u"\nmaildir="/m"\nmode="backup"\npassword="hunter2"\n')
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="read by others") as caught:
            load(str(file), {})
        assert "chmod 600" in str(caught.value.hint)
        file.chmod(0o600)
        assert load(str(file), {}).accounts["a"].password == "hunter2"
        assert "hunter2" not in repr(load(str(file), {}))
        file.write_text('[defaults]\npassword="hunter2"\n' + file.read_text().replace("password=", "password_env="))
        assert load(str(file), {}).accounts["a"].password is None
        file.chmod(0o640)
        with pytest.raises(ConfigError, match="read by others"):
            load(str(file), {})

    def test_where_it_is_looked_for(self) -> None:
        assert default_file({"FETCHMAIL_PY_CONFIG": "/c"}) == "/c"
        assert default_file({"XDG_CONFIG_HOME": "/x"}) == "/x/fetchmail-py/config.toml"
        assert default_file({}).endswith("/.config/fetchmail-py/config.toml")


class TestUrl:
    @pytest.mark.parametrize(
        ("url", "protocol", "tls", "port", "user", "mailbox"),
        [
            ("imaps://ann@h", "imap", "implicit", 993, "ann", None),
            ("imap://ann%40x.org@h:1143/", "imap", "starttls", 1143, "ann@x.org", None),
            ("imaps://a@b@h/Archive/2024%20x", "imap", "implicit", 993, "a@b", "Archive/2024 x"),
            ("pop3s://ann@h", "pop3", "implicit", 995, "ann", None),
            ("POP3://ann@[::1]:1110", "pop3", "starttls", 1110, "ann", None),
        ],
    )
    def test_good(self, url: str, protocol: str, tls: str, port: int, user: str, mailbox: str | None) -> None:
        account, found = account_from_url(url, "/b")
        assert (account.protocol, account.tls, account.port, account.user) == (protocol, tls, port, user)
        assert found == mailbox
        assert account.mode == "backup" or protocol == "pop3"
        assert account.keep is None or protocol == "imap"

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("http://a@h", "no source"),
            ("imaps://h", "no user"),
            ("imaps://a:secret@h", "can be read by everybody"),
            ("imaps://a@", "no host"),
            ("imaps://a@h:x", "not a URL"),
            ("pop3s://a@h/INBOX", "no mailboxes"),
            ("imaps://a@h?x", "mean nothing"),
            ("imaps://a@h/a%0D%0Ab", "control character"),
            ("imaps://a%00@h", "control character"),
            ("imaps://a@local host", "no name of a host"),
        ],
    )
    def test_bad(self, url: str, words: str) -> None:
        with pytest.raises(ConfigError, match=words) as caught:
            account_from_url(url, "/b")
        assert "secret" not in str(caught.value)

    def test_on_the_command_line_a_path_begins_here(self) -> None:
        account, _ = account_from_url("imaps://a@h", "copy", ca_file="ca.pem", password_file="~/pw")
        assert (account.maildir, account.ca_file) == (str(Path.cwd() / "copy"), str(Path.cwd() / "ca.pem"))
        assert account.password_file == str(Path.home() / "pw")

    @pytest.mark.parametrize("place", ["", "/", "~nobody-here/x"])
    def test_places_that_are_no_directory_of_a_copy(self, place: str) -> None:
        with pytest.raises(ConfigError):
            account_from_url("imaps://a@h", place)
        with pytest.raises(ConfigError):
            as_backup(parse({"accounts": {"p": POP3}}, None).accounts["p"], place)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("check `host`, `port` and `tls`", "check the URL's host, the URL's port and the URL's scheme"),
            ('set tls = "starttls", or change `port`', "write imap:// (or pop3://), or change the URL's port"),
            ('use tls = "implicit", or ask', "write imaps:// (or pop3s://), or ask"),
            ('set auth = "auto", or to what', "set --auth auto, or to what"),
            ("ca_file, or tls_fingerprint (`check` shows it)", "--ca-file, or --tls-fingerprint (openssl s_client shows it)"),
            ('or protocol = "pop3"', "or pop3:// in the URL"),
            ("name one of them in `auth`", "name one of them in --auth"),
            ("no password for ann at auth.example.org", "no password for ann at auth.example.org"),
            ("--ca-file is for a URL", "--ca-file is for a URL"),
        ],
    )
    def test_whoever_wrote_a_url_reads_of_its_parts(self, text: str, words: str) -> None:
        assert in_words_of_a_url(text) == words

    def test_an_account_as_backup_deletes_nothing(self) -> None:
        account = as_backup(parse({"accounts": {"p": POP3}}, None).accounts["p"], "copy")
        assert account.keep is None
        assert account.maildir == str(Path.cwd() / "copy")


class TestSample:
    text = (ROOT / "sample-config.toml").read_text(encoding="utf-8")

    def test_loads(self) -> None:
        assert list(parse(tomllib.loads(self.text), "sample").accounts) == ["work", "shared", "isp"]

    def test_has_every_key(self) -> None:
        keys = set(re.findall(r"^(?:# )?([a-z_0-9]+) = ", self.text, re.MULTILINE))
        assert keys == set(KEYS) | {"office"}

    def test_every_key_that_is_not_set_could_be(self) -> None:
        for line in re.findall(r"^# ([a-z_0-9]+ = .*)$", self.text, re.MULTILINE):
            (key, value), *_ = tomllib.loads(line).items()
            base = POP3 if key == "keep" else IMAP
            more = {"client_cert": "/c"} if key == "client_key" else {}
            more |= {"mode": "disconnected"} if key in {"trash", "expunge"} else {}
            parse({"accounts": {"a": base | {key: value} | more}}, "sample")


class TestReadme:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_its_first_configuration_loads(self) -> None:
        found = re.search(r"<<'END'\n(.*?)END\n", self.text, re.DOTALL)
        assert found is not None
        assert list(parse(tomllib.loads(found[1]), "README").accounts) == ["work"]

    def test_it_names_every_exit_status(self) -> None:
        for status in ExitStatus:
            assert re.search(rf"^\| .*\b{int(status)}\b", self.text, re.MULTILINE), status
