"""The Cloud Controller's scenarios: calls per second, pages of a long list, and how soon a change shows at the router.

Everything is asked for through the router, by the API alone, as clients do; only the many rows that are there already
were put into the database directly. It must never say that a goal was met by other figures than those it shows.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, cycle, product
from statistics import median
from typing import Final

from bench import control_plane
from bench.api_client import Answer, Ask, Caller
from bench.api_load import load
from bench.control_plane import APPS_DOMAIN, ControlPlane
from bench.histogram import Histogram
from bench.machine import BenchError, pinned
from bench.population import DEVELOPED, PASSWORD, Population, fill
from bench.registry import Client
from bench.rounds import Bench

CONNECTIONS: Final = (1, 16)
PER_PAGE: Final = 50
WARM_UP_SECONDS: Final = 0.5
FRONT_PAGES: Final = 20
ASKED_APPS: Final = 1000
JOB_SECONDS: Final = 30.0
GOAL_SHOWN_MS: Final = 20.0
GOAL_PAGES: Final = 2.0
"""The slowest page to the first one, at most."""
QUERIES: Final = ("", "order_by=-created_at", "order_by=name")
_SEED: Final = 5


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of everything."""

    apps: int = 100_000
    seconds: float = 3.0
    """Of each rate."""
    page_rounds: int = 15
    changes: int = 200
    """Destinations whose way to the router is timed."""
    jobs: int = 100
    warm_requests: int = 1000
    more_requests: int = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """One kind of call on a number of connections, for a while."""

    name: str
    title: str
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """User and system time of the controller's process per call; PostgreSQL's is not in it."""
    failed: int
    first_failure: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: the median over rounds in turn."""

    query: str
    number: int
    ms: float


@dataclass(frozen=True, slots=True)
class Waits:
    """How long something took to come about, each time."""

    count: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of the controller's process."""

    start: int
    warm: int
    """After all the other scenarios and ``warm_requests``."""
    later: int
    """After ``more_requests`` more."""


@dataclass(frozen=True, slots=True)
class DatabaseResult:
    kind: str
    fill_seconds: float
    rates: list[Rate]
    pages: list[Page]
    shown: Waits
    """From the answer to POST /v3/routes/:guid/destinations to the first 200 for the route."""
    jobs: Waits
    """From DELETE /v3/apps/:guid to the end of its job, as a client sees it that asks for the job at once."""
    memory: Memory


@dataclass(frozen=True, slots=True)
class ControllerResult:
    amounts: Amounts
    databases: list[DatabaseResult]


@dataclass(slots=True)
class Scene:
    """What the calls of one database share."""

    plane: ControlPlane
    population: Population
    amounts: Amounts
    routes: list[str]
    """Guids of routes made so far."""
    numbers: Iterator[int]

    def admin(self) -> str:
        return self.plane.admin

    def developer(self) -> str:
        return self.plane.token(self.population.people[0], PASSWORD)


Asks = Callable[[Scene], Iterator[Ask]]


def _get(scene: Scene) -> Iterator[Ask]:
    token, chance = scene.admin(), random.Random(_SEED)
    some = [scene.plane.ask("GET", f"/v3/apps/{guid}", 200, token) for guid in scene.population.apps[:ASKED_APPS]]
    while True:
        yield chance.choice(some)


