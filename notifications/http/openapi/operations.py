"""What can be asked, below ``api/``."""

from __future__ import annotations

from typing import Any

from notifications.http.api_views import MAX_PAGE_SIZE, PAGE_SIZE
from notifications.http.openapi.parts import STATUS, Part, answer, in_header, in_query, named
from notifications.http.openapi.schemas import EPOCH, ID, number, ref, text
from notifications.models import Job
from notifications.streams.inbox import MAX_MARKED_ROWS, VERBS

#: What any of them may answer, and those that change something.
READS = ("BadRequest", "SignedOut", "NotAcceptable", "Busy")
CHANGES = (*READS, "Forbidden")

LIMIT = in_query(
    "limit",
    {"type": "integer", "minimum": 1, "default": PAGE_SIZE},
    f"Items, at most {MAX_PAGE_SIZE}; more are cut.",
)
STATE = in_query("state", {"type": "string", "enum": list(Job.State.values)}, "Only jobs in this state.")
YES_OR_NO = {"type": "integer", "enum": [0, 1]}
POSITION = [
    in_query("epoch", EPOCH, "What the last answer said; without it, or another one: a snapshot."),
    in_query("seq", number(), "What the last answer said; without it: a snapshot."),
]


def operation(
    id: str, tag: str, summary: str, responses: Part, errors: tuple[str, ...], **more: Any
) -> dict[str, Any]:
    told = {STATUS[name]: named("responses", name)[0] for name in errors}
    found = {"operationId": id, "tags": [tag], "summary": summary, **more}
    return found | {"responses": dict(sorted((responses | told).items()))}


def get(id: str, tag: str, summary: str, responses: Part, *errors: str, **more: Any) -> dict[str, Any]:
    return {"get": operation(id, tag, summary, responses, (*READS, *errors), **more)}


def post(id: str, tag: str, summary: str, responses: Part, *errors: str, **more: Any) -> dict[str, Any]:
    security: list[Part] = [{"session": [], "csrf": []}]
    return {"post": operation(id, tag, summary, responses, (*CHANGES, *errors), security=security, **more)}


def link(operation: str, **parameters: str) -> Part:
    return {"operationId": operation, "parameters": parameters}


def links_to_job(where: str) -> Part:
    return {id: link(id, id=where) for id in ("getJob", "getJobResult", "cancelJob", "retryJob")}


A_JOB = ("ETag", "RetryAfterUntilDone")
UNCHANGED = answer("It has not changed.", headers=("ETag", "PreferenceApplied"))
MARK = {verb: f"{verb[0].upper()}{verb[1:]}" for verb in VERBS}

JOBS: Part = {
    "/jobs/": get(
        "listJobs",
        "jobs",
        "Own jobs, newest first",
        {"200": answer("A page of them.", ref("Jobs"), links=links_to_job("$response.body#/items/0/id"))},
        "WrongValue",
        parameters=[STATE, LIMIT, in_query("after", ID, "The next of the page before.")],
    ),
    "/jobs/{id}/": get(
        "getJob",
        "jobs",
        "A job, as it is now",
        {
            "200": answer(
                "The job.",
                ref("Job"),
                headers=(*A_JOB, "PreferenceApplied"),
                links=links_to_job("$response.body#/id"),
            ),
            "304": UNCHANGED,
        },
        "NotFound",
        "TooMany",
        parameters=named("parameters", "Id", "Prefer", "IfNoneMatch"),
    ),
    "/jobs/{id}/result/": get(
        "getJobResult",
        "jobs",
        "What the task returned",
        {"200": answer("Any JSON.", {})},
        "NotFound",
        "Conflict",
        parameters=named("parameters", "Id"),
    ),
    "/jobs/{id}/cancel/": post(
        "cancelJob",
        "jobs",
        "Cancel a job",
        {
            "200": answer("It is cancelled.", ref("Job"), headers=A_JOB),
            "202": answer(
                "It runs and is asked to end; a result that is stored first wins.", ref("Job"), headers=A_JOB
            ),
        },
        "BadRequest",
        "NotFound",
        "Conflict",
        "TooLarge",
        parameters=named("parameters", "Id"),
    ),
    "/jobs/{id}/retry/": post(
        "retryJob",
        "jobs",
        "Have a job tried again that failed or was cancelled",
        {"202": answer("It is queued again.", ref("Job"), headers=A_JOB)},
        "BadRequest",
        "NotFound",
        "Conflict",
        "TooLarge",
        "TooMany",
        parameters=named("parameters", "Id"),
    ),
}

NOTIFICATIONS: Part = {
    "/notifications/": get(
        "listNotifications",
        "notifications",
        "Own notifications, newest first, and the position that was read before them",
        {
            "200": answer(
                "A page of them.",
                ref("Notifications"),
                links={
                    verb: {"operationId": verb, "requestBody": {"up_to": "$response.body#/seq"}}
                    for verb in VERBS
                },
            )
        },
        "WrongValue",
        parameters=[
            in_query("unread", YES_OR_NO, "1: only those not read; 0: only the read."),
            in_query("archived", YES_OR_NO, "1: only the archived; without it they are left out."),
            in_query(
                "category", text(), "Only of this category; an empty one: only those without a category."
            ),
            LIMIT,
            in_query("after", number(), "The next of the page before."),
        ],
    ),
    **{
        f"/notifications/{verb}/": post(
            verb,
            "notifications",
            f"{words} notifications: those that are not so already, at most {MAX_MARKED_ROWS:,} at once, oldest first",
            {"200": answer("All of them have a number now.", ref("Marked"))},
            "TooLarge",
            "UnsupportedType",
            "WrongValue",
            requestBody={"required": True, "content": {"application/json": {"schema": ref("Mark")}}},
        )
        for verb, words in MARK.items()
    },
}

FOLLOWING: Part = {
    "/sync/": get(
        "sync",
        "following",
        "What followed a position, or a snapshot",
        {
            "200": answer(
                "A frame.",
                ref("Sync"),
                headers=("ETag", "PreferenceApplied"),
                links={
                    "sync": link("sync", epoch="$response.body#/epoch", seq="$response.body#/seq"),
                },
            ),
            "304": UNCHANGED,
        },
        "WrongValue",
        "TooMany",
        parameters=[*POSITION, *named("parameters", "Prefer", "IfNoneMatch")],
    ),
    "/events/": {
        "get": operation(
            "events",
            "following",
            "The same as Server-Sent Events, as they come",
            {
                "200": {
                    "description": "Events named after the op of their frame; the ids are epoch:seq.",
                    "content": {"text/event-stream": {"schema": text()}},
                },
                "204": answer("Nobody is signed in: do not come back."),
            },
            ("BadRequest", "NotAcceptable", "WrongValue", "TooMany", "NoEvents", "Busy"),
            parameters=[*POSITION, in_header("Last-Event-ID", text(), "The id of the last event; it wins.")],
            security=[{"session": []}, {}],
        )
    },
}

DESCRIPTION: Part = {
    "/openapi.json": {
        "get": operation(
            "openapi",
            "description",
            "This document",
            {"200": answer("An OpenAPI document.", {"type": "object"}, headers=("ETag",)), "304": UNCHANGED},
            ("BadRequest",),
            parameters=named("parameters", "IfNoneMatch"),
            security=[],
        )
    }
}

PATHS = JOBS | NOTIFICATIONS | FOLLOWING | DESCRIPTION
