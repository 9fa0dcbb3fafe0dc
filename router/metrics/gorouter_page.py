"""The part of /metrics with Gorouter's own names, so that dashboards and alarms go on as they are (gorouter reference
8.6). Names, labels and meanings are Gorouter's; units are what the names say, which docs/compatibility.md tells of.

`router.metrics.metrics_page` shows it beside our own: sums over workers that live and that ever lived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from router.metrics.gorouter_metrics import Sums, group, no_groups
from router.metrics.histogram import Histogram
from router.processes.control import Message

COUNTERS: Final = {
    "rejected_requests": "bad_requests",
    "bad_gateways": "bad_gateways",
    "empty_content_length_header": "empty_content_length_header",
    "backend_invalid_id": "backend_invalid_id",
    "backend_invalid_tls_cert": "backend_invalid_tls_cert",
    "backend_tls_handshake_failed": "backend_tls_handshake_failed",
    "backend_exhausted_conns": "backend_exhausted_conns",
    "websocket_upgrades": "websocket_upgrades",
    "websocket_failures": "websocket_failures",
}
"""Counters without labels, by Gorouter's name: the figure of `router.metrics.counters.Metrics` behind each."""

_FAMILIES: Final = {
    "rejected_requests": ("counter", "Requests without a host or a route, or for an instance that is not there."),
    "bad_gateways": ("counter", "Requests that no endpoint answered as it should, failures of TLS apart."),
    "empty_content_length_header": ("counter", "Requests whose Content-Length is empty."),
    "backend_invalid_id": ("counter", "Requests whose endpoint had a certificate for another name."),
    "backend_invalid_tls_cert": ("counter", "Requests whose endpoint had an expired or untrusted certificate."),
    "backend_tls_handshake_failed": ("counter", "Requests whose endpoint failed the TLS handshake otherwise."),
    "backend_exhausted_conns": ("counter", "Requests for which every endpoint had reached backends.max_conns."),
    "websocket_upgrades": ("counter", "WebSockets opened."),
    "websocket_failures": ("counter", "Requests for a WebSocket that no endpoint answered as it should."),
    "total_requests": ("counter", "Attempts at endpoints, by the tag component."),
    "responses": ("counter", "Responses to requests for which an endpoint had been chosen."),
    "responses_route_services": ("counter", "Responses of route services."),
    "registry_message": ("counter", "Registrations of a route by NATS, by what came of them."),
    "unregistry_message": ("counter", "Unregistrations of a route by NATS."),
    "routes_pruned": ("counter", "Endpoints taken out because they were not announced again."),
    "total_routes": ("gauge", "Routes in the table."),
    "ms_since_last_registry_update": ("gauge", "Milliseconds since the registry was last heard of; -1: never."),
    "file_descriptors": ("gauge", "Open file descriptors of all processes of the router."),
    "buffered_messages": ("gauge", "Messages of NATS that wait to be read."),
    "total_dropped_messages": ("gauge", "Messages of NATS lost because too many waited."),
    "token_fetch_errors": ("counter", "Times that the UAA gave no token for the Routing API."),
    "subscribe_events_errors": ("counter", "Event streams of the Routing API that could not be had, or broke."),
    "route_lookup_time": ("histogram", "Nanoseconds of a request's lookup in the route table."),
    "gorouter_time": ("histogram", "Seconds that the router itself took for a request."),
    "latency": ("histogram", "Milliseconds from a request to the end of its response, by the tag component."),
    "route_registration_latency": ("histogram", "Milliseconds from an endpoint's own timestamp to its routes here."),
    "http_latency_seconds": ("histogram", "Seconds from a request to the end of its response, by the tag source_id."),
    "promhttp_metric_handler_errors_total": ("counter", "Errors in the making of this page."),
}
"""Kind and description by name."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What no worker knows."""

    sources: Message
    """The latest report of the sources process; what is not in it counts as 0."""
    file_descriptors: int = 0
    routes: int = 0
    since_update_ms: float = -1

    @classmethod
    def of(cls, sources: Message, workers: Iterable[Message], file_descriptors: int) -> Self:
        """``workers``: their latest reports. All have the same table; the fullest is the newest."""
        told = [report for report in workers if report]
        silences = [report["since_update_ms"] for report in told if report["since_update_ms"] >= 0]
        return cls(
            sources,
            file_descriptors,
            routes=max((report["routes"] for report in told), default=0),
            since_update_ms=sources.get("ms_since_last_registry_update", min(silences, default=-1)),
        )


