"""The command ``millrace``: its subcommands come from the rooms that are installed, when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]


def millrace(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command in a fresh interpreter, perhaps one that lacks a module; it ends with a line of the names of
    everything that was imported."""
    code = f"""
import sys
from importlib.machinery import PathFinder
class Lacking(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == {without!r} else super().find_spec(name, path, target)
sys.meta_path = [Lacking if finder is PathFinder else finder for finder in sys.meta_path]
from router.millrace import main
try:
    main({list(arguments)!r}, prog_name="millrace")
finally:
    print(*sys.modules)
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=SOURCE, check=False
    )


def test_the_version_is_the_installed_one() -> None:
    assert f"millrace, version {version('millrace')}\n" in millrace("--version").stdout


def test_help_lists_every_installed_subcommand() -> None:
    shown = millrace("--help").stdout
    for name in entry_points(group="millrace.commands").names:
        assert f"\n  {name} " in shown


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    imported = set(millrace("--version").stdout.splitlines()[-1].split())
    assert "router.millrace" in imported
    assert not imported & {"trio", "redis", "uvloop", "rich", "yaml", "router.command", "director.up"}


def test_an_unknown_subcommand_is_a_usage_error() -> None:
    done = millrace("fly")
    assert done.returncode == 2
    assert "No such command 'fly'" in done.stderr


@pytest.mark.parametrize("arguments", [["up"], ["up", "--port", "8081", "more"], ["up", "--help"]])
def test_a_subcommand_without_its_extra_says_what_to_install(arguments: list[str]) -> None:
    done = millrace(*arguments, without="trio")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: millrace up needs the module trio, which is not installed: pip install 'millrace[up]'\n"
    )


def test_help_works_without_an_extra_and_names_it() -> None:
    done = millrace("--help", without="trio")
    assert done.returncode == 0
    assert "Not installed: pip install 'millrace[up]'" in " ".join(done.stdout.split())


def test_the_router_runs_as_a_module_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "router", "--help"], capture_output=True, text=True, timeout=60, cwd=SOURCE, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: millrace router [OPTIONS]")
