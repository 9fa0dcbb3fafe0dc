"""A strict reader of the Prometheus text format 0.0.4, as unforgiving as promtool."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SAMPLE = re.compile(rf"(?P<name>{_NAME})(?:\{{(?P<labels>.*)\}})? (?P<value>\S+)")
_LABEL = re.compile(r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>(?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_VALUE = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)|[+-]Inf|NaN")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}

Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    name: str
    kind: str
    text: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        """Of the one sample with these labels; 0 where there is none."""
        return self.samples.get((self.name, tuple(sorted(labels.items()))), 0.0)

    def count(self, **labels: str) -> float:
        """How many values a histogram has taken in."""
        return self.samples.get((f"{self.name}_count", tuple(sorted(labels.items()))), 0.0)

    def sum(self, **labels: str) -> float:
        return self.samples.get((f"{self.name}_sum", tuple(sorted(labels.items()))), 0.0)

    def buckets(self, **labels: str) -> dict[str, float]:
        """Of a histogram: how many values are not above each bound, as it is written."""
        found = {}
        for (name, sample_labels), value in self.samples.items():
            given = dict(sample_labels)
            bound = given.pop("le", None)
            if name == f"{self.name}_bucket" and bound is not None and given == labels:
                found[bound] = value
        return found


def families(text: str) -> dict[str, Family]:
    """Raises AssertionError for anything that a strict reader would not take."""
    assert text.endswith("\n")
    read: dict[str, Family] = {}
    current: Family | None = None
    described = ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            _, _, name, words = line.split(" ", 3)
            assert name not in read, f"{name} is described twice"
            described, current = words, None
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert kind in _SUFFIXES, line
            assert name not in read, f"{name} has two types"
            current = read[name] = Family(name, kind, described)
        else:
            assert current is not None, f"{line!r} stands before its family"
            _take(current, line)
    for family in read.values():
        if family.kind == "histogram":
            _check_histogram(family)
    return read


def _take(family: Family, line: str) -> None:
    match = _SAMPLE.fullmatch(line)
    assert match is not None, line
    name = match["name"]
    assert name.removeprefix(family.name) in _SUFFIXES[family.kind], f"{line!r} stands with {family.name}"
    assert _VALUE.fullmatch(match["value"]), line
    value = float(match["value"].replace("Inf", "inf"))
    key = (name, _labels(match["labels"]) if match["labels"] is not None else ())
    assert key not in family.samples, f"{line!r} comes twice"
    assert family.kind == "gauge" or value >= 0, line
    family.samples[key] = value


def _labels(text: str) -> Labels:
    labels: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _LABEL.match(text, at)
        assert match is not None, text
        assert match["name"] not in labels, text
        labels[match["name"]] = re.sub(r"\\(.)", lambda found: {"n": "\n"}.get(found[1], found[1]), match["value"])
        at = match.end()
    return tuple(sorted(labels.items()))


def _check_histogram(family: Family) -> None:
    def others(key: tuple[str, Labels]) -> Labels:
        return tuple(label for label in key[1] if label[0] != "le")

    for labels, keys in groupby(sorted(family.samples, key=others), key=others):
        given = list(keys)
        bounds = [float(dict(key[1])["le"].replace("Inf", "inf")) for key in given if key[0].endswith("_bucket")]
        by_bound = {
            float(dict(key[1])["le"].replace("Inf", "inf")): family.samples[key]
            for key in given
            if key[0].endswith("_bucket")
        }
        counts = [by_bound[bound] for bound in sorted(bounds)]
        assert len(by_bound) == len(bounds), f"{family.name}{labels}: one bound twice"
        assert counts == sorted(counts), f"{family.name}{labels}: not cumulative"
        assert max(bounds) == float("inf"), f"{family.name}{labels}: no +Inf"
        assert counts[-1] == family.samples[f"{family.name}_count", labels]
        assert (f"{family.name}_sum", labels) in family.samples
