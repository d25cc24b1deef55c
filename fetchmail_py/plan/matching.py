"""The one routine that says which unpaired messages of two sides are the same.

It serves lost and restored state, a changed UIDVALIDITY, changed UIDLs, a Maildir of another tool and an interrupted upload.
Same means: equal size on the wire and equal identifying header; where several are alike, they are told apart by the digest of
the whole header where the caller has it, else paired in order when both sides have as many.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

from fetchmail_py.identity import NO_IDENTITY

L = TypeVar("L", bound=Hashable)
R = TypeVar("R", bound=Hashable)


class LocalCandidate(NamedTuple, Generic[L]):
    """A message here that has no counterpart. `sizes` are the sizes it may have on the wire: a file with bare LF line
    ends may have come with CRLF or as it is, when no state says which."""

    handle: L
    sizes: tuple[int, ...]
    identity: bytes
    order: int = 0


class RemoteCandidate(NamedTuple, Generic[R]):
    """A message at the server that has no counterpart."""

    handle: R
    size: int
    identity: bytes
    order: int = 0


class Matches(NamedTuple, Generic[L, R]):
    """What was found. `ambiguous` holds handles that look alike but not in equal number: both sides are kept."""

    pairs: tuple[tuple[L, R], ...]
    ambiguous: tuple[R, ...]


def match(local: Iterable[LocalCandidate[L]], remote: Iterable[RemoteCandidate[R]]) -> Matches[L, R]:
    """Pairs each message with at most one of the other side; deterministic.

    A message without any identifying field is never matched here: only its whole content can tell.
    """
    here: dict[tuple[int, bytes], list[LocalCandidate[L]]] = defaultdict(list)
    for candidate in local:
        for size in set(candidate.sizes):
            here[size, candidate.identity].append(candidate)
    there: dict[tuple[int, bytes], list[RemoteCandidate[R]]] = defaultdict(list)
    for remote_candidate in remote:
        there[remote_candidate.size, remote_candidate.identity].append(remote_candidate)
    pairs: list[tuple[L, R]] = []
    ambiguous: list[R] = []
    used: set[L] = set()
    for key in sorted(there):
        if key[1] == NO_IDENTITY:
            continue
        free = sorted((c for c in here.get(key, ()) if c.handle not in used), key=lambda c: c.order)
        if not free:
            continue
        wanted = sorted(there[key], key=lambda c: c.order)
        if len(free) != len(wanted) and len(wanted) > 1 and len(free) > 1:
            ambiguous.extend(c.handle for c in wanted)
        # In order, as far as both sides go: copies of one message are alike in size and header, and what is left over
        # is fetched (or kept) as a message of its own.
        for mine, theirs in zip(free, wanted, strict=False):
            used.add(mine.handle)
            pairs.append((mine.handle, theirs.handle))
    return Matches(tuple(pairs), tuple(ambiguous))