def _list(scene: Scene, token: str, apps: int) -> Iterator[Ask]:
    last = max(1, min(FRONT_PAGES, apps // PER_PAGE))
    pages = [
        scene.plane.ask("GET", f"/v3/apps?per_page={PER_PAGE}&page={page}", 200, token) for page in range(1, last + 1)
    ]
    return cycle(pages)


def _list_all(scene: Scene) -> Iterator[Ask]:
    return _list(scene, scene.admin(), scene.amounts.apps)


def _list_own(scene: Scene) -> Iterator[Ask]:
    return _list(scene, scene.developer(), scene.amounts.apps * DEVELOPED // len(scene.population.spaces))


def _create_apps(scene: Scene) -> Iterator[Ask]:
    token, spaces = scene.admin(), cycle(scene.population.spaces)
    for number, space in zip(scene.numbers, spaces, strict=False):
        body = {"name": f"made-{number}", "relationships": {"space": {"data": {"guid": space}}}}
        yield scene.plane.ask("POST", "/v3/apps", 201, token, body)


def _route(scene: Scene, token: str, host: str) -> Ask:
    relationships = {
        "space": {"data": {"guid": scene.population.spaces[0]}},
        "domain": {"data": {"guid": scene.population.domain}},
    }
    return scene.plane.ask("POST", "/v3/routes", 201, token, {"host": host, "relationships": relationships})


def _create_routes(scene: Scene) -> Iterator[Ask]:
    token = scene.admin()
    for number in scene.numbers:
        yield _route(scene, token, f"made-{number}")


def _destination(scene: Scene, token: str, route: str, app: str) -> Ask:
    body = {"destinations": [{"app": {"guid": app}}]}
    return scene.plane.ask("POST", f"/v3/routes/{route}/destinations", 200, token, body)


def _add_destinations(scene: Scene) -> Iterator[Ask]:
    token = scene.admin()
    own = [scene.population.running, *scene.population.apps[:: len(scene.population.spaces)]]  # of the routes' space
    for app, route in product(own[:50], list(scene.routes)):
        yield _destination(scene, token, route, app)


def _log_in(scene: Scene) -> Iterator[Ask]:
    return cycle([scene.plane.login(name, PASSWORD) for name in scene.population.people])


CALLS: Final[tuple[tuple[str, str, Asks], ...]] = (
    ("get", "GET /v3/apps/:guid", _get),
    ("list", f"GET /v3/apps, {PER_PAGE} per page", _list_all),
    ("list-own", "the same as a developer of a tenth", _list_own),
    ("create", "POST /v3/apps", _create_apps),
    ("route", "POST /v3/routes", _create_routes),
    ("destination", "POST /v3/routes/:guid/destinations", _add_destinations),
    ("login", "POST /oauth/token, password", _log_in),
)


def run(bench: Bench, amounts: Amounts, kinds: Sequence[str], progress: Callable[[str], None]) -> ControllerResult:
    """All scenarios on each kind of database in turn. Raises BenchError."""
    return ControllerResult(amounts, [_on(bench, kind, amounts, progress) for kind in kinds])


def _on(bench: Bench, kind: str, amounts: Amounts, progress: Callable[[str], None]) -> DatabaseResult:
    with pinned(bench.cores.load), ExitStack() as stack:
        progress(f"{kind}: starting Redis, a router and a controller")
        plane = control_plane.start(bench, kind, stack)
        resident = plane.rss()
        progress(f"{kind}: filling the database with {amounts.apps:,} apps")
        began = time.perf_counter()
        scene = Scene(plane, fill(plane.database, amounts.apps, plane.backend_port), amounts, [], count())
        filled = time.perf_counter() - began
        rates = []
        for (name, title, asks), connections in product(CALLS, CONNECTIONS):
            progress(f"{kind}: {title}, {connections} at a time")
            rates.append(_rate(scene, name, title, asks, connections))
        progress(f"{kind}: pages of a long list")
        pages = _pages(scene)
        progress(f"{kind}: {amounts.changes} destinations on their way to the router")
        shown = _shown(scene)
        progress(f"{kind}: {amounts.jobs} jobs")
        jobs = _jobs(scene)
        progress(f"{kind}: {amounts.more_requests:,} requests and what they leave in memory")
        memory = _memory(scene, resident)
    return DatabaseResult(kind, filled, rates, pages, shown, jobs, memory)


def _rate(scene: Scene, name: str, title: str, asks: Asks, connections: int) -> Rate:
    plane = scene.plane
    requests = asks(scene)

    def remember(answer: Answer) -> None:
        scene.routes.append(answer.json["guid"])

    made = remember if name == "route" else None
    load(plane.port, requests, connections=connections, seconds=WARM_UP_SECONDS, answered=made)
    before = plane.cpu_ns()
    figures = load(plane.port, requests, connections=connections, seconds=scene.amounts.seconds, answered=made)
    used = plane.cpu_ns() - before
    return Rate(
        name,
        title,
        connections,
        figures.answers / figures.seconds,
        figures.p50_ms,
        figures.p99_ms,
        used / 1e6 / figures.answers,
        figures.failed,
        figures.first_failure,
    )


def _timed(caller: Caller, one: Ask) -> float:
    """Milliseconds until the answer."""
    began = time.perf_counter()
    caller.call(one)
    return (time.perf_counter() - began) * 1000


def _pages(scene: Scene) -> list[Page]:
    """The first page, the thousandth (or the middle one) and the last."""
    last = -(-scene.amounts.apps // PER_PAGE)
    numbers = sorted({1, min(1000, last // 2 + 1), last})
    token, caller = scene.admin(), Caller(scene.plane.port)
    times: dict[tuple[str, int], list[float]] = {place: [] for place in product(QUERIES, numbers)}
    for _ in range(scene.amounts.page_rounds):
        for (query, number), each in times.items():
            path = f"/v3/apps?per_page={PER_PAGE}&page={number}&{query}".rstrip("&")
            each.append(_timed(caller, scene.plane.ask("GET", path, 200, token)))
    caller.close()
    return [Page(query, number, median(each)) for (query, number), each in times.items()]


def _shown(scene: Scene) -> Waits:
    token, waits = scene.admin(), Histogram()
    caller, client = Caller(scene.plane.port), Client(scene.plane.port)
    for number in range(scene.amounts.changes):
        host = f"shown-{number}"
        guid = caller.call(_route(scene, token, host)).json["guid"]
        caller.call(_destination(scene, token, guid, scene.population.running))
        waits.record(round(client.wait_for(f"{host}.{APPS_DOMAIN}", 0) * 1e6))
    caller.close()
    client.close()
    return _waits(waits)


def _jobs(scene: Scene) -> Waits:
    plane, token, waits = scene.plane, scene.admin(), Histogram()
    caller = Caller(plane.port)
    for guid in scene.population.apps[-scene.amounts.jobs :]:
        began = time.perf_counter()
        job = caller.call(plane.ask("DELETE", f"/v3/apps/{guid}", 202, token)).field("location")
        asked = plane.ask("GET", job, 200, token)
        while (state := caller.call(asked).json["state"]) != "COMPLETE":
            if time.perf_counter() - began > JOB_SECONDS:
                raise BenchError(f"the job of DELETE /v3/apps/{guid} is {state} after {JOB_SECONDS:g} s")
        waits.record(round((time.perf_counter() - began) * 1e6))
    caller.close()
    return _waits(waits)


def _waits(waits: Histogram) -> Waits:
    return Waits(waits.count, waits.percentile(50) / 1000, waits.percentile(99) / 1000)


def _memory(scene: Scene, start: int) -> Memory:
    plane = scene.plane
    _requests(scene, scene.amounts.warm_requests)
    warm = plane.rss()
    _requests(scene, scene.amounts.more_requests)
    return Memory(start, warm, plane.rss())


def _requests(scene: Scene, requests: int) -> None:
    """Half of them singles, half small pages."""
    token = scene.admin()
    pages = scene.plane.ask("GET", "/v3/apps?per_page=5", 200, token)
    mixed = (one for pair in zip(_get(scene), cycle([pages]), strict=False) for one in pair)
    load(scene.plane.port, mixed, connections=CONNECTIONS[-1], seconds=600, most=requests)
