"""The connection to NATS (gorouter reference 1.1, 1.5): what comes by ``router.*`` goes to the intake; greetings are
answered; the start is announced after every connection.

Messages are read as fast as they come into a long queue, and worked off in slices short enough for pings to be answered
between: a burst of a hundred thousand loses none. A server that cannot be reached at the router's first start is fatal;
once there was one, it is looked for for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, SlowConsumerError

from router.config.setting_sections import Nats
from router.sources.intake import Intake
from router.tls.contexts import platform_context

ATTEMPTS: Final = 3
ATTEMPT_PAUSE: Final = 0.1
LATER_PAUSE: Final = 1.0
"""Between attempts of a sources process that is not a router's first: there are routes to serve meanwhile."""
RECONNECT_PAUSE: Final = 2.0
CONNECT_TIMEOUT: Final = 2
CLOSE_TIMEOUT: Final = 0.5
MAX_PENDING: Final = 1024 * 1024
"""Messages that may wait to be worked off, eight times as many as in Gorouter."""
MAX_PENDING_BYTES: Final = 512 * 1024 * 1024
SLICE_SECONDS: Final = 0.002
_GREET: Final = "router.greet"
_START: Final = "router.start"
_ALL: Final = "router.*"
_ANNOUNCE: Final = "vcap.component.announce"
_DISCOVER: Final = "vcap.component.discover"

_log = logging.getLogger("router.nats")


class NatsUnreachable(Exception):
    """No server was there at the start; the message says what the last one answered."""


class NatsClosed(Exception):
    """The connection has ended for good, as after credentials that are no longer valid."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a router says of itself (reference 1.1)."""

    router_id: str
    host: str
    """The router's own address."""
    minimum_register_interval: float
    prune_threshold: float

    def packed(self) -> bytes:
        return orjson.dumps(
            {
                "id": self.router_id,
                "hosts": [self.host],
                "minimumRegisterIntervalInSeconds": int(self.minimum_register_interval),
                "pruneThresholdInSeconds": int(self.prune_threshold),
            }
        )


