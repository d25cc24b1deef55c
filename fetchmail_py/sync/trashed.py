"""What was deleted here and comes down once more, in the trash, is no new mail: it is neither counted as such nor told of.

Its file is gone, so it has to be fetched. What it is goes into the state before the server is told to move it: a run that was
cut is no reason to announce it either. It stays there until the trash has been seen after that.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from fetchmail_py.model import MailboxName, Uid
from fetchmail_py.store.state import StateDb
from fetchmail_py.sync.imap_boxes import Box

AT_MOST = 100_000
"""Messages that are remembered, the newest: a trash that can never be looked at must not fill the state."""
_FACT = "trashed"
_DIGEST = 16
"""Hexadecimal digits of a digest: enough where nothing is lost by a mistake."""


class Trashed:
    """What is on its way to the trash and back, as the state has it: of earlier rounds, and of this one."""

    def __init__(self, state: StateDb) -> None:
        self._state = state
        self._uids: list[int] = []
        self._digests: list[str] = []
        words = state.get(_FACT)
        name, self._uidvalidity, self._uids_before, self._before = ("", 0, [], []) if words is None else json.loads(words)
        self._trash = MailboxName(name)
        self._awaited_uids, self._awaited = set(self._uids_before), Counter(self._before)

    def expect(self, trash: MailboxName, digests: Iterable[bytes]) -> None:
        """Messages of this content are about to be moved there."""
        if trash != self._trash:
            self._trash, self._before, self._digests = trash, [], []
            self.are(0, ())
        self._digests += [digest.hex()[:_DIGEST] for digest in digests]
        self._save()

    def __contains__(self, trash: MailboxName) -> bool:
        """Whether what is moved there is expected to come down."""
        return trash == self._trash

    def are(self, uidvalidity: int, uids: Iterable[Uid]) -> None:
        """They have these UIDs there, which tell more than their content: that may have got other line ends on its way up."""
        if uidvalidity != self._uidvalidity:
            self._uidvalidity, self._uids_before, self._uids = uidvalidity, [], []
        self._uids += uids
        self._save()

    def is_one(self, box: Box, uid: Uid, digest: bytes) -> bool:
        """Whether a message that has come in is one of those that earlier rounds have moved."""
        if box.name != self._trash:
            return False
        name = digest.hex()[:_DIGEST]
        alike = self._awaited[name] > 0
        self._awaited[name] -= alike
        return alike or (box.uidvalidity == self._uidvalidity and uid in self._awaited_uids)

    def seen(self, box: Box) -> None:
        """The mailbox has been seen, and all that was new in it is here: what was awaited has come, or will not."""
        if box.name == self._trash and (self._before or self._uids_before):
            self._before, self._uids_before = [], []
            self._save()

    def _save(self) -> None:
        uids, digests = [*self._uids_before, *self._uids][-AT_MOST:], [*self._before, *self._digests][-AT_MOST:]
        facts = json.dumps([self._trash, self._uidvalidity, uids, digests])
        self._state.put(_FACT, facts if uids or digests else None)
