"""The embedded UAA: logins, tokens, accounts, clients (cloud_controller reference 1.0, 1.1)."""

from __future__ import annotations

import base64
import json
import stat
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.controller.running import Controller, running_controller
from tests.controller.worlds import name
from tests.router.wire import wait_until

CF = ("cf", "")


def password_of(controller: Controller) -> str:
    return (controller.folder / "data" / "admin-password").read_text().strip()


def log_in(controller: Controller, username: str, password: str, **more: str) -> httpx.Response:
    form = {"grant_type": "password", "username": username, "password": password, **more}
    return controller.client("").post("/oauth/token", data=form, auth=CF)


def claims(token: str) -> dict[str, Any]:
    """As clients read them: without a check."""
    part = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


@pytest.fixture
def scim(controller: Controller) -> httpx.Client:
    return controller.client("scim", "scim.read", "scim.write", "clients.write", "uaa.admin")


def account(scim: httpx.Client, password: str = "secret") -> dict[str, Any]:
    made = scim.post("/Users", json={"userName": name("user"), "password": password})
    assert made.status_code == 201, made.text
    body: dict[str, Any] = made.json()
    return body


class TestTheFirstAdmin:
    def test_has_a_password_that_only_the_owner_of_a_file_reads(self, controller: Controller) -> None:
        path = controller.folder / "data" / "admin-password"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert password_of(controller) not in controller.log

    def test_logs_in_and_may_do_everything(self, controller: Controller) -> None:
        body = log_in(controller, "admin", password_of(controller)).json()
        client = controller.client("")
        made = client.post(
            "/v3/organizations",
            json={"name": name("org")},
            headers={"Authorization": f"bearer {body['access_token']}"},
        )
        assert made.status_code == 201


class TestPasswordGrant:
    def test_answers_what_clients_read(self, controller: Controller, scim: httpx.Client) -> None:
        who = account(scim)
        body = log_in(controller, who["userName"], "secret").json()
        assert body["token_type"] == "bearer"
        assert {"access_token", "refresh_token", "expires_in", "scope", "jti"} <= body.keys()
        said = claims(body["access_token"])
        assert said["user_id"] == who["id"]
        assert (said["user_name"], said["origin"], said["cid"]) == (who["userName"], "uaa", "cf")
        assert "cloud_controller" in said["aud"]
        assert "cloud_controller.admin" not in said["scope"]
        assert said["exp"] > said["iat"]

    def test_names_match_without_regard_to_case(self, controller: Controller, scim: httpx.Client) -> None:
        assert log_in(controller, account(scim)["userName"].upper(), "secret").status_code == 200

    @pytest.mark.parametrize("username", ["nobody-at-all", ""])
    def test_refuses_who_is_not_there(self, controller: Controller, username: str) -> None:
        response = log_in(controller, username, "x")
        assert response.status_code == (401 if username else 400)

    def test_refuses_another_password_in_the_words_that_clients_know(
        self, controller: Controller, scim: httpx.Client
    ) -> None:
        response = log_in(controller, account(scim)["userName"], "wrong")
        assert response.status_code == 401
        assert response.json() == {"error": "unauthorized", "error_description": "Bad credentials"}

    def test_of_many_wrong_ones_at_a_time_no_more_than_five_are_told_apart(
        self, controller: Controller, scim: httpx.Client
    ) -> None:
        who = account(scim)
        with ThreadPoolExecutor(12) as threads:
            answers = list(threads.map(lambda _: log_in(controller, who["userName"], "wrong"), range(12)))
        told = Counter("locked" in answer.json()["error_description"] for answer in answers)
        assert told == {False: 5, True: 7}
        assert "locked" in log_in(controller, who["userName"], "secret").json()["error_description"]

    def test_a_right_one_starts_the_count_anew(self, controller: Controller, scim: httpx.Client) -> None:
        who = account(scim)
        for _ in range(2):
            for _ in range(4):
                assert log_in(controller, who["userName"], "wrong").status_code == 401
            assert log_in(controller, who["userName"], "secret").status_code == 200

    def test_five_wrong_ones_lock_even_the_right_one_out(self, controller: Controller, scim: httpx.Client) -> None:
        who = account(scim)["userName"]
        for _ in range(5):
            assert log_in(controller, who, "wrong").json()["error_description"] == "Bad credentials"
        response = log_in(controller, who, "secret")
        assert response.status_code == 401
        assert "account has been locked" in response.json()["error_description"]

    def test_a_client_that_is_not_there(self, controller: Controller) -> None:
        form = {"grant_type": "password", "username": "a", "password": "b"}
        response = controller.client("").post("/oauth/token", data=form, auth=("nobody", ""))
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")

    def test_a_grant_that_the_client_has_not(self, controller: Controller) -> None:
        response = controller.client("").post("/oauth/token", data={"grant_type": "client_credentials"}, auth=CF)
        assert response.status_code == 401


