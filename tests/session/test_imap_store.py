"""What the server tells of an upload or a copy, and what it tells that cannot be."""

from __future__ import annotations

import pytest

from fetchmail_py.model import MailboxName, Uid
from fetchmail_py.session.imap import ImapSession
from fetchmail_py.session.imap_store import Appended, Copied, Upload, append, copy
from fetchmail_py.session.login import Login
from tests.session.peer import Octets, Peer

BOX = MailboxName("Archive")


def session_to(peer: Peer) -> ImapSession:
    return ImapSession.open(peer.endpoint(), Login("ann", "auto", lambda: "secret"))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("[APPENDUID 7 4]", (4, 7)),
        ("[APPENDUID 7 0]", (None, 0)),
        ("[APPENDUID 7 ]", (None, 0)),
        ("[APPENDUID 7]", (None, 0)),
        ("[APPENDUID]", (None, 0)),
        ("[APPENDUID 7 4:5]", (None, 0)),
        ("[APPENDUID 7 4,5]", (None, 0)),
        ("[APPENDUID 7 4:]", (None, 0)),
        ("[APPENDUID 7 x]", (None, 0)),
        ("[APPENDUID 0 4]", (None, 0)),
        ("[APPENDUID 4294967296 4]", (None, 0)),
        ("[APPENDUID 7 4294967296]", (None, 0)),
        ("[APPENDUID 7 " + "9" * 5000 + "]", (None, 0)),
        ("[APPENDUID " + "9" * 5000 + " 4]", (None, 0)),
    ],
)
def test_what_an_upload_became(code: str, told: tuple[int | None, int]) -> None:
    command = b'F1 APPEND "Archive" () " 1-Jan-1970 00:00:00 +0000" {2+}\r\nhi\r\n'
    with Peer("S: * PREAUTH [CAPABILITY IMAP4rev1 UIDPLUS LITERAL+] hi", Octets(command), f"S: F1 OK {code} done") as peer:
        session = session_to(peer)
        upload = Upload(frozenset(), 0, 2, lambda: (b"hi",))
        (((_, became),),) = append(session, BOX, [upload])
        session.close()
    assert became == Appended(*told, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("[COPYUID 7 5:6 1:2]", ({5: 1, 6: 2}, 7)),
        ("[COPYUID 7 a b]", ({}, 0)),
        ("[COPYUID 7 5 0]", ({}, 0)),
        ("[COPYUID 7 5  ]", ({}, 0)),
        ("[COPYUID 7 5 1:2]", ({}, 0)),
        ("[COPYUID 7 9 1]", ({}, 0)),
        ("[COPYUID 0 5 1]", ({}, 0)),
        ("[COPYUID 7 5 " + "9" * 5000 + "]", ({}, 0)),
    ],
)
def test_what_a_copy_became(code: str, told: tuple[dict[Uid, Uid], int]) -> None:
    with Peer("S: * PREAUTH [CAPABILITY IMAP4rev1 UIDPLUS] hi", f'C: F1 UID COPY 5:6 "Archive"\nS: F1 OK {code} done') as peer:
        session = session_to(peer)
        assert copy(session, [Uid(5), Uid(6)], BOX) == Copied(*told)
        session.close()
