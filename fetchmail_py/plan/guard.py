"""The deletion guard: which deletions need the user's word first (README, Safety)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from fetchmail_py.model import Uid

FEW = 3
MANY = 20


class Announced(NamedTuple):
    """Deletions that were announced and not yet let through."""

    known: int
    """How many messages the mailbox had then: what has come since makes the deletions no smaller."""
    uids: frozenset[Uid]


def stops(uids: Collection[Uid], known: int, max_delete: float, announced: Announced | None, *, allowed: bool) -> bool:
    """Whether these deletions wait for the user's word. `allowed` lets through what was announced, and no more."""
    if announced is not None and not announced.uids.isdisjoint(uids):
        if allowed and announced.uids.issuperset(uids):
            return False
        known = min(known, announced.known)
    return asks(len(uids), known, max_delete)


def asks(deletions: int, known: int, max_delete: float) -> bool:
    """Whether deleting `deletions` of the `known` messages of one mailbox needs the user's word.

    `max_delete` is a fraction; 1.0 or more switches the guard off. All of three or more asks; so does more than 20
    that are also more than `max_delete` of the mailbox.
    """
    if max_delete >= 1.0 or deletions <= 0:
        return False
    if deletions >= known:
        return deletions >= FEW
    # `not <=` so that a fraction that is no number asks.
    return deletions > MANY and not deletions <= known * max_delete
