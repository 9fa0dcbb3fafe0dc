"""``millrace router``: read the configuration, check it or run the router with it.

Only this module turns errors into text on standard error, the last line of the log and exit codes: 0 as asked, 1 could
not start, 2 stopped by SIGQUIT.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from router.config.config_file import ConfigError, load_noting
from router.config.config_page import page
from router.config.settings import Settings
from router.config.settings_rules import completed
from router.logs import component_log
from router.logs.log_file import CannotLog
from router.processes.listening import CannotListen
from router.processes.supervisor import run


@click.command()
@click.option("-c", "config", type=click.Path(path_type=Path), help="YAML configuration file; none means all defaults.")
@click.option(
    "--check", is_flag=True, help="Say what is wrong with the file, or print the settings in effect, and exit."
)
def router(config: Path | None, check: bool) -> None:
    """Run the edge router.

    Signals: SIGHUP reads the file again and rolls the workers, SIGUSR1 drains and exits, SIGTERM stops at once,
    SIGQUIT shows what every process is doing and stops.
    """
    try:
        given, ignored = load_noting(config) if config else (Settings(), [])
        settings = completed(given)
        if check:
            for key in ignored:
                click.echo(f"{config}: ignored: {key}", err=True)
            click.echo(page(settings), nl=False)
            return
        sys.exit(run(settings, config, ignored))
    except (ConfigError, CannotListen, CannotLog) as error:
        if not check:
            _tell(error)
        click.echo(str(error), err=True)
        sys.exit(1)


def _tell(error: Exception) -> None:
    """In the log, too: that is where an operator of Gorouter looks."""
    component_log.to_stdout("error", component_log.Form(epoch=True))
    log = logging.getLogger("router")
    if isinstance(error, ConfigError):
        log.error("Error loading config:", extra={"data": {"problems": error.problems}})
    else:
        log.error("gorouter.exited", extra={"data": {"error": str(error)}})
