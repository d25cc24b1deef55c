"""Any mailbox name becomes a path that stays inside, and an ordinary one stays as it is."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchmail_py.model import MailboxName
from fetchmail_py.store.layout import FS, MAILDIRPP, MAX_NAME, name_of, path_for

NAMES = st.one_of(
    st.text(st.characters()),
    st.lists(
        st.sampled_from(["..", ".", "", "cur", "new", "tmp", "CUR", "inbox", "INBOX", "a", "%", "%2F", "~", " ", "é", "\0", "\n"])
    ).map("/".join),
    st.text("ab", min_size=200, max_size=3000),
)
LAYOUTS = st.sampled_from([FS, MAILDIRPP])


@pytest.mark.parametrize(
    ("name", "delimiter", "fs", "maildirpp"),
    [
        ("INBOX", "/", "INBOX", ""),
        ("inbox", "/", "INBOX", ""),
        ("Inbox/Sub", "/", "INBOX/Sub", ".INBOX.Sub"),
        ("Archive/2024", "/", "Archive/2024", ".Archive.2024"),
        ("Archive.2024", ".", "Archive/2024", ".Archive.2024"),
        ("a.b", "/", "a.b", ".a%2Eb"),
        ("a/b", ".", "a%2Fb", ".a%2Fb"),
        ("a/b", None, "a%2Fb", ".a%2Fb"),
        ("Ünïcödé & more", "/", "Ünïcödé & more", ".Ünïcödé & more"),
        ("..", "/", "%2E.", ".%2E%2E"),
        ("../../etc", "/", "%2E./%2E./etc", ".%2E%2E.%2E%2E.etc"),
        ("cur", "/", "%63ur", ".cur"),
        ("a/New", "/", "a/%4Eew", ".a.New"),
        ("a//b", "/", "a/%-/b", ".a.%-.b"),
        ("100%", "/", "100%25", ".100%25"),
        ("a\nb\x1b\x7f", "/", "a%0Ab%1B%7F", ".a%0Ab%1B%7F"),
        (".fetchmail-py.sqlite3", "/", "%2Efetchmail-py.sqlite3", ".%2Efetchmail-py%2Esqlite3"),
        ("fetchmail-py/sqlite3", "/", "fetchmail-py/sqlite3", ".%66etchmail-py.sqlite3"),
        ("\udc26x", "/", "%ED%B0%A6x", ".%ED%B0%A6x"),
    ],
)
def test_names(name: str, delimiter: str | None, fs: str, maildirpp: str) -> None:
    assert path_for(MailboxName(name), delimiter, layout=FS) == fs
    assert path_for(MailboxName(name), delimiter, layout=MAILDIRPP) == maildirpp


@given(NAMES, LAYOUTS)
def test_a_path_stays_inside_and_can_be_made(name: str, layout: str) -> None:
    path = path_for(MailboxName(name), "/", layout=layout)
    octets = path.encode("utf-8")
    assert posixpath.normpath("/mail/" + path) == "/mail" + ("/" + path if path else "")
    assert b"\0" not in octets
    assert len(octets) <= 1100
    for part in path.split("/"):
        assert len(part.encode()) <= MAX_NAME + 15
        if path:
            assert part.casefold() not in {"", ".", "..", "cur", "new", "tmp"}
    assert layout != FS or not path.startswith(".")


@given(NAMES, NAMES, LAYOUTS)
def test_different_names_have_different_paths(one: str, other: str, layout: str) -> None:
    def canonical(name: str) -> str:
        first, slash, rest = name.partition("/")
        return ("INBOX" if first.upper() == "INBOX" else first) + slash + rest

    paths = {path_for(MailboxName(name), "/", layout=layout) for name in (one, other)}
    assert len(paths) == len({canonical(one), canonical(other)})


@given(NAMES, LAYOUTS)
def test_the_way_back(name: str, layout: str) -> None:
    path = path_for(MailboxName(name), "/", layout=layout)
    back = name_of(path, "/", layout=layout)
    if back is not None:
        assert path_for(back, "/", layout=layout) == path
        assert back == name or name.partition("/")[0].upper() == "INBOX"


def test_names_that_differ_by_case_only() -> None:
    first = path_for(MailboxName("Work"), "/", layout=FS)
    assert path_for(MailboxName("work"), "/", layout=FS, taken={first}) == "work"
    second = path_for(MailboxName("work"), "/", layout=FS, taken={first}, fold_case=True)
    assert second.startswith("work%~")
