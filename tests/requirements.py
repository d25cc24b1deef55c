"""Prints what the tests need beside the program: the dev group of pyproject.toml. For pip versions that know no groups."""

from __future__ import annotations

import tomllib
from pathlib import Path

document = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
print("\n".join(requirement.replace(" ", "") for requirement in document["dependency-groups"]["dev"]))
