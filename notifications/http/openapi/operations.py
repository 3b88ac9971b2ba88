"""Operations of the OpenAPI document: the paths below ``api/``."""

from __future__ import annotations

from typing import Any

from notifications.http.api_views import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from notifications.http.openapi.components import (
    STATUS,
    Part,
    component_refs,
    header_parameter,
    query_parameter,
    response,
)
from notifications.http.openapi.schemas import CATEGORY_PATTERN, EPOCH, ID, integer, ref, string
from notifications.models import Job
from notifications.streams.inbox import LEVELS, MAX_MARKED_ROWS, VERBS

#: Problems of every GET and of every POST.
GET_ERRORS = ("BadRequest", "SignedOut", "NotAcceptable", "Busy")
POST_ERRORS = (*GET_ERRORS, "Forbidden")

LIMIT = query_parameter(
    "limit",
    {"type": "integer", "minimum": 1, "default": DEFAULT_PAGE_SIZE},
    f"Maximum number of items. Values over {MAX_PAGE_SIZE} are reduced to it.",
)
STATE = query_parameter(
    "state", {"type": "string", "enum": list(Job.State.values)}, "Return jobs in this state only."
)
ZERO_OR_ONE = {"type": "integer", "enum": [0, 1]}
POSITION = [
    query_parameter(
        "epoch",
        EPOCH,
        "The epoch of the last response. If it is absent or not current, a snapshot is returned.",
    ),
    query_parameter(
        "seq", integer(), "The seq of the last response. If it is absent, a snapshot is returned."
    ),
]


def operation(
    id: str, tag: str, summary: str, responses: Part, errors: tuple[str, ...], **fields: Any
) -> dict[str, Any]:
    """Return an operation. ``errors`` are names of problems in ``components.RESPONSES``."""
    problems = {STATUS[name]: component_refs("responses", name)[0] for name in errors}
    result = {"operationId": id, "tags": [tag], "summary": summary, **fields}
    return result | {"responses": dict(sorted((responses | problems).items()))}


def get(id: str, tag: str, summary: str, responses: Part, *errors: str, **fields: Any) -> dict[str, Any]:
    return {"get": operation(id, tag, summary, responses, (*GET_ERRORS, *errors), **fields)}


def post(id: str, tag: str, summary: str, responses: Part, *errors: str, **fields: Any) -> dict[str, Any]:
    security: list[Part] = [{"session": [], "csrf": []}]
    return {
        "post": operation(id, tag, summary, responses, (*POST_ERRORS, *errors), security=security, **fields)
    }


def link(operation: str, **parameters: str) -> Part:
    return {"operationId": operation, "parameters": parameters}


def links_to_job(id_expression: str) -> Part:
    """Return links to the operations of a job. ``id_expression`` is where its id stands in the response."""
    return {id: link(id, id=id_expression) for id in ("getJob", "getJobResult", "cancelJob", "retryJob")}


JOB_HEADERS = ("ETag", "RetryAfterUntilDone")
NOT_MODIFIED = response("Not modified.", headers=("ETag", "PreferenceApplied"))
MARK_VERBS = {verb: f"{verb[0].upper()}{verb[1:]}" for verb in VERBS}

JOBS: Part = {
    "/jobs/": get(
        "listJobs",
        "jobs",
        "List your jobs, newest first",
        {
            "200": response(
                "A page of the list.", ref("Jobs"), links=links_to_job("$response.body#/items/0/id")
            )
        },
        "NotFound",
        "WrongValue",
        parameters=[STATE, LIMIT, query_parameter("after", ID, "The value of next in the previous page.")],
    ),
    "/jobs/{id}/": get(
        "getJob",
        "jobs",
        "Get a job",
        {
            "200": response(
                "The job.",
                ref("Job"),
                headers=(*JOB_HEADERS, "PreferenceApplied"),
                links=links_to_job("$response.body#/id"),
            ),
            "304": NOT_MODIFIED,
        },
        "NotFound",
        "TooMany",
        parameters=component_refs("parameters", "Id", "Prefer", "IfNoneMatch"),
    ),
    "/jobs/{id}/result/": get(
        "getJobResult",
        "jobs",
        "Get the result of a job",
        {"200": response("The value that the task returned.", {})},
        "NotFound",
        "Conflict",
        parameters=component_refs("parameters", "Id"),
    ),
    "/jobs/{id}/cancel/": post(
        "cancelJob",
        "jobs",
        "Cancel a job",
        {
            "200": response("The job is cancelled.", ref("Job"), headers=JOB_HEADERS),
            "202": response(
                "The job runs and was asked to stop. It may still finish with another state.",
                ref("Job"),
                headers=JOB_HEADERS,
            ),
        },
        "BadRequest",
        "NotFound",
        "Conflict",
        "TooLarge",
        parameters=component_refs("parameters", "Id"),
    ),
    "/jobs/{id}/retry/": post(
        "retryJob",
        "jobs",
        "Retry a failed or cancelled job",
        {"202": response("The job is queued again.", ref("Job"), headers=JOB_HEADERS)},
        "BadRequest",
        "NotFound",
        "Conflict",
        "TooLarge",
        "TooMany",
        parameters=component_refs("parameters", "Id"),
    ),
}

