"""Gorouter's configuration file, key by key (gorouter reference 8.1): name, kind, default, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.config_file import WITHOUT_EFFECT, ConfigError, parse, parse_noting
from router.config.settings import (
    DistinguishedName,
    HeaderToAdd,
    HeaderToRemove,
    MetadataRule,
    NatsHost,
    Settings,
    TlsPem,
    key_of,
)
from router.config.settings_rules import ATTEMPTS_DETAILS, check, completed
from router.sources.wanted import wanted
from tests.router.tls.authority import CA_PEM, HOST, entry, issue

FIXTURE: Final = Path(__file__).with_name("gorouter.yml")
OWN: Final = entry(issue(HOST, ecdsa=False))
"""The cipher suites in the file are those of RSA."""
COMPATIBILITY: Final = Path(__file__).parents[3] / "docs" / "compatibility.md"

API: Final = "routing_api: {uri: 'https://api.example.com', port: 1"
"""The beginning of a section."""
PORT: Final = {"9000": 9000, "0": 0, "65535": 65535}
NOT_A_PORT: Final = ("-1", "65536", "1.5", "x", "'80'", "[1]", "{}")
BOOL: Final = {"true": True, "false": False, "on": True, "no": False}
NOT_A_BOOL: Final = ("1", "maybe", "'true'", "[]", "{}")
DURATION: Final = {"1m30s": 90.0, '"500ms"': 0.5, "0s": 0.0, "2h": 7200.0}
NOT_A_DURATION: Final = ("0", "30", "soon", "30 s", "true", "[]", "{}")
TEXT: Final = {"word": "word", '"two words"': "two words", "22": "22", "yes": "yes", "''": ""}
NOT_TEXT: Final = ("[]", "{}", "[a]")
COUNT: Final = {"0": 0, "7": 7}
NOT_A_COUNT: Final = ("-1", "1.5", "x", "true", "[]", "{}")
SIZE: Final = {"0": 0, "1048576": 1048576, "1MiB": 1048576}
NOT_A_SIZE: Final = ("-1", "1.5", "12", "64kB", "[]", "{}")
TEXTS: Final = {"[]": (), "[a, '*.b', 3]": ("a", "*.b", "3"), "\n- a\n- b": ("a", "b")}
NOT_TEXTS: Final = ("a", "{}", "[[]]", "[{}]")
BUCKETS: Final = {"[1, 2.5, 1e3]": (1.0, 2.5, 1000.0), "[.5]": (0.5,)}
NOT_BUCKETS: Final = ("1", "[x]", "[-1]", "[.inf]", "[.nan]", "{}")

STEPS: Final = (1, 2, 4, 6, 8, 10, 20, 40, 50, 100, 500, 1000)


def choice(*names: str) -> dict[str, str]:
    return {name: name for name in names}


class Key(NamedTuple):
    """One key of section 8.1. Items of a list are written ``tls_pem[].cert_chain``."""

    path: str
    default: Any
    given: dict[str, Any]
    """What a file may say, and what that means."""
    refused: tuple[str, ...]
    ours: bool = False
    """The default differs from Gorouter's, and docs/compatibility.md says so."""


def pem(path: str) -> Key:
    return Key(path, "", {"'a pem'": "a pem", "|\n    a\n    b": "a\nb\n"}, NOT_TEXT)


LEVELS: Final = choice("debug", "info", "warn", "warning", "error", "dpanic", "panic", "fatal", "INFO", "ERROR")
NOT_CHOSEN: Final = ("other", "''", "[]", "{}")
DN: Final = "{country: [DE], organization: [O], common_name: c}"
A_NAME: Final = DistinguishedName(country=("DE",), organization=("O",), common_name="c")

