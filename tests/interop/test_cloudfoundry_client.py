"""PyPI's cloudfoundry-client against a whole system (cloud_controller reference 8): what its V3 half can do.

Everything goes through the router: the client knows one URL, and finds the rest in the root document.
"""

from __future__ import annotations

from typing import Any

import pytest
from cloudfoundry_client.client import CloudFoundryClient
from cloudfoundry_client.errors import InvalidStatusCode
from cloudfoundry_client.v3.entities import ToManyRelationship, ToOneRelationship
from cloudfoundry_client.v3.routes import LoadBalancing
from oauth2_client.credentials_manager import OAuthError

from tests.controller.system import System
from tests.controller.worlds import name
from tests.router.wire import wait_until


@pytest.fixture(scope="module")
def client(system: System) -> CloudFoundryClient:
    """As the admin."""
    made = CloudFoundryClient(system.api)
    made.init_with_user_credentials("admin", system.admin_password)
    return made


@pytest.fixture
def organization(client: CloudFoundryClient) -> Any:
    return client.v3.organizations.create(name("org"), False)


@pytest.fixture
def space(client: CloudFoundryClient, organization: Any) -> Any:
    return client.v3.spaces.create(name("space"), organization["guid"])


@pytest.fixture
def user(system: System) -> dict[str, Any]:
    """Somebody with an account."""
    called = name("user")
    made: dict[str, Any] = (
        system.as_admin("uaa").post("/Users", json={"userName": called, "password": "secret"}).raise_for_status().json()
    )
    return made


def as_user(system: System, user: dict[str, Any]) -> CloudFoundryClient:
    client = CloudFoundryClient(system.api)
    client.init_with_user_credentials(user["userName"], "secret")
    return client


def status_of(refused: pytest.ExceptionInfo[InvalidStatusCode]) -> tuple[int, str]:
    (error,) = refused.value.body["errors"]
    return refused.value.status_code.value, error["title"]


class TestLogin:
    def test_a_password_gives_tokens_that_are_refreshed(self, system: System, client: CloudFoundryClient) -> None:
        again = CloudFoundryClient(system.api)
        again.init_with_token(client.refresh_token)
        assert again.refresh_token
        assert again.v3.organizations.len() >= 0

    def test_a_refused_token_is_renewed_in_between(self, system: System, client: CloudFoundryClient) -> None:
        stale = CloudFoundryClient(system.api)
        stale.init_with_user_credentials("admin", system.admin_password)
        stale._access_token = "none.of.ours"
        assert stale.v3.organizations.len() >= 0, "the client asks again after 401 with CF-InvalidAuthToken"
        assert stale._access_token != "none.of.ours"

    def test_a_client_gets_a_token_of_its_own(self, system: System, client: CloudFoundryClient) -> None:
        called = name("client")
        body = {
            "client_id": called,
            "client_secret": "secret",
            "authorized_grant_types": ["client_credentials"],
            "authorities": ["cloud_controller.read", "cloud_controller.admin"],
        }
        system.as_admin("uaa").post("/oauth/clients", json=body).raise_for_status()
        machine = CloudFoundryClient(system.api, client_id=called, client_secret="secret")
        machine.init_with_client_credentials()
        made = machine.v3.organizations.create(name("org"), False)
        assert client.v3.organizations[made["guid"]]["name"] == made["name"]

    def test_a_wrong_password_is_told_as_such(self, system: System) -> None:
        client = CloudFoundryClient(system.api)
        with pytest.raises(OAuthError) as refused:
            client.init_with_user_credentials("admin", "guessed")
        assert (refused.value.status_code.value, refused.value.error) == (401, "unauthorized")

    def test_there_is_no_second_version_of_the_api(self, client: CloudFoundryClient) -> None:
        with pytest.raises(NotImplementedError):
            _ = client.v2