NOTIFICATIONS: Part = {
    "/notifications/": get(
        "listNotifications",
        "notifications",
        "List your notifications, newest first, with the position of the stream",
        {
            "200": response(
                "A page of the list.",
                ref("Notifications"),
                links={
                    verb: {"operationId": verb, "requestBody": {"up_to": "$response.body#/seq"}}
                    for verb in (*VERBS, "seen")
                },
            )
        },
        "WrongValue",
        parameters=[
            query_parameter("unread", ZERO_OR_ONE, "1: unread notifications only. 0: read ones only."),
            query_parameter(
                "archived", ZERO_OR_ONE, "1: archived notifications only. Otherwise they are left out."
            ),
            query_parameter(
                "category",
                string(pattern=CATEGORY_PATTERN),
                "Notifications of this category only. Empty: those without a category.",
            ),
            query_parameter(
                "level", {"type": "string", "enum": list(LEVELS)}, "Notifications of this level only."
            ),
            LIMIT,
            query_parameter("after", integer(), "The value of next in the previous page."),
        ],
    ),
    **{
        f"/notifications/{verb}/": post(
            verb,
            "notifications",
            f"{title} notifications, oldest first, at most {MAX_MARKED_ROWS:,} in one request",
            {"200": response("The notifications are marked and numbered.", ref("Marked"))},
            "TooLarge",
            "UnsupportedType",
            "WrongValue",
            requestBody={"required": True, "content": {"application/json": {"schema": ref("Mark")}}},
        )
        for verb, title in MARK_VERBS.items()
    },
    "/notifications/seen/": post(
        "seen",
        "notifications",
        "Mark notifications as seen, in all tabs and on all devices",
        {"200": response("The position is recorded.", ref("Marked"))},
        "TooLarge",
        "UnsupportedType",
        "WrongValue",
        requestBody={"required": True, "content": {"application/json": {"schema": ref("Seen")}}},
    ),
}

STREAM: Part = {
    "/sync/": get(
        "sync",
        "stream",
        "Get the changes after a position, or a snapshot",
        {
            "200": response(
                "A sync frame.",
                ref("Sync"),
                headers=("ETag", "PreferenceApplied"),
                links={
                    "sync": link("sync", epoch="$response.body#/epoch", seq="$response.body#/seq"),
                },
            ),
            "304": NOT_MODIFIED,
        },
        "WrongValue",
        "TooMany",
        parameters=[*POSITION, *component_refs("parameters", "Prefer", "IfNoneMatch")],
    ),
    "/events/": {
        "get": operation(
            "events",
            "stream",
            "Stream changes as Server-Sent Events",
            {
                "200": {
                    "description": "Events named after the op of their frame, with ids of the form epoch:seq.",
                    "content": {"text/event-stream": {"schema": string()}},
                },
                "204": response("You are not signed in. Do not reconnect."),
            },
            ("BadRequest", "NotAcceptable", "WrongValue", "TooMany", "NoEvents", "Busy"),
            parameters=[
                *POSITION,
                header_parameter(
                    "Last-Event-ID",
                    string(),
                    "The id of the last event. It takes precedence over epoch and seq.",
                ),
            ],
            security=[{"session": []}, {}],
        )
    },
}

DESCRIPTION: Part = {
    "/openapi.json": {
        "get": operation(
            "openapi",
            "description",
            "Get this document",
            {
                "200": response("An OpenAPI document.", {"type": "object"}, headers=("ETag",)),
                "304": NOT_MODIFIED,
            },
            ("BadRequest",),
            parameters=component_refs("parameters", "IfNoneMatch"),
            security=[],
        )
    }
}

HEALTH: Part = {
    "/health/live/": {
        "get": operation(
            "getLiveness",
            "health",
            "Check that this process answers requests",
            {"200": response("It does.", ref("Health"))},
            ("BadRequest",),
            security=[],
        )
    },
    "/health/ready/": {
        "get": operation(
            "getReadiness",
            "health",
            "Check that the database answers and is migrated, and that a worker is alive",
            {"200": response("The site is ready.", ref("Health"))},
            ("BadRequest", "WrongValue", "NotReady"),
            parameters=[query_parameter("worker", ZERO_OR_ONE, "0: ready without a live worker too.")],
            security=[],
        )
    },
}

PATHS = JOBS | NOTIFICATIONS | STREAM | HEALTH | DESCRIPTION
