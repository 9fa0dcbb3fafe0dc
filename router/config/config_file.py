"""Reads one YAML file into `router.config.settings.Settings`, and says everything that is wrong with it at once.

Keys, kinds and bounds come from the dataclasses in `router.config.settings`; this module must never guess: a key given
twice or a value of another kind is an error with its line. A key that is not known is an error under ``millrace:``, and
elsewhere has no effect, as in Gorouter, whose files must load; which those were is told. The only exception it raises
is ConfigError, whatever the file holds. Anchors, aliases and tags are refused: a configuration needs none, and they
make a small file huge.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import yaml

from router.config.setting_kinds import Duration, Matching, Number, OneOf, Secret, Size, Unsaid, Whole
from router.config.settings import Settings, key_of

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 8

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(ns|us|µs|μs|ms|s|m|h)")
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?(KiB|MiB|GiB)?")
_MULTIPLES: Final = {None: 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?")
_TRUE: Final = frozenset(("true", "yes", "on"))
LONGEST_NANOSECONDS: Final = 2**63 - 1
"""What Go's time.Duration holds: about 292 years."""


OURS: Final = "millrace."
"""Where keys are ours alone, no file was written for another program: what is not known there is a mistake."""

WITHOUT_EFFECT: Final = frozenset(
    (
        "pid_file",
        "publish_start_message_interval",
        "load_balancer_healthy_threshold",
        "websocket_dial_timeout",
        "healthcheck_poll_interval",
        "healthcheck_timeout",
        "ip_local_port_range",
    )
)
"""Keys that Gorouter accepts and makes nothing of: nobody who gives one meant another."""


@dataclass(frozen=True, slots=True)
class IgnoredKey:
    """A key that has no effect."""

    key: str
    line: int
    meant: str
    """The known key that is like it; empty if none is."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}" + (f"; did you mean {self.meant}?" if self.meant else "")


class ConfigError(Exception):
    """The file cannot be used. ``problems`` holds one line per thing to mend, in the order of the file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: Path) -> Settings:
    """Settings from the file at ``path``. Raises ConfigError: not there, not readable, too large, or wrong inside."""
    return load_noting(path)[0]


