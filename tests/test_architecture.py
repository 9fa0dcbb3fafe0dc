"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOMS = ("router", "controller", "blobstore", "director", "bench")
MAY_IMPORT = {
    "router": {"router"},
    "blobstore": {"blobstore", "router.registry"},
    "controller": {"controller", "router.registry", "blobstore.client"},
    "director": {"director", "router.registry", "blobstore.client"},
}
FILES = [path for room in ROOMS for path in sorted((HOUSE / room).rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(HOUSE))


def imported(path: Path) -> set[str]:
    """The full names of what a file imports from the house."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in (*ROOMS, "tests")}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    room = path.relative_to(HOUSE).parts[0]
    allowed = MAY_IMPORT.get(room)
    if allowed is None:  # bench measures everything
        return
    for name in imported(path):
        assert any(name == prefix or name.startswith(prefix + ".") for prefix in allowed), f"{room} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


def test_parsers_know_no_socket_and_no_route() -> None:
    for path in sorted((HOUSE / "router" / "http1").glob("*.py")):
        assert {name.split(".")[1] for name in imported(path)} <= {"http1"}, path.name
        assert not re.search(r"^import (socket|asyncio|uvloop)", path.read_text(), re.MULTILINE), path.name


def test_links_between_documents_lead_somewhere() -> None:
    for document in (HOUSE / "README.md", *(HOUSE / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_tests_named_by_the_documents_exist() -> None:
    for document in (HOUSE / "docs").glob("*.md"):
        for path, _, part in re.findall(r"`(tests/[\w/]+\.py)(::(\w+))?`", document.read_text()):
            assert (HOUSE / path).exists(), f"{document.name}: {path}"
            assert not part or re.search(rf"(class|def) {part}\b", (HOUSE / path).read_text()), f"{path}::{part}"
