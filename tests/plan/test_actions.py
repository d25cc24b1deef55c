"""Actions as a dry run and as JSON show them."""

from __future__ import annotations

import json

import pytest

from fetchmail_py.model import NO_FLAGS, MailboxName, MaildropEntry, MessageKey, Uid
from fetchmail_py.plan.actions import (
    Action,
    CreateMailbox,
    DeleteFromMaildrop,
    DeleteLocal,
    DeleteRemote,
    Download,
    Forget,
    Keep,
    MoveLocal,
    Recognise,
    RenameMailbox,
    Retrieve,
    SetLocalFlags,
)

BOX, KEY = MailboxName("Box"), MessageKey("k")
UIDS = (Uid(9), Uid(1), Uid(2))
NAMES = {
    CreateMailbox: "create-local-mailbox",
    RenameMailbox: "rename-local-mailbox",
    Download: "download",
    Recognise: "recognise",
    MoveLocal: "move-local",
    SetLocalFlags: "set-local-flags",
    DeleteLocal: "delete-local",
    Keep: "keep",
    Forget: "forget",
    DeleteRemote: "delete-remote",
    Retrieve: "retrieve",
    DeleteFromMaildrop: "delete-from-maildrop",
}
ENTRIES = (MaildropEntry(1, b"\xff<", 100), MaildropEntry(2, None, 50))


@pytest.mark.parametrize(
    ("action", "line", "values"),
    [
        (CreateMailbox(BOX), "Box: create the mailbox here", {"mailbox": "Box"}),
        (RenameMailbox(BOX, MailboxName("New")), "Box: rename the mailbox here to New", {"mailbox": "Box", "to": "New"}),
        (Download(BOX, UIDS), "Box: download 3 messages (UID 1:2,9)", {"mailbox": "Box", "uids": "1:2,9", "count": 3}),
        (Download(BOX, (Uid(1),)), "Box: download 1 message (UID 1)", {"mailbox": "Box", "uids": "1", "count": 1}),
        (
            Recognise(BOX, Uid(-1), Uid(5), frozenset({"b", "a"})),
            "Box: recognise UID 5 as a message that is here",
            {"mailbox": "Box", "old_uid": -1, "uid": 5, "flags": ["a", "b"]},
        ),
        (
            MoveLocal(BOX, Uid(1), KEY, MailboxName("To"), Uid(2), NO_FLAGS),
            "Box: move UID 1 here to To",
            {"mailbox": "Box", "uid": 1, "key": "k", "to": "To", "to_uid": 2, "flags": [], "found_in": None, "here": None},
        ),
        (
            SetLocalFlags(BOX, Uid(1), KEY, frozenset({"\\Seen", "$X"})),
            "Box: set the flags of UID 1 here to ($X \\Seen)",
            {"mailbox": "Box", "uid": 1, "key": "k", "flags": ["$X", "\\Seen"]},
        ),
        (DeleteLocal(BOX, Uid(1), KEY), "Box: delete UID 1 here", {"mailbox": "Box", "uid": 1, "key": "k"}),
        (
            Keep(BOX, UIDS),
            "Box: keep 3 messages here that the server deleted (UID 1:2,9)",
            {"mailbox": "Box", "uids": "1:2,9", "count": 3},
        ),
        (
            Forget(BOX, UIDS),
            "Box: forget 3 messages gone from the server (UID 1:2,9)",
            {"mailbox": "Box", "uids": "1:2,9", "count": 3},
        ),
        (
            DeleteRemote(BOX, UIDS),
            "Box: delete 3 messages at the server, once stored (UID 1:2,9)",
            {"mailbox": "Box", "uids": "1:2,9", "count": 3},
        ),
        (Retrieve(ENTRIES), "maildrop: download 2 messages (150 octets)", {"count": 2, "uidls": ["\\xff<", None]}),
        (
            DeleteFromMaildrop(ENTRIES[:1]),
            "maildrop: delete 1 message at the server, once stored",
            {"count": 1, "uidls": ["\\xff<"]},
        ),
    ],
)
def test_how_an_action_is_shown(action: Action, line: str, values: dict[str, object]) -> None:
    assert str(action) == line
    assert json.loads(json.dumps(action.as_dict())) == {"do": NAMES[type(action)]} | values
