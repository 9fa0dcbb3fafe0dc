"""The sections of Gorouter's configuration file: names, nesting, kinds and defaults (gorouter reference 8.1).

Where a default differs from Gorouter's, docs/compatibility.md has a row that says so. A field that Python cannot name
ends with an underscore; the key in the file does not (``pass_`` is ``pass``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from router.config.setting_kinds import Bound, Count, Matching, OneOf, Port, SecretText, Unsaid


@dataclass(frozen=True, slots=True)
class StatusTls:
    """/health over TLS, where there is a certificate."""

    port: Port = 8443
    """0 lets the system choose one; the log line ``starting`` names it."""
    certificate: str = ""
    """PEM: the certificate first, then what leads from it to its CA. Empty: /health is not served over TLS."""
    key: SecretText = ""
    """PEM: the key of certificate."""


@dataclass(frozen=True, slots=True)
class StatusRoutes:
    """/routes, and our own /metrics, on loopback."""

    port: Port = 8082
    """0 lets the system choose one. May be status.port where status.host is 127.0.0.1."""


@dataclass(frozen=True, slots=True)
class Status:
    """/health for load balancers, and the pages for people."""

    host: str = "0.0.0.0"
    """Where /health is served, plain and over TLS."""
    port: Port = 8080
    """Of the plain /health. 0 lets the system choose one; the log line ``starting`` names it."""
    enable_nontls_health_checks: bool = True
    """Serve the plain /health."""
    enable_deprecated_varz_healthz_endpoints: bool = False
    """On status.port /healthz, /varz and /routes as well, the last two with status.user and status.pass."""
    tls: StatusTls = field(default_factory=StatusTls)
    routes: StatusRoutes = field(default_factory=StatusRoutes)
    user: str = ""
    """Who may see /routes and /varz; empty, as status.pass: everybody who reaches the port."""
    pass_: SecretText = ""
    """The password of status.user."""


@dataclass(frozen=True, slots=True)
class Meters:
    """The upper bounds of histograms."""

    route_lookup_time_histogram_buckets: tuple[Bound, ...] = tuple(10_000.0 * n for n in range(1, 11))
    """Of route_lookup_time, nanoseconds."""
    gorouter_time_histogram_buckets: tuple[Bound, ...] = (1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000)
    """Of gorouter_time, milliseconds."""
    routing_response_latency_histogram_buckets: tuple[Bound, ...] = (1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000)
    """Of latency, milliseconds."""
    route_registration_latency_histogram_buckets: tuple[Bound, ...] = (0.1, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4)
    """Of route_registration_latency, milliseconds."""
    http_latency_histogram_buckets: tuple[Bound, ...] = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
    """Of http_latency_seconds, seconds."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Gorouter's metrics for Prometheus, on 127.0.0.1."""

    enabled: Annotated[bool | None, Unsaid()] = None
    """Whether they are served. Where the file does not say: if prometheus.port is given."""
    port: Port = 0
    """With enabled: true, 0 lets the system choose one; the log line ``starting`` names it."""
    cert_path: str = ""
    """Path of a PEM file with the port's certificate; with it, scrapers must show one that ca_path signed."""
    key_path: str = ""
    """Path of a PEM file with the key of cert_path."""
    ca_path: str = ""
    """Path of a PEM file with the CAs that may have signed the certificates of scrapers."""
    meters: Meters = field(default_factory=Meters)


@dataclass(frozen=True, slots=True)
class NatsHost:
    """One NATS server."""

    hostname: str = "localhost"
    """Name or address."""
    port: Port = 4222
    """Its port for clients."""


