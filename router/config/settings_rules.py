"""What settings mean together: values that follow from others, and combinations that make no router.

Applied once, between reading a file and starting: everything after that reads settings as ``completed`` leaves them.
Must never look outside the settings, but for the certificates and files that they name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from router.config.config_file import ConfigError
from router.config.settings import NatsHost, Settings
from router.heads import rewriting
from router.logs import syslog
from router.processes.listening import tcp_ports
from router.proxy_layer import networks
from router.registry.connect import InvalidRedisUrl, parse
from router.route_services.hairpin import Allowlist
from router.sources.http_client import parse_origin
from router.tls import check as tls_check

NO_ENDPOINT_TIMEOUT_DRAIN: Final = 900.0
"""Seconds that a drain may last where neither drain_timeout nor endpoint_timeout says."""
ATTEMPTS_DETAILS: Final = (
    "failed_attempts",
    "failed_attempts_time",
    "dns_time",
    "dial_time",
    "tls_time",
    "backend_time",
)
"""What logging.enable_attempts_details asks for, in its order."""


def completed(settings: Settings) -> Settings:
    """The settings in effect. Completing them once more changes nothing."""
    defaults = Settings()
    logging, nats = settings.logging, settings.nats
    if logging.enable_attempts_details and not logging.extra_access_log_fields:
        logging = replace(logging, extra_access_log_fields=ATTEMPTS_DETAILS)
    if not nats.hosts and not settings.millrace.redis and not asks_routing_api(settings):
        nats = replace(nats, hosts=(NatsHost(),))
    request_head = settings.max_request_header_bytes
    if request_head in (0, defaults.max_request_header_bytes):
        request_head = settings.max_header_bytes or defaults.max_request_header_bytes
    return replace(
        settings,
        logging=logging,
        nats=nats,
        backends=replace(settings.backends, max_attempts=settings.backends.max_attempts or 1),
        route_services=replace(settings.route_services, max_attempts=settings.route_services.max_attempts or 1),
        max_request_header_bytes=request_head,
        max_request_headers=settings.max_request_headers or defaults.max_request_headers,
        max_response_header_bytes=settings.max_response_header_bytes or defaults.max_response_header_bytes,
        max_response_headers=settings.max_response_headers or defaults.max_response_headers,
        drain_timeout=settings.drain_timeout or settings.endpoint_timeout or NO_ENDPOINT_TIMEOUT_DRAIN,
        droplet_stale_threshold=max(settings.droplet_stale_threshold, settings.start_response_delay_interval),
        empty_pool_timeout=settings.empty_pool_timeout if settings.empty_pool_response_code_503 else 0.0,
        max_idle_conns_per_host=min(
            settings.max_idle_conns_per_host, settings.max_idle_conns or settings.max_idle_conns_per_host
        ),
    )


def check(settings: Settings) -> None:
    """What no single value shows: whether these settings make a router. Raises ConfigError."""
    if problems := _problems(settings):
        raise ConfigError(problems)


def _problems(settings: Settings) -> list[str]:
    found: list[str] = []
    if settings.millrace.redis:
        try:
            parse(settings.millrace.redis)
        except InvalidRedisUrl as error:
            found.append(f"millrace.redis: {error}")
    if settings.access_log.enable_streaming:
        try:
            syslog.receiver(settings.logging.syslog_addr)
        except ValueError as error:
            found.append(f"logging.syslog_addr: {error}")
    if settings.logging.loggregator_enabled:
        try:
            syslog.receiver(settings.logging.metron_address)
        except ValueError as error:
            found.append(f"logging.metron_address: {error}")
    found += tls_check.problems(settings)
    found += rewriting.problems(settings.http_rewrite)
    try:
        tcp_ports(settings.millrace.tcp_ports)
    except ValueError as error:
        found.append(f"millrace.tcp_ports: {error}")
    found += _proxy_problems(settings)
    try:
        Allowlist(settings.route_services_hairpinning_allowlist)
    except ValueError as error:
        found.append(f"route_services_hairpinning_allowlist: {error}")
    if settings.routing_table_sharding_mode == "segments" and not settings.isolation_segments:
        found.append(
            "routing_table_sharding_mode: segments takes in the endpoints of isolation_segments, which is empty; "
            "name some there, or choose all or shared-and-segments"
        )
    for name, buckets in _buckets(settings):
        if not buckets or list(buckets) != sorted(set(buckets)):
            found.append(f"prometheus.meters.{name}: give numbers that rise")
    if asks_routing_api(settings):
        found += _routing_api_problems(settings)
    return found


def asks_routing_api(settings: Settings) -> bool:
    """Whether the Routing API is a source of routes."""
    return bool(settings.routing_api.uri and settings.routing_api.port)


def _routing_api_problems(settings: Settings) -> list[str]:
    found = []
    try:
        parse_origin(settings.routing_api.uri, settings.routing_api.port, None)
    except ValueError as error:
        found.append(f"routing_api.uri: {error}")
    if not settings.routing_api.auth_disabled and not (settings.oauth.port and settings.oauth.token_endpoint):
        found.append(
            "oauth.token_endpoint, oauth.port: UAA client requires TLS enabled; say where the UAA is, "
            "or set routing_api.auth_disabled"
        )
    return found


def _proxy_problems(settings: Settings) -> list[str]:
    try:
        trusted = networks(settings.millrace.proxy_trusted)
    except ValueError as error:
        return [f"millrace.proxy_trusted: {error}"]
    if settings.enable_proxy and not trusted:
        return [
            "enable_proxy is on, but millrace.proxy_trusted names nobody whose PROXY headers are believed: "
            "list your load balancers, such as 10.0.0.0/8, or, as Gorouter does, everybody: 0.0.0.0/0, ::/0"
        ]
    return []


def _buckets(settings: Settings) -> list[tuple[str, tuple[float, ...]]]:
    meters = settings.prometheus.meters
    return [(name, getattr(meters, name)) for name in type(meters).__dataclass_fields__]
