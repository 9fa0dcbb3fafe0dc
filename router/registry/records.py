"""What the registry stores: route keys, of HTTP and of TCP routes, and endpoint records.

An endpoint record carries the fields of Gorouter's ``router.register`` message under the same names, so that every
registrar says the same thing. Both a route and a record are checked here, once, on the way in; nothing that fails these
checks reaches Redis, and a reader that finds such an entry all the same skips it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import orjson

MAX_ROUTE_BYTES: Final = 2048
MAX_RECORD_BYTES: Final = 16 * 1024
MAX_PATH_SEGMENTS: Final = 32

PROXY_VERSIONS: Final = ("v1", "v2")
"""What the option ``proxy`` of a TCP route's endpoint may be."""

NO_PAIRS: Final[Mapping[str, str]] = MappingProxyType({})

_LABEL = r"[a-z0-9_]+(?:-+[a-z0-9_]+)*"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_PATH = re.compile(r"[!-\"$-.0->@-~/]*")
_NOT_IN_PATHS = re.compile(r"[\"<>\\^`{|}]")
_ROUTE_KEY = re.compile(_HOST.pattern + r"(?:/[!$-;=@\[\]_a-z~]*)?")
_TCP_ROUTE_KEY = re.compile(rf"tcp:(?P<port>[1-9][0-9]{{0,4}})(?:/{_HOST.pattern})?")
_TCP: Final = "tcp:"
"""What keys of TCP routes begin with, and no other key can."""
_BACKEND_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


class InvalidRecord(ValueError):
    """A route or an endpoint that cannot be registered; the message says which field and what is allowed."""


def route_key(text: str) -> str:
    """The key of a route: ``host[/path]``, lower-cased, without query and trailing slashes.

    The host may begin with ``*.``. Follows Gorouter's lookup rules: host and path match without regard to case, the
    path is compared as it stands on the wire, by whole segments. What RFC 3986 has in no path becomes %XX, as it does
    in requests.

    A TCP route is ``tcp:PORT``, or ``tcp:PORT/name`` for the TLS clients of this port that ask for that server name,
    which may begin with ``*.`` as well.

    Raises InvalidRecord: no host, a port, characters outside a host or a path, or more than MAX_ROUTE_BYTES.
    """
    key = text.split("?", 1)[0].lower().rstrip("/")
    if len(key) > MAX_ROUTE_BYTES:
        raise InvalidRecord(f"route {text[:60]!r}...: longer than {MAX_ROUTE_BYTES} bytes")
    if key.startswith(_TCP):
        if not _is_tcp_route_key(key):
            raise InvalidRecord(f"route {text!r}: a TCP route is tcp:PORT or tcp:PORT/server.name, PORT 1 to 65535")
        return key
    host, slash, path = key.partition("/")
    if not _HOST.fullmatch(host):
        raise InvalidRecord(f"route {text!r}: host {host!r} is not a name like app.example.com or *.example.com")
    if slash and not _PATH.fullmatch(path):
        raise InvalidRecord(f"route {text!r}: the path may hold printable ASCII only, percent-encoded as on the wire")
    if path.count("/") >= MAX_PATH_SEGMENTS:
        raise InvalidRecord(f"route {text!r}: more than {MAX_PATH_SEGMENTS} path segments")
    if _NOT_IN_PATHS.search(path):
        return route_key(_NOT_IN_PATHS.sub(lambda match: f"%{ord(match[0]):02x}", key))
    return key


def is_route_key(text: str) -> bool:
    """Whether `text` is what `route_key` gives for it, at a fraction of the cost."""
    if _ROUTE_KEY.fullmatch(text) is None:
        return text.startswith(_TCP) and _is_tcp_route_key(text) and len(text) <= MAX_ROUTE_BYTES
    return not text.endswith("/") and len(text) <= MAX_ROUTE_BYTES and text.count("/") <= MAX_PATH_SEGMENTS


def tcp_route(port: int, name: str | None = None) -> str:
    """The key of a TCP route: of a port, or of a server name (lower case) that TLS clients of this port ask for."""
    return f"{_TCP}{port}" if name is None else f"{_TCP}{port}/{name}"


def _is_tcp_route_key(text: str) -> bool:
    match = _TCP_ROUTE_KEY.fullmatch(text)
    return match is not None and int(match["port"]) <= 65535


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidRecord(f"{name}: a string, not {value!r}")
    if not value.isprintable():
        raise InvalidRecord(f"{name}: holds a character that cannot be printed")
    return value


def _printable(pairs: Any) -> bool:
    """Whether this is a filled dictionary of printable strings. Raises TypeError: it holds something else."""
    return type(pairs) is dict and bool(pairs) and "".join((*pairs, *pairs.values())).isprintable()


def _check_options(options: Mapping[str, str]) -> None:
    if options.get("proxy", PROXY_VERSIONS[0]) not in PROXY_VERSIONS:
        raise InvalidRecord(f"options.proxy: {' or '.join(PROXY_VERSIONS)}, not {options['proxy']!r}")


