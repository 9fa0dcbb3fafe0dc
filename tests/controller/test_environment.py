"""What an instance finds in its environment, and what goes before what (cloud_controller reference 7.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller import environment
from controller.database.applications import App, Process
from controller.database.services import ServiceCredentialBinding, ServiceInstance
from controller.database.tenancy import Organization, Space


def process(**variables: str) -> Process:
    owner = Space(guid="s", name="space", organization=Organization(guid="o", name="org"))
    app = App(guid="a", name="app", space=owner, environment_variables=variables)
    return Process(guid="p", type="web", version="v", memory_in_mb=256, disk_in_mb=512, app=app)


def binding(credentials: dict[str, Any], name: str | None = None) -> ServiceCredentialBinding:
    instance = ServiceInstance(guid="i", name="db", tags=["sql"], credentials=credentials)
    return ServiceCredentialBinding(guid="b", name=name, service_instance=instance, credentials={})


def test_users_go_before_operators_and_the_platform_before_both() -> None:
    mine = process(A="user", PORT="user", MEMORY_LIMIT="user")
    found = environment.of_process(mine, {"A": "group", "B": "group", "VCAP_SERVICES": "group"}, [], [], "http://api")
    assert (found["A"], found["B"]) == ("user", "group")
    assert (found["PORT"], found["VCAP_APP_PORT"], found["VCAP_APP_HOST"]) == ("8080", "8080", "0.0.0.0")
    assert (found["MEMORY_LIMIT"], found["VCAP_SERVICES"]) == ("256m", "{}")
    assert "DATABASE_URL" not in found


def test_an_app_is_told_about_itself() -> None:
    found = environment.of_process(process(), {}, [], ["app.example.com"], "http://api")
    assert json.loads(found["VCAP_APPLICATION"]) == {
        "cf_api": "http://api",
        "limits": {"fds": 16384, "mem": 256, "disk": 512},
        "application_name": "app",
        "application_uris": ["app.example.com"],
        "name": "app",
        "space_name": "space",
        "space_id": "s",
        "organization_name": "org",
        "organization_id": "o",
        "uris": ["app.example.com"],
        "users": None,
        "process_id": "p",
        "process_type": "web",
        "application_id": "a",
        "version": "v",
        "application_version": "v",
    }


def test_services_stand_under_their_label() -> None:
    (service,) = environment.vcap_services([binding({"key": "x"}, "mine")])["user-provided"]
    assert (service["name"], service["instance_name"], service["binding_name"]) == ("mine", "db", "mine")
    assert (service["credentials"], service["tags"], service["volume_mounts"]) == ({"key": "x"}, ["sql"], [])


@pytest.mark.parametrize(
    ("feature", "found"),
    [
        ("file_based_vcap_services_enabled", {"VCAP_SERVICES_FILE_PATH": "/etc/cf-service-bindings/vcap_services"}),
        ("service_binding_k8s_enabled", {"SERVICE_BINDING_ROOT": "/etc/cf-service-bindings"}),
    ],
)
def test_services_may_be_files(feature: str, found: dict[str, str]) -> None:
    mine = process()
    setattr(mine.app, feature, True)
    told = environment.of_process(mine, {}, [binding({"uri": "mysql://h"})], [], "")
    assert found.items() <= told.items()
    assert "VCAP_SERVICES" not in told
    assert environment.of_services(mine.app, []) == found


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("mysql://h/d", "mysql2://h/d"),
        ("postgresql://h/d", "postgres://h/d"),
        ("postgres://h/d", "postgres://h/d"),
        ("amqp://h", None),
        (7, None),
    ],
)
def test_a_database_is_told_as_frameworks_expect(uri: Any, url: str | None) -> None:
    found = environment.of_process(process(DATABASE_URL="mine"), {}, [binding({"uri": uri})], [], "")
    assert found["DATABASE_URL"] == (url or "mine")


def test_an_instance_knows_which_it_is() -> None:
    ports = [{"internal": 8080, "external": 61001}]
    shared = environment.of_process(process(), {}, [], [], "")
    found = environment.of_instance(shared, 3, "guid", "10.0.0.9", ports)
    assert (found["CF_INSTANCE_INDEX"], found["INSTANCE_GUID"]) == ("3", "guid")
    assert (found["CF_INSTANCE_ADDR"], found["CF_INSTANCE_PORT"]) == ("10.0.0.9:61001", "61001")
    assert json.loads(found["CF_INSTANCE_PORTS"]) == ports
    assert json.loads(found["VCAP_APPLICATION"])["instance_index"] == 3
    assert "instance_index" not in json.loads(shared["VCAP_APPLICATION"])


def test_staging_has_no_ports() -> None:
    found = environment.of_staging(process(A="1").app, {"B": "2"}, [], [], "", memory_in_mb=1024, stack="cflinuxfs4")
    assert (found["A"], found["B"], found["CF_STACK"], found["MEMORY_LIMIT"]) == ("1", "2", "cflinuxfs4", "1024m")
    assert "PORT" not in found
