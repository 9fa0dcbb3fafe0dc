"""Every setting of the router, with its default and what it may be. Keys that Gorouter has keep Gorouter's names.

This is the one place that describes a setting: its type says what a configuration file may hold (`router.config` reads
these types and knows no key by name), and the text below it is what `millrace router --check` prints. In the program
durations are seconds and sizes bytes. A setting of 0 means "no limit" only where it says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_type_hints


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes: in the file a whole number, or one with KiB, MiB or GiB."""

    low: int = 0


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds: in the file a Go duration such as ``500ms``, ``30s`` or ``1m30s``."""

    zero: bool = True
    """Whether 0s is allowed."""


@dataclass(frozen=True, slots=True)
class OneOf:
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matching:
    """Text that matches a pattern; ``what`` says in words what the pattern asks for."""

    pattern: str
    what: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Text that is never shown to anybody."""


Port = Annotated[int, Whole(0, 65535)]
Count = Annotated[int, Whole(0, 1_000_000)]
PositiveCount = Annotated[int, Whole(1, 1_000_000)]
Bytes = Annotated[int, Size()]
HeadBytes = Annotated[int, Size(low=1024)]
Seconds = Annotated[float, Duration()]
PositiveSeconds = Annotated[float, Duration(zero=False)]
TlsVersion = OneOf(("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"))


@dataclass(frozen=True, slots=True)
class Status:
    """The status port: /health, /routes and /metrics, plain HTTP."""

    host: str = "127.0.0.1"
    """Where the status port listens."""
    port: Port = 8082
    """0 lets the system choose one; the log line ``starting`` names it."""


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """One line per exchange, in Gorouter's format."""

    file: str = ""
    """Path, appended to; ``-`` is standard output; empty means no access log."""


@dataclass(frozen=True, slots=True)
class Logging:
    """The router's own log on standard output, one JSON object per line; and what the access log leaves out."""

    level: Annotated[str, OneOf(("debug", "info", "warn", "error"))] = "info"
    """The least important lines that are still written."""
    disable_log_forwarded_for: bool = False
    """Print ``-`` for X-Forwarded-For in the access log."""
    disable_log_source_ip: bool = False
    """Print ``-`` for the client's address in the access log."""


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

    max_attempts: PositiveCount = 3
    """How many endpoints one request may try."""
    max_conns: Count = 0
    """Exchanges in flight per endpoint; 0 means no limit."""
    cert_chain: str = ""
    """PEM: the certificate that the router shows to endpoints that ask for one, and what leads from it to its CA."""
    private_key: Annotated[str, Secret()] = ""
    """PEM: the key of cert_chain."""


@dataclass(frozen=True, slots=True)
class TlsPem:
    """One certificate with its key: as text, or as files that are watched, so that a renewed one is used at once."""

    cert_chain: str = ""
    """PEM: the certificate first, then what leads from it to its CA."""
    private_key: Annotated[str, Secret()] = ""
    """PEM: the key of cert_chain."""
    cert_file: str = ""
    """Path of a PEM file, instead of cert_chain."""
    key_file: str = ""
    """Path of a PEM file, instead of private_key; may be the same file as cert_file."""


