"""A gorouter.yml with what BOSH switches on, for the router and for a Gorouter alike.

Only what costs something per request is here, with the values that the BOSH job renders by default (and Zipkin headers,
which nearly every deployment turns on); ports and folders are the site's. It must never differ between the two.
"""

from __future__ import annotations

from typing import Any

from bench.proxy import Site


def settings(site: Site, metron_port: int = 0) -> dict[str, Any]:
    """``metron_port``: where envelopes go, on the loopback address, if the scenario has them."""
    return {
        "access_log": {"file": str(site.access_log), "enable_streaming": False},
        "backends": {"max_conns": 500, "max_attempts": 3},
        "empty_pool_response_code_503": True,
        "enable_envelope_v1_metrics": site.scenario.envelopes,
        "endpoint_timeout": "900s",
        "hop_by_hop_headers_to_filter": ["X-Forwarded-For", "X-Forwarded-Proto", "B3", "X-B3", "X-B3-SpanID"],
        "logging": {
            "level": "info",
            "loggregator_enabled": site.scenario.envelopes,
            "metron_address": f"127.0.0.1:{metron_port}",
        },
        "per_request_metrics_reporting": True,
        "send_http_start_stop_client_event": site.scenario.envelopes,
        "send_http_start_stop_server_event": site.scenario.envelopes,
        "sticky_session_cookie_names": ["JSESSIONID"],
        "trace_key": "22",
        "tracing": {"enable_zipkin": True, "enable_w3c": False},
    }
