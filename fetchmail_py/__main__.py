"""`python -m fetchmail_py`, and the installed command."""

from __future__ import annotations

import gc
import os
from typing import NoReturn


def main() -> NoReturn:
    """Runs the program. Importing makes many objects and no garbage: looking for some meanwhile takes a tenth of the start-up."""
    gc.disable()
    _fill_standard_descriptors()
    from fetchmail_py.cli.app import main as run  # noqa: PLC0415

    gc.freeze()
    try:
        run()
    except SystemExit as end:
        # All is written, closed and told: to take the interpreter apart takes a tenth of a short run, and is for nobody's use.
        os._exit(end.code if isinstance(end.code, int) else 1)


def _fill_standard_descriptors() -> None:
    """Opens /dev/null where we were started with one of them closed.

    The next file to be opened would get the number: what `on_new`, or the interpreter when it dies, prints on descriptor 2 would
    then end up in a message.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)


if __name__ == "__main__":
    main()
