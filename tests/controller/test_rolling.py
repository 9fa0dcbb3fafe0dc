"""Deployments as a state machine (cloud_controller reference 3.3): each rule, and whole rollouts that keep serving."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller import rolling
from controller.rolling import Health, Plan, Rollout, Web

OLD, NEW = Web("old", 4), Web("new", 1)
ROLLOUT = Rollout("DEPLOYING", target=4, original=4)


def test_instances_come_one_after_the_other() -> None:
    plan = rolling.tick(ROLLOUT, NEW, [OLD], Health(routable=1, starting=0, unhealthy=0))
    assert plan == Plan("DEPLOYING", {"new": 2, "old": 3})


@pytest.mark.parametrize(
    ("health", "max_in_flight"),
    [
        (Health(0, 1, 0), 1),  # one is starting already
        (Health(0, 0, 1), 1),  # it has crashed
        (Health(1, 2, 0), 2),
    ],
)
def test_a_version_that_does_not_come_up_is_not_started_more_often(health: Health, max_in_flight: int) -> None:
    new = Web("new", health.routable + health.starting + health.unhealthy)
    plan = rolling.tick(replace(ROLLOUT, max_in_flight=max_in_flight), new, [OLD], health)
    assert "new" not in plan.instances
    assert plan.state == "DEPLOYING"


def test_the_oldest_leave_first_and_interim_ones_are_destroyed() -> None:
    webs = [Web("original", 2), Web("interim", 1, is_interim=True), Web("later", 2, is_interim=True)]
    plan = rolling.tick(ROLLOUT, Web("new", 3), webs, Health(3, 0, 0))
    assert plan == Plan("DEPLOYING", {"new": 4, "original": 0, "later": 1}, ("interim",))


def test_at_the_end_only_the_new_one_is_left() -> None:
    plan = rolling.tick(ROLLOUT, Web("new", 4), [Web("old", 0)], Health(4, 0, 0))
    assert plan == Plan("DEPLOYED", {}, ("old",))


@pytest.mark.parametrize(
    ("target", "steps", "step", "canary", "original"),
    [
        (10, (), 1, 1, 10),
        (10, (20, 50), 1, 2, 9),
        (10, (20, 50), 2, 5, 6),
        (10, (1,), 1, 1, 10),
        (10, (100,), 1, 10, 0),
        (1, (50,), 1, 1, 1),
        (5, (50,), 1, 3, 3),
        (0, (50,), 1, 1, 0),
    ],
)
def test_how_many_canaries_a_step_has(
    target: int, steps: tuple[int, ...], step: int, canary: int, original: int
) -> None:
    rollout = Rollout("PREPAUSED", target=target, original=target, steps=steps, step=step)
    assert rolling.canary_step(rollout) == rolling.Step(canary, original)


def test_canaries_pause_when_they_are_routable() -> None:
    rollout = Rollout("PREPAUSED", target=4, original=4, steps=(50, 100), step=1)
    plan = rolling.tick(rollout, Web("new", 1), [OLD], Health(1, 0, 0))
    assert plan == Plan("PREPAUSED", {"new": 2, "old": 3})
    plan = rolling.tick(rollout, Web("new", 2), [Web("old", 3)], Health(2, 0, 0))
    assert plan == Plan("PAUSED")
    assert rolling.tick(replace(rollout, state="PAUSED"), Web("new", 2), [OLD], Health(2, 0, 0)) == Plan("PAUSED")
    assert rolling.continued(rollout) == ("PREPAUSED", 2)
    assert rolling.continued(replace(rollout, step=2)) == ("DEPLOYING", 2)
    assert rolling.continued(replace(rollout, steps=())) == ("DEPLOYING", 1)


class TestCancelling:
    ROLLOUT = Rollout("CANCELING", target=2, original=4)

    def test_goes_back_to_the_original(self) -> None:
        interim = Web("interim", 1, running=0, is_interim=True)
        plan = rolling.tick(self.ROLLOUT, NEW, [Web("old", 1), interim], Health(1, 0, 0))
        assert plan == Plan("CANCELED", {"old": 4}, ("interim", "new"))

    def test_or_to_the_newest_interim_one_that_runs(self) -> None:
        webs = [OLD, Web("a", 1, running=1, is_interim=True), Web("b", 1, running=1, is_interim=True)]
        plan = rolling.tick(self.ROLLOUT, NEW, [*webs, Web("c", 1, running=0, is_interim=True)], Health(1, 0, 0))
        assert plan == Plan("CANCELED", {"b": 4}, ("old", "a", "c", "new"))

    def test_leaves_the_only_one(self) -> None:
        assert rolling.tick(self.ROLLOUT, NEW, [], Health(1, 0, 0)) == Plan("CANCELED", {"new": 4})


def test_it_begins_with_no_more_than_may_be_in_flight() -> None:
    assert rolling.first_instances(replace(ROLLOUT, max_in_flight=3)) == 3
    assert rolling.first_instances(replace(ROLLOUT, max_in_flight=9)) == 4
    canary = Rollout("PREPAUSED", target=10, original=10, max_in_flight=5, steps=(20,))
    assert rolling.first_instances(canary) == 2


@given(
    original=st.integers(0, 12),
    target=st.integers(0, 12),
    max_in_flight=st.integers(1, 5),
    steps=st.lists(st.integers(1, 100), max_size=4).map(sorted).map(tuple),
    is_canary=st.booleans(),
    interim=st.lists(st.integers(1, 4), max_size=2),
)
def test_every_rollout_ends_and_serves_with_enough_until_then(
    original: int, target: int, max_in_flight: int, steps: tuple[int, ...], is_canary: bool, interim: list[int]
) -> None:
    """All that starts is routable at the next tick. What serves is the old ones, all of them running, and those new."""
    rollout = Rollout(
        "PREPAUSED" if is_canary else "DEPLOYING",
        target=target,
        original=original,
        max_in_flight=max_in_flight,
        steps=steps if is_canary else (),
    )
    counts = {"old": original, **{f"interim-{number}": count for number, count in enumerate(interim)}}
    least = min(sum(counts.values()), target)
    new, routable = rolling.first_instances(rollout), 0
    for _ in range(200):
        others = [Web(name, count, count, name != "old") for name, count in counts.items()]
        plan = rolling.tick(rollout, Web("new", new), others, Health(routable, new - routable, 0))
        if plan.state == "DEPLOYED":
            break
        new = plan.instances.get("new", new)
        counts = {name: plan.instances.get(name, count) for name, count in counts.items() if name not in plan.destroyed}
        assert new <= target
        assert "old" in counts
        assert routable + sum(counts.values()) >= least, "fewer serve than did before"
        rollout = replace(rollout, state=plan.state)
        if plan.state == "PAUSED":
            state, step = rolling.continued(rollout)
            rollout = replace(rollout, state=state, step=step)
        routable = new
    else:
        pytest.fail("it never ends")
    assert (new, set(plan.destroyed)) == (target, set(counts))
