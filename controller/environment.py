"""The environment of what runs and what is staged: pure functions of rows (reference 7.1). Later entries win.

Nothing here asks the database or the API: whoever starts an instance, stages a package or shows ``GET env`` brings the
rows along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from controller.database.applications import App, Process
from controller.database.services import ServiceCredentialBinding

PORT: Final = 8080
HOST: Final = "0.0.0.0"
FILE_DESCRIPTORS: Final = 16_384
BINDINGS_FOLDER: Final = "/etc/cf-service-bindings"
"""Where services are files, for apps that have them so."""
USER_PROVIDED: Final = "user-provided"
_DATABASES: Final = {"mysql": "mysql2", "mysql2": "mysql2", "postgres": "postgres", "postgresql": "postgres"}
"""Schemes of databases, and what DATABASE_URL calls them."""


def vcap_application(app: App, uris: Sequence[str], api_url: str, process: Process | None = None) -> dict[str, Any]:
    """What an app is told about itself; without a process, about the app alone."""
    space = app.space
    told: dict[str, Any] = {
        "cf_api": api_url,
        "limits": {"fds": FILE_DESCRIPTORS},
        "application_name": app.name,
        "application_uris": list(uris),
        "name": app.name,
        "space_name": space.name,
        "space_id": space.guid,
        "organization_name": space.organization.name,
        "organization_id": space.organization.guid,
        "uris": list(uris),
        "users": None,
        "application_id": app.guid,
    }
    if process is not None:
        told["limits"] |= {"mem": process.memory_in_mb, "disk": process.disk_in_mb}
        told |= {
            "process_id": process.guid,
            "process_type": process.type,
            "version": process.version,
            "application_version": process.version,
        }
    return told


def vcap_services(bindings: Iterable[ServiceCredentialBinding]) -> dict[str, Any]:
    """The services bound to an app, by their label."""
    told: dict[str, Any] = {}
    for binding in bindings:
        instance = binding.service_instance
        told.setdefault(USER_PROVIDED, []).append(
            {
                "label": USER_PROVIDED,
                "name": binding.name or instance.name,
                "tags": list(instance.tags),
                "instance_guid": instance.guid,
                "instance_name": instance.name,
                "binding_guid": binding.guid,
                "binding_name": binding.name,
                "credentials": binding.credentials or instance.credentials,
                "syslog_drain_url": instance.syslog_drain_url,
                "volume_mounts": [],
            }
        )
    return told


def of_services(app: App, bindings: Iterable[ServiceCredentialBinding]) -> dict[str, Any]:
    """How the app learns of its services: as JSON, or from which files."""
    if app.file_based_vcap_services_enabled:
        return {"VCAP_SERVICES_FILE_PATH": f"{BINDINGS_FOLDER}/vcap_services"}
    if app.service_binding_k8s_enabled:
        return {"SERVICE_BINDING_ROOT": BINDINGS_FOLDER}
    return {"VCAP_SERVICES": vcap_services(bindings)}


def of_process(
    process: Process,
    group: Mapping[str, str],
    bindings: Sequence[ServiceCredentialBinding],
    uris: Sequence[str],
    api_url: str,
) -> dict[str, str]:
    """What the platform gives a process, whichever of its instances it is. ``group``: the running group."""
    application = vcap_application(process.app, uris, api_url, process)
    return {
        **_given(process.app, group),
        "VCAP_APPLICATION": _json(application),
        "MEMORY_LIMIT": f"{process.memory_in_mb}m",
        **_of_services(process.app, bindings),
        "PORT": str(PORT),
        "VCAP_APP_PORT": str(PORT),
        "VCAP_APP_HOST": HOST,
    }


def of_staging(
    app: App,
    group: Mapping[str, str],
    bindings: Sequence[ServiceCredentialBinding],
    uris: Sequence[str],
    api_url: str,
    *,
    memory_in_mb: int,
    stack: str | None,
) -> dict[str, str]:
    """What a package is staged with. ``group``: the staging group."""
    return {
        **_given(app, group),
        "VCAP_APPLICATION": _json(vcap_application(app, uris, api_url)),
        "MEMORY_LIMIT": f"{memory_in_mb}m",
        **_of_services(app, bindings),
        **({"CF_STACK": stack} if stack is not None else {}),
    }


def of_instance(
    environment: Mapping[str, str], index: int, instance_guid: str, host: str, ports: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """``environment`` for one instance: who it is and where it is reached. ``ports`` as of ``ProcessInstance``."""
    external = str(ports[0]["external"]) if ports else ""
    application = orjson.loads(environment["VCAP_APPLICATION"])
    application |= {"instance_id": instance_guid, "instance_index": index, "host": HOST, "port": PORT}
    return {
        **environment,
        "VCAP_APPLICATION": _json(application),
        "CF_INSTANCE_INDEX": str(index),
        "CF_INSTANCE_GUID": instance_guid,
        "INSTANCE_INDEX": str(index),
        "INSTANCE_GUID": instance_guid,
        "CF_INSTANCE_IP": host,
        "CF_INSTANCE_INTERNAL_IP": host,
        "CF_INSTANCE_PORT": external,
        "CF_INSTANCE_ADDR": f"{host}:{external}" if external else "",
        "CF_INSTANCE_PORTS": _json(list(ports)),
    }


def database_url(bindings: Iterable[ServiceCredentialBinding]) -> str | None:
    """The first credentials with the URI of a database, in the form that frameworks expect."""
    for binding in bindings:
        uri = (binding.credentials or binding.service_instance.credentials).get("uri")
        if isinstance(uri, str) and (scheme := urlsplit(uri).scheme) in _DATABASES:
            return _DATABASES[scheme] + uri[len(scheme) :]
    return None


def _given(app: App, group: Mapping[str, str]) -> dict[str, str]:
    """What operators and users set."""
    return {**group, **app.environment_variables}


def _of_services(app: App, bindings: Sequence[ServiceCredentialBinding]) -> dict[str, str]:
    url = database_url(bindings)
    services = {
        name: value if isinstance(value, str) else _json(value) for name, value in of_services(app, bindings).items()
    }
    return services if url is None else {**services, "DATABASE_URL": url}


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
