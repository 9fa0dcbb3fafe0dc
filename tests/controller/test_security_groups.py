"""Security groups and what spaces allow (cloud_controller reference 1.7, 3.1, 3.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.running import Controller, job_of
from tests.controller.test_quotas import to
from tests.controller.worlds import code, detail, member, name, person, space

RULES = [{"protocol": "tcp", "destination": "10.0.0.0/24", "ports": "443,8443", "log": True}]


def security_group(controller: Controller, **more: Any) -> dict[str, Any]:
    response = controller.admin.post("/v3/security_groups", json={"name": name("asg"), **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


class TestGroups:
    def test_one_is_made_changed_and_deleted(self, controller: Controller) -> None:
        made = security_group(controller, rules=RULES)
        path = f"/v3/security_groups/{made['guid']}"
        assert made["rules"] == RULES
        assert made["globally_enabled"] == {"running": False, "staging": False}
        assert made["relationships"] == {"running_spaces": {"data": []}, "staging_spaces": {"data": []}}
        changed = controller.admin.patch(path, json={"globally_enabled": {"staging": True}}).json()
        assert changed["globally_enabled"] == {"running": False, "staging": True}
        assert changed["rules"] == RULES, "what is not named stays"
        assert controller.admin.patch(path, json={"rules": []}).json()["rules"] == []
        assert controller.admin.get(path).json()["globally_enabled"] == {"running": False, "staging": True}
        deleted = controller.admin.delete(path)
        assert job_of(controller.admin, deleted)["operation"] == "security_group.delete"
        assert detail(controller.admin.get(path)) == "Security group not found"

    def test_what_is_refused(self, controller: Controller) -> None:
        made = security_group(controller)
        again = controller.admin.post("/v3/security_groups", json={"name": made["name"]})
        assert (again.status_code, detail(again)) == (
            422,
            f"Security group with name '{made['name']}' already exists.",
        )
        body = {"name": name("asg"), "rules": [{"protocol": "gre", "destination": "10.0.0.1"}, 5]}
        wrong = controller.admin.post("/v3/security_groups", json=body)
        assert (wrong.status_code, detail(wrong)) == (
            422,
            "Rules[0]: protocol must be 'tcp', 'udp', 'icmp', 'icmpv6' or 'all', Rules[1]: must be an object",
        )
        unknown = controller.admin.post("/v3/security_groups", json={"name": "x", "globally_enabled": {"all": True}})
        assert detail(unknown) == "Unknown field(s): 'globally_enabled.all'"
        nowhere = {"name": name("asg"), "relationships": {"running_spaces": to("nobody")}}
        refused = controller.admin.post("/v3/security_groups", json=nowhere)
        assert detail(refused) == 'Spaces with guids ["nobody"] do not exist, or you do not have access to them.'

    def test_it_holds_in_spaces_for_what_runs_and_for_what_is_staged(self, controller: Controller) -> None:
        one, two = space(controller), space(controller)
        made = security_group(controller, relationships={"running_spaces": to(one["guid"])})
        path = f"/v3/security_groups/{made['guid']}"
        bound = controller.admin.post(f"{path}/relationships/running_spaces", json=to(two["guid"], one["guid"]))
        assert (bound.status_code, bound.json()["data"]) == (200, to(one["guid"], two["guid"])["data"])
        staged = controller.admin.post(f"{path}/relationships/staging_spaces", json=to(two["guid"]))
        assert staged.json()["links"]["self"]["href"].endswith(f"{path}/relationships/staging_spaces")
        shown = controller.admin.get(path).json()["relationships"]
        assert shown == {"running_spaces": to(one["guid"], two["guid"]), "staging_spaces": to(two["guid"])}
        for query, expected in (
            (f"running_space_guids={one['guid']}", 1),
            (f"staging_space_guids={one['guid']}", 0),
            (f"names={made['name']}&globally_enabled_running=false", 1),
            (f"names={made['name']}&globally_enabled_staging=true", 0),
        ):
            found = controller.admin.get(f"/v3/security_groups?{query}").json()["resources"]
            assert len(found) == expected, query
        assert controller.admin.delete(f"{path}/relationships/running_spaces/{one['guid']}").status_code == 204
        again = controller.admin.delete(f"{path}/relationships/running_spaces/{one['guid']}")
        assert (again.status_code, detail(again)) == (
            422,
            f"Unable to unbind security group from space with guid '{one['guid']}'. "
            "Ensure the space is bound to this security group.",
        )
        assert controller.admin.delete(f"{path}/relationships/staging_spaces/{two['guid']}").status_code == 204
        assert controller.admin.get(path).json()["relationships"]["running_spaces"] == to(two["guid"])

    def test_a_space_lists_what_holds_in_it(self, controller: Controller) -> None:
        place = space(controller)
        here = security_group(controller, relationships={"staging_spaces": to(place["guid"])})
        everywhere = security_group(controller, globally_enabled={"running": True})

        def listed(phase: str) -> set[str]:
            found = controller.admin.get(f"/v3/spaces/{place['guid']}/{phase}_security_groups?per_page=500").json()
            return {group["guid"] for group in found["resources"]} & {here["guid"], everywhere["guid"]}

        assert (listed("running"), listed("staging")) == ({everywhere["guid"]}, {here["guid"]})
        query = f"/v3/spaces/{place['guid']}/staging_security_groups?names={here['name']}&guids={here['guid']}"
        assert controller.admin.get(query).json()["pagination"]["total_results"] == 1
        controller.admin.delete(f"/v3/security_groups/{everywhere['guid']}")


class TestWhoMay:
    @pytest.mark.parametrize(
        ("role", "sees", "binds"),
        [
            ("organization_manager", True, True),
            ("organization_auditor", False, False),
            ("organization_billing_manager", False, False),
            ("organization_user", False, False),
            ("space_developer", True, False),
            ("space_manager", True, True),
            ("space_auditor", True, False),
            ("space_supporter", True, False),
        ],
    )
    def test_binding_is_the_managers_of_the_space(
        self, controller: Controller, role: str, sees: bool, binds: bool
    ) -> None:
        place, elsewhere = space(controller), space(controller)
        made = security_group(controller, relationships={"running_spaces": to(place["guid"], elsewhere["guid"])})
        owner = place["relationships"]["organization"]["data"]
        somebody = member(controller, role, owner if role.startswith("org") else place)
        path = f"/v3/security_groups/{made['guid']}"
        shown = somebody.client.get(path)
        assert shown.status_code == (200 if sees else 404)
        if sees:
            assert shown.json()["relationships"]["running_spaces"] == to(place["guid"])
        bound = somebody.client.post(f"{path}/relationships/staging_spaces", json=to(place["guid"]))
        assert bound.status_code == (200 if binds else 403 if sees else 404)
        freed = somebody.client.delete(f"{path}/relationships/running_spaces/{place['guid']}")
        assert freed.status_code == (204 if binds else 403 if sees else 404)
        if binds:
            foreign = somebody.client.post(f"{path}/relationships/running_spaces", json=to(elsewhere["guid"]))
            assert foreign.status_code == 422
        assert somebody.client.patch(path, json={"name": "x"}).status_code == (403 if sees else 404)
        assert somebody.client.post("/v3/security_groups", json={"name": "x"}).status_code == 403
        listing = somebody.client.get(f"/v3/spaces/{place['guid']}/running_security_groups")
        assert listing.status_code == (200 if sees else 404)

    def test_what_holds_everywhere_is_seen_by_everybody(self, controller: Controller) -> None:
        made = security_group(controller, globally_enabled={"staging": True})
        path = f"/v3/security_groups/{made['guid']}"
        stranger = person(controller).client
        assert stranger.get(path).status_code == 200
        assert stranger.delete(path).status_code == 403
        job_of(controller.admin, controller.admin.delete(path))

    def test_in_a_suspended_organization_nothing_is_bound(self, controller: Controller) -> None:
        place = space(controller)
        made = security_group(controller, relationships={"running_spaces": to(place["guid"])})
        manager = member(controller, "space_manager", place)
        owner = place["relationships"]["organization"]["data"]["guid"]
        controller.admin.patch(f"/v3/organizations/{owner}", json={"suspended": True}).raise_for_status()
        path = f"/v3/security_groups/{made['guid']}/relationships/running_spaces"
        for refused in (
            manager.client.post(path, json=to(place["guid"])),
            manager.client.delete(f"{path}/{place['guid']}"),
            manager.client.patch(f"/v3/spaces/{place['guid']}/features/ssh", json={"enabled": False}),
        ):
            assert (refused.status_code, code(refused)) == (403, 10017)


class TestSpaceFeatures:
    def test_ssh_is_allowed_unless_switched_off(self, controller: Controller) -> None:
        place = space(controller)
        path = f"/v3/spaces/{place['guid']}/features"
        (feature,) = controller.admin.get(path).json()["resources"]
        assert feature == {
            "name": "ssh",
            "description": "Enable SSHing into apps in the space.",
            "enabled": True,
        }
        assert controller.admin.patch(f"{path}/ssh", json={"enabled": False}).json()["enabled"] is False
        assert controller.admin.get(f"{path}/ssh").json()["enabled"] is False
        unknown = controller.admin.get(f"{path}/flying")
        assert (unknown.status_code, detail(unknown)) == (404, "Feature not found")
        assert controller.admin.patch(f"{path}/ssh", json={"enabled": "no"}).status_code == 422

    @pytest.mark.parametrize(
        ("role", "get", "change"),
        [
            ("organization_manager", 200, 200),
            ("organization_auditor", 404, 404),
            ("space_developer", 200, 403),
            ("space_manager", 200, 200),
            ("space_auditor", 200, 403),
            ("space_supporter", 200, 403),
        ],
    )
    def test_who_may(self, controller: Controller, role: str, get: int, change: int) -> None:
        place = space(controller)
        owner = place["relationships"]["organization"]["data"]
        client = member(controller, role, owner if role.startswith("org") else place).client
        path = f"/v3/spaces/{place['guid']}/features/ssh"
        assert client.get(path).status_code == get
        assert client.patch(path, json={"enabled": True}).status_code == change
