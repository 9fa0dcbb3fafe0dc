"""Metrics, request events and log lines for Loggregator: dropsonde envelopes over UDP (gorouter reference 8.6)."""
