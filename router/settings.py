"""Every setting of the router, with its default. Keys that Gorouter has keep Gorouter's names.

Durations are seconds, sizes bytes. A setting of 0 means "no limit" only where it says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Status:
    """The status port: /health, /routes and /metrics, plain HTTP."""

    host: str = "127.0.0.1"
    port: int = 8082


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    file: str = ""
    """Path, appended to; ``-`` is standard output; empty means no access log."""


@dataclass(frozen=True, slots=True)
class Logging:
    level: str = "info"
    disable_log_forwarded_for: bool = False
    disable_log_source_ip: bool = False


@dataclass(frozen=True, slots=True)
class Backends:
    max_attempts: int = 3
    """How many endpoints one request may try."""
    max_conns: int = 0
    """Exchanges in flight per endpoint; 0 means no limit."""


@dataclass(frozen=True, slots=True)
class Native:
    """What Gorouter has no word for; lives under ``millrace:`` in the file."""

    address: str = "0.0.0.0"
    """Where the traffic port listens."""
    workers: int = 0
    """Worker processes; 0 means one per core."""
    redis: str = ""
    """URL of the registry's Redis: redis://, rediss://, redis+sentinel://, redis+cluster://, unix://."""
    namespace: str = "millrace"
    """The hash tag that all keys of the registry share."""
    data: str = ".millrace"
    """Folder of the table's snapshot."""
    max_request_target_bytes: int = 16 * 1024
    max_request_body_bytes: int = 0
    """0 means no limit."""
    retry_buffer_bytes: int = 64 * 1024
    """How much of a request body is held so that it can be sent again."""
    high_water_bytes: int = 64 * 1024
    """Unsent bytes per connection at which the faster side is paused."""
    response_header_timeout: float = 0.0
    """From the request's last byte to the response's first; 0 means endpoint_timeout alone bounds it."""
    body_progress_timeout: float = 60.0
    """The longest a started body, either way, may stand still."""
    backend_idle_timeout: float = 90.0
    """How long an unused connection to a backend is kept."""
    unsafe_reuse_seconds: float = 1.0
    """A request that must not be repeated is not sent on a connection that idled longer than this."""
    failed_endpoint_seconds: float = 30.0
    """How long an endpoint that failed is passed over."""
    forwarded_host: str = "pass"
    """X-Forwarded-Host: ``pass`` as it came (as Gorouter does), ``set`` to the request's host, ``remove``."""
    connect: bool = True
    """Whether CONNECT may open tunnels to registered routes."""
    max_connections: int = 0
    """Client connections per worker; 0 means as many as the file-descriptor limit allows."""


@dataclass(frozen=True, slots=True)
class Settings:
    port: int = 8081
    status: Status = field(default_factory=Status)
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)
    logging: Logging = field(default_factory=Logging)
    backends: Backends = field(default_factory=Backends)
    millrace: Native = field(default_factory=Native)
    balancing_algorithm: str = "round-robin"
    """``round-robin`` or ``least-connection``, where a route does not say."""
    force_forwarded_proto_https: bool = False
    sanitize_forwarded_proto: bool = False
    disable_keep_alives: bool = False
    max_idle_conns_per_host: int = 100
    endpoint_timeout: float = 900.0
    """The longest one attempt may take, response body included; 0 means no limit. Tunnels are exempt."""
    endpoint_dial_timeout: float = 5.0
    frontend_idle_timeout: float = 900.0
    read_header_timeout: float = 30.0
    drain_wait: float = 0.0
    drain_timeout: float = 900.0
    empty_pool_timeout: float = 60.0
    """How long a route whose last endpoint left answers 503 before it becomes unknown (404)."""
    max_request_header_bytes: int = 64 * 1024
    max_request_headers: int = 128
    max_response_header_bytes: int = 64 * 1024
    max_response_headers: int = 256
