"""``millrace controller``."""

from __future__ import annotations

import logging
from pathlib import Path

import click


@click.command()
@click.option("-c", "--config", type=click.Path(path_type=Path), help="YAML file of settings; none: all defaults.")
def controller(config: Path | None) -> None:
    """Run the Cloud Controller: the V3 API, logins and the Routing API."""
    from controller import serving  # noqa: PLC0415 - costs a second, so not for --help
    from controller.settings import Settings, SettingsError, load  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        settings = load(config) if config is not None else Settings()
        raise SystemExit(serving.run(settings))
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
