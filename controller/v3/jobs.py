"""Jobs as the API shows them (reference 2.4)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from controller.database.bookkeeping import Job
from controller.v3.api import Api
from controller.v3.call import Call
from controller.v3.errors import not_found
from controller.v3.presenting import common

api = Api("Jobs")


def present(job: Job, call: Call) -> dict[str, Any]:
    links = {"self": call.link(f"/v3/jobs/{job.guid}")}
    if job.resource_type and not job.operation.endswith(".delete"):
        links[job.resource_type] = call.link(f"/v3/{job.resource_type}s/{job.resource_guid}")
    return {
        **common(job),
        "operation": job.operation,
        "state": job.state,
        "errors": job.errors,
        "warnings": job.warnings,
        "links": links,
    }


@api.get("/v3/jobs/{guid}")
def get_job(call: Call, guid: str) -> dict[str, Any]:
    """How far a job is."""
    job = call.session.scalars(select(Job).where(Job.guid == guid)).one_or_none()
    if job is None:
        raise not_found("Job")
    return present(job, call)