KEYS: Final = (
    Key("port", 8081, PORT, NOT_A_PORT),
    Key("disable_http", False, BOOL, NOT_A_BOOL),
    Key("enable_ssl", False, BOOL, NOT_A_BOOL),
    Key("ssl_port", 443, PORT, NOT_A_PORT),
    Key(
        "tls_pem",
        (),
        {"[]": (), "[{cert_chain: a, private_key: b}]": (TlsPem("a", "b"),)},
        ("a", "{}", "[a]", "[[]]", "[{cert_chain: []}]", "[{private_key: {}}]"),
    ),
    Key("cipher_suites", "", TEXT, NOT_TEXT, ours=True),
    Key("min_tls_version", "TLSv1.2", choice("TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"), NOT_CHOSEN),
    Key("max_tls_version", "TLSv1.3", choice("TLSv1.2", "TLSv1.3"), NOT_CHOSEN, ours=True),
    Key("client_cert_validation", "none", choice("none", "request", "require"), NOT_CHOSEN, ours=True),
    Key("ca_certs", (), TEXTS, NOT_TEXTS),
    pem("client_ca_certs"),
    Key("only_trust_client_ca_certs", False, BOOL, NOT_A_BOOL),
    Key("enable_verify_client_certificate_metadata", False, BOOL, NOT_A_BOOL),
    Key(
        "verify_client_certificate_metadata",
        (),
        {
            "[]": (),
            f"[{{issuer_in_chain: {DN}, valid_cert_subjects: [{DN}]}}]": (MetadataRule(A_NAME, (A_NAME,)),),
            "[{issuer_in_chain: {organizational_unit: [u], locality: [l], province: [p], street_address: [s], "
            "postal_code: [1], serial_number: 2}}]": (
                MetadataRule(DistinguishedName((), (), ("u",), ("l",), ("p",), ("s",), ("1",), "", "2")),
            ),
        },
        ("a", "{}", "[a]", "[{issuer_in_chain: a}]", "[{issuer_in_chain: {country: DE}}]"),
    ),
    Key("skip_ssl_validation", False, BOOL, NOT_A_BOOL),
    Key("tls_handshake_timeout", 10.0, DURATION, NOT_A_DURATION),
    Key("forwarded_client_cert", "always_forward", choice("always_forward", "forward", "sanitize_set"), NOT_CHOSEN),
    Key("force_forwarded_proto_https", False, BOOL, NOT_A_BOOL),
    Key("sanitize_forwarded_proto", False, BOOL, NOT_A_BOOL),
    Key("hop_by_hop_headers_to_filter", (), TEXTS, NOT_TEXTS),
    Key("enable_proxy", False, BOOL, NOT_A_BOOL),
    Key("enable_http2", True, BOOL, NOT_A_BOOL),
    Key("enable_http1_concurrent_read_write", False, BOOL, NOT_A_BOOL),
    Key("status.host", "0.0.0.0", TEXT, NOT_TEXT),
    Key("status.port", 8080, PORT, NOT_A_PORT),
    Key("status.enable_nontls_health_checks", True, BOOL, NOT_A_BOOL),
    Key("status.enable_deprecated_varz_healthz_endpoints", False, BOOL, NOT_A_BOOL),
    Key("status.tls.port", 8443, PORT, NOT_A_PORT),
    pem("status.tls.certificate"),
    pem("status.tls.key"),
    Key("status.user", "", TEXT, NOT_TEXT),
    Key("status.pass", "", TEXT, NOT_TEXT),
    Key("status.routes.port", 8082, PORT, NOT_A_PORT),
    Key("prometheus.enabled", None, BOOL, NOT_A_BOOL, ours=True),
    Key("prometheus.port", 0, PORT, NOT_A_PORT),
    Key("prometheus.cert_path", "", TEXT, NOT_TEXT),
    Key("prometheus.key_path", "", TEXT, NOT_TEXT),
    Key("prometheus.ca_path", "", TEXT, NOT_TEXT),
    Key(
        "prometheus.meters.route_lookup_time_histogram_buckets",
        (10e3, 20e3, 30e3, 40e3, 50e3, 60e3, 70e3, 80e3, 90e3, 100e3),
        BUCKETS,
        NOT_BUCKETS,
    ),
    Key("prometheus.meters.gorouter_time_histogram_buckets", STEPS, BUCKETS, NOT_BUCKETS),
    Key("prometheus.meters.routing_response_latency_histogram_buckets", STEPS, BUCKETS, NOT_BUCKETS),
    Key(
        "prometheus.meters.route_registration_latency_histogram_buckets",
        (0.1, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4),
        BUCKETS,
        NOT_BUCKETS,
    ),
    Key(
        "prometheus.meters.http_latency_histogram_buckets",
        tuple(0.1 * 2**n for n in range(9)),
        BUCKETS,
        NOT_BUCKETS,
    ),
    Key(
        "nats.hosts",
        (),
        {"[]": (), "[{hostname: n, port: 4223}, {}]": (NatsHost("n", 4223), NatsHost("localhost", 4222))},
        ("n", "{}", "[n]", "[{port: x}]"),
    ),
    Key("nats.user", "", TEXT, NOT_TEXT),
    Key("nats.pass", "", TEXT, NOT_TEXT),
    Key("nats.tls_enabled", False, BOOL, NOT_A_BOOL),
    pem("nats.ca_certs"),
    pem("nats.cert_chain"),
    pem("nats.private_key"),
    Key("nats_client_ping_interval", 20.0, {"20s": 20.0, "500ms": 0.5}, (*NOT_A_DURATION, "0s")),
    Key("logging.level", "debug", LEVELS, NOT_CHOSEN),
    Key("logging.format.timestamp", "unix-epoch", choice("unix-epoch", "rfc3339"), NOT_CHOSEN),
    Key("logging.syslog", "", TEXT, NOT_TEXT),
    Key("logging.syslog_addr", "127.0.0.1:514", TEXT, NOT_TEXT),
    Key("logging.syslog_network", "udp", choice("udp", "tcp"), NOT_CHOSEN),
    Key("logging.syslog_truncate", 0, COUNT, NOT_A_COUNT),
    Key("logging.loggregator_enabled", False, BOOL, NOT_A_BOOL),
    Key("logging.metron_address", "localhost:3457", TEXT, NOT_TEXT),
    Key("logging.disable_log_forwarded_for", False, BOOL, NOT_A_BOOL),
    Key("logging.disable_log_source_ip", False, BOOL, NOT_A_BOOL),
    Key("logging.redact_query_params", "none", choice("none", "all", "hash"), NOT_CHOSEN),
    Key(
        "logging.extra_access_log_fields",
        (),
        {
            "[]": (),
            "[local_address, dns_time]": ("local_address", "dns_time"),
            "[backend_time, dial_time, failed_attempts, failed_attempts_time, tls_time]": (
                "backend_time",
                "dial_time",
                "failed_attempts",
                "failed_attempts_time",
                "tls_time",
            ),
        },
        ("dns_time", "[other]", "{}"),
    ),
    Key("logging.enable_attempts_details", False, BOOL, NOT_A_BOOL),
    Key("access_log.file", "", TEXT, NOT_TEXT),
    Key("access_log.enable_streaming", False, BOOL, NOT_A_BOOL),
    Key("extra_headers_to_log", (), TEXTS, NOT_TEXTS),
    Key(
        "debug_addr",
        "",
        {a: a for a in ("127.0.0.1:17002", "localhost:0", ":17002", "'[::1]:17002'")}
        | {"'[::1]:17002'": "[::1]:17002", "''": ""},
        ("17002", "localhost", "'a b:1'", "[]"),
    ),
    Key("index", 0, COUNT, NOT_A_COUNT),
    Key("zone", "", TEXT, NOT_TEXT),
    Key("go_max_procs", -1, {"-1": -1, "0": 0, "4": 4}, ("-2", "1.5", "x", "[]")),
    Key("tracing.enable_zipkin", False, BOOL, NOT_A_BOOL),
    Key("tracing.enable_w3c", False, BOOL, NOT_A_BOOL),
    Key("tracing.w3c_tenant_id", "", {"tenant": "tenant", "''": ""}, ("[]", "{}")),
    Key("trace_key", "", TEXT, NOT_TEXT),
    Key("isolation_segments", (), TEXTS, NOT_TEXTS),
    Key("routing_table_sharding_mode", "all", choice("all", "segments", "shared-and-segments"), NOT_CHOSEN),
    Key("suspend_pruning_if_nats_unavailable", False, BOOL, NOT_A_BOOL),
    Key("prune_stale_droplets_interval", 30.0, DURATION, NOT_A_DURATION),
    Key("droplet_stale_threshold", 120.0, {"2m": 120.0}, (*NOT_A_DURATION, "0s")),
    Key("start_response_delay_interval", 5.0, DURATION, NOT_A_DURATION),
    Key("publish_active_apps_interval", 0.0, DURATION, NOT_A_DURATION),
    Key("endpoint_timeout", 0.0, DURATION, NOT_A_DURATION, ours=True),
    Key("endpoint_dial_timeout", 5.0, DURATION, NOT_A_DURATION),
    Key("endpoint_keep_alive_probe_interval", 1.0, DURATION, NOT_A_DURATION),
    Key("frontend_idle_timeout", 900.0, DURATION, NOT_A_DURATION),
    Key("read_header_timeout", 30.0, DURATION, NOT_A_DURATION, ours=True),
    Key("route_latency_metric_muzzle_duration", 20.0, DURATION, NOT_A_DURATION),
    Key("drain_wait", 0.0, DURATION, NOT_A_DURATION),
    Key("drain_timeout", 0.0, DURATION, NOT_A_DURATION),
    Key("secure_cookies", False, BOOL, NOT_A_BOOL),
    Key("sticky_session_cookie_names", ("JSESSIONID",), TEXTS, NOT_TEXTS),
    Key("sticky_sessions_for_auth_negotiate", False, BOOL, NOT_A_BOOL),
    Key("healthcheck_user_agent", "HTTP-Monitor/1.1", TEXT, NOT_TEXT),
    Key("balancing_algorithm", "round-robin", choice("round-robin", "least-connection"), (*NOT_CHOSEN, "hash")),
    Key("balancing_algorithm_az_preference", "none", choice("none", "locally-optimistic"), NOT_CHOSEN),
    Key("disable_keep_alives", False, BOOL, NOT_A_BOOL, ours=True),
    Key("max_idle_conns", 0, COUNT, NOT_A_COUNT, ours=True),
    Key("max_idle_conns_per_host", 1024, COUNT, NOT_A_COUNT, ours=True),
    Key("max_request_header_bytes", 65536, SIZE, NOT_A_SIZE, ours=True),
    Key("max_header_bytes", 0, SIZE, NOT_A_SIZE, ours=True),
    Key("max_response_header_bytes", 65536, SIZE, NOT_A_SIZE, ours=True),
    Key("max_request_headers", 128, COUNT, NOT_A_COUNT, ours=True),
    Key("max_response_headers", 256, COUNT, NOT_A_COUNT, ours=True),
    Key("keep_alive_100_continue_requests", False, BOOL, NOT_A_BOOL),
    Key("backends.max_conns", 0, COUNT, NOT_A_COUNT),
    Key("backends.max_attempts", 3, COUNT, NOT_A_COUNT, ours=True),
    pem("backends.cert_chain"),
    pem("backends.private_key"),
    Key("route_services.max_attempts", 3, COUNT, NOT_A_COUNT, ours=True),
    Key("route_services.strict_signature_validation", False, BOOL, NOT_A_BOOL),
    pem("route_services.cert_chain"),
    pem("route_services.private_key"),
    Key("route_services_secret", "", TEXT, NOT_TEXT),
    Key("route_services_secret_decrypt_only", "", TEXT, NOT_TEXT),
    Key("route_services_timeout", 60.0, DURATION, NOT_A_DURATION),
    Key("route_services_recommend_https", False, BOOL, NOT_A_BOOL),
    Key("route_services_hairpinning", False, BOOL, NOT_A_BOOL),
    Key("route_services_hairpinning_allowlist", (), TEXTS, NOT_TEXTS),
    Key("route_services_internal_server_port", 7070, PORT, NOT_A_PORT),
    Key(
        "http_rewrite.responses.add_headers_if_not_present",
        (),
        {"[]": (), "[{name: A, value: b}]": (HeaderToAdd("A", "b"),)},
        ("a", "{}", "[a]", "[{name: []}]"),
    ),
    Key(
        "http_rewrite.responses.remove_headers",
        (),
        {"[]": (), "[{name: A}]": (HeaderToRemove("A"),)},
        ("a", "{}", "[a]", "[{name: []}]"),
    ),
    Key("empty_pool_response_code_503", True, BOOL, NOT_A_BOOL, ours=True),
    Key("empty_pool_timeout", 60.0, DURATION, NOT_A_DURATION, ours=True),
    Key("html_error_template_file", "", TEXT, NOT_TEXT),
    Key("oauth.token_endpoint", "", TEXT, NOT_TEXT),
    Key("oauth.port", 0, PORT, NOT_A_PORT),
    Key("oauth.client_name", "", TEXT, NOT_TEXT),
    Key("oauth.client_secret", "", TEXT, NOT_TEXT),
    Key("oauth.ca_certs", "", TEXT, NOT_TEXT),
    Key("oauth.skip_ssl_validation", False, BOOL, NOT_A_BOOL),
    Key("routing_api.uri", "", TEXT, NOT_TEXT),
    Key("routing_api.port", 0, PORT, NOT_A_PORT),
    Key("routing_api.auth_disabled", False, BOOL, NOT_A_BOOL),
    pem("routing_api.ca_certs"),
    pem("routing_api.cert_chain"),
    pem("routing_api.private_key"),
    Key("token_fetcher_max_retries", 3, COUNT, NOT_A_COUNT),
    Key("token_fetcher_retry_interval", 5.0, DURATION, NOT_A_DURATION),
    Key("token_fetcher_expiration_buffer_time", 30, COUNT, (*NOT_A_COUNT, "30s")),
    Key("per_request_metrics_reporting", True, BOOL, NOT_A_BOOL),
    Key("enable_envelope_v1_metrics", True, BOOL, NOT_A_BOOL),
    Key("send_http_start_stop_server_event", True, BOOL, NOT_A_BOOL),
    Key("send_http_start_stop_client_event", True, BOOL, NOT_A_BOOL),
    Key("per_app_prometheus_http_metrics_reporting", False, BOOL, NOT_A_BOOL),
)


