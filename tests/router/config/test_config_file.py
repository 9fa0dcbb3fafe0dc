"""A configuration file: what it may hold, and how everything that is wrong with it is said at once, with its line."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config.config_file import (
    WITHOUT_EFFECT,
    ConfigError,
    IgnoredKey,
    duration_text,
    load,
    parse,
    parse_noting,
    seconds,
    size,
    size_text,
)
from router.config.config_page import HIDDEN, page
from router.config.setting_kinds import Duration, Matching, Number, OneOf, Secret, Size, Unsaid, Whole
from router.config.settings import Native, Settings, Status, TlsPem, from_plain

REDIS = "redis://127.0.0.1:6379/0"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "router.yml")
    return caught.value.problems


def problem(text: str) -> str:
    [only] = problems(text)
    return only


class TestWhatAFileMayHold:
    @pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "status:\n", "\ufeff"])
    def test_nothing_means_the_defaults(self, text: str, tmp_path: Path) -> None:
        file = tmp_path / "router.yml"
        file.write_text(text, encoding="utf-8")
        assert load(file) == Settings()

    def test_every_kind_of_value(self) -> None:
        parsed = parse(
            """
            port: 80
            status: {host: 0.0.0.0, port: 0}
            endpoint_timeout: 1m30s
            read_header_timeout: "500ms"
            force_forwarded_proto_https: yes
            balancing_algorithm: least-connection
            max_request_header_bytes: 1 MiB
            millrace:
              redis: redis://127.0.0.1:6379/0
              pipeline_buffer_bytes: 131072
              connect: false
            """,
            "router.yml",
        )
        assert (parsed.port, parsed.status.host, parsed.status.port) == (80, "0.0.0.0", 0)
        assert (parsed.endpoint_timeout, parsed.read_header_timeout) == (90.0, 0.5)
        assert parsed.force_forwarded_proto_https is True
        assert parsed.balancing_algorithm == "least-connection"
        assert parsed.max_request_header_bytes == 1024 * 1024
        native = dataclasses.replace(Native(), redis=REDIS, pipeline_buffer_bytes=131072, connect=False)
        assert parsed.millrace == native

    def test_lists_of_texts_and_of_sections(self) -> None:
        text = """
ca_certs: ["one", "two"]
tls_pem:
- cert_chain: |
    several
    lines
  private_key: "key"
