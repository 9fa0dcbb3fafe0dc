"""The Routing API as its clients see it (gorouter reference 1.7)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import orjson
import pytest

from controller.routing_api import store
from controller.routing_api.said import http_route
from router.sources.sse import Event, EventParser
from tests.controller.running import PATIENCE, Controller
from tests.controller.worlds import name
from tests.router.wire import wait_until

SCOPES = (
    "routing.routes.read",
    "routing.routes.write",
    "routing.router_groups.read",
    "routing.router_groups.write",
)
ROUTES, TCP_ROUTES, GROUPS = "/routing/v1/routes", "/routing/v1/tcp_routes", "/routing/v1/router_groups"


def registrar(controller: Controller, *scopes: str) -> httpx.Client:
    return controller.client("registrar", *(scopes or SCOPES))


def route(**change: Any) -> dict[str, Any]:
    return {"route": f"{name('r')}.example.com", "ip": "10.0.0.1", "port": 80, "ttl": 60, "log_guid": "app", **change}


def leave(client: httpx.Client, *routes: dict[str, Any]) -> httpx.Response:
    return client.request("DELETE", ROUTES, json=list(routes))


def listed(client: httpx.Client, *names: str) -> list[dict[str, Any]]:
    return [one for one in client.get(ROUTES).raise_for_status().json() if one["route"] in names]


class Watcher:
    """What a stream has brought so far."""

    def __init__(self, response: httpx.Response) -> None:
        self.headers = response.headers
        self.events: list[Event] = []
        self.raw = b""
        self._thread = threading.Thread(target=self._read, args=(response,), daemon=True)
        self._thread.start()

    def _read(self, response: httpx.Response) -> None:
        parser = EventParser()
        try:
            for piece in response.iter_raw():
                self.raw += piece
                self.events += parser.feed(piece)
        except httpx.HTTPError:
            return

    def about(self, key: str) -> list[tuple[str, dict[str, Any]]]:
        """Events of a route: their names and what they say."""
        found = [(event.name, orjson.loads(event.data)) for event in list(self.events)]
        return [(what, said) for what, said in found if said.get("route", said.get("instance_id")) == key]


@contextmanager
def watching(client: httpx.Client, path: str = "/routing/v1/events") -> Iterator[Watcher]:
    with client.stream("GET", path, timeout=PATIENCE) as response:
        assert response.status_code == 200
        yield Watcher(response)


class TestHttpRoutes:
    def test_a_batch_is_registered_listed_and_taken_out(self, controller: Controller) -> None:
        client, one, two = registrar(controller), route(), route(route_service_url="https://rs.example.com", ttl=None)
        made = client.post(ROUTES, json=[one, two])
        assert (made.status_code, made.content) == (201, b"")
        first, second = listed(client, one["route"], two["route"])
        assert {key: first[key] for key in one} == one
        assert (second["ttl"], second["route_service_url"]) == (120, "https://rs.example.com")
        assert first["modification_tag"]["index"] == 0
        client.post(ROUTES, json=[one])
        (again,) = listed(client, one["route"])
        assert again["modification_tag"] == {"guid": first["modification_tag"]["guid"], "index": 1}
        gone = leave(client, one, two, route())
        assert (gone.status_code, gone.content) == (204, b"")
        assert listed(client, one["route"], two["route"]) == []

    def test_one_that_is_wrong_keeps_all_of_them_out(self, controller: Controller) -> None:
        client, good = registrar(controller), route()
        refused = client.post(ROUTES, json=[good, route(port=0)])
        assert refused.status_code == 400
        assert refused.json() == {
            "name": "RouteInvalidError",
            "message": "Each route request requires a port greater than 0",
        }
        assert listed(client, good["route"]) == []

    @pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[1]", b'[{"port":"x"}]', b"[" + b"{}," * 5000 + b"{}]"])
    def test_bodies_that_are_no_routes(self, controller: Controller, body: bytes) -> None:
        refused = registrar(controller).post(ROUTES, content=body)
        assert (refused.status_code, refused.json()["name"]) == (400, "ProcessRequestError")

    def test_a_time_that_is_over(self, controller: Controller) -> None:
        client, short, long = registrar(controller), route(ttl=1), route(ttl=60)
        client.post(ROUTES, json=[short, long]).raise_for_status()
        with watching(client) as watcher:
            wait_until(lambda: watcher.about(short["route"]), "the end of a route")
        assert [what for what, _ in watcher.about(short["route"])] == ["Delete"]
        assert len(listed(client, short["route"], long["route"])) == 1


class TestEvents:
    def test_they_tell_what_comes_and_goes(self, controller: Controller) -> None:
        client, one, two = registrar(controller), route(), route()
        with watching(client) as watcher:
            assert watcher.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert watcher.headers["cache-control"] == "no-cache, no-store, must-revalidate"
            client.post(ROUTES, json=[one, two]).raise_for_status()
            wait_until(lambda: watcher.about(two["route"]), "both routes")
            client.post(ROUTES, json=[one]).raise_for_status()
            wait_until(lambda: len(watcher.about(one["route"])) == 2, "the second word")
            leave(client, one)
            wait_until(lambda: len(watcher.about(one["route"])) == 3, "the end")
        names = [what for what, _ in watcher.about(one["route"])]
        tags = [said["modification_tag"]["index"] for _, said in watcher.about(one["route"])]
        assert (names, tags) == (["Upsert", "Upsert", "Delete"], [0, 1, 1])
        ids = [line for line in watcher.raw.split(b"\n") if line.startswith(b"id: ")]
        assert ids == [b"id: %d" % number for number in range(len(ids))]

    def test_they_also_tell_what_other_controllers_wrote(self, controller: Controller) -> None:
        client, said = registrar(controller), route()
        with watching(client) as watcher:
            entry = http_route(said, 120)
            controller.database.write(partial(store.upsert, entries=[entry], moment=datetime.now(UTC)))
            wait_until(lambda: watcher.about(said["route"]), "the route")
        leave(client, said)

    def test_each_kind_has_its_own(self, controller: Controller) -> None:
        client, mapping, said = registrar(controller), tcp_route(registrar(controller)), route()
        with watching(client, f"{TCP_ROUTES}/events") as watcher:
            client.post(ROUTES, json=[said]).raise_for_status()
            client.post(f"{TCP_ROUTES}/create", json=[mapping]).raise_for_status()
            wait_until(lambda: watcher.about(mapping["instance_id"]), "the TCP route")
            assert watcher.about(said["route"]) == []


def tcp_route(client: httpx.Client, **change: Any) -> dict[str, Any]:
    (group,) = client.get(f"{GROUPS}?name=default-tcp").json()
    return {
        "router_group_guid": group["guid"],
        "port": 1024,
        "backend_ip": "10.0.0.1",
        "backend_port": 61000,
        "instance_id": name("instance"),
        "ttl": 60,
        "isolation_segment": "",
        **change,
    }


class TestTcpRoutes:
    def test_one_is_registered_listed_and_taken_out(self, controller: Controller) -> None:
        client = registrar(controller)
        shared, apart = tcp_route(client, port=1025), tcp_route(client, port=1026, isolation_segment="apart")
        assert client.post(f"{TCP_ROUTES}/create", json=[shared, apart]).status_code == 201

        def instances(query: str) -> set[str]:
            found = {one["instance_id"] for one in client.get(TCP_ROUTES + query).raise_for_status().json()}
            return found & {shared["instance_id"], apart["instance_id"]}

        both = {shared["instance_id"], apart["instance_id"]}
        assert instances("") == instances("?isolation_segment=&isolation_segment=apart") == both
        assert instances("?isolation_segment=") == {shared["instance_id"]}
        assert instances("?isolation_segment=apart") == {apart["instance_id"]}
        (one,) = [one for one in client.get(TCP_ROUTES).json() if one["instance_id"] == shared["instance_id"]]
        assert {key: one[key] for key in shared} == shared
        assert (one["backend_tls_port"], one["modification_tag"]["index"]) == (-1, 0)
        assert client.post(f"{TCP_ROUTES}/delete", json=[shared, apart]).status_code == 204
        assert instances("") == set()

    def test_its_router_group_must_be_there(self, controller: Controller) -> None:
        client = registrar(controller)
        refused = client.post(f"{TCP_ROUTES}/create", json=[tcp_route(client, router_group_guid="nobody")])
        assert (refused.status_code, refused.json()["name"]) == (400, "TcpRouteMappingInvalidError")


class TestRouterGroups:
    def test_one_is_made_changed_and_deleted(self, controller: Controller) -> None:
        client, called = registrar(controller), name("group")
        made = client.post(GROUPS, json={"name": called, "type": "tcp", "reservable_ports": "2000-2010"})
        assert made.status_code == 201
        guid = made.json()["guid"]
        assert made.json() == {"guid": guid, "name": called, "type": "tcp", "reservable_ports": "2000-2010"}
        assert client.get(f"{GROUPS}?name={called}").json() == [made.json()]
        assert made.json() in client.get(GROUPS).json()
        changed = client.put(f"{GROUPS}/{guid}", json={"reservable_ports": "2000-2020,3000", "name": "other"})
        assert (changed.status_code, changed.json()["reservable_ports"]) == (200, "2000-2020,3000")
        assert changed.json()["name"] == called, "names stay"
        assert "x-cf-warnings" in changed.headers
        again = client.post(GROUPS, json={"name": called, "type": "http"})
        assert (again.status_code, again.json()["name"]) == (409, "DBConflictError")
        assert client.delete(f"{GROUPS}/{guid}").status_code == 204
        for gone in (client.get(f"{GROUPS}?name={called}"), client.delete(f"{GROUPS}/{guid}")):
            assert (gone.status_code, gone.json()["name"]) == (404, "ResourceNotFoundError")

    def test_one_with_domains_stays(self, controller: Controller) -> None:
        client = registrar(controller)
        group = client.post(GROUPS, json={"name": name("g"), "type": "tcp", "reservable_ports": "4000"}).json()
        domain = {"name": f"{name('tcp')}.example.com", "router_group": {"guid": group["guid"]}}
        controller.admin.post("/v3/domains", json=domain).raise_for_status()
        refused = client.delete(f"{GROUPS}/{group['guid']}")
        assert (refused.status_code, refused.json()["name"]) == (409, "DBConflictError")

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ({}, "Missing name in router group"),
            ({"name": "g"}, "Missing type in router group"),
            ({"name": "g", "type": "udp"}, "type: http or tcp, not 'udp'"),
            ({"name": "g", "type": "tcp"}, "Missing reservable_ports in router group: g"),
            (
                {"name": "g", "type": "http", "reservable_ports": "1024"},
                "Reservable ports are not supported for router groups of type http",
            ),
            (
                {"name": "g", "type": "tcp", "reservable_ports": "80"},
                "reservable_ports: '80' is not within 1024-65535",
            ),
            (
                {"name": "g", "type": "tcp", "reservable_ports": "2000-2010,2005"},
                "reservable_ports: '2005' overlaps with another range",
            ),
        ],
    )
    def test_what_is_refused(self, controller: Controller, body: dict[str, Any], message: str) -> None:
        refused = registrar(controller).post(GROUPS, json=body)
        assert (refused.status_code, refused.json()["name"]) == (400, "ProcessRequestError")
        assert refused.json()["message"] == f"Cannot process request: {message}"


NEEDS = [
    ("GET", ROUTES, "routing.routes.read"),
    ("POST", ROUTES, "routing.routes.write"),
    ("DELETE", ROUTES, "routing.routes.write"),
    ("GET", "/routing/v1/events", "routing.routes.read"),
    ("GET", TCP_ROUTES, "routing.routes.read"),
    ("POST", f"{TCP_ROUTES}/create", "routing.routes.write"),
    ("POST", f"{TCP_ROUTES}/delete", "routing.routes.write"),
    ("GET", f"{TCP_ROUTES}/events", "routing.routes.read"),
    ("GET", GROUPS, "routing.router_groups.read"),
    ("POST", GROUPS, "routing.router_groups.write"),
    ("PUT", f"{GROUPS}/x", "routing.router_groups.write"),
    ("DELETE", f"{GROUPS}/x", "routing.router_groups.write"),
]


@pytest.mark.parametrize(("method", "path", "scope"), NEEDS)
def test_every_endpoint_has_its_scope(controller: Controller, method: str, path: str, scope: str) -> None:
    others = registrar(controller, *(other for other in SCOPES if other != scope))
    refused = others.request(method, path, json=[])
    assert refused.status_code == 401
    assert refused.json() == {"name": "UnauthorizedError", "message": f"Token does not have '{scope}' scope"}
    for headers in ({}, {"Authorization": "bearer x"}):
        answer = controller.client("").request(method, path, json=[], headers=headers)
        assert (answer.status_code, answer.json()["name"]) == (401, "UnauthorizedError")
    if path.endswith("events"):
        return
    allowed = registrar(controller, scope).request(method, path, json=[])
    assert allowed.status_code in (200, 201, 204, 400, 404)