class TestRefreshTokens:
    def refresh(self, controller: Controller, token: str) -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return controller.client("").post("/oauth/token", data=form, auth=CF)

    def test_each_use_gives_the_next_one(self, controller: Controller, scim: httpx.Client) -> None:
        first = log_in(controller, account(scim)["userName"], "secret").json()["refresh_token"]
        second = self.refresh(controller, first).json()
        assert second["refresh_token"] != first
        assert self.refresh(controller, second["refresh_token"]).status_code == 200

    def test_a_new_password_ends_them(self, controller: Controller, scim: httpx.Client) -> None:
        who = account(scim)
        token = log_in(controller, who["userName"], "secret").json()["refresh_token"]

        began = int(time.time())
        wait_until(lambda: int(time.time()) > began, "the next second: times are kept to the second")
        scim.put(f"/Users/{who['id']}/password", json={"password": "other"}).raise_for_status()
        assert self.refresh(controller, token).status_code == 401

    def test_one_that_is_made_up(self, controller: Controller) -> None:
        response = self.refresh(controller, "made-up")
        assert (response.status_code, response.json()["error"]) == (401, "invalid_token")


class TestClients:
    def test_get_tokens_of_their_own(self, controller: Controller, scim: httpx.Client) -> None:
        called = name("client")
        body = {
            "client_id": called,
            "client_secret": "s3cret",
            "authorized_grant_types": ["client_credentials"],
            "authorities": ["cloud_controller.read"],
        }
        assert scim.post("/oauth/clients", json=body).status_code == 201
        form = {"grant_type": "client_credentials", "client_id": called, "client_secret": "s3cret"}
        token = controller.client("").post("/oauth/token", data=form).json()
        assert "refresh_token" not in token
        assert "user_id" not in claims(token["access_token"])
        headers = {"Authorization": f"Bearer {token['access_token']}"}
        assert controller.client("").get("/v3/organizations", headers=headers).status_code == 200
        wrong = controller.client("").post("/oauth/token", data={**form, "client_secret": "x"})
        assert wrong.status_code == 401


class TestAccounts:
    def test_are_found_by_name_and_origin(self, scim: httpx.Client) -> None:
        who = account(scim)
        query = {"filter": f'userName eq "{who["userName"]}" and origin eq "uaa"'}
        assert [row["id"] for row in scim.get("/Users", params=query).json()["resources"]] == [who["id"]]

    def test_a_name_is_taken_once(self, scim: httpx.Client) -> None:
        who = account(scim)
        again = scim.post("/Users", json={"userName": who["userName"], "password": "x"})
        assert again.status_code == 409

    @pytest.mark.parametrize("text", ["userName", 'userName eq "x" or id eq "y"', 'password eq "x"', '"'])
    def test_a_filter_that_makes_no_sense(self, scim: httpx.Client, text: str) -> None:
        assert scim.get("/Users", params={"filter": text}).status_code == 400

    def test_are_for_those_with_the_scope(self, controller: Controller) -> None:
        stranger = controller.client("stranger")
        response = stranger.get("/Users")
        assert (response.status_code, response.json()["error"]) == (403, "insufficient_scope")
        assert controller.client("").get("/Users").status_code == 401

    def test_people_change_their_own_password_with_the_old_one(
        self, controller: Controller, scim: httpx.Client
    ) -> None:
        who = account(scim)
        own = controller.client(who["userName"], guid=who["id"])
        path = f"/Users/{who['id']}/password"
        assert own.put(path, json={"password": "new"}).status_code == 403, "without the old one"
        assert own.put(path, json={"password": "new", "oldPassword": "wrong"}).status_code == 401
        assert own.put(path, json={"password": "new", "oldPassword": "secret"}).status_code == 200
        assert log_in(controller, who["userName"], "new").status_code == 200


def test_a_code_for_ssh_is_good_once(controller: Controller, scim: httpx.Client) -> None:
    who = account(scim)
    own = controller.client(who["userName"], guid=who["id"])
    answer = own.get("/oauth/authorize", params={"response_type": "code", "client_id": "ssh-proxy"})
    assert answer.status_code == 302
    code = httpx.URL(answer.headers["location"]).params["code"]
    form = {"grant_type": "authorization_code", "code": code}
    exchange = [controller.client("").post("/oauth/token", data=form, auth=("ssh-proxy", "")) for _ in range(2)]
    assert [response.status_code for response in exchange] == [200, 400]


def test_a_token_that_was_revoked_works_no_more(controller: Controller, scim: httpx.Client) -> None:
    who = account(scim)
    token = log_in(controller, who["userName"], "secret").json()
    own = httpx.Client(
        base_url=f"http://127.0.0.1:{controller.port}", headers={"Authorization": f"bearer {token['access_token']}"}
    )
    assert own.delete(f"/oauth/token/revoke/{token['jti']}").status_code == 200
    wait_until(lambda: own.get("/v3/organizations").status_code == 401, "the end of the token")


def test_the_keys_are_public_and_only_their_public_halves(controller: Controller) -> None:
    keys = controller.client("").get("/token_keys").json()["keys"]
    assert keys
    assert all("d" not in key and key["kty"] == "RSA" for key in keys)
    configuration = controller.client("").get("/.well-known/openid-configuration").json()
    assert configuration["jwks_uri"].endswith("/token_keys")


def test_tokens_outlive_a_restart() -> None:
    with running_controller() as controller:
        client = controller.client("somebody")
        assert client.get("/v3/organizations").status_code == 200
        controller.stop()
        controller.start()
        client.base_url = f"http://127.0.0.1:{controller.port}"
        assert client.get("/v3/organizations").status_code == 200
