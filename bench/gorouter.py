"""Gorouter as a peer, where GOROUTER_BIN and NATS_SERVER_BIN name the two programs it takes.

It learns its one route the way it always does, by a ``router.register`` message on NATS. It must never prune it while
it is measured, so the stale threshold outlasts any run.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from bench import bosh
from bench.machine import BenchError, first_line
from bench.programs import Program, free_port
from bench.proxied import answers
from bench.proxy import IDLE_CONNECTIONS, Proxy, Site
from bench.scenarios import HOST
from bench.subject import discard

PROGRAMS = ("GOROUTER_BIN", "NATS_SERVER_BIN")


class Gorouter(Proxy):
    name = "gorouter"
    logs = True

    def missing(self) -> str:
        for variable in PROGRAMS:
            path = os.environ.get(variable, "")
            if not path:
                return f"{variable} is not set ({' and '.join(PROGRAMS)} name the two programs it takes)"
            if not os.access(path, os.X_OK):
                return f"{variable}={path} is not a program"
        return ""

    def version(self) -> str:
        return (
            f"{os.environ['GOROUTER_BIN']} (tells no version), {first_line(os.environ['NATS_SERVER_BIN'], '--version')}"
        )

    def start(self, site: Site, stack: ExitStack) -> Program:
        nats_port = free_port()
        nats_argv = [os.environ["NATS_SERVER_BIN"], "-a", "127.0.0.1", "-p", str(nats_port)]
        stack.enter_context(Program("nats-server", nats_argv, site.folder, site.cores.load)).wait_for_port(nats_port)
        argv = [os.environ["GOROUTER_BIN"], "-c", str(self._write_config(site, nats_port, discard(stack)))]
        program = stack.enter_context(Program(self.name, argv, site.folder, site.cores.proxy))
        program.wait_for_port(site.port)

        def registered() -> bool:
            register(nats_port, site.backend_port)
            return answers(site.port)

        program.wait_until(registered, 15, "served the registered route")
        return program

    @staticmethod
    def _write_config(site: Site, nats_port: int, metron_port: int) -> Path:
        path = site.folder / "gorouter.yml"
        config: dict[str, Any] = {
            "port": site.port,
            "status": {"host": "127.0.0.1", "port": free_port(), "routes": {"port": free_port()}},
            "nats": {"hosts": [{"hostname": "127.0.0.1", "port": nats_port}]},
            "logging": {"level": "error"},
            "go_max_procs": 1,
            "start_response_delay_interval": "0s",
            "droplet_stale_threshold": "24h",
            "disable_keep_alives": False,
            "max_idle_conns": IDLE_CONNECTIONS,
            "max_idle_conns_per_host": IDLE_CONNECTIONS,
            "send_http_start_stop_server_event": False,
            "send_http_start_stop_client_event": False,
        }
        if site.scenario.logged:
            config |= bosh.settings(site, metron_port)
        path.write_text(yaml.safe_dump(config))
        return path


def register(nats_port: int, backend_port: int) -> None:
    """Publish the one route; the answer to PING says that the server has it (NATS client protocol).

    Raises BenchError: the server hung up.
    """
    message = json.dumps({"host": "127.0.0.1", "port": backend_port, "uris": [HOST], "app": "bench"}).encode()
    with socket.create_connection(("127.0.0.1", nats_port), 5) as connection:
        published = b'CONNECT {"verbose":false}\r\nPUB router.register %d\r\n%b\r\nPING\r\n' % (len(message), message)
        connection.sendall(published)
        received = b""
        while b"PONG\r\n" not in received:
            chunk = connection.recv(4096)
            if not chunk:
                raise BenchError(f"the NATS server refused the route: {received.decode(errors='replace')}")
            received += chunk
