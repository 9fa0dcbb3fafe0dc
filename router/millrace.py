"""The command ``millrace``: finds the subcommands that the installed rooms bring, and runs one of them.

Subcommands are entry points of the group ``millrace.commands``. Must import none of them before it is asked for, and
must know none of them by name: a room that is not installed whole says what to install, and hinders no other.
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points, requires
from importlib.util import find_spec
from typing import Final

import click

_DISTRIBUTION: Final = "millrace"
_GROUP: Final = "millrace.commands"
_EXTRA_REQUIREMENT: Final = re.compile(r"""(?P<name>[A-Za-z0-9._-]+).*;.*extra *== *["'](?P<extra>[^"']+)["'].*""")


def _fix_for(module: str, command: str) -> str:
    """What to run so that a missing module, which a subcommand needs, is there."""
    package = module.partition(".")[0]
    if find_spec(package):  # only a part of it is missing
        return f"pip install --force-reinstall {_DISTRIBUTION}"
    found = [match for text in requires(_DISTRIBUTION) or () if (match := _EXTRA_REQUIREMENT.fullmatch(text))]
    bringing = {match["extra"] for match in found if match["name"].replace("-", "_") == package}
    # A module that no extra names comes with some package of the extra that bears the subcommand's name.
    extra = command if command in bringing or not bringing else min(bringing)
    return f"pip install '{_DISTRIBUTION}[{extra}]'"


class _NotInstalled(click.Command):
    """Stands where a subcommand should be that cannot be imported; running it, in any way, says what is missing."""

    def __init__(self, name: str, module: str) -> None:
        self._fix = _fix_for(module, name)
        self._module = module
        super().__init__(
            name,
            short_help=f"Not installed: {self._fix}",
            add_help_option=False,
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )

    def invoke(self, ctx: click.Context) -> None:
        raise click.ClickException(
            f"millrace {self.name} needs the module {self._module}, which is not installed: {self._fix}"
        )


class _Subcommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry_points(group=_GROUP).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group=_GROUP, name=cmd_name):
            return _load(entry)
        return None


def _load(entry: EntryPoint) -> click.Command:
    try:
        command = entry.load()
    except ModuleNotFoundError as error:
        return _NotInstalled(entry.name, error.name or entry.module)
    if not isinstance(command, click.Command):
        raise TypeError(f"entry point {entry.name} of {_GROUP}: {entry.value} is not a click command")
    return command


@click.group(cls=_Subcommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=_DISTRIBUTION, prog_name=_DISTRIBUTION)
def main() -> None:
    """A Cloud Foundry-compatible edge router and control plane. Start with: millrace up"""