def text_of(path: str, value: str) -> str:
    """A file that says one thing."""
    *sections, last = path.split(".")
    opening = "".join(f"{'  ' * depth}{section}:\n" for depth, section in enumerate(sections))
    shift = "  " * len(sections)
    value = value.replace("\n", f"\n{shift}")
    return f"{opening}{shift}{last}: {value}\n"


def value_at(whole: Settings, path: str) -> Any:
    value: Any = whole
    for name in path.split("."):
        value = getattr(value, f"{name}_" if name == "pass" else name)
    return value


def paths(kind: Any, before: str = "") -> list[str]:
    """Every key of a settings class that holds a value or a list."""
    found = []
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        path = f"{before}{key_of(field)}"
        hint = hints[field.name]
        found += paths(hint, f"{path}.") if dataclasses.is_dataclass(hint) else [path]
    return found


def test_every_key_of_the_settings_is_in_this_table_once() -> None:
    assert sorted(key.path for key in KEYS) == sorted(p for p in paths(Settings) if not p.startswith("millrace."))


@pytest.mark.parametrize("key", KEYS, ids=[key.path for key in KEYS])
class TestEachKey:
    def test_has_gorouters_default_or_a_row_that_says_why_not(self, key: Key) -> None:
        default = value_at(Settings(), key.path)
        assert default == (pytest.approx(key.default) if isinstance(default, tuple | float) else key.default)
        if key.ours:
            assert f"`{key.path}" in COMPATIBILITY.read_text()

    def test_means_what_the_file_says(self, key: Key) -> None:
        for text, value in key.given.items():
            found = value_at(parse(text_of(key.path, text), "f"), key.path)
            assert (found, type(found)) == (value, type(value)), text

    def test_changes_nothing_else(self, key: Key) -> None:
        text = next(iter(key.given))
        parsed = parse(text_of(key.path, text), "f")
        others = [path for path in paths(Settings) if path != key.path]
        assert [path for path in others if value_at(parsed, path) != value_at(Settings(), path)] == []

    def test_refuses_other_values_with_its_name_and_line(self, key: Key) -> None:
        for text in key.refused:
            with pytest.raises(ConfigError) as caught:
                parse(text_of(key.path, text), "f")
            assert len(caught.value.problems) == 1, text
            assert re.match(rf"f:\d+: {re.escape(key.path)}", caught.value.problems[0]), text

    def test_without_a_value_keeps_its_default(self, key: Key) -> None:
        assert parse(text_of(key.path, ""), "f") == Settings()


