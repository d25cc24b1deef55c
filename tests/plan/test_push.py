"""What the two-way mode does at the server, as a dry run and as JSON show it."""

from __future__ import annotations

import json

import pytest

from fetchmail_py.model import NO_FLAGS, Flags, MailboxName, MessageKey, Uid
from fetchmail_py.plan.actions import Action
from fetchmail_py.plan.push import (
    CopyRemote,
    CreateRemoteMailbox,
    DeleteAtServer,
    MergeFlags,
    MoveRemote,
    RenameRemoteMailbox,
    TrashAtServer,
    Upload,
    UploadAgain,
)

BOX, TO, KEY = MailboxName("Box"), MailboxName("To"), MessageKey("k")
UIDS = (Uid(9), Uid(1), Uid(2))
KEYS = (MessageKey("c"), MessageKey("a"), MessageKey("b"))
SEEN: Flags = frozenset({"\\Seen"})
TWO: Flags = frozenset({"\\Seen", "$X"})
NAMES = {
    CreateRemoteMailbox: "create-remote-mailbox",
    RenameRemoteMailbox: "rename-remote-mailbox",
    MergeFlags: "merge-flags",
    MoveRemote: "move-remote",
    CopyRemote: "copy-remote",
    Upload: "upload",
    UploadAgain: "upload-again",
    DeleteAtServer: "delete-remote",
    TrashAtServer: "trash-remote",
}


@pytest.mark.parametrize(
    ("action", "line", "values"),
    [
        (CreateRemoteMailbox(BOX), "Box: create the mailbox at the server", {"mailbox": "Box"}),
        (RenameRemoteMailbox(BOX, TO), "Box: rename the mailbox at the server to To", {"mailbox": "Box", "to": "To"}),
        (
            MoveRemote(BOX, UIDS, TO, KEYS, (SEEN, NO_FLAGS, TWO)),
            "Box: move 3 messages at the server to To (UID 1:2,9)",
            {"mailbox": "Box", "uids": "1:2,9", "count": 3, "to": "To"},
        ),
        (
            MoveRemote(BOX, UIDS[:1], TO, KEYS[:1], (SEEN,)),
            "Box: move 1 message at the server to To (UID 9)",
            {"mailbox": "Box", "uids": "9", "count": 1, "to": "To"},
        ),
        (
            CopyRemote(BOX, UIDS, TO, (Uid(-1), Uid(-2), Uid(-3))),
            "Box: copy 3 messages at the server to To (UID 1:2,9)",
            {"mailbox": "Box", "uids": [9, 1, 2], "to": "To", "rows": [-1, -2, -3]},
        ),
        (
            Upload(BOX, (Uid(-1), Uid(-2), Uid(-3)), KEYS),
            "Box: upload 3 messages",
            {"mailbox": "Box", "keys": ["c", "a", "b"], "count": 3},
        ),
        (Upload(BOX, (Uid(-1),), (KEY,)), "Box: upload 1 message", {"mailbox": "Box", "keys": ["k"], "count": 1}),
        (
            UploadAgain(BOX, Uid(7), KEY),
            "Box: upload UID 7 again: it was deleted at the server, and is wanted here",
            {"mailbox": "Box", "uid": 7, "key": "k"},
        ),
        (
            DeleteAtServer(BOX, UIDS),
            "Box: delete 3 messages at the server (UID 1:2,9)",
            {"mailbox": "Box", "uids": "1:2,9", "count": 3, "also_here": False},
        ),
        (
            DeleteAtServer(BOX, UIDS[:1], also_here=True),
            "Box: delete 1 message on both sides (UID 9)",
            {"mailbox": "Box", "uids": "9", "count": 1, "also_here": True},
        ),
        (
            TrashAtServer(BOX, UIDS, TO),
            "Box: move 3 messages to To at the server (UID 1:2,9)",
            {"mailbox": "Box", "uids": "1:2,9", "count": 3, "to": "To", "also_here": False},
        ),
        (
            TrashAtServer(BOX, UIDS[:1], TO, also_here=True),
            "Box: move 1 message to To at the server (UID 9)",
            {"mailbox": "Box", "uids": "9", "count": 1, "to": "To", "also_here": True},
        ),
    ],
)
def test_how_an_action_is_shown(action: Action, line: str, values: dict[str, object]) -> None:
    assert str(action) == line
    assert json.loads(json.dumps(action.as_dict())) == {"do": NAMES[type(action)]} | values


@pytest.mark.parametrize(
    ("here", "add", "remove", "pull", "line"),
    [
        (TWO, NO_FLAGS, NO_FLAGS, True, "Box: set the flags of UID 5 here to ($X \\Seen)"),
        (NO_FLAGS, NO_FLAGS, NO_FLAGS, True, "Box: set the flags of UID 5 here to ()"),
        (TWO, TWO, NO_FLAGS, False, "Box: add ($X \\Seen) at UID 5 at the server"),
        (NO_FLAGS, NO_FLAGS, TWO, False, "Box: remove ($X \\Seen) at UID 5 at the server"),
        (
            SEEN,
            SEEN,
            frozenset({"$X"}),
            True,
            "Box: set the flags of UID 5 here to (\\Seen), add (\\Seen) at UID 5 at the server, remove ($X) at UID 5 at the server",
        ),
        (SEEN, NO_FLAGS, NO_FLAGS, False, "Box: note the flags of UID 5"),
    ],
)
def test_how_a_merge_of_flags_is_shown(here: Flags, add: Flags, remove: Flags, line: str, *, pull: bool) -> None:
    action = MergeFlags(BOX, Uid(5), KEY, here, add, remove, TWO, pull)
    assert str(action) == line
    assert json.loads(json.dumps(action.as_dict())) == {
        "do": "merge-flags", "mailbox": "Box", "uid": 5, "key": "k", "here": sorted(here), "add": sorted(add),
        "remove": sorted(remove), "agreed": ["$X", "\\Seen"], "pull": pull,
    }  # fmt: skip