def load_noting(path: Path) -> tuple[Settings, list[IgnoredKey]]:
    """As ``load``, and which keys of the file have no effect."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot read the configuration file: {error.strerror}"]) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: larger than {MAX_FILE_BYTES} bytes; this is not a router's configuration"])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8; save the file as UTF-8"]) from None
    return parse_noting(text, str(path))


def parse(text: str, name: str) -> Settings:
    """Settings from the text of a file; ``name`` stands in front of every problem. An empty text means all defaults."""
    return parse_noting(text, name)[0]


def parse_noting(text: str, name: str) -> tuple[Settings, list[IgnoredKey]]:
    """As ``parse``, and which keys of the text have no effect."""
    root = _compose(text, name)
    if root is None or _is_null(root):
        return Settings(), []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError([f"{name}:{_line(root)}: the file must be made of `key: value` lines, not {_shown(root)}"])
    reader = _Reader(name)
    settings: Settings = reader.section(root, Settings, "")
    if reader.problems:
        raise ConfigError(reader.problems)
    return settings, reader.ignored


def seconds(text: str) -> float:
    """A Go duration string (time.ParseDuration) in seconds. Raises ValueError: not one, negative, or past 292 years."""
    total, at = 0, 0
    if text == "0":
        return 0.0
    while match := _DURATION_PART.match(text, at):
        total += int(Decimal(match[1]) * _NANOSECONDS[match[2]])
        at = match.end()
    if not text or at != len(text):
        raise ValueError(f"{text!r} is not a duration such as 500ms, 30s or 1m30s")
    if total > LONGEST_NANOSECONDS:
        raise ValueError(f"{text!r} is longer than a duration can be")
    return total / 10**9


def size(text: str) -> int:
    """Bytes from ``65536``, ``64KiB``, ``1MiB`` or ``2GiB``. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number of bytes such as 65536, 64KiB or 1MiB")
    return int(match[1]) * _MULTIPLES[match[2]]


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        _refuse_what_needs_no_place_here(text, name)
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        return root
    except yaml.MarkedYAMLError as error:
        where = f"{name}:{error.problem_mark.line + 1}" if error.problem_mark else name
        what = error.problem or error.context
        if what and "'\\t'" in what:
            what = "a tab stands where YAML wants spaces; indent with spaces"
        raise ConfigError([f"{where}: not YAML: {what}"]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError([f"{name}: not YAML: {reason}"]) from None


def _refuse_what_needs_no_place_here(text: str, name: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{name}:{_line(event)}"
        if isinstance(event, yaml.AliasEvent) or (isinstance(event, yaml.NodeEvent) and event.anchor):
            raise ConfigError([f"{where}: anchors (&) and aliases (*) are not allowed; write the value out"])
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            raise ConfigError([f"{where}: tags (!) are not allowed; remove {event.tag}"])
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ConfigError([f"{where}: nested deeper than {MAX_DEPTH} levels"])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise ConfigError([f"{where}: a second document begins here (---); keep one"])


class _Reader:
    """Turns YAML nodes into settings, and notes what is wrong and what has no effect, in the order of the file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.problems: list[str] = []
        self.ignored: list[IgnoredKey] = []

    def section(self, node: yaml.MappingNode, kind: type[Any], path: str) -> Any:
        """What the keys of ``node`` say; ``path`` ends with a dot, or is empty. With problems, the result is no use."""
        hints = get_type_hints(kind, include_extras=True)
        fields = {key_of(field): field.name for field in dataclasses.fields(kind)}
        ours = path == OURS
        values: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if key not in fields:
                self._unknown(key_node, key, path, list(fields), ours=ours)
            elif key in seen:
                self._problem(line, f"{path}{key} is given twice, first on line {seen[key]}; keep one")
            else:
                seen[key] = line
                hint = hints[fields[key]]
                nested = dataclasses.is_dataclass(hint) or get_origin(hint) is tuple
                if _is_null(value_node) and (nested or not ours):
                    continue  # as Gorouter reads it: a template that has nothing to say leaves the value out
                with self._minding(line, f"{path}{key}"):
                    values[fields[key]] = self._read(value_node, hint, f"{path}{key}", line, ours=ours)
        return kind(**values) if not self.problems else None

    def _read(self, node: yaml.Node, hint: Any, path: str, line: int, *, ours: bool) -> Any:
        """Any value. Raises ValueError, which does not name the path."""
        if dataclasses.is_dataclass(hint):
            return self._nested(node, hint, path, line)
        if get_origin(hint) is tuple:
            return self._list(node, get_args(hint)[0], path, line, ours=ours)
        return _value(node, hint, loosely=not ours)

    def _nested(self, node: yaml.Node, kind: Any, path: str, line: int) -> Any:
        """What stands under a key that holds further keys."""
        if isinstance(node, yaml.MappingNode):
            return self.section(node, kind, f"{path}.")
        allowed = ", ".join(map(key_of, dataclasses.fields(kind)))
        self._problem(line, f"{path} holds further keys ({allowed}), not {_shown(node)}")
        return None

    def _list(self, node: yaml.Node, kind: Any, path: str, line: int, *, ours: bool) -> tuple[Any, ...]:
        """The items of a list, each a value or a section of its own."""
        if not isinstance(node, yaml.SequenceNode):
            self._problem(line, f"{path} holds a list, each item on a line that begins with `- `, not {_shown(node)}")
            return ()
        items: list[Any] = []
        for number, item in enumerate(node.value):
            with self._minding(_line(item), f"{path}[{number}]"):
                items.append(self._read(item, kind, f"{path}[{number}]", _line(item), ours=ours))
        return tuple(items)

    def _unknown(self, node: yaml.Node, key: str, path: str, known: list[str], *, ours: bool) -> None:
        if not isinstance(node, yaml.ScalarNode):
            self._problem(_line(node), "a key must be a plain word")
            return
        near = difflib.get_close_matches(key[:100], known, n=1)
        meant = f"{path}{near[0]}" if near else ""
        if not ours:
            without_effect = not path and key in WITHOUT_EFFECT
            self.ignored.append(IgnoredKey(f"{path}{key[:100]}", _line(node), "" if without_effect else meant))
            return
        hint = f"; did you mean {meant}?" if meant else "."
        place = f"under {path[:-1]}" if path else "at the top"
        self._problem(_line(node), f"unknown key {path}{key[:100]}{hint} Allowed {place}: {', '.join(known)}")

    def _problem(self, line: int, text: str) -> None:
        self.problems.append(f"{self._name}:{line}: {text}")

    @contextmanager
    def _minding(self, line: int, path: str) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            self._problem(line, f"{path}: {error}")


def _value(node: yaml.Node, hint: Any, *, loosely: bool) -> Any:
    """The value of a leaf, checked. Raises ValueError with what it was and what is allowed.

    ``loosely``: text need not be quoted where it looks like something else, as ``trace_key: 22``.
    """
    base, rule = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
    allowed = describe(base, rule)
    if _is_null(node):
        raise ValueError(f"has no value; give {allowed}, or remove the line for the default")
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{allowed} is wanted, not {_shown(node)}")
    text, said = node.value, node.tag.rpartition(":")[2]
    wrong = ValueError(f"{_shown(node)} is not allowed; give {allowed}")
    match rule:
        case Duration():
            if said != "str":
                raise ValueError(f"{_shown(node)} has no unit; give {allowed}")
            value = seconds(text)
            if value == 0 and not rule.zero:
                raise wrong
            return value
        case Size():
            if said not in ("int", "str") or (size(text) < rule.low and not (rule.zero and size(text) == 0)):
                raise wrong
            return size(text)
        case Number():
            if (
                said not in ("int", "float", "str")
                or not _NUMBER.fullmatch(text)
                or not rule.low <= float(text) < math.inf
            ):
                raise wrong
            return float(text)
        case Whole():
            if said != "int" or not _WHOLE.fullmatch(text) or not rule.low <= int(text) <= rule.high:
                raise wrong
            return int(text)
        case OneOf() if text in rule.values:
            return text
        case Matching() if (said == "str" or loosely) and re.fullmatch(rule.pattern, text):
            return text
        case None | Unsaid() if base is not str and said == "bool":
            return text.lower() in _TRUE
        case None | Secret() if base is str and (said == "str" or loosely):
            return text
    if isinstance(rule, Secret):
        raise ValueError(f"text in quotes or a block is wanted, not what reads as {said}")
    if base is str and said != "str":
        raise ValueError(f"{_shown(node)} is read as {said}; put it in quotes")
    raise wrong


def describe(base: Any, rule: Any) -> str:
    """What a setting may be, in words."""
    match rule:
        case Duration():
            return "a duration such as 500ms, 30s or 1m30s" + ("" if rule.zero else ", above 0s")
        case Size():
            bound = f", at least {rule.low}" + (", or 0" if rule.zero else "") if rule.low else ""
            return f"a number of bytes such as 65536, 64KiB or 1MiB{bound}"
        case Number():
            return f"a number from {rule.low:g} on"
        case Whole():
            return f"a whole number from {rule.low} to {rule.high}"
        case OneOf():
            return "one of " + ", ".join(rule.values)
        case Matching():
            return rule.what
    return "text" if base is str else "true or false"


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _line(node: Any) -> int:
    """Of a YAML node or event, counted from 1."""
    return int(node.start_mark.line) + 1


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "further keys"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text = node.value if len(node.value) <= 60 else node.value[:60] + "..."
    return repr(text)


def duration_text(value: float) -> str:
    """A short Go duration string that reads back as ``value`` seconds (to the nanosecond)."""
    nanoseconds = round(value * 1e9)
    for unit in ("h", "m", "s", "ms", "us"):
        if nanoseconds and nanoseconds % _NANOSECONDS[unit] == 0:
            return f"{nanoseconds // _NANOSECONDS[unit]}{unit}"
    return f"{nanoseconds}ns" if nanoseconds else "0s"


def size_text(value: int) -> str:
    """``64KiB`` rather than ``65536`` where that is exact."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _MULTIPLES[unit] == 0:
            return f"{value // _MULTIPLES[unit]}{unit}"
    return str(value)