@dataclass(frozen=True, slots=True)
class Nats:
    """Where router.register messages come from."""

    hosts: tuple[NatsHost, ...] = ()
    """The servers. Empty: localhost:4222, and none where millrace.redis is set."""
    user: str = ""
    """Who the router is there."""
    pass_: SecretText = ""
    """The password of nats.user."""
    tls_enabled: bool = False
    """Speak TLS, and show cert_chain where it is given."""
    ca_certs: str = ""
    """PEM: CAs that may have signed the servers' certificates."""
    cert_chain: str = ""
    """PEM: the certificate that the router shows."""
    private_key: SecretText = ""
    """PEM: the key of cert_chain."""


@dataclass(frozen=True, slots=True)
class LogFormat:
    """How lines of the router's own log look."""

    timestamp: Annotated[str, OneOf(("unix-epoch", "rfc3339"))] = "unix-epoch"
    """``unix-epoch``: seconds with a fraction; ``rfc3339``: a date in UTC."""


_LEVEL_NAMES = ("debug", "info", "warn", "warning", "error", "dpanic", "panic", "fatal")
LEVELS = OneOf((*_LEVEL_NAMES, *(name.upper() for name in _LEVEL_NAMES)))
EXTRA_ACCESS_LOG_FIELDS = OneOf(
    ("backend_time", "dial_time", "dns_time", "failed_attempts", "failed_attempts_time", "local_address", "tls_time")
)


@dataclass(frozen=True, slots=True)
class Logging:
    """The router's own log on standard output, one JSON object per line; and what the access log holds."""

    level: Annotated[str, LEVELS] = "debug"
    """The least important lines that are still written."""
    format: LogFormat = field(default_factory=LogFormat)
    syslog: str = ""
    """What stands as source before the name of a component, and as application in syslog; empty: gorouter.stdout."""
    syslog_addr: str = "127.0.0.1:514"
    """Where the access log is streamed to, with access_log.enable_streaming."""
    syslog_network: Annotated[str, OneOf(("udp", "udp4", "udp6", "tcp", "tcp4", "tcp6"))] = "udp"
    """How."""
    syslog_truncate: Count = 0
    """The longest line sent there, bytes; 0 means no limit."""
    loggregator_enabled: bool = False
    """Send access log lines and metrics to metron_address."""
    metron_address: str = "localhost:3457"
    """Of the agent that takes dropsonde envelopes over UDP."""
    disable_log_forwarded_for: bool = False
    """Print ``-`` for X-Forwarded-For in the access log."""
    disable_log_source_ip: bool = False
    """Print ``-`` for the client's address in the access log."""
    redact_query_params: Annotated[str, OneOf(("none", "all", "hash"))] = "none"
    """Queries of GET requests in the access log: as they are, left out, or as a hash."""
    extra_access_log_fields: tuple[Annotated[str, EXTRA_ACCESS_LOG_FIELDS], ...] = ()
    """Further fields of the access log, in this order."""
    enable_attempts_details: bool = False
    """The older way to ask for the six fields about attempts."""


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """One line per exchange, in Gorouter's format."""

    file: str = ""
    """Path, appended to; ``-`` is standard output; empty means no access log."""
    enable_streaming: bool = False
    """Send each line to logging.syslog_addr as well."""


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Trace headers: a request goes on in its client's trace, or begins one."""

    enable_zipkin: bool = False
    """B3: the b3 header and the X-B3 ones."""
    enable_w3c: bool = False
    """W3C trace context: traceparent and tracestate."""
    w3c_tenant_id: Annotated[
        str,
        Matching(
            r"(?:[a-z0-9][a-z0-9_*/-]{0,240})?",
            "a tenant of W3C trace context: at most 241 lower-case letters, digits, _ - * /, first a letter or digit",
        ),
    ] = ""
    """Our entry in tracestate is then called <tenant>@gorouter."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What one request may ask of the endpoints of its route."""

    max_attempts: Count = 3
    """How many endpoints one request may try; 0 is read as 1."""
    max_conns: Count = 0
    """Exchanges in flight per endpoint and worker; 0 means no limit."""
    cert_chain: str = ""
    """PEM: the certificate that the router shows to endpoints that ask for one, and what leads from it to its CA."""
    private_key: SecretText = ""
    """PEM: the key of cert_chain."""


