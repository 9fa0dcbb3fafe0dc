"""Releases, deployments, CPIs, the health monitor, and `millrace up`."""