class NatsSource:
    """``run`` is its whole life."""

    def __init__(
        self,
        settings: Nats,
        intake: Intake,
        introduction: Introduction,
        *,
        ping_interval: float,
        first: bool,
        on_change: Callable[[], None] = lambda: None,
        component: Callable[[], bytes] | None = None,
    ) -> None:
        """``first``: whether the router begins, and should not without NATS. ``on_change`` is called when the
        connection comes or goes. ``component``: what is announced of the router as a component; None: nothing is."""
        self._settings = settings
        self._intake = intake
        self._introduction = introduction.packed()
        self._ping_interval = ping_interval
        self._first = first
        self._on_change = on_change
        self._component = component
        self._client: Client | None = None
        self._subscription: Subscription | None = None
        self._closed = asyncio.Event()
        self._heard_before = 0.0
        self._heard_since: float | None = None
        self._slice_began = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.dropped = 0
        """Messages for which there was no room."""
        self.reconnects = 0

    @property
    def connected(self) -> bool:
        return self._heard_since is not None

    @property
    def heard(self) -> float:
        """For how many seconds, all together, it has been connected."""
        since = self._heard_since
        return self._heard_before + (0.0 if since is None else asyncio.get_running_loop().time() - since)

    @property
    def buffered(self) -> int:
        """Messages that wait."""
        return 0 if self._subscription is None else self._subscription.pending_msgs

    async def run(self) -> None:
        """Until cancelled. Raises NatsUnreachable, NatsClosed."""
        logging.getLogger("router").info("setting-up-nats-connection")
        self._client = await self._connect()
        try:
            self._subscription = await self._client.subscribe(
                _ALL, cb=self._receive, pending_msgs_limit=MAX_PENDING, pending_bytes_limit=MAX_PENDING_BYTES
            )
            await self._client.flush()
            url = self._client.connected_url
            place = "" if url is None else url.netloc.rpartition("@")[2]
            _log.info("Successfully-connected-to-nats", extra={"data": {"host": place, "addr": place}})
            if self._component is not None:
                await self._client.subscribe(_DISCOVER, cb=self._answer_discovery)
                await self._client.publish(_ANNOUNCE, self._component())
            await self._begin_to_hear()
            await self._closed.wait()
            raise NatsClosed(str(self._client.last_error or "the connection was closed"))
        finally:
            self._heard_since = None
            for task in self._tasks:
                task.cancel()
            if (
                self._client.is_connected
            ):  # one that looks for a server takes its time to give up, and has no one to tell
                await _close(self._client)

    async def _connect(self) -> Client:
        attempt = 0
        complaint = ""
        while True:
            attempt += 1
            try:
                return await self._one_attempt()
            except _NobodyThere as error:
                if self._first and attempt >= ATTEMPTS:
                    raise NatsUnreachable(str(error)) from None
                if not self._first and str(error) != complaint:
                    complaint = str(error)
                    _log.error("nats-connection-error", extra={"data": {"error": complaint, "what": "trying again"}})
            await asyncio.sleep(ATTEMPT_PAUSE if self._first else LATER_PAUSE)

    async def _one_attempt(self) -> Client:
        """Asks every server once. Raises _NobodyThere."""
        said = self._settings
        servers = [f"nats://{_bracketed(host.hostname)}:{host.port}" for host in said.hosts]
        failures = 0
        client = _CarefulClient()

        async def on_error(error: Exception) -> None:
            nonlocal failures
            if isinstance(error, SlowConsumerError):
                self.dropped += 1
                return
            _log.debug("nats-error", extra={"data": {"error": _words(error)}})
            if self._client is None:
                failures += 1
                if failures >= len(servers):
                    raise _NobodyThere(_words(error)) from error

        async def on_closed() -> None:
            self._closed.set()

        options: dict[str, Any] = {}
        if said.tls_enabled:
            options["tls"] = platform_context(said.ca_certs, said.cert_chain, said.private_key)
        if said.user:
            options |= {"user": said.user, "password": said.pass_}
        try:
            await client.connect(
                servers,
                error_cb=on_error,
                closed_cb=on_closed,
                disconnected_cb=self._disconnected,
                reconnected_cb=self._reconnected,
                name="gorouter",
                verbose=True,  # or the reason of a refusal is lost to the reset that follows it
                connect_timeout=CONNECT_TIMEOUT,
                reconnect_time_wait=int(RECONNECT_PAUSE),
                max_reconnect_attempts=-1,
                ping_interval=self._ping_interval,  # type: ignore[arg-type]
                **options,
            )
            if not client.is_connected:  # the library takes no notice of a server that says nothing and hangs up
                raise _NobodyThere("the server closed the connection without a word; does it accept the certificate?")
        except BaseException:
            await _close(client)
            raise
        return client

    async def _receive(self, message: Msg) -> None:
        if message.subject == _GREET and message.reply and self._client is not None:
            await self._client.publish(message.reply, self._introduction)
        else:
            try:
                self._intake.take(message.subject, message.data)
            except Exception:  # a fault of ours with this one message: the library would drop it without a word
                _log.exception("message-failed", extra={"data": {"subject": message.subject}})
        if perf_counter() - self._slice_began > SLICE_SECONDS:
            await asyncio.sleep(0)
            self._slice_began = perf_counter()

    async def _answer_discovery(self, message: Msg) -> None:
        if message.reply and self._client is not None and self._component is not None:
            await self._client.publish(message.reply, self._component())

    async def publish(self, subject: str, payload: bytes) -> None:
        """Say it if there is a connection."""
        if self._client is not None and self.connected:
            await self._client.publish(subject, payload)

    async def _begin_to_hear(self) -> None:
        assert self._client is not None
        self._heard_since = asyncio.get_running_loop().time()
        self._on_change()
        await self._client.publish(_START, self._introduction)

    async def _disconnected(self) -> None:
        if self._heard_since is None:
            return
        self._heard_before, self._heard_since = self.heard, None
        _log.warning("nats-connection-disconnected", extra={"data": {"error": _words(self._last_error())}})
        self._on_change()
        task = asyncio.create_task(self._say_that_it_is_away())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reconnected(self) -> None:
        self.reconnects += 1
        url = None if self._client is None else self._client.connected_url
        place = "" if url is None else url.netloc.rpartition("@")[2]
        _log.info("nats-connection-reconnected", extra={"data": {"nats-host": place}})
        await self._begin_to_hear()

    async def _say_that_it_is_away(self) -> None:
        while True:
            await asyncio.sleep(self._ping_interval)
            if self.connected:
                return
            _log.info("nats-connection-still-disconnected")

    def _last_error(self) -> Exception | None:
        return None if self._client is None else self._client.last_error


class _NobodyThere(Exception):
    """No server could be connected to; the message is of the last one."""


class _CarefulClient(Client):
    """One that never falls back to plain text: where TLS is configured, a server that does not offer it is refused."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and "tls" in self.options:
            if not (info.get("tls_required") or info.get("tls_available")):
                raise Error("nats: secure connection not available")
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)


async def _close(client: Client) -> None:
    with contextlib.suppress(TimeoutError, Error, OSError, _NobodyThere):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await client.close()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _words(error: Exception | None) -> str:
    return "" if error is None else str(error) or type(error).__name__