@dataclass(frozen=True, slots=True)
class Native:
    """What Gorouter has no word for."""

    address: str = "0.0.0.0"
    """Where the traffic port listens."""
    workers: Annotated[int, Whole(0, 256)] = 0
    """Worker processes; 0 means one per core."""
    redis: Annotated[
        str,
        Matching(
            r"(?:(?:rediss?|redis\+sentinel|redis\+cluster|unix)://.+)?",
            "a URL that begins with redis://, rediss://, redis+sentinel://, redis+cluster:// or unix://",
        ),
    ] = ""
    """Where the route registry lives."""
    namespace: Annotated[
        str, Matching(r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, hyphens, underscores")
    ] = "millrace"
    """The hash tag that all keys of the registry share."""
    data: Annotated[str, Matching(r".+", "the path of a folder")] = ".millrace"
    """Folder of the table's snapshot."""
    max_request_target_bytes: HeadBytes = 16 * 1024
    """Longest path and query together; a longer one is answered 414."""
    max_http2_streams: PositiveCount = 250
    """Requests in flight per HTTP/2 connection from a client."""
    max_request_body_bytes: Bytes = 0
    """The longest request body; 0 means no limit."""
    retry_buffer_bytes: Bytes = 64 * 1024
    """How much of a request body is held so that it can be sent again."""
    pipeline_buffer_bytes: HeadBytes = 64 * 1024
    """How much of a client's next requests may wait behind the one that is being answered."""
    response_header_timeout: Seconds = 900.0
    """From the sending of a request to its response's head; 0 means no limit of its own."""
    body_progress_timeout: PositiveSeconds = 60.0
    """The longest a started body, either way, may stand still."""
    backend_idle_timeout: Seconds = 90.0
    """How long an unused connection to a backend is kept."""
    unsafe_reuse_seconds: Seconds = 1.0
    """A request that must not be repeated is not sent on a connection that idled longer than this."""
    failed_endpoint_seconds: Seconds = 0.0
    """How long an endpoint that failed is passed over; 0s means a quarter of droplet_stale_threshold."""
    forwarded_host: Annotated[str, OneOf(("pass", "set", "remove"))] = "pass"
    """X-Forwarded-Host: ``pass`` as it came (as Gorouter does), ``set`` to the request's host, ``remove``."""
    connect: bool = True
    """Whether CONNECT may open tunnels to registered routes."""
    tunnel_idle_timeout: Seconds = 3600.0
    """How long a tunnel (CONNECT, an upgrade, a TCP route) may carry no byte either way; 0 means no limit."""
    tunnel_max_lifetime: Seconds = 0.0
    """The longest a tunnel may last, busy or not; 0 means no limit."""
    tls_handshake_timeout: PositiveSeconds = 10.0
    """How long a client may take for its TLS handshake, from its connection on."""
    max_connections: Annotated[int, Whole(0, 10_000_000)] = 0
    """Client connections per worker; 0 means as many as the file-descriptor limit allows."""
    tcp_ports: Annotated[
        str, Matching(r"(?:[0-9]+(?:-[0-9]+)?(?:, *[0-9]+(?:-[0-9]+)?)*)?", "ports such as 1024-1033,5432")
    ] = ""
    """Ports for TCP routes, opened on millrace.address: 1,000 at most. Empty: there are no TCP routes."""
    proxy_trusted: Annotated[
        str, Matching(r"[0-9A-Fa-f.:/, ]*", "addresses and networks such as 10.0.0.0/8, 192.0.2.7, fd00::/8")
    ] = ""
    """Peers whose PROXY headers are believed where enable_proxy is on; 0.0.0.0/0, ::/0 is everybody, as in Gorouter."""
    proxy_required: bool = False
    """Reset a connection of a trusted peer that does not begin with a PROXY header."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file."""

    port: Port = 8081
    """The traffic port. 0 lets the system choose one; the log line ``starting`` names it."""
    status: Status = field(default_factory=Status)
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)
    logging: Logging = field(default_factory=Logging)
    backends: Backends = field(default_factory=Backends)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    millrace: Native = field(default_factory=Native)
    disable_http: bool = False
    """Do not open the traffic port, only ssl_port."""
    enable_ssl: bool = False
    """Serve HTTPS on ssl_port."""
    ssl_port: Port = 443
    """The HTTPS port. 0 lets the system choose one; the log line ``starting`` names it."""
    tls_pem: tuple[TlsPem, ...] = ()
    """Certificates, chosen by the server name a client asks for: the exact name, else a wildcard, else the first."""
    cipher_suites: str = ""
    """Cipher suites up to TLS 1.2, OpenSSL's or IANA's names with colons between; empty: those with forward secrecy."""
    min_tls_version: Annotated[str, TlsVersion] = "TLSv1.2"
    """The oldest version of TLS that clients may speak."""
    max_tls_version: Annotated[str, TlsVersion] = "TLSv1.3"
    """The newest version of TLS that clients may speak."""
    client_cert_validation: Annotated[str, OneOf(("none", "request", "require"))] = "none"
    """Certificates of clients: not asked for; asked for, and checked if one is shown; or required."""
    client_ca_certs: str = ""
    """PEM: CAs that may have signed the certificates of clients."""
    only_trust_client_ca_certs: bool = False
    """Trust certificates of clients by client_ca_certs alone, not by the system's CAs and ca_certs as well."""
    ca_certs: tuple[str, ...] = ()
    """PEM: CAs that may have signed the certificates of endpoints, besides the system's."""
    tls_handshake_timeout: PositiveSeconds = 10.0
    """The longest a TLS handshake with an endpoint may take."""
    enable_http2: bool = True
    """HTTP/2 with clients that speak TLS, and with endpoints registered with protocol http2 and a tls_port."""
    balancing_algorithm: Annotated[str, OneOf(("round-robin", "least-connection"))] = "round-robin"
    """``round-robin`` or ``least-connection``, where a route does not say."""
    balancing_algorithm_az_preference: Annotated[str, OneOf(("none", "locally-optimistic"))] = "none"
    """``locally-optimistic``: endpoints of this router's zone are asked first."""
    zone: str = ""
    """The availability zone that this router is in."""
    sticky_session_cookie_names: tuple[str, ...] = ("JSESSIONID",)
    """Cookies of applications that begin a sticky session."""
    sticky_sessions_for_auth_negotiate: bool = False
    """Keep the steps of a Negotiate authentication (Kerberos, NTLM) on one instance."""
    secure_cookies: bool = False
    """Mark the router's own cookie as Secure, whatever the application's says."""
    droplet_stale_threshold: PositiveSeconds = 120.0
    """How long an endpoint stays that its registrar does not announce again."""
    isolation_segments: tuple[str, ...] = ()
    """The isolation segments that routing_table_sharding_mode speaks of."""
    routing_table_sharding_mode: Annotated[str, OneOf(("all", "segments", "shared-and-segments"))] = "all"
    """Endpoints taken in: all, those of isolation_segments, or these and those without a segment."""
    enable_proxy: bool = False
    """PROXY headers, version 1 or 2, on every traffic port, TCP ports too, from the peers in millrace.proxy_trusted."""
    force_forwarded_proto_https: bool = False
    """X-Forwarded-Proto always says https."""
    sanitize_forwarded_proto: bool = False
    """X-Forwarded-Proto says how this router was reached, whatever the client claims."""
    disable_keep_alives: bool = False
    """A connection to a backend serves one request."""
    max_idle_conns_per_host: Count = 1024
    """Unused connections kept per backend: as many as were in use at once, up to this."""
    endpoint_timeout: Seconds = 0.0
    """The longest one attempt may take, response body included; 0 means no limit. Tunnels are exempt."""
    endpoint_dial_timeout: PositiveSeconds = 5.0
    """The longest the opening of a connection to a backend may take."""
    frontend_idle_timeout: PositiveSeconds = 900.0
    """How long a client connection may wait between two requests."""
    read_header_timeout: PositiveSeconds = 30.0
    """From a request's first byte to the end of its head."""
    drain_wait: Seconds = 0.0
    """On SIGUSR1: how long the router goes on as before while /health already says 503."""
    drain_timeout: Seconds = 900.0
    """The longest a drain or a roll waits for exchanges in flight; what is left then is cut off."""
    empty_pool_timeout: Seconds = 60.0
    """How long a route whose last endpoint left answers 503 before it becomes unknown (404)."""
    max_request_header_bytes: HeadBytes = 64 * 1024
    """Request line and headers together."""
    max_request_headers: PositiveCount = 128
    """Header lines of a request."""
    max_response_header_bytes: HeadBytes = 64 * 1024
    """Status line and headers together."""
    max_response_headers: PositiveCount = 256
    """Header lines of a response."""


def from_plain(kind: type[Any], plain: dict[str, Any]) -> Any:
    """A settings dataclass again from what `dataclasses.asdict` made of it."""
    hints = get_type_hints(kind)
    return kind(**{k: _value_from_plain(hints[k], v) for k, v in plain.items()})


def _value_from_plain(hint: Any, plain: Any) -> Any:
    if isinstance(plain, dict):
        return from_plain(hint, plain)
    if isinstance(plain, list | tuple):
        return tuple(_value_from_plain(get_args(hint)[0], item) for item in plain)
    return plain