- {cert_file: a.pem, key_file: b.pem}
"""
        parsed = parse(text, "router.yml")
        assert parsed.ca_certs == ("one", "two")
        assert parsed.tls_pem == (
            TlsPem(cert_chain="several\nlines\n", private_key="key"),
            TlsPem(cert_file="a.pem", key_file="b.pem"),
        )

    def test_what_is_not_given_keeps_its_default(self) -> None:
        assert parse("port: 80", "f") == dataclasses.replace(Settings(), port=80)


class TestWhatIsWrong:
    def test_everything_is_said_at_once_in_the_order_of_the_file(self) -> None:
        said = problems("zone: []\nport: x\nstatus:\n  host: {}\n  port: -1\nmillrace: 5\n")
        assert [re.sub(r": .*", "", p) for p in said] == [f"router.yml:{line}" for line in (1, 2, 4, 5, 6)]

    def test_an_unknown_key_is_named_with_the_closest_known_one_and_all_allowed_ones(self) -> None:
        said = problem("millrace:\n  wrokers: 4\n")
        assert said.startswith("router.yml:2: unknown key millrace.wrokers; did you mean millrace.workers?")
        assert "Allowed under millrace: address, workers, redis" in said

    def test_a_key_like_no_other_gets_no_guess(self) -> None:
        assert problem("millrace: {zzzzzz: 1}\n").startswith("router.yml:1: unknown key millrace.zzzzzz. Allowed")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("port: 65536", "port: '65536' is not allowed; give a whole number from 0 to 65535"),
            ("port: 0x50", "port: '0x50' is not allowed; give a whole number from 0 to 65535"),
            ("port: '80'", "port: '80' is not allowed; give a whole number from 0 to 65535"),
            ("port: [80]", "port: a whole number from 0 to 65535 is wanted, not a list"),
            (
                "millrace: {workers: }",
                "millrace.workers: has no value; give a whole number from 0 to 256, or remove the line for the default",
            ),
            ("ca_certs: [~]", "ca_certs[0]: has no value; give text"),
            ("zone: [a]", "zone: text is wanted, not a list"),
            (
                "prometheus: {meters: {gorouter_time_histogram_buckets: [.inf]}}",
                "prometheus.meters.gorouter_time_histogram_buckets[0]: '.inf' is not allowed; give a number from 0 on",
            ),
            (
                "debug_addr: localhost",
                "debug_addr: 'localhost' is not allowed; give host and port such as 127.0.0.1:17002",
            ),
            ("ca_certs: one", "ca_certs holds a list, each item on a line that begins with `- `, not 'one'"),
            ("ca_certs: [{}]", "ca_certs[0]: text is wanted, not further keys"),
            (
                "tls_pem: {cert_chain: a}",
                "tls_pem holds a list, each item on a line that begins with `- `, not further keys",
            ),
            (
                "tls_pem: [a]",
                "tls_pem[0] holds further keys (cert_chain, private_key, cert_file, key_file), not 'a'",
            ),
            ("tls_pem: [{private_key: [5]}]", "tls_pem[0].private_key: text is wanted, not a list"),
            ("drain_wait: 30", "drain_wait: '30' has no unit; give a duration such as 500ms, 30s or 1m30s"),
            ("drain_wait: soon", "drain_wait: 'soon' is not a duration such as 500ms, 30s or 1m30s"),
            ("drain_wait: -1s", "drain_wait: '-1s' is not a duration such as 500ms, 30s or 1m30s"),
            (
                "droplet_stale_threshold: 0s",
                "droplet_stale_threshold: '0s' is not allowed; give a duration such as 500ms, 30s or 1m30s, above 0s",
            ),
            (
                "balancing_algorithm: random",
                "balancing_algorithm: 'random' is not allowed; give one of round-robin, least-connection",
            ),
            (
                "max_response_header_bytes: 64kB",
                "max_response_header_bytes: '64kB' is not a number of bytes such as 65536, 64KiB or 1MiB",
            ),
            (
                "max_response_header_bytes: 12",
                "max_response_header_bytes: '12' is not allowed; "
                "give a number of bytes such as 65536, 64KiB or 1MiB, at least 1024",
            ),
            ("disable_keep_alives: 1", "disable_keep_alives: '1' is not allowed; give true or false"),
            ("millrace: {address: 127}", "millrace.address: '127' is read as int; put it in quotes"),
            ("status: {routes: 8082}", "status.routes holds further keys (port), not '8082'"),
            (
                "millrace: {redis: localhost}",
                "millrace.redis: 'localhost' is not allowed; give a URL that begins with redis://, rediss://, "
                "redis+sentinel://, redis+cluster:// or unix://",
            ),
            ("port: 1\nport: 2", "port is given twice, first on line 1; keep one"),
            ("[a]: 1", "a key must be a plain word"),
        ],
    )
    def test_a_bad_value_is_named_with_what_it_was_and_what_is_allowed(self, text: str, said: str) -> None:
        assert problem(text).partition(": ")[2].startswith(said)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("- port: 1", ":1: the file must be made of `key: value` lines, not a list"),
            ("hello", ":1: the file must be made of `key: value` lines, not 'hello'"),
            ("status:\n\tport: 1", ":2: not YAML: a tab stands where YAML wants spaces; indent with spaces"),
            ("port: [1", ":1: not YAML: "),
            ("port: &p 1", ":1: anchors (&) and aliases (*) are not allowed; write the value out"),
            ("port: *p", ":1: anchors (&) and aliases (*) are not allowed; write the value out"),
            ("port: !!int '1'", ":1: tags (!) are not allowed; remove tag:yaml.org,2002:int"),
            ("port: 1\n---\nport: 2", ":2: a second document begins here (---); keep one"),
            ("[" * 5000, ":1: nested deeper than 8 levels"),
            ('port: "\\UFFFFFFFF"', ": not YAML: "),
        ],
    )
    def test_what_is_no_plain_mapping_is_refused(self, text: str, said: str) -> None:
        assert problem(text).startswith("router.yml" + said)


class TestWhatHasNoEffect:
    """A file that Gorouter reads is read; what has no effect is told."""

    def test_unknown_keys_are_told_with_their_line_and_the_closest_known_one(self) -> None:
        parsed, ignored = parse_noting("prot: 80\nstatus:\n  user: me\n  hots: a\nzzzzzz: 1\n", "router.yml")
        assert parsed == Settings(status=Status(user="me"))
        assert [str(key) for key in ignored] == [
            "line 1: prot; did you mean port?",
            "line 4: status.hots; did you mean status.host?",
            "line 5: zzzzzz",
        ]

    @pytest.mark.parametrize("key", sorted(WITHOUT_EFFECT))
    def test_keys_that_gorouter_ignores_are_no_mistakes_of_typing(self, key: str) -> None:
        assert parse_noting(f"{key}: 5", "f") == (Settings(), [IgnoredKey(key, 1, "")])

    def test_inside_lists(self) -> None:
        parsed, ignored = parse_noting("nats: {hosts: [{hostname: a, prot: 1}]}", "f")
        assert parsed.nats.hosts[0].hostname == "a"
        assert ignored == [IgnoredKey("nats.hosts[0].prot", 1, "nats.hosts[0].port")]

    @pytest.mark.parametrize("text", ["port:", "trace_key: ~", "isolation_segments:", "nats: {pass: }", "logging:"])
    def test_a_key_without_a_value_keeps_its_default(self, text: str) -> None:
        assert parse(text, "f") == Settings()

    def test_text_need_not_be_quoted(self) -> None:
        parsed = parse("trace_key: 22\nstatus: {user: yes, pass: 0x1F}\nzone: 1.10\nnats: {pass: 2024-01-01}", "f")
        assert (parsed.trace_key, parsed.status.user, parsed.status.pass_) == ("22", "yes", "0x1F")
        assert (parsed.zone, parsed.nats.pass_) == ("1.10", "2024-01-01")


class TestTheFileItself:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.yml: cannot read the configuration file: No such file"):
            load(tmp_path / "nowhere.yml")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot read the configuration file: Is a directory"):
            load(tmp_path)

    def test_not_utf8_is_said_with_the_line(self, tmp_path: Path) -> None:
        file = tmp_path / "router.yml"
        file.write_bytes(b"port: 1\nstatus: {host: \xff}\n")
        with pytest.raises(ConfigError, match=r"router\.yml:2: not UTF-8"):
            load(file)

    def test_larger_than_a_configuration_can_be(self, tmp_path: Path) -> None:
        file = tmp_path / "router.yml"
        file.write_bytes(b"#" * (1024 * 1024 + 1))
        with pytest.raises(ConfigError, match="larger than 1048576 bytes"):
            load(file)


class TestDurationsAndSizes:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0", 0),
            ("0s", 0),
            ("1h2m3s", 3723),
            ("1.5s", 1.5),
            (".5s", 0.5),
            ("1.s", 1),
            ("250us", 250e-6),
            ("7ns", 7e-9),
        ],
    )
    def test_go_durations(self, text: str, value: float) -> None:
        assert seconds(text) == pytest.approx(value)

    @pytest.mark.parametrize("text", ["", "s", "1", "1 s", "1s ", "+1s", "-1s", "1d", "1S", "1s1", ".s", "9999999h"])
    def test_no_durations(self, text: str) -> None:
        with pytest.raises(ValueError, match="duration"):
            seconds(text)

    @given(st.floats(0, 1e9).map(lambda value: round(value, 9)))
    def test_a_duration_survives_its_text(self, value: float) -> None:
        assert seconds(duration_text(value)) == pytest.approx(value, rel=1e-12, abs=1e-9)

    @given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(["ns", "us", "ms", "s", "m", "h"])), min_size=1))
    def test_the_parts_of_a_duration_add_up(self, parts: list[tuple[int, str]]) -> None:
        unit = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
        text = "".join(f"{count}{name}" for count, name in parts)
        total = sum(count * unit[name] for count, name in parts)
        if total < 9e9:
            assert seconds(text) == pytest.approx(total)

    @given(st.text(st.sampled_from("0123456789.smhnuµ+- "), max_size=12))
    def test_any_text_is_a_duration_or_a_value_error(self, text: str) -> None:
        with suppress(ValueError):
            assert seconds(text) >= 0

    @given(st.integers(0, 2**45))
    def test_a_size_survives_its_text(self, value: int) -> None:
        assert size(size_text(value)) == value

    @pytest.mark.parametrize("text", ["", "1k", "1KB", "-1", "1.5MiB", "KiB", "1  KiB"])
    def test_no_sizes(self, text: str) -> None:
        with pytest.raises(ValueError, match="bytes"):
            size(text)


def _values(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Any instance of a settings dataclass whose values are allowed."""
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        strategies[name] = _values_of(hint)
    return st.builds(kind, **strategies)


