"""Deployments as a state machine: what to do next about an app's web processes (reference 3.3). Rows in, plan out.

Theory of operation. A deployment adds a web process with the new droplet, the *deploying* one, beside those that are
there: the *original*, which is the oldest, and perhaps *interim* ones that earlier, superseded deployments left. Each
tick looks at how the deploying one's instances are, and answers with a `Plan`. What is routable counts; old instances
leave only when new ones are routable, so that old and new together never serve with less than the target.

    DEPLOYING ──all routable──────────────────────────▶ DEPLOYED
    PREPAUSED ──canaries routable──▶ PAUSED ──continue──▶ PREPAUSED for the next step, DEPLOYING after the last
    any of these ──cancel──▶ CANCELING ──next tick──▶ CANCELED

Nothing here looks at a clock, a database or a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

DEPLOYING, PREPAUSED, PAUSED, CANCELING = "DEPLOYING", "PREPAUSED", "PAUSED", "CANCELING"
DEPLOYED, CANCELED = "DEPLOYED", "CANCELED"
ACTIVE: Final = frozenset((DEPLOYING, PREPAUSED, PAUSED, CANCELING))
REASONS: Final = {PREPAUSED: DEPLOYING}
"""What the API calls a state, where that is not its own name."""


@dataclass(frozen=True, slots=True)
class Web:
    """One of an app's web processes. Sequences of them are in the order of their making."""

    guid: str
    instances: int
    running: int = 0
    """How many of them run."""
    is_interim: bool = False
    """Whether an earlier deployment brought it, that was superseded."""


@dataclass(frozen=True, slots=True)
class Health:
    """Of the deploying process's instances, by count."""

    routable: int
    starting: int
    """Healthy, but not routable yet."""
    unhealthy: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """What of a deployment's row decides."""

    state: str
    target: int
    """How many instances there shall be at the end."""
    original: int
    """How many there were."""
    max_in_flight: int = 1
    steps: tuple[int, ...] = ()
    """Percentages of a canary deployment."""
    step: int = 1
    """Which of them, from 1."""


@dataclass(frozen=True, slots=True)
class Plan:
    state: str
    """Of the deployment, from now on."""
    instances: Mapping[str, int] = field(default_factory=dict)
    """New counts of processes, by guid; the others stay."""
    destroyed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """How many instances are new and how many old while a canary is looked at."""

    canary: int
    original: int


def canary_step(rollout: Rollout) -> Step:
    if not rollout.steps:
        return Step(1, rollout.target)
    weight = rollout.steps[min(rollout.step, len(rollout.steps)) - 1]
    canary = max(1, (2 * rollout.target * weight + 100) // 200)
    return Step(canary, 0 if weight == 100 else max(0, rollout.target - canary + 1))


def first_instances(rollout: Rollout) -> int:
    """With how many instances the deploying process begins."""
    most = canary_step(rollout).canary if rollout.state == PREPAUSED else rollout.target
    return min(most, rollout.target, rollout.max_in_flight)


def continued(rollout: Rollout) -> tuple[str, int]:
    """State and step after a pause."""
    if rollout.step < len(rollout.steps):
        return PREPAUSED, rollout.step + 1
    return DEPLOYING, rollout.step


def tick(rollout: Rollout, deploying: Web, others: Sequence[Web], health: Health) -> Plan:
    """What to do now. ``others``: all web processes but the deploying one, oldest first."""
    match rollout.state:
        case "DEPLOYING":
            return _deploy(rollout, deploying, others, health)
        case "PREPAUSED":
            return _approach(rollout, deploying, others, health)
        case "CANCELING":
            return _cancel(rollout, deploying, others)
    return Plan(rollout.state)


def _deploy(rollout: Rollout, deploying: Web, others: Sequence[Web], health: Health) -> Plan:
    target = rollout.target
    if deploying.instances >= target and health.routable >= target:
        return Plan(DEPLOYED, destroyed=tuple(web.guid for web in others))
    more = _scaled_up(rollout, deploying, health, target)
    fewer, destroyed = _scaled_down(others, max(target - health.routable, 0))
    return Plan(DEPLOYING, {**more, **fewer}, destroyed)


def _approach(rollout: Rollout, deploying: Web, others: Sequence[Web], health: Health) -> Plan:
    step = canary_step(rollout)
    wanted = min(step.canary, rollout.target)
    fewer, destroyed = _scaled_down(others, max(step.original, rollout.target - health.routable))
    if deploying.instances >= wanted and health.routable >= wanted:
        return Plan(PAUSED, fewer, destroyed)
    return Plan(PREPAUSED, {**_scaled_up(rollout, deploying, health, wanted), **fewer}, destroyed)


def _cancel(rollout: Rollout, deploying: Web, others: Sequence[Web]) -> Plan:
    """Back to what served before: the newest interim process that runs, else the original."""
    interim = [web for web in others if web.is_interim and web.running]
    if not others:
        return Plan(CANCELED, {deploying.guid: rollout.original})
    kept = interim[-1] if interim else others[0]
    gone = [web.guid for web in (*others, deploying) if web.guid != kept.guid]
    return Plan(CANCELED, {kept.guid: rollout.original}, tuple(gone))


def _scaled_up(rollout: Rollout, deploying: Web, health: Health, target: int) -> dict[str, int]:
    """As far as starting instances allow: a version that does not come up is not started more often."""
    allowed = (
        health.starting < rollout.max_in_flight
        and health.unhealthy == 0
        and health.routable >= deploying.instances - rollout.max_in_flight
    )
    instances = min(health.routable + rollout.max_in_flight, target)
    return {deploying.guid: instances} if allowed and instances > deploying.instances else {}


def _scaled_down(others: Sequence[Web], wanted: int) -> tuple[dict[str, int], tuple[str, ...]]:
    """Oldest first, until ``wanted`` are left. An interim process without instances goes, the original stays."""
    surplus = sum(web.instances for web in others) - wanted
    changed: dict[str, int] = {}
    destroyed: list[str] = []
    for place, web in enumerate(others):
        taken = min(web.instances, max(surplus, 0))
        surplus -= taken
        if web.instances == taken and place > 0:
            destroyed.append(web.guid)
        elif taken:
            changed[web.guid] = web.instances - taken
    return changed, tuple(destroyed)
