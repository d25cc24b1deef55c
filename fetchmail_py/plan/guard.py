"""The deletion guard: which deletions need the user's word first (README, Safety)."""

from __future__ import annotations

FEW = 3
MANY = 20


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