def bosh(**changes: str) -> str:
    """The file that a BOSH deployment has; ``changes`` are keys at its top with other values."""
    text = FIXTURE.read_text()
    for name, pem_text in {"certificate": OWN.cert_chain + CA_PEM, "key": OWN.private_key}.items():
        lines = pem_text.rstrip().splitlines()
        indented = {depth: "\n".join(" " * depth + line for line in lines) for depth in range(10)}
        text = re.sub(rf"^( *)\{{{name}\}}$", lambda m, by=indented: by[len(m[1])], text, flags=re.M)
    for key, value in changes.items():
        text, times = re.subn(rf"^{key}:.*$", f"{key}: {value}", text, flags=re.M)
        assert times == 1, key
    return text


class TestAFileOfABoshDeployment:
    def test_is_taken_whole(self) -> None:
        _, ignored = parse_noting(bosh(), "gorouter.yml")
        assert {key.key for key in ignored} <= WITHOUT_EFFECT
        check(completed(parse(bosh(), "gorouter.yml")))

    def test_holds_every_key(self) -> None:
        import yaml

        tree = yaml.safe_load(bosh())
        missing = []
        for path in (key.path for key in KEYS):
            place = tree
            for name in path.split("."):
                if name not in place:
                    missing.append(path)
                    break
                place = place[name]
        assert missing == ["status.host"], "which no property of the job sets"

    def test_means_what_it_says(self) -> None:
        whole = completed(parse(bosh(), "gorouter.yml"))
        assert (whole.status.user, whole.status.pass_) == ("router-status", "12345")
        assert whole.trace_key == "22"
        assert whole.nats.hosts[1] == NatsHost("1.nats.service.cf.internal", 4224)
        assert whole.tls_pem[0].private_key == OWN.private_key
        assert whole.tls_pem[0].cert_chain == OWN.cert_chain + CA_PEM
        assert whole.http_rewrite.responses.remove_headers == (HeaderToRemove("X-Vcap-Request-Id"),)
        assert whole.max_request_header_bytes == 1024 * 1024
        assert (whole.drain_timeout, whole.empty_pool_timeout, whole.max_idle_conns_per_host) == (900.0, 0.0, 100)
        assert wanted(whole) == (False, True, True)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"routing_table_sharding_mode": "segments"}, "routing_table_sharding_mode: segments takes in"),
            ({"cipher_suites": "ECDHE-RSA-AES128-GCM-SHA256:NULL"}, "cipher_suites: NULL is no cipher suite"),
            ({"min_tls_version": "TLSv1.3"}, "min_tls_version: TLSv1.3 is above max_tls_version"),
            ({"enable_proxy": "true"}, "enable_proxy is on, but millrace.proxy_trusted names nobody"),
        ],
    )
    def test_what_makes_no_router_is_said(self, changes: dict[str, str], said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            check(completed(parse(bosh(**changes), "gorouter.yml")))
        assert [problem[: len(said)] for problem in caught.value.problems] == [said]

    @pytest.mark.parametrize(
        ("section", "cert", "key"),
        [
            ("backends", "cert_chain", "private_key"),
            ("route_services", "cert_chain", "private_key"),
            ("nats", "cert_chain", "private_key"),
            ("routing_api", "cert_chain", "private_key"),
            ("status.tls", "certificate", "key"),
        ],
    )
    def test_a_certificate_without_its_key_is_said(self, section: str, cert: str, key: str) -> None:
        broken = parse(text_of(f"{section}.{cert}", '"x"'), "f")
        with pytest.raises(ConfigError) as caught:
            check(completed(broken))
        assert caught.value.problems == [f"{section}.{key} is not set, but {section}.{cert} is; give both or neither"]


class TestWhatFollowsFromOtherKeys:
    @pytest.mark.parametrize(
        ("text", "path", "value"),
        [
            ("drain_wait: 0s", "drain_timeout", 900.0),
            ("endpoint_timeout: 15s", "drain_timeout", 15.0),
            ("endpoint_timeout: 15s\ndrain_timeout: 20s", "drain_timeout", 20.0),
            ("max_header_bytes: 2MiB", "max_request_header_bytes", 2 * 1024 * 1024),
            ("max_header_bytes: 2MiB\nmax_request_header_bytes: 1MiB", "max_request_header_bytes", 1024 * 1024),
            ("max_request_header_bytes: 0", "max_request_header_bytes", 65536),
            ("max_response_header_bytes: 0", "max_response_header_bytes", 65536),
            ("max_request_headers: 0", "max_request_headers", 128),
            ("max_response_headers: 0", "max_response_headers", 256),
            ("backends: {max_attempts: 0}", "backends.max_attempts", 1),
            ("route_services: {max_attempts: 0}", "route_services.max_attempts", 1),
            ("logging: {enable_attempts_details: true}", "logging.extra_access_log_fields", ATTEMPTS_DETAILS),
            (
                "logging: {enable_attempts_details: true, extra_access_log_fields: [dns_time]}",
                "logging.extra_access_log_fields",
                ("dns_time",),
            ),
            ("start_response_delay_interval: 3m", "droplet_stale_threshold", 180.0),
            ("empty_pool_response_code_503: false", "empty_pool_timeout", 0.0),
            ("max_idle_conns: 100", "max_idle_conns_per_host", 100),
            ("max_idle_conns: 100\nmax_idle_conns_per_host: 2", "max_idle_conns_per_host", 2),
            ("nats: {}", "nats.hosts", (NatsHost("localhost", 4222),)),
            ("millrace: {redis: 'redis://h'}", "nats.hosts", ()),
        ],
    )
    def test_values(self, text: str, path: str, value: Any) -> None:
        once = completed(parse(text, "f"))
        assert value_at(once, path) == value
        assert completed(once) == once

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("disable_http: true", "disable_http: without enable_ssl no traffic port is left"),
            ("enable_ssl: true", "tls_pem is empty, but enable_ssl needs a certificate"),
            ("ca_certs: [x]", "ca_certs[0]: is no certificate"),
            ("client_ca_certs: x", "client_ca_certs: is no certificate"),
            ("nats: {ca_certs: x}", "nats.ca_certs: is no certificate"),
            (f"{API}, ca_certs: x, auth_disabled: true}}", "routing_api.ca_certs: is no cert"),
            (f"{API}}}", "oauth.token_endpoint, oauth.port: UAA client requires TLS enabled"),
            ("routing_api: {uri: u, port: 1, auth_disabled: true}", "routing_api.uri: a URL such as https://"),
            (
                "prometheus: {meters: {gorouter_time_histogram_buckets: [2, 1]}}",
                "prometheus.meters.gorouter_time_histogram_buckets: give numbers that rise",
            ),
        ],
    )
    def test_what_makes_no_router(self, text: str, said: str) -> None:
        with pytest.raises(ConfigError) as caught:
            check(completed(parse(text, "f")))
        assert [problem[: len(said)] for problem in caught.value.problems] == [said]