def _port(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= 65535:
        raise InvalidRecord(f"{name}: a number from 0 to 65535, not {value!r}")
    return value


def _pairs(value: Any, name: str) -> Mapping[str, str]:
    if value is None or not value:
        return NO_PAIRS
    if not isinstance(value, Mapping):
        raise InvalidRecord(f"{name}: an object of strings, not {value!r}")
    return {_text(k, f"{name} key"): _text(v, f"{name}.{k}") for k, v in value.items()}


@dataclass(slots=True)
class EndpointRecord:
    """One backend address and what the router must know of it. Strings are empty, numbers 0 where nothing was said.

    Never changed once made; not frozen all the same, since a router makes a million and freezing doubles the cost.
    """

    host: str
    """IP address or DNS name of the backend."""
    port: int = 0
    """Plaintext port."""
    tls_port: int = 0
    """Replaces ``port`` where it is not 0: the endpoint then speaks TLS."""
    app: str = ""
    private_instance_id: str = ""
    private_instance_index: str = ""
    server_cert_domain_san: str = ""
    isolation_segment: str = ""
    route_service_url: str = ""
    availability_zone: str = ""
    protocol: str = "http1"
    """``http1`` or ``http2``."""
    endpoint_updated_at_ns: int = 0
    tags: Mapping[str, str] = field(default_factory=lambda: NO_PAIRS)
    options: Mapping[str, str] = field(default_factory=lambda: NO_PAIRS)
    """Per-route options: ``loadbalancing`` or ``lb_algo`` (``round-robin``, ``least-connection``, ``hash``) with
    ``hash_header`` and ``hash_balance``; ``proxy`` (``v1`` or ``v2``: a connection of a TCP route begins with a PROXY
    header); others are kept as they came."""

    address: str = field(init=False, repr=False, compare=False)
    """``host:port`` (``[host]:port`` for IPv6): the identity of the endpoint in a route's pool."""
    packed: bytes = field(init=False, default=b"", repr=False, compare=False)
    """The JSON it came from, empty where it came from none: a third of its size, and all that a big table keeps."""

    def __post_init__(self) -> None:
        try:
            valid = (
                _BACKEND_HOST.fullmatch(self.host)
                and type(self.port) is int
                and type(self.tls_port) is int
                and type(self.endpoint_updated_at_ns) is int
                and 0 < (self.tls_port or self.port) <= 65535
                and 0 <= self.port <= 65535
                and self.protocol in ("http1", "http2")
                and "".join(_texts(self)).isprintable()
                and (self.tags is NO_PAIRS or _printable(self.tags))
                and (self.options is NO_PAIRS or (_printable(self.options) and "proxy" not in self.options))
                and not self.route_service_url
            )
        except TypeError:
            valid = False
        if not valid:
            self._check_each()
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.address = f"{host}:{self.tls_port or self.port}"

    def _check_each(self) -> None:
        """Every field by itself, to name the one that is wrong. Raises InvalidRecord."""
        if not isinstance(self.host, str) or not _BACKEND_HOST.fullmatch(self.host):
            raise InvalidRecord(f"host: an IP address or a DNS name, not {self.host!r}")
        _port(self.port, "port")
        _port(self.tls_port, "tls_port")
        if not self.port and not self.tls_port:
            raise InvalidRecord("port: give port or tls_port")
        for name in _TEXT_FIELDS:
            _text(getattr(self, name), name)
        if self.protocol not in ("http1", "http2"):
            raise InvalidRecord(f"protocol: http1 or http2, not {self.protocol!r}")
        if self.route_service_url and not self.route_service_url.startswith("https://"):
            raise InvalidRecord(f"route_service_url: must be https, not {self.route_service_url!r}")
        if type(self.endpoint_updated_at_ns) is not int:
            raise InvalidRecord(f"endpoint_updated_at_ns: a number, not {self.endpoint_updated_at_ns!r}")
        self.tags = _pairs(self.tags, "tags")
        self.options = _pairs(self.options, "options")
        _check_options(self.options)

    def to_json(self) -> bytes:
        """Compact JSON with sorted keys and without defaults: equal records give equal bytes. Without ``uris``."""
        known: dict[str, Any] = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                known[name] = dict(value) if name in ("tags", "options") else value
        return orjson.dumps(known, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> EndpointRecord:
        """From decoded JSON; unknown keys are ignored, as in Gorouter. Raises InvalidRecord."""
        try:
            return cls(**mapping)
        except TypeError:  # a key that is unknown, or no host
            if "host" not in mapping:
                raise InvalidRecord("host: missing") from None
            return cls(**{name: mapping[name] for name in _DEFAULTS if name in mapping})

    @classmethod
    def from_json(cls, text: bytes | str) -> EndpointRecord:
        """Raises InvalidRecord: not a JSON object, too large, or a field out of its range."""
        if len(text) > MAX_RECORD_BYTES:
            raise InvalidRecord(f"record: longer than {MAX_RECORD_BYTES} bytes")
        try:
            mapping = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidRecord(f"record: not JSON: {error}") from None
        if not isinstance(mapping, dict):
            raise InvalidRecord("record: not a JSON object")
        record = cls.from_mapping(mapping)
        record.packed = text if isinstance(text, bytes) else text.encode()
        return record


_DEFAULTS: Final = {
    f.name: NO_PAIRS if f.name in ("tags", "options") else (None if f.name == "host" else f.default)
    for f in fields(EndpointRecord)
    if f.init
}
_TEXT_FIELDS: Final = (
    "app",
    "private_instance_id",
    "private_instance_index",
    "server_cert_domain_san",
    "isolation_segment",
    "route_service_url",
    "availability_zone",
    "protocol",
)
_texts: Final = attrgetter(*_TEXT_FIELDS)
