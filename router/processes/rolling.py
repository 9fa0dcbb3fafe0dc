"""What a roll can change of the settings, and what belongs to the supervisor and needs a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from router.config.settings import Settings
from router.sources.wanted import wanted

UNCHANGEABLE: Final = (
    "port",
    "disable_http",
    "enable_ssl",
    "ssl_port",
    "status",
    "prometheus, but for its meters",
    "debug_addr",
    "go_max_procs",
    "millrace.address",
    "millrace.workers",
    "millrace.tcp_ports",
    "nats, routing_api, millrace.redis: which of them there are",
)
"""Settings that a roll leaves as they are: they belong to the sockets, or are what the workers follow."""


def for_a_roll(new: Settings, old: Settings) -> Settings:
    """The new settings, but for what a roll leaves as it was."""
    if wanted(new) != wanted(old):  # what the workers follow is settled when they begin
        new = replace(
            new,
            nats=old.nats,
            routing_api=old.routing_api,
            millrace=replace(new.millrace, redis=old.millrace.redis),
        )
    native = replace(
        new.millrace,
        address=old.millrace.address,
        workers=old.millrace.workers,
        tcp_ports=old.millrace.tcp_ports,
    )
    return replace(
        new,
        port=old.port,
        disable_http=old.disable_http,
        enable_ssl=old.enable_ssl,
        ssl_port=old.ssl_port,
        status=old.status,
        prometheus=replace(old.prometheus, meters=new.prometheus.meters),
        debug_addr=old.debug_addr,
        go_max_procs=old.go_max_procs,
        millrace=native,
    )
