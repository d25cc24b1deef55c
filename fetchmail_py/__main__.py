"""`python -m fetchmail_py`, and the installed command."""

from __future__ import annotations

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Runs the program. Importing makes many objects and no garbage: looking for some meanwhile takes a tenth of the start-up."""
    gc.disable()
    from fetchmail_py.cli.app import main as run  # noqa: PLC0415

    gc.freeze()
    run()


if __name__ == "__main__":
    main()
