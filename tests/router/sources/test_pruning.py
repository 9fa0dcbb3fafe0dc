"""Who leaves at a tick, and who is asked first (gorouter reference 1.4)."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from router.config.settings import Settings
from router.registry.records import EndpointRecord
from router.sources import pruning
from router.sources.announced import NO_TAG, Announcement
from router.sources.probe import Probe
from router.sources.pruning import Pruner
from tests.router.sources.test_announced import THRESHOLD, Table, at


class Rig:
    """A pruner whose dials are answered by the set ``alive``."""

    def __init__(self) -> None:
        self.table = Table()
        self.is_suspended = False
        self.is_connected = True
        self.alive: set[str] = set()
        self.asked: list[str] = []
        self.pruner = Pruner(
            self.table,
            interval=30.0,
            suspended=lambda: self.is_suspended,
            connected=lambda: self.is_connected,
            answers=self.answers,
        )

    async def answers(self, announcement: Announcement) -> bool:
        await asyncio.sleep(0)
        self.asked.append(announcement.address)
        return announcement.address in self.alive

    def tick(self) -> list[str]:
        """Returns the routes that are there afterwards."""
        asyncio.run(self.pruner.tick())
        return sorted(self.table.routes())


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.table.register(("plain.com",), at(1))
    rig.table.register(("alive.com",), at(2, tls_port=443))
    rig.table.register(("dead.com",), at(3, tls_port=443))
    rig.alive = {"10.0.0.2:443"}
    return rig


def test_nobody_leaves_in_time(rig: Rig) -> None:
    rig.table.now += THRESHOLD
    assert len(rig.tick()) == 3
    assert rig.asked == []


def test_the_overdue_leave_but_for_those_that_prove_themselves(rig: Rig) -> None:
    rig.table.now += THRESHOLD + 1
    assert rig.tick() == ["alive.com"]
    assert sorted(rig.asked) == ["10.0.0.2:443", "10.0.0.3:443"]
    assert rig.pruner.dialled == rig.table.pruned == 2
    rig.table.now += THRESHOLD
    assert rig.tick() == ["alive.com"]
    assert len(rig.asked) == 2  # it was given a threshold's time
    rig.alive.clear()
    rig.table.now += 1
    assert rig.tick() == []


def test_without_nats_nobody_is_asked(rig: Rig) -> None:
    rig.is_connected = False
    rig.table.now += THRESHOLD + 1
    assert rig.tick() == ["alive.com", "dead.com"]
    assert rig.asked == []


def test_suspended_nobody_leaves_and_then_everybody_has_time(rig: Rig) -> None:
    rig.is_suspended = True
    rig.table.now += THRESHOLD + 1
    assert len(rig.tick()) == 3
    rig.is_suspended = False
    assert len(rig.tick()) == 3
    rig.table.now += THRESHOLD
    assert len(rig.tick()) == 3
    rig.table.now += 1
    assert rig.tick() == ["alive.com"]


def test_who_is_announced_while_being_asked_stays(rig: Rig) -> None:
    async def answers(announcement: Announcement) -> bool:
        rig.table.register(("dead.com",), at(3, tls_port=443))
        return False

    rig.pruner._answers = answers
    rig.table.now += THRESHOLD + 1
    assert rig.tick() == ["dead.com"]


def test_so_many_are_asked_at_once_and_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "DIALS_AT_ONCE", 3)
    monkeypatch.setattr(pruning, "DIALS_PER_TICK", 20)
    for number in range(50):
        rig.table.register((f"{number}.com",), at(number, tls_port=8443))
    at_once = most = 0

    async def answers(announcement: Announcement) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return False

    rig.pruner._answers = answers
    rig.table.now += THRESHOLD + 1
    assert len(rig.tick()) == 32
    assert most == 3


def test_an_endpoint_that_failed_leaves_its_route_if_it_speaks_tls() -> None:
    table = Table()
    table.register(("a.com", "b.com"), at(1, tls_port=443), key=b"m")
    table.register(("a.com",), at(2))
    assert not table.fail("a.com", "10.0.0.2:80")
    assert not table.fail("nobody.com", "10.0.0.1:443")
    assert table.fail("a.com", "10.0.0.1:443")
    assert sorted(table.mirror.records) == [("a.com", "10.0.0.2:80"), ("b.com", "10.0.0.1:443")]
    assert not table.refresh(b"m")  # so that its next announcement brings it back


class TestDialling:
    """An endpoint is alive if it is what it was registered as."""

    def ask(self, settings: Settings, port: int, name: str = "instance-guid") -> bool:
        record = EndpointRecord(host="127.0.0.1", tls_port=port, server_cert_domain_san=name)
        announcement = Announcement(record, THRESHOLD, NO_TAG, None, 0.0)
        return asyncio.run(Probe(settings).answers(announcement))

    def test_it_must_have_its_certificate_where_authorities_are_known(self) -> None:
        authority, other = trustme.CA(), trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("instance-guid").configure_cert(context)

        async def test() -> None:
            server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
            port = server.sockets[0].getsockname()[1]

            async def ask(ca: trustme.CA | None, name: str = "instance-guid") -> bool:
                settings = Settings(ca_certs=(ca.cert_pem.bytes().decode(),) if ca else ())
                return await asyncio.to_thread(self.ask, settings, port, name)

            assert await ask(authority)
            assert not await ask(authority, "another-guid")
            assert not await ask(other)
            assert await ask(None)
            server.close()

        asyncio.run(test())

    def test_it_must_listen(self) -> None:
        assert not self.ask(Settings(), 1)

    def test_one_that_does_not_answer_is_given_up(self) -> None:
        authority = trustme.CA()

        async def test() -> None:
            server = await asyncio.start_server(lambda _, __: None, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            how = Settings(
                ca_certs=(authority.cert_pem.bytes().decode(),), endpoint_dial_timeout=0.1, tls_handshake_timeout=0.1
            )
            assert not await asyncio.to_thread(self.ask, how, port)
            server.close()

        asyncio.run(test())
