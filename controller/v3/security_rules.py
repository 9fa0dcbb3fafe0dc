"""Rules of security groups (reference 3.6): where apps may connect to. What a rule may say, and nothing more.

Pure: from what a body holds to a list of problems, each with the number of its rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from typing import Any, Final

PROTOCOLS: Final = ("tcp", "udp", "icmp", "icmpv6", "all")
_KEYS: Final = frozenset(("code", "description", "destination", "log", "ports", "protocol", "type"))
_PORT: Final = re.compile(r" *([0-9]{1,5}) *")
_RANGE: Final = re.compile(r" *([0-9]{1,5}) *- *([0-9]{1,5}) *")
_BAD_DESTINATION: Final = "destination must be a valid CIDR, IP address, or IP address range"


def problems(rules: list[Any]) -> list[str]:
    """Everything that is wrong with them; nothing where they may be."""
    return [f"Rules[{number}]: {problem}" for number, rule in enumerate(rules) for problem in _problems(rule)]


def _problems(rule: Any) -> Iterator[str]:
    if not isinstance(rule, dict):
        yield "must be an object"
        return
    unknown = sorted(rule.keys() - _KEYS)
    if unknown:
        yield f"unknown field(s): {', '.join(repr(name) for name in unknown)}"
    protocol = rule.get("protocol")
    if protocol not in PROTOCOLS:
        yield "protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all'"
    versions = None
    try:
        versions = _versions(rule.get("destination"))
    except ValueError as error:
        yield str(error)
    if rule.get("description") is not None and not isinstance(rule["description"], str):
        yield "description must be a string"
    if rule.get("log") is not None and not isinstance(rule["log"], bool):
        yield "log must be a boolean"
    match protocol:
        case "tcp" | "udp":
            yield from _of_ports(rule.get("ports"))
        case "icmp" | "icmpv6":
            yield from _of_icmp(rule, protocol.upper().replace("V", "v"))
            if versions is not None and versions != (4 if protocol == "icmp" else 6):
                yield f'for protocol "{protocol}" you cannot use IPv{versions} addresses'
        case "all":
            if rule.get("ports") is not None:
                yield "ports are not allowed for protocols of type all"


def _versions(destination: Any) -> int:
    """4 or 6. Raises ValueError: no destination, with what the API says of it."""
    if destination is None:
        raise ValueError(_BAD_DESTINATION)
    if not isinstance(destination, str):
        raise ValueError("destination must be a string")
    if re.search(r"\s", destination):
        raise ValueError("destination must not contain whitespace")
    first, dash, last = destination.partition("-")
    try:
        if not dash:
            return ip_interface(first).version
        low, high = ip_address(first), ip_address(last)
    except ValueError:
        raise ValueError(_BAD_DESTINATION) from None
    if low.version != high.version or int(low) > int(high):
        raise ValueError(_BAD_DESTINATION)
    return low.version


def _of_ports(ports: Any) -> Iterator[str]:
    if ports is None:
        yield "ports are required for protocols of type TCP and UDP"
    if not (isinstance(ports, str) and _are_ports(ports)):
        yield (
            "ports must be a valid single port, comma separated list of ports, or range or ports, formatted as a string"
        )


def _are_ports(text: str) -> bool:
    pair = _RANGE.fullmatch(text)
    if pair is not None:
        return 0 < int(pair[1]) < int(pair[2]) < 65536
    found = [_PORT.fullmatch(part) for part in text.split(",")]
    return all(match is not None and 0 < int(match[1]) < 65536 for match in found)


def _of_icmp(rule: dict[str, Any], protocol: str) -> Iterator[str]:
    for name in ("code", "type"):
        if rule.get(name) is None:
            yield f"{name} is required for protocols of type {protocol}"
        if not (type(rule.get(name)) is int and -1 <= rule[name] <= 255):
            yield f"{name} must be an integer between -1 and 255 (inclusive)"
