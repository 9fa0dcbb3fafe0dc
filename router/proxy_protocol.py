"""The PROXY protocol, versions 1 and 2: who a connection really comes from, said by the proxy before anything else.

Bytes in, values out, and back; knows no socket, and not whom to believe. Strict: a header is taken as HAProxy's
specification spells it or not at all, and nothing but BadProxyHeader is ever raised for what it holds.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, sections 2.1 (version 1) and 2.2 (version 2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

Place: TypeAlias = tuple[str, int]
"""An IP address, as text, and a port."""

MAX_V1_BYTES: Final = 107
MAX_V2_BYTES: Final = 4096
"""Of a whole version 2 header with its extensions; the protocol itself allows 65,551."""

_V1: Final = b"PROXY "
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_LINE: Final = re.compile(
    rb"PROXY (?:(?P<unknown>UNKNOWN)(?: [^\r\n]*)?|TCP(?P<family>[46])"
    rb" (?P<source>[0-9A-Fa-f.:]+) (?P<destination>[0-9A-Fa-f.:]+)"
    rb" (?P<source_port>0|[1-9][0-9]{0,4}) (?P<destination_port>0|[1-9][0-9]{0,4}))\r\n"
)
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6, _UNIX, _UNSPECIFIED = 0x11, 0x21, 0x31, 0x00
_ADDRESS_BYTES: Final = {_TCP4: 4, _TCP6: 16}


class BadProxyHeader(ValueError):
    """Not a PROXY header that can be believed; the message says why."""


class NoProxyHeader(BadProxyHeader):
    """These bytes begin something else."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header said."""

    size: int
    """Bytes of the header; what follows them is the client's."""
    source: Place | None
    """The client; None if the proxy speaks for itself or does not know: the connection's own addresses hold."""
    destination: Place | None
    """Where the client connected to; None together with ``source``."""


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that ``data`` begins with; None: more bytes are needed. Raises BadProxyHeader, NoProxyHeader."""
    if data.startswith(_V1):
        return _parse_v1(data)
    if data.startswith(_V2):
        return _parse_v2(data)
    if _V1.startswith(data) or _V2.startswith(data):
        return None
    raise NoProxyHeader("no PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, MAX_V1_BYTES) + 1
    if not end:
        if len(data) >= MAX_V1_BYTES:
            raise BadProxyHeader(f"a PROXY line longer than {MAX_V1_BYTES} bytes")
        return None
    line = _V1_LINE.fullmatch(data, 0, end)
    if line is None:
        raise BadProxyHeader("a malformed PROXY line")
    if line["unknown"]:
        return ProxyHeader(end, None, None)
    kind = IPv4Address if line["family"] == b"4" else IPv6Address
    places: list[Place] = []
    for name in ("source", "destination"):
        port = int(line[f"{name}_port"])
        try:
            address = kind(line[name].decode("ascii"))
        except ValueError:
            raise BadProxyHeader(f"a PROXY line whose {name} is no address") from None
        if port > 65535:
            raise BadProxyHeader(f"a PROXY line whose {name} is no port")
        places.append((str(address), port))
    return ProxyHeader(end, places[0], places[1])


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, kind = data[12], data[13]
    length = int.from_bytes(data[14:16])
    size = 16 + length
    if command not in (_LOCAL, _PROXY):
        raise BadProxyHeader(f"PROXY version and command {command:#04x}")
    if size > MAX_V2_BYTES:
        raise BadProxyHeader(f"a PROXY header of {size} bytes")
    if command == _PROXY and kind not in (_TCP4, _TCP6, _UNIX, _UNSPECIFIED):
        raise BadProxyHeader(f"PROXY address family and transport {kind:#04x}")
    width = _ADDRESS_BYTES.get(kind) if command == _PROXY else None
    if width is not None and length < 2 * width + 4:
        raise BadProxyHeader("a PROXY header too short for its addresses")
    if len(data) < size:
        return None
    if width is None:  # a health check of the proxy's own, or a client that has no address in our sense
        return ProxyHeader(size, None, None)
    ports = 16 + 2 * width
    return ProxyHeader(
        size,
        (str(ip_address(data[16 : 16 + width])), int.from_bytes(data[ports : ports + 2])),
        (str(ip_address(data[16 + width : ports])), int.from_bytes(data[ports + 2 : ports + 4])),
    )


def build_v1(source: Place | None, destination: Place | None) -> bytes:
    """A version 1 header: UNKNOWN unless both places are known."""
    if source is None or destination is None:
        return b"PROXY UNKNOWN\r\n"
    client, server = _alike(source[0], destination[0])
    return f"PROXY TCP{client.version} {client} {server} {source[1]} {destination[1]}\r\n".encode("ascii")


def build_v2(source: Place | None, destination: Place | None) -> bytes:
    """A version 2 header without extensions: one without addresses unless both places are known."""
    if source is None or destination is None:
        return _V2 + bytes((_PROXY, _UNSPECIFIED, 0, 0))
    client, server = _alike(source[0], destination[0])
    kind = _TCP4 if client.version == 4 else _TCP6
    content = client.packed + server.packed + source[1].to_bytes(2) + destination[1].to_bytes(2)
    return _V2 + bytes((_PROXY, kind)) + len(content).to_bytes(2) + content


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """An address without its scope, and an IPv4 one that came in IPv6 clothes as IPv4. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _alike(one: str, other: str) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    """Both addresses in one family: IPv4 if both can be, else IPv6."""
    first, second = plain_address(one), plain_address(other)
    if first.version == second.version:
        return first, second
    return _as_v6(first), _as_v6(second)


def _as_v6(address: IPv4Address | IPv6Address) -> IPv6Address:
    return address if isinstance(address, IPv6Address) else IPv6Address(f"::ffff:{address}")
