"""A whole router with a cleartext and a TLS listener, certificates of an authority of its own, and routes."""

from __future__ import annotations

import shutil
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from router.registry.records import EndpointRecord
from router.registry.writer import RegistryWriter
from tests.router.supervised import Router, running_router

NAME = "app.test"
"""What the certificate is for, besides localhost and 127.0.0.1."""


@dataclass
class SecuredRouter:
    router: Router
    ca: trustme.CA
    ca_file: Path

    @property
    def port(self) -> int:
        return self.router.port

    @property
    def tls_port(self) -> int:
        return int(self.router.said("starting")[0]["https_port"])

    def context(self, *protocols: str) -> ssl.SSLContext:
        """For a client that trusts the authority and offers these protocols (ALPN)."""
        made = ssl.create_default_context(cafile=str(self.ca_file))
        if protocols:
            made.set_alpn_protocols(list(protocols))
        return made


@contextmanager
def secured_router(
    redis_url: str,
    routes: Mapping[str, EndpointRecord],
    *,
    ca: trustme.CA | None = None,
    workers: int = 1,
    namespace: str = "secured",
    **settings: Any,
) -> Iterator[SecuredRouter]:
    """Running and healthy; the routes last as long as it does. Endpoints over TLS are trusted by the same authority.

    Routers at the same time and Redis need a ``namespace`` each.
    """
    folder = Path(tempfile.mkdtemp(prefix="mr-", dir="/tmp"))
    try:
        ca = ca or trustme.CA()
        ca.cert_pem.write_to_path(folder / "ca.pem")
        ca.issue_cert(NAME, "localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")
        own = {"cert_file": str(folder / "own.pem"), "key_file": str(folder / "own.pem")}
        ca_certs = [ca.cert_pem.bytes().decode()]
        with RegistryWriter(redis_url, namespace=namespace) as writer:
            writer.lease("tests", ttl=0).replace(list(routes.items()))
            native = {"workers": workers, "namespace": namespace, **settings.pop("millrace", {})}
            with running_router(
                redis_url, enable_ssl=True, ssl_port=0, tls_pem=[own], ca_certs=ca_certs, millrace=native, **settings
            ) as router:
                yield SecuredRouter(router.until_healthy(), ca, folder / "ca.pem")
            writer.lease("tests", ttl=0).replace([])
    finally:
        shutil.rmtree(folder)
