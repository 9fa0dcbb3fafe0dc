"""What can be measured: a proxy, the place where one is set up, and programs that read a configuration file.

It must never know one peer from another.
"""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.machine import Cores, first_line
from bench.programs import Program, free_port
from bench.scenarios import PLAIN, Scenario
from director.local_ca import Identity

IDLE_CONNECTIONS = 4096
"""Idle backend connections that each proxy may keep: more than any scenario has clients."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where one proxy is set up."""

    folder: Path
    port: int
    backend_port: int
    cores: Cores
    identity: Identity | None = None
    """Where the port speaks TLS: the certificate to show."""
    scenario: Scenario = PLAIN
    """What it is set up for."""

    @property
    def scheme(self) -> str:
        return "https" if self.identity else "http"

    @property
    def http2(self) -> bool:
        """Whether the port speaks HTTP/2: by ALPN with TLS, else by prior knowledge."""
        return self.scenario.http2

    @property
    def access_log(self) -> Path:
        return self.folder / "access.log"

    @property
    def combined_pem(self) -> Path:
        """Certificate and key in one file, for who wants them so."""
        assert self.identity
        path = self.folder / "combined.pem"
        path.write_bytes(self.identity.chain.read_bytes() + self.identity.key.read_bytes())
        path.chmod(0o600)
        return path


class Proxy(ABC):
    """Something that can be measured."""

    name: ClassVar[str]
    gap: ClassVar[str] = ""
    """The part of the work that it cannot do."""

    logs: ClassVar[bool] = False
    """Whether it is set up to keep an access log where a scenario asks for one."""

    def lacks(self, scenario: Scenario) -> str:
        """Why it cannot run a scenario; empty when it can."""
        return "its access log is not set up here" if scenario.logged and not self.logs else ""

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot be measured here; empty when it can."""

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def start(self, site: Site, stack: ExitStack) -> Program:
        """Start it and all it needs, each ended by ``stack``; return the process whose tree is measured.

        Raises BenchError when it does not start.
        """


def executable(name: str) -> str | None:
    """The path of a program: beside this Python (where packages put them) or on PATH."""
    return shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


class ConfiguredProxy(Proxy):
    """A peer that reads one file and is one program of the same name."""

    config_file: ClassVar[str]
    package: ClassVar[str]
    """How to get it."""
    version_arguments: ClassVar[tuple[str, ...]]
    environment: ClassVar[dict[str, str]] = {}

    def missing(self) -> str:
        return "" if executable(self.name) else f"no {self.name} on PATH ({self.package})"

    def version(self) -> str:
        return first_line(self.path, *self.version_arguments).removeprefix(self.path).strip()

    @property
    def path(self) -> str:
        return executable(self.name) or self.name

    @abstractmethod
    def config(self, site: Site) -> str:
        """The text of its configuration."""

    @abstractmethod
    def run_arguments(self, config: Path) -> list[str]: ...

    @abstractmethod
    def check_arguments(self, config: Path) -> list[str] | None:
        """The arguments with which it checks a configuration and ends; None when it has no such mode."""

    def write_config(self, site: Site) -> Path:
        path = site.folder / self.config_file
        path.write_text(self.config(site))
        return path

    def start(self, site: Site, stack: ExitStack) -> Program:
        argv = [self.path, *self.run_arguments(self.write_config(site))]
        environment = {"HOME": str(site.folder), **self.environment}
        program = stack.enter_context(Program(self.name, argv, site.folder, site.cores.proxy, environment))
        program.wait_for_port(site.port)
        return program


def new_site(
    folder: Path,
    name: str,
    backend_port: int,
    cores: Cores,
    scenario: Scenario = PLAIN,
    identity: Identity | None = None,
) -> Site:
    """A folder and a port of its own for one proxy, set up for a scenario; ``identity`` serves where it wants TLS."""
    own = folder / name
    own.mkdir()
    shown = identity if scenario.tls else None
    return Site(own, free_port(), backend_port, cores, shown, scenario)