@dataclass(frozen=True, slots=True)
class RouteServices:
    """Requests that are sent to route services."""

    max_attempts: Count = 3
    """How often a request may be sent to a route service that cannot be reached; 0 is read as 1."""
    strict_signature_validation: bool = False
    """Refuse signatures that are not valid on routes without a route service too."""
    cert_chain: str = ""
    """PEM: the certificate that the router shows to route services that ask for one."""
    private_key: SecretText = ""
    """PEM: the key of cert_chain."""


@dataclass(frozen=True, slots=True)
class HeaderToAdd:
    """A header with its value."""

    name: str = ""
    """The header."""
    value: str = ""
    """Its value."""


@dataclass(frozen=True, slots=True)
class HeaderToRemove:
    """A header."""

    name: str = ""
    """The header."""


@dataclass(frozen=True, slots=True)
class RewriteResponses:
    """Of every response."""

    add_headers_if_not_present: tuple[HeaderToAdd, ...] = ()
    """Headers for responses that have none of the name."""
    remove_headers: tuple[HeaderToRemove, ...] = ()
    """Headers that clients do not see."""


@dataclass(frozen=True, slots=True)
class HttpRewrite:
    """Changes to headers."""

    responses: RewriteResponses = field(default_factory=RewriteResponses)


@dataclass(frozen=True, slots=True)
class OAuth:
    """Where the router gets its token for the Routing API."""

    token_endpoint: str = ""
    """Name of the UAA."""
    port: Port = 0
    """Its port for TLS."""
    client_name: str = ""
    """Who the router is there."""
    client_secret: SecretText = ""
    """The secret of client_name."""
    ca_certs: str = ""
    """Path of a PEM file with the CAs that may have signed its certificate."""
    skip_ssl_validation: bool = False
    """Do not check its certificate."""


@dataclass(frozen=True, slots=True)
class RoutingApi:
    """A second source of routes, asked where uri and port are set."""

    uri: str = ""
    """Such as https://routing-api.service.cf.internal."""
    port: Port = 0
    """Its port."""
    auth_disabled: bool = False
    """Ask without a token."""
    ca_certs: str = ""
    """PEM: CAs that may have signed its certificate."""
    cert_chain: str = ""
    """PEM: the certificate that the router shows."""
    private_key: SecretText = ""
    """PEM: the key of cert_chain."""


@dataclass(frozen=True, slots=True)
class DistinguishedName:
    """The subject of a certificate, whole."""

    country: tuple[str, ...] = ()
    """C."""
    organization: tuple[str, ...] = ()
    """O."""
    organizational_unit: tuple[str, ...] = ()
    """OU."""
    locality: tuple[str, ...] = ()
    """L."""
    province: tuple[str, ...] = ()
    """ST."""
    street_address: tuple[str, ...] = ()
    """STREET."""
    postal_code: tuple[str, ...] = ()
    """POSTALCODE."""
    common_name: str = ""
    """CN."""
    serial_number: str = ""
    """SERIALNUMBER."""


@dataclass(frozen=True, slots=True)
class MetadataRule:
    """Which subjects the certificates that one CA signed may have."""

    issuer_in_chain: DistinguishedName = field(default_factory=DistinguishedName)
    valid_cert_subjects: tuple[DistinguishedName, ...] = ()
    """The subjects allowed."""


@dataclass(frozen=True, slots=True)
class TlsPem:
    """One certificate with its key: as text, or as files that are watched, so that a renewed one is used at once."""

    cert_chain: str = ""
    """PEM: the certificate first, then what leads from it to its CA."""
    private_key: SecretText = ""
    """PEM: the key of cert_chain."""
    cert_file: str = ""
    """Path of a PEM file, instead of cert_chain."""
    key_file: str = ""
    """Path of a PEM file, instead of private_key; may be the same file as cert_file."""
