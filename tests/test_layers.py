"""Who may import whom: the architecture, as a test. Imports inside functions count as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fetchmail_py"
FILES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}

PURE = ("model.py", "identity.py", "errors.py", "report.py", "wire/", "plan/")
EFFECTS = {
    "socket", "ssl", "os", "pathlib", "sqlite3", "time", "random", "threading", "logging", "keyring", "subprocess", "select",
    "tempfile", "shutil", "signal", "queue", "ctypes", "fcntl", "secrets", "getpass", "io", "sys",
}  # fmt: skip
# room -> what of the package it may import, beside the pure nouns
ROOMS = {
    "wire": {"wire"},
    "plan": {"plan"},
    "session": {"session", "wire"},
    "store": {"store"},
    "sync": {"sync", "plan", "session", "store", "wire", "config"},
    "cli": {"cli", "sync", "config", "credentials", "hooks", "message", "providers"},
}
NOUNS = {"model", "identity", "errors", "report"}
ONLY_IN = {
    "typer": ("cli/",),
    "rich": ("cli/",),
    "mailparser": ("message.py",),
    "sqlite3": ("store/state.py", "store/state_base.py", "store/state_schema.py"),
    "keyring": ("credentials.py",),
    "scramp": ("wire/sasl.py",),
    "ssl": ("session/transport.py", "session/trust.py"),
    "socket": ("session/transport.py", "sync/check.py"),
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module a file imports, by its full name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", sorted(FILES))
def test_imports(name: str) -> None:
    found = set(imports(FILES[name]))
    tops = {module.partition(".")[0] for module in found}
    if name.startswith(PURE):
        assert not tops & EFFECTS, "a pure room has effects"
    room = name.partition("/")[0]
    own = {module.split(".")[1] for module in found if module.startswith("fetchmail_py.")} - {"__version__"}
    if room in ROOMS:
        assert own <= ROOMS[room] | NOUNS, f"{room} imports {own - ROOMS[room] - NOUNS}"
    for module, places in ONLY_IN.items():
        assert module not in tops or name.startswith(places), f"{module} is only for {places}"


def test_durability_is_in_one_place() -> None:
    for name, tree in FILES.items():
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert name == "store/durable.py" or not called & {"fsync", "fdatasync", "syncfs"}, name


def test_only_the_console_prints() -> None:
    for name, tree in FILES.items():
        names = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert "print" not in names, name


def test_no_file_has_two_jobs() -> None:
    for path in ROOT.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 620, f"{path.name} has {lines} lines: which two jobs has it?"