def _values_of(hint: Any) -> st.SearchStrategy[Any]:
    if dataclasses.is_dataclass(hint):
        return _values(hint)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        return st.lists(_values_of(get_args(hint)[0]), max_size=2).map(tuple)
    base, rule = get_args(hint) or (hint, None)
    match rule:
        case Whole():
            return st.integers(rule.low, rule.high)
        case Size():
            return st.integers(rule.low, 2**40) | (st.just(0) if rule.zero else st.nothing())
        case Number():
            return st.integers(0, 10**9).map(lambda n: rule.low + n / 1000)
        case Unsaid():
            return st.none() | st.booleans()
        case Duration():
            return st.integers(0 if rule.zero else 1, 10**9).map(lambda ms: ms / 1000)
        case OneOf():
            return st.sampled_from(rule.values)
        case Matching():
            return st.sampled_from(
                [text for text in (REDIS, "some-name", "[::1]:17002", "") if re.fullmatch(rule.pattern, text)]
            )
        case Secret():
            return st.sampled_from(["", HIDDEN])
    return st.booleans() if base is bool else st.text(max_size=20)


class TestThePrintedPage:
    @settings(max_examples=10, deadline=None)
    @given(_values(Settings))
    def test_reads_back_as_the_same_settings(self, any_settings: Settings) -> None:
        assert parse(page(any_settings), "page") == any_settings

    def test_says_what_every_key_is_for(self) -> None:
        lines = page(Settings()).splitlines()
        undocumented = [
            line for before, line in zip(["", *lines], lines, strict=False) if ": " in line and "#" not in before + line
        ]
        assert undocumented == []

    def test_shows_no_password(self) -> None:
        settings = parse("millrace: {redis: 'redis://:s3cret@h/0'}", "f")
        assert "s3cret" not in page(settings)

    def test_shows_no_private_key(self) -> None:
        text = "tls_pem: [{cert_chain: shown, private_key: s3cret}]\nbackends: {private_key: s3cret}"
        printed = page(parse(text, "f"))
        assert "shown" in printed
        assert "s3cret" not in printed

    @pytest.mark.parametrize(
        "text",
        [
            "nats: {pass: s3cret, private_key: s3cret}",
            "oauth: {client_secret: s3cret}",
            "routing_api: {private_key: s3cret}",
            "route_services: {private_key: s3cret}",
            "route_services_secret: s3cret",
            "route_services_secret_decrypt_only: s3cret",
            "status: {pass: s3cret, tls: {key: s3cret}}",
            "trace_key: s3cret",
        ],
    )
    def test_shows_no_secret(self, text: str) -> None:
        printed = page(parse(text, "f"))
        assert HIDDEN in printed
        assert "s3cret" not in printed