class TestSources:
    @pytest.mark.parametrize(
        ("text", "sources"),
        [
            ("", (False, True, False)),
            ("millrace: {redis: 'redis://h'}", (True, False, False)),
            ("millrace: {redis: 'redis://h'}\nnats: {hosts: [{hostname: n}]}", (True, True, False)),
            ("routing_api: {uri: u, port: 1}", (False, False, True)),
            ("routing_api: {uri: u, port: 1}\nnats: {hosts: [{hostname: n}]}", (False, True, True)),
            ("routing_api: {uri: u, port: 1}\nmillrace: {redis: 'redis://h'}", (True, False, True)),
            ("routing_api: {uri: u}", (False, True, False)),
        ],
    )
    def test_which_are_followed(self, text: str, sources: tuple[bool, bool, bool]) -> None:
        assert wanted(completed(parse(text, "f"))) == sources


_NAMES: Final = st.sampled_from([key.path for key in KEYS])
_VALUES: Final = st.sampled_from(sorted({value for key in KEYS for value in (*key.given, *key.refused)}))


@settings(max_examples=200, deadline=None)
@given(_NAMES, _VALUES)
def test_any_key_with_any_value_is_taken_or_refused_by_name(path: str, value: str) -> None:
    try:
        completed(parse(text_of(path, value), "f"))
    except ConfigError as error:
        unnamed = [problem for problem in error.problems if path not in problem]
    else:
        unnamed = []
    assert unnamed == []