NOTHING_OUTSIDE: Final = Outside({})


Sample = tuple[Mapping[str, str], Any]


def page(sums: Sums, numbers: Mapping[str, float], statuses: Mapping[str, int], outside: Outside) -> list[str]:
    """The lines. ``numbers`` are sums of figures of `Metrics`, by name; ``statuses`` counts final responses by code."""
    sources = outside.sources
    families: dict[str, Iterable[Sample]] = {
        **{name: _single(numbers[figure]) for name, figure in COUNTERS.items()},
        "total_requests": _labelled("component", sums.requests),
        "responses": _labelled("status_group", sums.responses(statuses)),
        "responses_route_services": _labelled("status_group", _grouped(sums.service_responses)),
        "registry_message": _registrations(sums.by_component(sources.get("register"))),
        "unregistry_message": _labelled("component", sums.by_component(sources.get("unregister"))),
        "routes_pruned": _single(sources.get("routes_pruned", 0)),
        "total_routes": _single(outside.routes),
        "ms_since_last_registry_update": _single(outside.since_update_ms),
        "file_descriptors": _single(outside.file_descriptors),
        "buffered_messages": _single(sources.get("buffered_messages", 0)),
        "total_dropped_messages": _single(sources.get("total_dropped_messages", 0)),
        "token_fetch_errors": _single(sources.get("token_fetch_errors", 0)),
        "subscribe_events_errors": _single(sources.get("subscribe_events_errors", 0)),
        "promhttp_metric_handler_errors_total": _labelled("cause", {"encoding": 0, "gathering": 0}),
    }
    lines: list[str] = []
    for name, samples in families.items():
        _head(lines, name)
        lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    _histogram(lines, "route_lookup_time", {"": sums.histograms["lookup"]})
    _histogram(lines, "gorouter_time", {"": sums.histograms["own_time"]})
    registrations = sums.histograms["registration"].copy()
    if "registration_latency" in sources:
        registrations.add_plain(sources["registration_latency"], registrations.bounds)
    _histogram(lines, "route_registration_latency", {"": registrations}, scale=1000)
    _histogram(lines, "latency", sums.latency, label="component", scale=1000)
    if sums.http_latency:
        _histogram(lines, "http_latency_seconds", sums.http_latency, label="source_id")
    return lines


def _single(value: float) -> list[Sample]:
    return [({}, value)]


def _labelled(name: str, counts: Mapping[str, int]) -> list[Sample]:
    return [({name: value}, count) for value, count in sorted(counts.items())]


def _grouped(by_class: Sequence[int]) -> dict[str, int]:
    counts = no_groups()
    for number, count in enumerate(by_class):
        counts[group(number * 100)] += count
    return counts


def _registrations(counts: Mapping[str, Mapping[str, int]]) -> Iterable[Sample]:
    for component, actions in sorted(counts.items()):
        for action, count in sorted(actions.items()):
            yield {"component": component, "action": action}, count


def _head(lines: list[str], name: str) -> None:
    kind, text = _FAMILIES[name]
    lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")


def _histogram(
    lines: list[str], name: str, histograms: Mapping[str, Histogram], *, label: str = "", scale: float = 1
) -> None:
    """``histograms`` by the value of ``label``; shown in a unit of which ``scale`` make the one they are counted in."""
    _head(lines, name)
    for value, histogram in sorted(histograms.items()):
        labels = {label: value} if label else {}
        bounds = [_number(round(bound * scale, 9)) for bound in histogram.bounds]
        reached = histogram.cumulative
        for bound, count in zip((*bounds, "+Inf"), reached, strict=True):
            lines.append(f"{name}_bucket{_labels({**labels, 'le': bound})} {count}")
        lines.append(f"{name}_sum{_labels(labels)} {_number(histogram.sum * scale)}")
        lines.append(f"{name}_count{_labels(labels)} {reached[-1]}")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


_ESCAPED: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels.items()) + "}"