class TestGenericManagers:
    """What every manager can do, on organizations."""

    def test_create_get_update_and_remove(self, client: CloudFoundryClient) -> None:
        called = name("org")
        made = client.v3.organizations.create(called, False, {"env": "test"}, {"note": "made by a client"})
        assert made["metadata"] == {"labels": {"env": "test"}, "annotations": {"note": "made by a client"}}
        changed = client.v3.organizations.update(made["guid"], called + "-2", True)
        assert (changed["name"], changed["suspended"]) == (called + "-2", True)
        assert client.v3.organizations[made["guid"]] == client.v3.organizations.get(made["guid"])
        client.v3.organizations.remove(made["guid"], asynchronous=False)
        with pytest.raises(InvalidStatusCode) as refused:
            client.v3.organizations.get(made["guid"])
        assert status_of(refused) == (404, "CF-ResourceNotFound")

    def test_lists_are_followed_from_page_to_page(self, client: CloudFoundryClient) -> None:
        prefix = name("page")
        guids = [client.v3.organizations.create(f"{prefix}-{n}", False)["guid"] for n in range(5)]
        listed = client.v3.organizations.list(guids=guids, per_page=2, order_by="-name")
        assert listed.total_results == 5
        assert [found["guid"] for found in listed] == guids[::-1]
        assert client.v3.organizations.len(guids=guids) == 5
        assert client.v3.organizations.get_first(names=f"{prefix}-3")["guid"] == guids[3]
        assert client.v3.organizations.get_first(names="none-is-called-so") is None
        assert len(client.v3.organizations) >= 5
        assert set(guids) <= {found["guid"] for found in client.v3.organizations}

    def test_names_may_hold_anything(self, client: CloudFoundryClient) -> None:
        called = name("a & b=c, d/é")
        client.v3.organizations.create(called, False)
        escaped = called.replace(",", "%2C")
        assert [found["name"] for found in client.v3.organizations.list(names=escaped)] == [called]

    def test_labels_select(self, client: CloudFoundryClient) -> None:
        tier = name("tier")
        made = client.v3.organizations.create(name("org"), False, {"tier": tier})
        assert [found["guid"] for found in client.v3.organizations.list(label_selector=f"tier in ({tier})")] == [
            made["guid"]
        ]

    def test_links_are_methods(self, client: CloudFoundryClient, organization: Any) -> None:
        assert client.v3.organizations.get(organization["guid"]).default_domain()["name"] == "apps.localhost"
        assert [domain["name"] for domain in organization.domains()] == ["apps.localhost"]

    def test_removing_gives_a_job_that_can_be_waited_for(self, client: CloudFoundryClient, organization: Any) -> None:
        job = client.v3.organizations.remove(organization["guid"])
        ended = client.v3.jobs.wait_for_job_completion(job)
        assert (ended["operation"], ended["state"], ended["errors"]) == ("organization.delete", "COMPLETE", [])


class TestSpaces:
    def test_create_update_and_what_they_include(self, client: CloudFoundryClient, organization: Any) -> None:
        made = client.v3.spaces.create(name("space"), organization["guid"])
        renamed = client.v3.spaces.update(made["guid"], made["name"] + "-2")
        assert renamed["name"] == made["name"] + "-2"
        assert made.organization()["guid"] == organization["guid"], "by the link"
        with_more = client.v3.spaces.get(made["guid"], include="organization")
        assert with_more.organization()["name"] == organization["name"], "out of what is included"
        (listed,) = client.v3.spaces.list(organization_guids=organization["guid"], include="organization")
        assert listed.organization()["name"] == organization["name"]

    def test_remove(self, client: CloudFoundryClient, space: Any) -> None:
        client.v3.spaces.remove(space["guid"])
        wait_until(lambda: client.v3.spaces.len(guids=space["guid"]) == 0, "the end of the space")


class TestDomains:
    def test_an_organizations_own_is_shared_and_unshared(self, client: CloudFoundryClient, organization: Any) -> None:
        other = client.v3.organizations.create(name("org"), False)
        called = name("private") + ".example.org"
        made = client.v3.domains.create(called, False, ToOneRelationship(organization["guid"]))
        assert made["relationships"]["organization"].guid == organization["guid"]
        shared = client.v3.domains.share_domain(made["guid"], ToManyRelationship(other["guid"]))
        assert shared.guids == [other["guid"]]
        assert called in [domain["name"] for domain in client.v3.domains.list_domains_for_org(other["guid"])]
        client.v3.domains.unshare_domain(made["guid"], other["guid"])
        assert called not in [domain["name"] for domain in client.v3.domains.list_domains_for_org(other["guid"])]
        client.v3.domains.remove(made["guid"], asynchronous=False)
        assert client.v3.domains.len(names=called) == 0

    def test_a_shared_one_is_labelled(self, client: CloudFoundryClient) -> None:
        made = client.v3.domains.create(name("shared") + ".example.org")
        assert made["relationships"]["organization"].guid is None
        changed = client.v3.domains.update(made["guid"], {"kind": "public"})
        assert changed["metadata"]["labels"] == {"kind": "public"}
        assert [domain["guid"] for domain in client.v3.domains.list(label_selector="kind=public")] == [made["guid"]]

    def test_the_default_of_an_organization(self, client: CloudFoundryClient, organization: Any) -> None:
        assert client.v3.organizations.get_default_domain(organization["guid"])["name"] == "apps.localhost"
        assert client.v3.organizations.list_domains(organization["guid"]).total_results >= 1