@given(_values(Settings))
@settings(max_examples=10, deadline=None)
def test_settings_survive_the_way_to_a_worker(any_settings: Settings) -> None:
    assert from_plain(Settings, dataclasses.asdict(any_settings)) == any_settings


_KEYS = st.sampled_from(["port", "status", "millrace", "redis", "drain_wait", "x", "0", "<<", "=", "~", "yes"])
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.dates(), st.binary(max_size=4)
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=8,
)


class TestNothingCrashesIt:
    @settings(max_examples=60, deadline=None)
    @given(_TREES)
    def test_any_yaml(self, tree: Any) -> None:
        import yaml

        text = yaml.safe_dump(tree, allow_unicode=True)
        with suppress(ConfigError):
            assert isinstance(parse(text, "f"), Settings)

    @settings(max_examples=60, deadline=None)
    @given(st.text(st.sampled_from("port: []{}&*!|>'\"%@`\\\n\t-#?,~<=\u2028\x85\ufeff0U\0"), max_size=40))
    def test_any_text(self, text: str) -> None:
        with suppress(ConfigError):
            assert isinstance(parse(text, "f"), Settings)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=40))
    def test_any_bytes(self, tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
        file = tmp_path_factory.getbasetemp() / "any.yml"
        file.write_bytes(raw)
        with suppress(ConfigError):
            assert isinstance(load(file), Settings)
