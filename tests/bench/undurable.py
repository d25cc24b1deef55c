"""The program with durability switched off, to show what it costs. Never use it for mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fetchmail_py.cli.app import main
from fetchmail_py.store import durable
from fetchmail_py.store.state import StateDb


def _nothing(*_: object) -> None:
    return None


def _switch_off() -> None:
    barrier: Any = durable.Barrier
    barrier.files = _nothing
    barrier.directories = _nothing
    vars(durable)["_flush"] = _nothing
    opened: Callable[[str], StateDb] = StateDb.open

    def open_fast(path: str) -> StateDb:
        state = opened(path)
        state.rollback()
        connection: Any = vars(state)["_db"]
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        return state

    state_class: Any = StateDb
    state_class.open = staticmethod(open_fast)


if __name__ == "__main__":
    _switch_off()
    main()
