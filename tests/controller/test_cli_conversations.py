"""The conversations of ``cf`` version 8, request by request (cloud_controller reference 1.2 to 1.7).

Each test is a command or a few: exactly its calls in their order, and exactly what it reads of the answers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.controller.cli import Cli, CliError, claims_of, name_filter, reads
from tests.controller.cli_shapes import (
    APP,
    BINDING,
    BUILDPACK,
    DEPLOYMENT,
    DESTINATION,
    DOMAIN,
    DROPLET,
    INSTANCE,
    ORGANIZATION,
    PACKAGE,
    PAGINATION,
    PROCESS,
    QUOTA,
    REVISION,
    ROLE,
    ROUTE,
    SPACE,
    STACK,
    STATS,
    TASK,
    USER,
)
from tests.controller.running import Controller
from tests.controller.worlds import droplet, name, person

DOMAIN_NAME = "apps.example.com"


def password_of(controller: Controller) -> str:
    return (controller.folder / "data" / "admin-password").read_text().strip()


@pytest.fixture(scope="module")
def admin(controller: Controller) -> Iterator[Cli]:
    cli = Cli(controller)
    cli.api()
    cli.log_in("admin", password_of(controller))
    yield cli
    assert all(isinstance(warning, str) for warning in cli.warnings)


@pytest.fixture(scope="module")
def developer(controller: Controller, admin: Cli) -> Cli:
    """Somebody who works in a space that is targeted."""
    username = create_user(admin)
    organization, space = name("org"), name("space")
    create_org(admin, organization)
    create_space(admin, organization, space)
    set_space_role(admin, username, organization, space, "space_developer")
    cli = Cli(controller)
    cli.api()
    cli.log_in(username, "secret", organization, space)
    return cli


def to_one(guid: str) -> dict[str, Any]:
    return {"data": {"guid": guid}}


# Commands that others begin with --------------------------------------------------------------------------------------


def create_user(admin: Cli) -> str:
    """``cf create-user``."""
    username = name("user")
    body = {
        "userName": username,
        "password": "secret",
        "origin": "",
        "name": {"familyName": username, "givenName": username},
        "emails": [{"value": username, "primary": True}],
    }
    made = admin.raw("POST", f"{admin.links['uaa']['href']}/Users", json=body)
    assert made.status_code == 201
    user = admin.call("POST", "/users", json={"guid": made.json()["id"]}, expect=201)
    reads(user, USER)
    return username


def create_org(cli: Cli, organization: str) -> dict[str, Any]:
    """``cf create-org``."""
    made: dict[str, Any] = reads(
        cli.call("POST", "/organizations", json={"name": organization}, expect=201), ORGANIZATION
    )
    return made


def create_space(cli: Cli, organization: str, space: str) -> dict[str, Any]:
    """``cf create-space -o``: the space, and roles in it for who makes it."""
    owner = cli.organization_named(organization)["guid"]
    body = {"name": space, "relationships": {"organization": to_one(owner)}}
    made: dict[str, Any] = reads(cli.call("POST", "/spaces", json=body, expect=201), SPACE)
    claims = claims_of(cli.access_token)
    for kind in ("space_manager", "space_developer"):
        tolerated_role(cli, "organization_user", claims["user_name"], organization=owner)
        give_role(cli, kind, claims["user_name"], space=made["guid"])
    return made


def give_role(cli: Cli, kind: str, username: str, **place: str) -> dict[str, Any]:
    relationships: dict[str, Any] = {"user": {"data": {"username": username, "origin": "uaa"}}}
    relationships |= {key: to_one(guid) for key, guid in place.items()}
    role: dict[str, Any] = reads(
        cli.call("POST", "/roles", json={"type": kind, "relationships": relationships}, expect=201), ROLE
    )
    return role


def tolerated_role(cli: Cli, kind: str, username: str, **place: str) -> None:
    """It may be there already."""
    try:
        give_role(cli, kind, username, **place)
    except CliError as error:
        if not re.match(rf"User '{re.escape(username)}' already has '{kind}' role", error.detail):
            raise


def set_space_role(cli: Cli, username: str, organization: str, space: str, kind: str) -> None:
    """``cf set-space-role``."""
    cli.organization = cli.organization_named(organization)["guid"]
    where = cli.space_named(space)["guid"]
    tolerated_role(cli, "organization_user", username, organization=cli.organization)
    tolerated_role(cli, kind, username, space=where)


def create_app(cli: Cli) -> dict[str, Any]:
    """``cf create-app``."""
    body = {"name": name("app"), "relationships": {"space": to_one(cli.space)}}
    made: dict[str, Any] = reads(cli.call("POST", "/apps", json=body, expect=201), APP)
    return made


class TestSessions:
    """Section 1.2."""

    def test_api_works_with_an_authorization_that_is_empty(self, controller: Controller) -> None:
        cli = Cli(controller)
        cli.api()
        version = [int(part) for part in cli.links["cloud_controller_v3"]["meta"]["version"].split(".")]
        assert version >= [3, 99, 0], "older ones are warned about"

    def test_without_a_token_one_is_told_to_log_in(self, controller: Controller) -> None:
        cli = Cli(controller)
        cli.api()
        with pytest.raises(CliError) as refused:
            cli.call("GET", "/organizations?order_by=name", expect=200)
        assert (refused.value.status, refused.value.title) == (401, "NotAuthenticated")

    def test_login_asks_again_after_a_wrong_password(self, controller: Controller) -> None:
        cli = Cli(controller)
        cli.api()
        with pytest.raises(CliError) as refused:
            cli.log_in("admin", "wrong")
        assert (refused.value.status, refused.value.title, refused.value.detail) == (
            401,
            "unauthorized",
            "Bad credentials",
        )
        cli.log_in("admin", password_of(controller))

    def test_login_targets_what_there_is(self, developer: Cli) -> None:
        (organization,) = developer.listed("/organizations?order_by=name", ORGANIZATION)
        assert organization["guid"] == developer.organization, "the only one is chosen without a menu"
        (space,) = developer.listed(f"/spaces?organization_guids={developer.organization}&order_by=name", SPACE)
        assert space["guid"] == developer.space

    def test_tokens_are_refreshed_before_they_end_and_when_they_are_refused(
        self, controller: Controller, developer: Cli
    ) -> None:
        claims = claims_of(developer.access_token)
        soon = {key: claims[key] for key in ("user_id", "user_name", "origin", "client_id")}
        developer.access_token = controller._issuer.issue(soon, claims["scope"], 30)[0]
        developer.listed("/organizations?order_by=name", ORGANIZATION)
        assert claims_of(developer.access_token)["exp"] > time.time() + 60
        header, payload, signature = developer.access_token.split(".")
        developer.access_token = f"{header}.{payload}.{signature[:-8]}AAAAAAAA"
        developer.listed("/organizations?order_by=name", ORGANIZATION)
        assert not developer.access_token.endswith("AAAAAAAA")

    def test_clients_log_in_with_their_secret_in_the_form(self, controller: Controller, admin: Cli) -> None:
        body = {
            "client_id": name("client"),
            "client_secret": "secret",
            "authorized_grant_types": ["client_credentials"],
            "authorities": ["cloud_controller.read", "cloud_controller.write", "cloud_controller.admin"],
        }
        path = f"{admin.links['uaa']['href']}/oauth/clients"
        assert admin.raw("POST", path, json=body).status_code == 201
        assert admin.raw("GET", f"{path}/{body['client_id']}").status_code == 200
        cli = Cli(controller)
        cli.api()
        cli.log_in_as_client(str(body["client_id"]), "secret")
        assert "user_name" not in claims_of(cli.access_token)
        cli.listed("/organizations?order_by=name", ORGANIZATION)

    def test_ssh_code(self, developer: Cli) -> None:
        query = "response_type=code&grant_type=authorization_code&client_id=ssh-proxy"
        response = developer.raw("GET", f"{developer.links['uaa']['href']}/oauth/authorize?{query}")
        assert response.status_code == 302
        assert re.search(r"[?&]code=[^&]+", response.headers["location"])


class TestTenancy:
    """Section 1.2, from ``orgs`` on."""

    def test_orgs_are_made_once(self, admin: Cli) -> None:
        called = name("org")
        create_org(admin, called)
        with pytest.raises(CliError) as refused:
            create_org(admin, called)
        assert (refused.value.status, refused.value.detail) == (422, f"Organization '{called}' already exists.")
        assert called in [row["name"] for row in admin.listed("/organizations?order_by=name", ORGANIZATION)]

    def test_an_org_with_a_quota(self, admin: Cli) -> None:
        (quota,) = admin.listed("/organization_quotas?names=default", QUOTA)
        owner = create_org(admin, name("org"))["guid"]
        path = f"/organization_quotas/{quota['guid']}/relationships/organizations"
        admin.call("POST", path, json={"data": [{"guid": owner}]}, expect=200)

    def test_names_with_commas_are_encoded_twice(self, admin: Cli) -> None:
        called = name("a,b c&d%")
        create_org(admin, called)
        assert admin.organization_named(called)["name"] == called

    def test_org(self, admin: Cli, developer: Cli) -> None:
        (organization,) = developer.listed(f"/organizations?guids={developer.organization}", ORGANIZATION)
        reads(developer.listed(f"/organizations/{organization['guid']}/domains", DOMAIN), [DOMAIN])
        quota = organization["relationships"]["quota"]["data"]["guid"]
        reads(developer.call("GET", f"/organization_quotas/{quota}", expect=200), QUOTA)
        developer.listed(f"/spaces?organization_guids={organization['guid']}", SPACE)

    def test_roles_are_set_unset_and_listed(self, admin: Cli) -> None:
        username, organization, space = create_user(admin), name("org"), name("space")
        owner = create_org(admin, organization)["guid"]
        where = create_space(admin, organization, space)["guid"]
        for _ in range(2):
            set_space_role(admin, username, organization, space, "space_auditor")
        for kind, places in (("organization", owner), ("space", where)):
            page = admin.call("GET", f"/roles?{kind}_guids={places}&include=user", expect=200)
            reads(page, {"pagination": PAGINATION, "resources": [ROLE], "included": {"users": [USER]}})
            assert username in [user["username"] for user in page["included"]["users"]]
        (user,) = admin.listed(f"/users?usernames={name_filter(username)}&origins=uaa", USER)
        role = admin.one(f"/roles?user_guids={user['guid']}&types=space_auditor&space_guids={where}", ROLE)
        assert role is not None
        admin.job("DELETE", f"/roles/{role['guid']}")

    def test_a_user_that_nobody_knows(self, admin: Cli) -> None:
        owner = create_org(admin, name("org"))["guid"]
        with pytest.raises(CliError) as refused:
            give_role(admin, "organization_manager", "nobody-at-all", organization=owner)
        assert refused.value.status == 422
        assert "No user exists with the username 'nobody-at-all'" in refused.value.detail

    def test_rename_and_delete_with_a_slash_at_the_end(self, admin: Cli) -> None:
        organization, space = name("org"), name("space")
        create_org(admin, organization)
        where = create_space(admin, organization, space)["guid"]
        owner = admin.organization_named(organization)["guid"]
        admin.call("PATCH", f"/spaces/{where}", json={"name": f"{space}-2"}, expect=200)
        admin.call("PATCH", f"/organizations/{owner}/", json={"name": f"{organization}-2"}, expect=200)
        admin.job("DELETE", f"/spaces/{where}")
        admin.job("DELETE", f"/organizations/{owner}/")
        with pytest.raises(LookupError):
            admin.organization_named(f"{organization}-2")

    def test_a_space_name_is_taken_once_in_an_org(self, admin: Cli) -> None:
        organization, space = name("org"), name("space")
        create_org(admin, organization)
        create_space(admin, organization, space)
        with pytest.raises(CliError) as refused:
            create_space(admin, organization, space)
        assert refused.value.detail == "Name must be unique per organization"

    def test_delete_user(self, admin: Cli) -> None:
        username = create_user(admin)
        (user,) = admin.listed(f"/users?usernames={name_filter(username)}", USER)
        admin.job("DELETE", f"/users/{user['guid']}")
        gone = admin.raw("DELETE", f"{admin.links['uaa']['href']}/Users/{user['guid']}")
        assert gone.status_code == 200

    def test_curl(self, developer: Cli) -> None:
        assert developer.raw("GET", "/organizations?per_page=1").status_code == 200
        with pytest.raises(CliError) as refused:
            developer.raw("GET", "/nothing")
        assert (refused.value.status, refused.value.detail) == (404, "Unknown request")

    def test_who_may_not_is_told_in_words(self, developer: Cli) -> None:
        with pytest.raises(CliError) as refused:
            developer.call("PATCH", f"/organizations/{developer.organization}", json={"name": "mine"}, expect=200)
        assert (refused.value.status, refused.value.title) == (403, "NotAuthorized")


class TestPush:
    """Section 1.3, up to where bits are uploaded, and from where a droplet is there."""

    def test_a_manifest_is_compared_applied_and_its_app_is_there(self, developer: Cli) -> None:
        called = name("app")
        manifest = yaml.safe_dump({"applications": [{"name": called, "memory": "64M", "default-route": True}]})
        as_yaml = {"headers": {"Content-Type": "application/x-yaml"}, "content": manifest}
        compared = developer.call("POST", f"/spaces/{developer.space}/manifest_diff", expect=201, **as_yaml)
        shape = {"op": str, "path": str, "value?": object}
        for each in reads(compared, {"diff": [shape]})["diff"]:
            assert each["op"] in ("add", "replace", "remove")
            assert each["path"].startswith("/applications/0/")
        developer.job("POST", f"/spaces/{developer.space}/actions/apply_manifest", **as_yaml)
        (app,) = developer.listed(f"/apps?names={called}&space_guids={developer.space}", APP)
        (route,) = developer.listed(f"/apps/{app['guid']}/routes", ROUTE)
        assert route["url"] == f"{called}.{DOMAIN_NAME}"
        body = {"type": "bits", "relationships": {"app": to_one(app["guid"])}}
        package = reads(developer.call("POST", "/packages", json=body, expect=201), PACKAGE)
        assert package["state"] == "AWAITING_UPLOAD"
        assert package["links"]["upload"]["method"] == "POST"
        body = {"package": {"guid": package["guid"]}}
        with pytest.raises(CliError) as refused:
            developer.call("POST", "/builds", json=body, expect=201)
        assert refused.value.status == 400
        assert "Bad request: Cannot stage package whose state is not ready." in refused.value.detail

    def test_a_manifest_that_cannot_be_applied_fails_the_push(self, developer: Cli) -> None:
        manifest = yaml.safe_dump({"applications": [{"name": "a", "routes": [{"route": "nowhere.test"}]}]})
        as_yaml = {"headers": {"Content-Type": "application/x-yaml"}, "content": manifest}
        with pytest.raises(CliError) as failed:
            developer.job("POST", f"/spaces/{developer.space}/actions/apply_manifest", **as_yaml)
        assert (
            failed.value.detail == "For application 'a': The route 'nowhere.test' did not match any existing domains."
        )

    def test_a_docker_image_needs_the_flag(self, admin: Cli, developer: Cli) -> None:
        app = create_app(developer)
        image = {"image": "busybox", "username": "me", "password": "secret"}
        body = {"type": "docker", "data": image, "relationships": {"app": to_one(app["guid"])}}
        package = reads(developer.call("POST", "/packages", json=body, expect=201), PACKAGE)
        assert package["state"] == "READY"
        assert package["data"]["password"] == "***"

    def test_a_droplet_is_set_and_the_app_restarted(self, controller: Controller, developer: Cli) -> None:
        app = create_app(developer)
        guid = droplet(controller, app["guid"])
        reads(developer.call("GET", f"/droplets/{guid}", expect=200), DROPLET)
        path = f"/apps/{app['guid']}/relationships/current_droplet"
        developer.call("PATCH", path, json={"data": {"guid": guid}}, expect=200)
        restarted = developer.call("POST", f"/apps/{app['guid']}/actions/restart", expect=200)
        assert restarted["state"] == "STARTED"
        for process in developer.listed(f"/apps/{app['guid']}/processes", PROCESS):
            stats = developer.call("GET", f"/processes/{process['guid']}/stats", expect=200)
            assert len(reads(stats, {"resources": [STATS]})["resources"]) == process["instances"]
        summary(developer, app["name"])

    def test_a_deployment_is_made_watched_and_cancelled(self, controller: Controller, developer: Cli) -> None:
        app = create_app(developer)
        first, second = droplet(controller, app["guid"]), droplet(controller, app["guid"])
        path = f"/apps/{app['guid']}"
        developer.call("PATCH", f"{path}/relationships/current_droplet", json={"data": {"guid": first}}, expect=200)
        developer.call("POST", f"{path}/actions/start", expect=200)
        body = {
            "droplet": {"guid": second},
            "strategy": "rolling",
            "relationships": {"app": to_one(app["guid"])},
        }
        deployment = reads(developer.call("POST", "/deployments", json=body, expect=201), DEPLOYMENT)
        shown = reads(developer.call("GET", f"/deployments/{deployment['guid']}", expect=200), DEPLOYMENT)
        assert (shown["status"]["value"], shown["status"]["reason"]) == ("ACTIVE", "DEPLOYING")
        query = f"app_guids={app['guid']}&status_values=ACTIVE&order_by=-created_at"
        active = developer.one(f"/deployments?{query}", DEPLOYMENT)
        assert active is not None
        developer.call("POST", f"/deployments/{active['guid']}/actions/cancel", expect=200)
        body["strategy"] = "canary"
        body["options"] = {"canary": {"steps": [{"instance_weight": 20}, {"instance_weight": 80}]}}
        reads(developer.call("POST", "/deployments", json=body, expect=201), DEPLOYMENT)


def summary(cli: Cli, called: str) -> None:
    """``cf app``: step 13 of a push."""
    app = cli.app_named(called)
    guid = app["guid"]
    sidecar = {"name": str, "process_types": list, "memory_in_mb": int | None}
    for process in cli.listed(f"/apps/{guid}/processes", PROCESS):
        reads(cli.call("GET", f"/processes/{process['guid']}", expect=200), PROCESS)
        cli.listed(f"/processes/{process['guid']}/sidecars", sidecar)
        reads(cli.call("GET", f"/processes/{process['guid']}/stats", expect=200), {"resources": [STATS]})
    cli.listed(f"/apps/{guid}/routes", ROUTE)
    current = f"/apps/{guid}/droplets/current"
    if app["relationships"]["current_droplet"]["data"] is not None:
        reads(cli.call("GET", current, expect=200), DROPLET)
    else:
        with pytest.raises(CliError) as tolerated:
            cli.call("GET", current, expect=200)
        assert (tolerated.value.status, tolerated.value.detail) == (404, "Droplet not found")
    cli.one(f"/deployments?app_guids={guid}&status_values=ACTIVE&order_by=-created_at", DEPLOYMENT)


class TestApps:
    """Section 1.4."""

    def test_apps_in_three_requests(self, developer: Cli) -> None:
        app = create_app(developer)
        query = f"space_guids={developer.space}&order_by=name&per_page=5000"
        assert app["guid"] in [row["guid"] for row in developer.listed(f"/apps?{query}", APP)]
        instances = {"process_instances": [{"index": int, "state": str, "since": int | None}]}
        embedded = f"/processes?space_guids={developer.space}&embed=process_instances&per_page=5000"
        developer.listed(embedded, {**PROCESS, **instances})
        developer.listed(f"/routes?app_guids={app['guid']}&per_page=5000", ROUTE)
        summary(developer, app["name"])

    def test_a_name_is_taken_once_in_a_space(self, developer: Cli) -> None:
        called = create_app(developer)["name"]
        body = {"name": called, "relationships": {"space": to_one(developer.space)}}
        with pytest.raises(CliError) as refused:
            developer.call("POST", "/apps", json=body, expect=201)
        assert (refused.value.status, refused.value.detail) == (422, f"App with the name '{called}' already exists.")

    def test_scale(self, developer: Cli) -> None:
        app = create_app(developer)
        path = f"/apps/{app['guid']}/processes/web/actions/scale"
        scaled = developer.call("POST", path, json={"instances": 0, "memory_in_mb": 64}, expect=202)
        assert (reads(scaled, PROCESS)["instances"], scaled["memory_in_mb"]) == (0, 64)
        with pytest.raises(CliError) as refused:
            developer.call("POST", f"/apps/{app['guid']}/processes/none/actions/scale", json={}, expect=202)
        assert refused.value.detail == "Process not found"

    def test_start_without_a_droplet(self, developer: Cli) -> None:
        app = create_app(developer)
        newest = f"app_guids={app['guid']}&order_by=-created_at"
        assert developer.one(f"/packages?{newest}", PACKAGE) is None
        body = {"type": "bits", "relationships": {"app": to_one(app["guid"])}}
        made = developer.call("POST", "/packages", json=body, expect=201)
        package = developer.one(f"/packages?{newest}", PACKAGE)
        assert package is not None
        assert package["guid"] == made["guid"]
        staged = f"/packages/{package['guid']}/droplets?states=STAGED&order_by=-created_at"
        assert developer.one(staged, DROPLET) is None
        with pytest.raises(CliError) as refused:
            developer.call("POST", f"/apps/{app['guid']}/actions/start", expect=200)
        assert (refused.value.status, refused.value.detail) == (422, "Assign a droplet before starting this app.")

    def test_stop_rename_and_delete_with_its_routes(self, controller: Controller, developer: Cli) -> None:
        app = create_app(developer)
        developer.call("POST", f"/apps/{app['guid']}/actions/stop", expect=200)
        developer.call("PATCH", f"/apps/{app['guid']}", json={"name": app["name"] + "-2"}, expect=200)
        route = map_route(developer, app["name"] + "-2", name("host"))
        (bound,) = developer.listed(f"/apps/{app['guid']}/routes", ROUTE)
        assert [one["app"]["guid"] for one in bound["destinations"]] == [app["guid"]]
        developer.job("DELETE", f"/apps/{app['guid']}")
        developer.job("DELETE", f"/routes/{route['guid']}")
        for path, text in ((f"/apps/{app['guid']}", "App not found"), (f"/routes/{route['guid']}", "Route not found")):
            with pytest.raises(CliError) as refused:
                developer.call("DELETE", path, expect=202)
            assert (refused.value.status, refused.value.detail) == (404, text)

    def test_env(self, developer: Cli) -> None:
        app = create_app(developer)
        path = f"/apps/{app['guid']}"
        for var, expected in (({"A": "1", "B": "2"}, {"A": "1", "B": "2"}), ({"A": None}, {"B": "2"})):
            developer.call("PATCH", f"{path}/environment_variables", json={"var": var}, expect=200)
            shown = developer.call("GET", f"{path}/env", expect=200)
            parts = ("staging_env_json", "running_env_json", "system_env_json", "application_env_json")
            reads(shown, {**dict.fromkeys(parts, dict), "environment_variables": dict})
            assert shown["environment_variables"] == expected
            assert "VCAP_APPLICATION" in shown["application_env_json"]
            assert "VCAP_SERVICES" in shown["system_env_json"]

    def test_health_checks(self, developer: Cli) -> None:
        app = create_app(developer)
        process = developer.call("GET", f"/apps/{app['guid']}/processes/web", expect=200)
        check = {"type": "http", "data": {"endpoint": "/up", "invocation_timeout": 3}}
        path = f"/processes/{process['guid']}"
        changed = developer.call("PATCH", path, json={"health_check": check}, expect=200)
        assert reads(changed, PROCESS)["health_check"]["data"]["endpoint"] == "/up"

    def test_packages_droplets_revisions_and_features(self, controller: Controller, developer: Cli) -> None:
        app = create_app(developer)
        path = f"/apps/{app['guid']}"
        guid = droplet(controller, app["guid"])
        developer.listed(f"{path}/packages", PACKAGE)
        assert [row["guid"] for row in developer.listed(f"{path}/droplets", DROPLET)] == [guid]
        feature = {"name": str, "description": str, "enabled": bool}
        assert reads(developer.call("GET", f"{path}/features/revisions", expect=200), feature)["enabled"] is True
        developer.call("PATCH", f"{path}/relationships/current_droplet", json={"data": {"guid": guid}}, expect=200)
        developer.call("POST", f"{path}/actions/start", expect=200)
        (revision,) = developer.listed(f"{path}/revisions", REVISION)
        assert revision["version"] == 1
        developer.listed(f"{path}/revisions/deployed", REVISION)
        developer.listed(f"{path}/revisions?versions=1", REVISION)
        variables = developer.call("GET", f"/revisions/{revision['guid']}/environment_variables", expect=200)
        reads(variables, {"var": dict})
        for enabled in (False, True):
            developer.call("PATCH", f"{path}/features/ssh", json={"enabled": enabled}, expect=200)
            shown = developer.call("GET", f"{path}/ssh_enabled", expect=200)
            assert reads(shown, {"enabled": bool, "reason": str})["enabled"] is enabled

    def test_create_app_manifest(self, developer: Cli) -> None:
        app = create_app(developer)
        response = developer.raw("GET", f"/apps/{app['guid']}/manifest")
        assert yaml.safe_load(response.text)["applications"][0]["name"] == app["name"]

    def test_restart_an_instance_that_is_not_there(self, developer: Cli) -> None:
        app = create_app(developer)
        with pytest.raises(CliError) as refused:
            developer.call("DELETE", f"/apps/{app['guid']}/processes/web/instances/7", expect=204)
        assert (refused.value.status, refused.value.detail) == (404, "Instance not found")

    def test_tasks(self, controller: Controller, developer: Cli) -> None:
        app = create_app(developer)
        path = f"/apps/{app['guid']}"
        with pytest.raises(CliError) as refused:
            developer.call("POST", f"{path}/tasks", json={"command": "run"}, expect=202)
        assert refused.value.status == 422
        guid = droplet(controller, app["guid"])
        developer.call("PATCH", f"{path}/relationships/current_droplet", json={"data": {"guid": guid}}, expect=200)
        task = reads(developer.call("POST", f"{path}/tasks", json={"command": "run"}, expect=202), TASK)
        assert task["sequence_id"] == 1
        assert [row["guid"] for row in developer.listed(f"{path}/tasks?order_by=-created_at", TASK)] == [task["guid"]]
        (found,) = developer.listed(f"{path}/tasks?sequence_ids=1", TASK)
        cancelled = reads(developer.call("PUT", f"/tasks/{found['guid']}/cancel", expect=202), TASK)
        assert cancelled["state"] in ("CANCELING", "FAILED")


def map_route(cli: Cli, app_name: str, host: str) -> dict[str, Any]:
    """``cf map-route APP DOMAIN -n HOST``: an empty path is asked for as such."""
    domain = cli.domain_named(DOMAIN_NAME)["guid"]
    app = cli.app_named(app_name)
    route = cli.one(f"/routes?domain_guids={domain}&hosts={host}&paths=", ROUTE)
    if route is None:
        cli.call("GET", f"/domains/{domain}", expect=200)
        body = {"host": host, "relationships": {"space": to_one(cli.space), "domain": to_one(domain)}}
        route = reads(cli.call("POST", "/routes", json=body, expect=201), ROUTE)
    path = f"/routes/{route['guid']}/destinations"
    body = {"destinations": [{"app": {"guid": app["guid"], "process": {"type": "web"}}}]}
    mapped = reads(cli.call("POST", path, json=body, expect=200), {"destinations": [DESTINATION], "links": dict})
    assert app["guid"] in [one["app"]["guid"] for one in mapped["destinations"]]
    return dict(route)


class TestRoutes:
    """Section 1.5."""

    def test_a_route_is_made_once(self, developer: Cli) -> None:
        domain, host = developer.domain_named(DOMAIN_NAME)["guid"], name("host")
        body = {
            "host": host,
            "path": "/v1",
            "relationships": {"space": to_one(developer.space), "domain": to_one(domain)},
        }
        developer.call("POST", "/routes", json=body, expect=201)
        with pytest.raises(CliError) as refused:
            developer.call("POST", "/routes", json=body, expect=201)
        assert refused.value.status == 422
        assert refused.value.detail.startswith("Route already exists")
        reserved = f"/domains/{domain}/route_reservations?host={host}&path=%2Fv1"
        assert reads(developer.call("GET", reserved, expect=200), {"matching_route": bool})["matching_route"] is True
        assert developer.call("GET", reserved.replace("v1", "v2"), expect=200)["matching_route"] is False

    def test_map_twice_unmap_and_delete_what_is_orphaned(self, developer: Cli) -> None:
        app, host = create_app(developer), name("host")
        for _ in range(2):
            route = map_route(developer, app["name"], host)
        domain = developer.domain_named(DOMAIN_NAME)["guid"]
        found = developer.one(f"/routes?domain_guids={domain}&hosts={host}&paths=", ROUTE)
        assert found is not None
        (destination,) = [one for one in found["destinations"] if one["app"]["process"]["type"] == "web"]
        developer.call("DELETE", f"/routes/{route['guid']}/destinations/{destination['guid']}", expect=204)
        developer.job("DELETE", f"/spaces/{developer.space}/routes?unmapped=true")
        assert developer.one(f"/routes?domain_guids={domain}&hosts={host}&paths=", ROUTE) is None

    def test_routes_with_the_apps_behind_them(self, developer: Cli) -> None:
        app = create_app(developer)
        map_route(developer, app["name"], name("host"))
        routes = developer.listed(f"/routes?space_guids={developer.space}&per_page=5000", ROUTE)
        spaces = ",".join({route["relationships"]["space"]["data"]["guid"] for route in routes})
        apps = ",".join({one["app"]["guid"] for route in routes for one in route["destinations"]})
        assert len(developer.listed(f"/spaces?guids={spaces}", SPACE)) == 1
        found = [row["guid"] for row in developer.listed(f"/apps?guids={apps}", APP)]
        assert app["guid"] in found
        assert len(found) == len(set(apps.split(",")))
        guids = ",".join(route["guid"] for route in routes)
        bindings = f"/service_route_bindings?include=service_instance&route_guids={guids}"
        assert developer.listed(bindings, {"guid": str}) == []
        owned = developer.listed(f"/routes?organization_guids={developer.organization}&per_page=5000", ROUTE)
        assert {route["guid"] for route in routes} <= {route["guid"] for route in owned}

    def test_routes_get_options_and_another_space(self, admin: Cli, developer: Cli) -> None:
        app = create_app(developer)
        route = map_route(developer, app["name"], name("host"))
        path = f"/routes/{route['guid']}"
        changed = developer.call("PATCH", path, json={"options": {"loadbalancing": "round-robin"}}, expect=200)
        assert reads(changed, ROUTE)["options"] == {"loadbalancing": "round-robin"}
        (organization,) = admin.listed(f"/organizations?guids={developer.organization}", ORGANIZATION)
        other = create_space(admin, organization["name"], name("space"))["guid"]
        admin.call("PATCH", "/feature_flags/route_sharing", json={"enabled": True}, expect=200)
        try:
            shared = {"data": [{"guid": other}]}
            admin.call("POST", f"{path}/relationships/shared_spaces", json=shared, expect=200)
            admin.call("DELETE", f"{path}/relationships/shared_spaces/{other}", expect=204)
            moved = admin.call("PATCH", f"{path}/relationships/space", json={"data": {"guid": other}}, expect=200)
            assert moved == {"status": "ok"}
        finally:
            admin.call("PATCH", "/feature_flags/route_sharing", json={"enabled": False}, expect=200)

    def test_domains(self, admin: Cli, developer: Cli) -> None:
        shared, private = f"{name('shared')}.example.org", f"{name('private')}.example.org"
        made = admin.call("POST", "/domains", json={"name": shared, "internal": False}, expect=201)
        assert reads(made, DOMAIN)["relationships"]["organization"]["data"] is None
        body = {"name": private, "relationships": {"organization": to_one(developer.organization)}}
        own = reads(admin.call("POST", "/domains", json=body, expect=201), DOMAIN)
        listed = developer.listed(f"/organizations/{developer.organization}/domains?order_by=name", DOMAIN)
        assert {shared, private, DOMAIN_NAME} <= {domain["name"] for domain in listed}
        other = create_org(admin, name("org"))["guid"]
        path = f"/domains/{own['guid']}/relationships/shared_organizations"
        admin.call("POST", path, json={"data": [{"guid": other}]}, expect=200)
        admin.call("DELETE", f"{path}/{other}", expect=204)
        with pytest.raises(CliError) as refused:
            admin.call("POST", "/domains", json={"name": shared, "internal": False}, expect=201)
        assert refused.value.status == 422
        for domain in (made, own):
            admin.job("DELETE", f"/domains/{domain['guid']}")


class TestBuildpacksAndServices:
    """Section 1.6."""

    def test_buildpacks_have_a_dense_order(self, admin: Cli) -> None:
        called = name("buildpack")
        body = {"name": called, "position": 1, "enabled": True}
        made = reads(admin.call("POST", "/buildpacks/", json=body, expect=201), BUILDPACK)
        assert (made["position"], made["state"], made["stack"]) == (1, "AWAITING_UPLOAD", None)
        listed = admin.listed("/buildpacks?order_by=position", BUILDPACK)
        assert [row["position"] for row in listed] == list(range(1, len(listed) + 1))
        with pytest.raises(CliError) as refused:
            admin.call("POST", "/buildpacks/", json=body, expect=201)
        assert refused.value.status == 422
        (found,) = admin.listed(f"/buildpacks?names={called}", BUILDPACK)
        changed = admin.call("PATCH", f"/buildpacks/{found['guid']}", json={"enabled": False}, expect=200)
        assert changed["enabled"] is False
        admin.job("DELETE", f"/buildpacks/{found['guid']}")

    def test_stacks(self, developer: Cli) -> None:
        assert "cflinuxfs4" in [stack["name"] for stack in developer.listed("/stacks", STACK)]

    def test_a_service_of_ones_own_is_bound_and_unbound(self, developer: Cli) -> None:
        called, app = name("service"), create_app(developer)
        body = {
            "type": "user-provided",
            "name": called,
            "credentials": {"uri": "http://example.com", "password": "secret"},
            "syslog_drain_url": "syslog://example.com",
            "tags": ["one", "two"],
            "relationships": {"space": to_one(developer.space)},
        }
        reads(developer.call("POST", "/service_instances", json=body, expect=201), INSTANCE)
        with pytest.raises(CliError) as refused:
            developer.call("POST", "/service_instances", json=body, expect=201)
        assert "The service instance name is taken" in refused.value.detail
        instance = developer.instance_named(called)
        bind = {
            "type": "app",
            "relationships": {"service_instance": to_one(instance["guid"]), "app": to_one(app["guid"])},
        }
        bound = developer.raw("POST", "/service_credential_bindings", json=bind)
        assert (bound.status_code, "location" in bound.headers) == (201, False)
        reads(bound.json(), BINDING)
        with pytest.raises(CliError) as refused:
            developer.raw("POST", "/service_credential_bindings", json=bind)
        assert "The app is already bound to the service instance" in refused.value.detail
        query = f"type=app&app_guids={app['guid']}&service_instance_guids={instance['guid']}"
        binding = developer.one(f"/service_credential_bindings?{query}", BINDING)
        assert binding is not None
        path = f"/service_credential_bindings/{binding['guid']}"
        details = reads(developer.call("GET", f"{path}/details", expect=200), {"credentials": dict})
        assert details["credentials"]["password"] == "secret"
        developer.call("DELETE", path, expect=204)
        developer.call("DELETE", f"/service_instances/{instance['guid']}", expect=204)

    def test_services(self, developer: Cli) -> None:
        body = {
            "type": "user-provided",
            "name": name("service"),
            "credentials": {},
            "relationships": {"space": to_one(developer.space)},
        }
        instance = developer.call("POST", "/service_instances", json=body, expect=201)
        fields = (
            "fields[service_plan]=guid,name,relationships.service_offering"
            "&fields[service_plan.service_offering]=guid,name,relationships.service_broker"
            "&fields[service_plan.service_offering.service_broker]=guid,name"
        )
        query = f"space_guids={developer.space}&{fields}&order_by=name&per_page=5000"
        page = developer.call("GET", f"/service_instances?{query}", expect=200)
        lists = {f"service_{kind}?": [dict] for kind in ("plans", "offerings", "brokers")}
        reads(page, {"resources": [INSTANCE], "included?": lists})
        bindings = f"/service_credential_bindings?service_instance_guids={instance['guid']}&include=app"
        reads(developer.call("GET", bindings, expect=200), {"resources": [BINDING], "included?": dict})
        more = "fields[space]=guid,name&fields[space.organization]=guid,name"
        path = f"/service_instances?names={instance['name']}&space_guids={developer.space}&{fields}&{more}"
        found = developer.call("GET", f"{path}&per_page=1&page=1", expect=200)
        assert [row["guid"] for row in found["included"]["spaces"]] == [developer.space]
        assert [row["guid"] for row in found["included"]["organizations"]] == [developer.organization]
        shared = f"/service_instances/{instance['guid']}/relationships/shared_spaces"
        reads(developer.call("GET", shared, expect=200), {"data": [dict]})

    def test_a_route_service(self, developer: Cli) -> None:
        app, host = create_app(developer), name("host")
        route = map_route(developer, app["name"], host)
        body = {
            "type": "user-provided",
            "name": name("service"),
            "route_service_url": "https://example.com",
            "relationships": {"space": to_one(developer.space)},
        }
        instance = developer.call("POST", "/service_instances", json=body, expect=201)
        bind = {"relationships": {"service_instance": to_one(instance["guid"]), "route": to_one(route["guid"])}}
        bound = developer.raw("POST", "/service_route_bindings", json=bind)
        assert bound.status_code in (201, 202)
        with pytest.raises(CliError) as refused:
            developer.raw("POST", "/service_route_bindings", json=bind)
        assert refused.value.title in ("ServiceInstanceAlreadyBoundToSameRoute", "UnprocessableEntity")
        query = f"route_guids={route['guid']}&service_instance_guids={instance['guid']}"
        (binding,) = developer.listed(f"/service_route_bindings?{query}", {"guid": str})
        assert developer.raw("DELETE", f"/service_route_bindings/{binding['guid']}").status_code in (202, 204)


class TestPlatform:
    """Section 1.7."""

    def test_quotas(self, admin: Cli, developer: Cli) -> None:
        called = name("quota")
        body = {
            "name": called,
            "apps": {"total_memory_in_mb": 1024, "per_process_memory_in_mb": None, "total_instances": None},
            "services": {"paid_services_allowed": False, "total_service_instances": 0},
            "routes": {"total_routes": 3, "total_reserved_ports": 0},
        }
        made = reads(admin.call("POST", "/organization_quotas", json=body, expect=201), QUOTA)
        with pytest.raises(CliError) as refused:
            admin.call("POST", "/organization_quotas", json=body, expect=201)
        assert refused.value.detail.endswith(f"Quota '{called}' already exists.")
        admin.call("PATCH", f"/organization_quotas/{made['guid']}", json={"name": f"{called}-2"}, expect=200)
        (found,) = admin.listed(f"/organization_quotas?names={called}-2", QUOTA)
        admin.job("DELETE", f"/organization_quotas/{found['guid']}")
        body["relationships"] = {"organization": to_one(developer.organization)}
        own = reads(admin.call("POST", "/space_quotas", json=body, expect=201), QUOTA)
        path = f"/space_quotas/{own['guid']}/relationships/spaces"
        admin.call("POST", path, json={"data": [{"guid": developer.space}]}, expect=200)
        (space,) = developer.listed(f"/spaces?guids={developer.space}", SPACE)
        assert space["relationships"]["quota"]["data"]["guid"] == own["guid"]
        reads(developer.call("GET", f"/space_quotas/{own['guid']}", expect=200), QUOTA)
        admin.call("DELETE", f"{path}/{developer.space}", expect=204)

    def test_feature_flags(self, admin: Cli) -> None:
        flag = {"name": str, "enabled": bool}
        assert len(admin.listed("/feature_flags", flag)) > 10
        changed = admin.call("PATCH", "/feature_flags/diego_cnb", json={"enabled": False}, expect=200)
        assert reads(changed, flag)["enabled"] is False
        with pytest.raises(CliError) as refused:
            admin.call("GET", "/feature_flags/none", expect=200)
        assert (refused.value.status, refused.value.detail) == (404, "Feature flag not found")

    def test_environment_variable_groups(self, admin: Cli) -> None:
        for group in ("running", "staging"):
            path = f"/environment_variable_groups/{group}"
            changed = admin.call("PATCH", path, json={"var": {"GROUP": group}}, expect=200)
            assert reads(changed, {"var": dict})["var"]["GROUP"] == group
            admin.call("PATCH", path, json={"var": {"GROUP": None}}, expect=200)
            assert "GROUP" not in reads(admin.call("GET", path, expect=200), {"var": dict})["var"]


def test_a_guid_filter_may_have_two_hundred_values(developer: Cli) -> None:
    guids = ",".join(str(uuid4()) for _ in range(200))
    assert developer.listed(f"/apps?guids={guids}&per_page=5000", APP) == []


def test_somebody_without_any_role_sees_nothing(controller: Controller) -> None:
    stranger = person(controller)
    assert stranger.client.get("/v3/organizations?order_by=name").json()["resources"] == []
