"""``millrace controller``: runs it, and changes its keys.

Only this module turns errors into text on standard error and exit codes: 0 as asked, 1 could not start or not finish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from controller.settings import Settings

_CONFIG = click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="YAML file of settings; none: all defaults."
)


@click.group(invoke_without_command=True)
@_CONFIG
@click.pass_context
def controller(context: click.Context, config: Path | None) -> None:
    """Run the Cloud Controller (the V3 API, logins and the Routing API), or do something to it.

    Without a subcommand it runs.
    """
    context.obj = config
    if context.invoked_subcommand is None:
        _run(config)


@controller.command()
@_CONFIG
@click.pass_obj
def run(above: Path | None, config: Path | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    _run(config or above)


@controller.command("rotate-keys")
@_CONFIG
@click.pass_obj
def rotate_keys(above: Path | None, config: Path | None) -> None:
    """Seal all secrets anew with the first of the encryption keys.

    Controllers may run meanwhile, once all of them have the new key as their first one. It may be ended and begun again
    at any time. Then the older keys can be taken from the settings.
    """

    def work(settings: Settings) -> None:
        from controller import encryption, rotation  # noqa: PLC0415 - costs a second, so not for --help

        with encryption.opened(settings) as database:
            outcome = rotation.rotate(database)
        for name, count in outcome.sealed_anew.items():
            if count:
                click.echo(f"{name}: {count} sealed anew")
        for where, why in outcome.unreadable.items():
            click.echo(f"{where}: {why}", err=True)
        if outcome.unreadable:
            raise click.ClickException("these stay as they are: put the keys that they need into encryption_keys")
        if not outcome.finished:
            raise click.ClickException(
                "a controller still seals with an older key: restart it with the new one first, then run this again"
            )
        click.echo("All values are sealed with the first key; the others are not needed any more.")

    _with_settings(config or above, work)


@controller.command("rotate-signing-key")
@_CONFIG
@click.pass_obj
def rotate_signing_key(above: Path | None, config: Path | None) -> None:
    """Sign tokens with a new key from now on; tokens of the old one stay good until their end."""

    def work(settings: Settings) -> None:
        from controller import encryption  # noqa: PLC0415 - costs a second, so not for --help
        from controller.uaa.keys import SigningKeys  # noqa: PLC0415

        with encryption.opened(settings) as database:
            click.echo(f"Tokens are signed with {SigningKeys(database).rotate()} now.")

    _with_settings(config or above, work)


def _run(config: Path | None) -> None:
    from controller import logs, serving  # noqa: PLC0415 - costs a second, so not for --help

    logs.to_stdout()

    def work(settings: Settings) -> None:
        raise SystemExit(serving.run(settings))

    _with_settings(config, work)


def _with_settings(config: Path | None, work: Callable[[Settings], Any]) -> None:
    """Do it with the settings of a file; what they are no good for is told, in the log, too."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - costs a second, so not for --help

    from controller.settings import Settings, SettingsError, load  # noqa: PLC0415

    try:
        work(load(config) if config is not None else Settings())
    except SettingsError as error:
        problem = str(error)
    except DBAPIError as error:
        problem = f"the database cannot be used: {str(error.orig).partition(chr(10))[0]}"
    else:
        return
    logging.getLogger("controller").error("not-started", extra={"data": {"why": problem}})
    raise click.ClickException(problem)