class TestRoutes:
    def test_create_update_include_and_remove(self, client: CloudFoundryClient, space: Any) -> None:
        domain = client.v3.domains.get_first(names="apps.localhost")
        host = name("host")
        made = client.v3.routes.create(
            space["guid"], domain["guid"], host, "/v1", load_balancing=LoadBalancing.LEAST_CONNECTION
        )
        assert (made["url"], made["options"]) == (f"{host}.apps.localhost/v1", {"loadbalancing": "least-connection"})
        changed = client.v3.routes.update(made["guid"], LoadBalancing.ROUND_ROBIN, {"env": "test"})
        assert changed["options"] == {"loadbalancing": "round-robin"}
        (listed,) = client.v3.routes.list(hosts=host, include="domain,space.organization,space")
        assert listed.domain()["name"] == "apps.localhost"
        assert listed.space()["name"] == space["name"]
        assert made.destinations()["destinations"] == []
        client.v3.jobs.wait_for_job_completion(client.v3.routes.remove(made["guid"]))
        assert client.v3.routes.len(hosts=host) == 0


class TestPeople:
    def test_roles_are_given_by_name_listed_and_taken(
        self, system: System, client: CloudFoundryClient, organization: Any, user: dict[str, Any]
    ) -> None:
        relationships = {
            "user": {"data": {"username": user["userName"], "origin": "uaa"}},
            "organization": {"data": {"guid": organization["guid"]}},
        }
        role = client.v3.roles._create({"type": "organization_manager", "relationships": relationships})
        theirs = as_user(system, user)
        assert [found["guid"] for found in theirs.v3.organizations.list()] == [organization["guid"]]
        (listed,) = client.v3.roles.list(user_guids=user["id"], include="user")
        assert listed.user()["username"] == user["userName"]
        client.v3.roles.remove(role["guid"], asynchronous=False)
        assert theirs.v3.organizations.len() == 0

    def test_users_are_made_labelled_and_removed(self, client: CloudFoundryClient, user: dict[str, Any]) -> None:
        made = client.v3.users.create(user["id"], {"team": "one"})
        assert (made["username"], made["presentation_name"]) == (user["userName"], user["userName"])
        changed = client.v3.users.update(made["guid"], {"team": "two"})
        assert changed["metadata"]["labels"] == {"team": "two"}
        client.v3.users.remove(made["guid"])
        wait_until(lambda: client.v3.users.len(guids=made["guid"]) == 0, "the end of the user")
        named = client.v3.users.create((user["userName"], "uaa"))
        assert named["guid"] == user["id"]

    def test_who_may_not_is_told_so(
        self, system: System, client: CloudFoundryClient, organization: Any, user: dict[str, Any]
    ) -> None:
        theirs = as_user(system, user)
        with pytest.raises(InvalidStatusCode) as refused:
            theirs.v3.organizations.get(organization["guid"])
        assert status_of(refused) == (404, "CF-ResourceNotFound")
        with pytest.raises(InvalidStatusCode) as refused:
            theirs.v3.organizations.create(name("org"), False)
        assert status_of(refused) == (403, "CF-NotAuthorized")


def test_feature_flags(client: CloudFoundryClient) -> None:
    assert client.v3.feature_flags.get("user_org_creation")["enabled"] is False
    client.v3.feature_flags.update("route_sharing", True, "ask the operators")
    try:
        changed = client.v3.feature_flags.get("route_sharing")
        assert (changed["enabled"], changed["custom_error_message"]) == (True, "ask the operators")
    finally:
        client.v3.feature_flags.update("route_sharing", False)
