"""Prints settings as a configuration file with a comment on every key: what `millrace router --check` shows.

The comments are the texts that stand below the fields in `router.config.settings`; what is printed reads back, through
`router.config.config_file`, as the same settings (passwords and private keys apart). It must never print one of those.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import math
import re
from functools import cache
from typing import Any, Final, get_args, get_origin, get_type_hints

import yaml

from router.config import setting_sections
from router.config import settings as settings_module
from router.config.config_file import describe, duration_text, size_text
from router.config.settings import Duration, Secret, Settings, Size, key_of
from router.registry.connect import redacted

HIDDEN: Final = "(not shown)"
"""Stands for a secret that is set."""


def page(settings: Settings) -> str:
    """The whole file, every key with its value; ends with a newline."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_section(settings, 0))) + "\n"


def _section(section: Any, depth: int) -> list[str]:
    kind = type(section)
    hints = get_type_hints(kind, include_extras=True)
    texts = _texts(kind.__name__)
    indent = "  " * depth
    lines: list[str] = []
    for field in dataclasses.fields(kind):
        value, hint = getattr(section, field.name), hints[field.name]
        if dataclasses.is_dataclass(hint):
            lines += ["", f"{indent}# {hint.__doc__}", f"{indent}{key_of(field)}:", *_section(value, depth + 1), ""]
        elif get_origin(hint) is tuple:
            (kind_of_item, _) = get_args(hint)
            lines += [f"{indent}# {_comment(texts[field.name])} ({_describe_list(kind_of_item)})"]
            lines += [f"{indent}{key_of(field)}:" + ("" if value else " []"), *_items(value, kind_of_item, depth + 1)]
        else:
            base, rule = get_args(hint) or (hint, None)
            lines += [f"{indent}# {_comment(texts[field.name])} ({describe(base, rule)})"]
            lines += [f"{indent}{key_of(field)}: {_value(value, rule)}"]
    return lines


def _comment(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _describe_list(kind: Any) -> str:
    if dataclasses.is_dataclass(kind):
        return "a list, each item with " + ", ".join(map(key_of, dataclasses.fields(kind)))
    return "a list of " + describe(*(get_args(kind) or (kind, None)))


def _items(items: tuple[Any, ...], kind: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if not dataclasses.is_dataclass(kind):
        _, rule = get_args(kind) or (kind, None)
        return [f"{indent}- {_value(item, rule)}" for item in items]
    return [line for item in items for line in (f"{indent}-", *_section(item, depth + 1))]


def _value(value: Any, rule: Any) -> str:
    if isinstance(rule, Secret):
        return f'"{HIDDEN}"' if value else '""'
    if isinstance(rule, Duration):
        return duration_text(value)
    if isinstance(rule, Size):
        return size_text(value)
    if isinstance(value, str):
        return yaml.safe_dump(redacted(value), default_style='"', width=math.inf).strip()
    return json.dumps(value)


@cache
def _texts(name: str) -> dict[str, str]:
    """The string that follows each field of the dataclass ``name`` in its source."""
    trees = (ast.parse(inspect.getsource(module)) for module in (settings_module, setting_sections))
    body = next(n.body for tree in trees for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    texts: dict[str, str] = {}
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            texts[before.target.id] = ast.literal_eval(after.value)
    return texts
