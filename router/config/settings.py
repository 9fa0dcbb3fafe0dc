"""Every setting of the router, with its default and what it may be. Keys that Gorouter has keep Gorouter's names.

A setting's type says what a configuration file may hold (`router.config.config_file` reads these types and knows no key
by name), and the text below it is what `millrace router --check` prints. In the program durations are seconds and sizes
bytes. A setting of 0 means "no limit" only where it says so. What one setting means for another is
`router.config.settings_rules`.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from typing import Annotated, Any, get_args, get_type_hints

from router.config.setting_kinds import (
    Bytes,
    Count,
    Duration,
    HeadBytes,
    HeadBytesOrZero,
    Matching,
    Number,
    OneOf,
    Port,
    PositiveCount,
    PositiveSeconds,
    Seconds,
    Secret,
    SecretText,
    Size,
    Unsaid,
    Whole,
)
from router.config.setting_sections import (
    AccessLogSettings,
    Backends,
    DistinguishedName,
    HeaderToAdd,
    HeaderToRemove,
    HttpRewrite,
    LogFormat,
    Logging,
    MetadataRule,
    Meters,
    Nats,
    NatsHost,
    OAuth,
    Prometheus,
    RewriteResponses,
    RouteServices,
    RoutingApi,
    Status,
    StatusRoutes,
    StatusTls,
    TlsPem,
    TracingSettings,
)

TlsVersion = OneOf(("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"))


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
    html_error_template: str = ""
    """The text of a Go template for the router's own error answers, instead of html_error_template_file."""
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
    header_names: Annotated[str, OneOf(("canonical", "as_received"))] = "canonical"
    """Header names on HTTP/1, both ways: ``canonical`` as Go writes them (as Gorouter does), or ``as_received``."""
    header_order: Annotated[str, OneOf(("as_received", "sorted"))] = "as_received"
    """Headers on HTTP/1: in their sender's order and ours behind, or ``sorted`` by name (as Gorouter does)."""
    prune_failed_tls_endpoints: bool = False
    """Take an endpoint out of the table when it fails its TLS handshake (as Gorouter does), not just pass it over."""
    route_service_max_hops: Count = 8
    """How many route services one request may pass before it is refused as a loop; 0 means no limit."""
    access_log_local_time: bool = False
    """Access log times in local time with a Z (as Gorouter does), not in UTC."""
    request_log_limit: Count = 1000
    """Lines about single requests in the router's own log, a second and worker; 0 means no limit."""
    gorouter_time_bucket_unit: Annotated[str, OneOf(("ms", "s"))] = "ms"
    """The unit of prometheus.meters.gorouter_time_histogram_buckets; the metric itself is in seconds."""
    syslog_format: Annotated[str, OneOf(("rfc5424", "gorouter"))] = "rfc5424"
    """How streamed lines begin; ``gorouter`` leaves the structured data out, as Gorouter does."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole file."""

    port: Port = 8081
    """The traffic port. 0 lets the system choose one; the log line ``starting`` names it."""
    status: Status = field(default_factory=Status)
    prometheus: Prometheus = field(default_factory=Prometheus)
    nats: Nats = field(default_factory=Nats)
    nats_client_ping_interval: PositiveSeconds = 20.0
    """How often the router asks the NATS server whether it is there."""
    routing_api: RoutingApi = field(default_factory=RoutingApi)
    oauth: OAuth = field(default_factory=OAuth)
    token_fetcher_max_retries: Count = 3
    """How often a token is asked for again."""
    token_fetcher_retry_interval: Seconds = 5.0
    """The pause before each time."""
    token_fetcher_expiration_buffer_time: Count = 30
    """How many seconds before its end a token is no longer used."""
    access_log: AccessLogSettings = field(default_factory=AccessLogSettings)
    extra_headers_to_log: tuple[str, ...] = ()
    """Request headers that the access log shows as well."""
    logging: Logging = field(default_factory=Logging)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    backends: Backends = field(default_factory=Backends)
    route_services: RouteServices = field(default_factory=RouteServices)
    route_services_secret: SecretText = ""
    """What signs requests to route services; empty: routes with a route service are not served."""
    route_services_secret_decrypt_only: SecretText = ""
    """An older route_services_secret, still good for checking what comes back."""
    route_services_timeout: Seconds = 60.0
    """How old a signature may be when a request comes back."""
    route_services_recommend_https: bool = False
    """X-CF-Forwarded-Url says https."""
    route_services_hairpinning: bool = False
    """Requests to route services that are routes of this router do not leave it."""
    route_services_hairpinning_allowlist: tuple[str, ...] = ()
    """Host names that route_services_hairpinning is for, also such as *.example.com; empty means all."""
    route_services_internal_server_port: Port = 7070
    """Of Gorouter's loopback listener for route_services_hairpinning."""
    http_rewrite: HttpRewrite = field(default_factory=HttpRewrite)
    html_error_template_file: str = ""
    """Path of a Go template for the router's own error answers."""
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
    enable_verify_client_certificate_metadata: bool = False
    """Check the subjects of clients' certificates by verify_client_certificate_metadata."""
    verify_client_certificate_metadata: tuple[MetadataRule, ...] = ()
    """Which subjects are allowed under which CA."""
    ca_certs: tuple[str, ...] = ()
    """PEM: CAs that may have signed the certificates of endpoints and route services, besides the system's."""
    skip_ssl_validation: bool = False
    """Do not check the certificates of route services."""
    tls_handshake_timeout: Seconds = 10.0
    """The longest a TLS handshake with an endpoint may take; 0 means no limit."""
    forwarded_client_cert: Annotated[str, OneOf(("always_forward", "forward", "sanitize_set"))] = "always_forward"
    """X-Forwarded-Client-Cert: as it came, only from clients with a certificate, or set to the certificate shown."""
    hop_by_hop_headers_to_filter: tuple[str, ...] = ()
    """Headers that a request's Connection header cannot have removed, besides those that it never can."""
    enable_http2: bool = True
    """HTTP/2 with clients that speak TLS, and with endpoints registered with protocol http2 and a tls_port."""
    enable_http1_concurrent_read_write: bool = False
    """Gorouter's switch for responses that begin before their request's end. Here that is always possible."""
    balancing_algorithm: Annotated[str, OneOf(("round-robin", "least-connection"))] = "round-robin"
    """``round-robin`` or ``least-connection``, where a route does not say."""
    balancing_algorithm_az_preference: Annotated[str, OneOf(("none", "locally-optimistic"))] = "none"
    """``locally-optimistic``: endpoints of this router's zone are asked first."""
    zone: str = ""
    """The availability zone that this router is in."""
    index: Annotated[int, Whole(0, 2**31 - 1)] = 0
    """The number of this router among its like."""
    go_max_procs: Annotated[int, Whole(-1, 256)] = -1
    """Worker processes, where millrace.workers does not say; -1 and 0 mean one per core."""
    sticky_session_cookie_names: tuple[str, ...] = ("JSESSIONID",)
    """Cookies of applications that begin a sticky session."""
    sticky_sessions_for_auth_negotiate: bool = False
    """Keep the steps of a Negotiate authentication (Kerberos, NTLM) on one instance."""
    secure_cookies: bool = False
    """Mark the router's own cookie as Secure, whatever the application's says."""
    prune_stale_droplets_interval: Seconds = 30.0
    """How often it is looked for endpoints that were not announced again; 0 means never."""
    droplet_stale_threshold: PositiveSeconds = 120.0
    """How long an endpoint stays that its registrar does not announce again."""
    suspend_pruning_if_nats_unavailable: bool = False
    """Without NATS, keep endpoints that were not announced again."""
    start_response_delay_interval: Seconds = 5.0
    """Between the first word to NATS and the opening of the traffic ports."""
    publish_active_apps_interval: Seconds = 0.0
    """How often the apps that had requests are told to NATS; 0 means never."""
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
    trace_key: SecretText = ""
    """A request whose X-Vcap-Trace header says this is answered with the addresses of router and endpoint."""
    healthcheck_user_agent: str = "HTTP-Monitor/1.1"
    """Requests with exactly this User-Agent are answered as /health is, on the traffic ports."""
    debug_addr: Annotated[
        str, Matching(r"(?:(?:\[[0-9A-Fa-f:.]+\]|[^:\s]*):[0-9]{1,5})?", "host and port such as 127.0.0.1:17002")
    ] = ""
    """Where /log-level and the stacks of all processes are shown; empty means nowhere."""
    disable_keep_alives: bool = False
    """A connection to a backend serves one request."""
    max_idle_conns: Count = 0
    """A second bound on unused connections per backend; 0 means that max_idle_conns_per_host is the only one."""
    max_idle_conns_per_host: Count = 1024
    """Unused connections kept per backend: as many as were in use at once, up to this."""
    keep_alive_100_continue_requests: bool = False
    """Keep a connection to a backend after a request with Expect: 100-continue."""
    endpoint_timeout: Seconds = 0.0
    """The longest one attempt may take, response body included; 0 means no limit. Tunnels are exempt."""
    endpoint_dial_timeout: Seconds = 5.0
    """The longest the opening of a connection to a backend may take; 0 means no limit."""
    endpoint_keep_alive_probe_interval: Seconds = 1.0
    """How often the kernel asks a silent backend whether it is there."""
    frontend_idle_timeout: Seconds = 900.0
    """How long a client connection may wait between two requests; 0 means no limit."""
    read_header_timeout: Seconds = 30.0
    """From a request's first byte to the end of its head; 0 means no limit."""
    drain_wait: Seconds = 0.0
    """On SIGUSR1: how long the router goes on as before while /health already says 503."""
    drain_timeout: Seconds = 0.0
    """The longest a drain or a roll waits for exchanges in flight; 0 means endpoint_timeout, or 900s without one."""
    empty_pool_response_code_503: bool = True
    """A route whose last endpoint left answers 503 for empty_pool_timeout."""
    empty_pool_timeout: Seconds = 60.0
    """How long a route whose last endpoint left answers 503 before it becomes unknown (404)."""
    max_request_header_bytes: HeadBytesOrZero = 64 * 1024
    """Request line and headers together; 0 means 64KiB."""
    max_header_bytes: HeadBytesOrZero = 0
    """The older name of max_request_header_bytes; 0 means that this one holds."""
    max_request_headers: Count = 128
    """Header lines of a request; 0 means 128."""
    max_response_header_bytes: HeadBytesOrZero = 64 * 1024
    """Status line and headers together; 0 means 64KiB."""
    max_response_headers: Count = 256
    """Header lines of a response; 0 means 256."""
    route_latency_metric_muzzle_duration: Seconds = 20.0
    """After the start: how long route_registration_latency is not measured."""
    per_request_metrics_reporting: bool = True
    """Send latency, route_lookup_time and gorouter_time of each request."""
    enable_envelope_v1_metrics: bool = True
    """Send metrics to logging.metron_address."""
    send_http_start_stop_server_event: bool = True
    """Send an event for each request."""
    send_http_start_stop_client_event: bool = True
    """Send an event for each attempt at a backend."""
    per_app_prometheus_http_metrics_reporting: bool = False
    """Measure http_latency_seconds for each app."""


def key_of(field: Field[Any]) -> str:
    """What a field is called in a file: Python cannot name a field ``pass``."""
    return field.name.removesuffix("_")


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


__all__ = [
    "AccessLogSettings",
    "Backends",
    "Count",
    "DistinguishedName",
    "Duration",
    "HeaderToAdd",
    "HeaderToRemove",
    "HttpRewrite",
    "LogFormat",
    "Logging",
    "Matching",
    "MetadataRule",
    "Meters",
    "Native",
    "Nats",
    "NatsHost",
    "Number",
    "OAuth",
    "OneOf",
    "Prometheus",
    "RewriteResponses",
    "RouteServices",
    "RoutingApi",
    "Secret",
    "Settings",
    "Size",
    "Status",
    "StatusRoutes",
    "StatusTls",
    "TlsPem",
    "TracingSettings",
    "Unsaid",
    "Whole",
    "from_plain",
    "key_of",
]
