"""Services that users bring themselves, bound to apps and routes (cloud_controller reference 1.6, 3.5)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.controller.running import Controller
from tests.controller.test_reconciler import running_app
from tests.controller.test_routes import body_of
from tests.controller.worlds import detail, member, name, space


def provide(controller: Controller, place: dict[str, Any], **more: Any) -> httpx.Response:
    body = {
        "type": "user-provided",
        "name": name("service"),
        "relationships": {"space": {"data": {"guid": place["guid"]}}},
        **more,
    }
    return controller.admin.post("/v3/service_instances", json=body)


def bind(controller: Controller, instance: str, app: str, **more: Any) -> httpx.Response:
    relationships = {"service_instance": {"data": {"guid": instance}}, "app": {"data": {"guid": app}}}
    body = {"type": "app", "relationships": relationships, **more}
    return controller.admin.post("/v3/service_credential_bindings", json=body)


def test_an_instance_is_made_changed_and_deleted(controller: Controller) -> None:
    place = space(controller)
    made = provide(controller, place, credentials={"uri": "db://"}, tags=["sql"])
    assert made.status_code == 201, made.text
    body = made.json()
    assert (body["type"], body["tags"], body["last_operation"]["state"]) == ("user-provided", ["sql"], "succeeded")
    assert "credentials" not in body
    path = f"/v3/service_instances/{body['guid']}"
    assert controller.admin.get(f"{path}/credentials").json() == {"uri": "db://"}
    controller.admin.patch(path, json={"credentials": {"uri": "other://"}, "tags": []}).raise_for_status()
    assert controller.admin.get(f"{path}/credentials").json() == {"uri": "other://"}
    assert controller.admin.delete(path).status_code == 204
    assert detail(controller.admin.get(path)) == "Service instance not found"


def test_a_name_is_taken_once_in_a_space(controller: Controller) -> None:
    place = space(controller)
    called = provide(controller, place).json()["name"]
    again = provide(controller, place, name=called)
    assert (again.status_code, detail(again)) == (422, f"The service instance name is taken: {called}.")
    assert provide(controller, space(controller), name=called).status_code == 201


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"route_service_url": "http://x"}, "Route service url must be https"),
        ({"syslog_drain_url": "ftp://x"}, "Syslog drain url must be a valid URL"),
        ({"tags": ["x" * 2049]}, "Tags combined length of tags must be 2048 characters or less"),
    ],
)
def test_what_no_instance_may_have(controller: Controller, more: dict[str, Any], text: str) -> None:
    response = provide(controller, space(controller), **more)
    assert response.status_code == 422
    assert detail(response).startswith(text)


def test_what_the_fields_parameter_selects(controller: Controller) -> None:
    place = space(controller)
    called = provide(controller, place).json()["name"]
    query = {
        "names": called,
        "fields[service_plan]": "guid,name,relationships.service_offering",
        "fields[space]": "guid,name",
        "fields[space.organization]": "guid",
    }
    included = controller.admin.get("/v3/service_instances", params=query).json()["included"]
    assert included["spaces"] == [{"guid": place["guid"], "name": place["name"]}]
    assert included["organizations"] == [place["relationships"]["organization"]["data"]]
    wrong = controller.admin.get("/v3/service_instances", params={"fields[space]": "colour"})
    assert wrong.status_code == 400


class TestBindings:
    def test_an_app_is_bound_and_told_the_credentials(self, controller: Controller) -> None:
        place = space(controller)
        instance = provide(controller, place, credentials={"key": "value"}).json()["guid"]
        app = running_app(controller, place, 61101)
        bound = bind(controller, instance, app)
        assert bound.status_code == 201, bound.text
        path = f"/v3/service_credential_bindings/{bound.json()['guid']}"
        assert controller.admin.get(f"{path}/details").json()["credentials"] == {"key": "value"}
        query = {"type": "app", "app_guids": app, "service_instance_guids": instance}
        listed = controller.admin.get("/v3/service_credential_bindings", params=query).json()["resources"]
        assert [row["guid"] for row in listed] == [bound.json()["guid"]]
        refused = controller.admin.delete(f"/v3/service_instances/{instance}")
        assert refused.status_code == 422, "something is bound to it"
        assert controller.admin.delete(path).status_code == 204
        assert controller.admin.delete(f"/v3/service_instances/{instance}").status_code == 204

    def test_an_app_is_bound_once(self, controller: Controller) -> None:
        place = space(controller)
        instance, app = provide(controller, place).json()["guid"], running_app(controller, place, 61102)
        bind(controller, instance, app).raise_for_status()
        again = bind(controller, instance, app)
        assert (again.status_code, detail(again)) == (422, "The app is already bound to the service instance")

    def test_of_another_space_it_cannot_be(self, controller: Controller) -> None:
        instance = provide(controller, space(controller)).json()["guid"]
        assert bind(controller, instance, running_app(controller, space(controller), 61103)).status_code == 422

    @pytest.mark.parametrize(
        ("kind", "sees_secrets"), [("space_developer", True), ("space_auditor", False), ("space_manager", False)]
    )
    def test_who_sees_credentials(self, controller: Controller, kind: str, sees_secrets: bool) -> None:
        place = space(controller)
        instance, app = provide(controller, place).json()["guid"], running_app(controller, place, 61104)
        binding = bind(controller, instance, app).json()["guid"]
        client = member(controller, kind, place).client
        assert client.get(f"/v3/service_instances/{instance}").status_code == 200
        details = client.get(f"/v3/service_credential_bindings/{binding}/details")
        assert details.status_code == (200 if sees_secrets else 403)
        credentials = client.get(f"/v3/service_instances/{instance}/credentials")
        assert credentials.status_code == (200 if sees_secrets else 403)


class TestRouteBindings:
    def test_a_route_goes_through_a_service(self, controller: Controller) -> None:
        place = space(controller)
        (domain,) = controller.admin.get("/v3/domains?names=apps.example.com").json()["resources"]
        route = controller.admin.post("/v3/routes", json=body_of(place["guid"], domain["guid"], host=name("h"))).json()
        instance = provide(controller, place, route_service_url="https://service.example.com").json()["guid"]
        relationships = {"service_instance": {"data": {"guid": instance}}, "route": {"data": {"guid": route["guid"]}}}
        bound = controller.admin.post("/v3/service_route_bindings", json={"relationships": relationships})
        assert bound.status_code == 201, bound.text
        assert bound.json()["route_service_url"] == "https://service.example.com"
        again = controller.admin.post("/v3/service_route_bindings", json={"relationships": relationships})
        assert again.json()["errors"][0]["title"] == "CF-ServiceInstanceAlreadyBoundToSameRoute"
        query = {"route_guids": route["guid"], "include": "service_instance"}
        listed = controller.admin.get("/v3/service_route_bindings", params=query).json()
        assert [one["guid"] for one in listed["included"]["service_instances"]] == [instance]
        assert controller.admin.delete(f"/v3/service_route_bindings/{bound.json()['guid']}").status_code == 204

    def test_an_instance_without_a_url_is_no_route_service(self, controller: Controller) -> None:
        place = space(controller)
        (domain,) = controller.admin.get("/v3/domains?names=apps.example.com").json()["resources"]
        route = controller.admin.post("/v3/routes", json=body_of(place["guid"], domain["guid"], host=name("h"))).json()
        instance = provide(controller, place).json()["guid"]
        relationships = {"service_instance": {"data": {"guid": instance}}, "route": {"data": {"guid": route["guid"]}}}
        refused = controller.admin.post("/v3/service_route_bindings", json={"relationships": relationships})
        assert detail(refused) == "This service instance does not support route binding."
