"""The items, frames and errors, as JSON Schema has them. All keys are always there, unless it is said otherwise."""

from __future__ import annotations

from typing import Any

from notifications import validators
from notifications.http.api_views import MAX_IDS
from notifications.models import Job
from notifications.streams.inbox import LEVELS

Schema = dict[str, Any]


def text(most: int | None = None, *, null: bool = False, **more: Any) -> Schema:
    bound = {} if most is None else {"maxLength": most}
    return {"type": ["string", "null"] if null else "string", **bound, **more}


def number(*, null: bool = False, low: int = 0, **more: Any) -> Schema:
    kinds = ["integer", "null"] if null else "integer"
    return {"type": kinds, "minimum": low, "maximum": validators.INTEGER, **more}


def a_list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def an_object(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), **more: Any) -> Schema:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        **({"required": required} if required else {}),
        "properties": properties,
        **more,
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


ID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
NO_TIME = {"type": ["string", "null"], "format": "date-time"}
YES_OR_NO = {"type": "boolean"}
PATH = text(description="A path on this server.")
LINK = text(validators.URL, null=True, description="A path on this server, or an http(s) address.")
EPOCH = text(description="The life of all sequences of the database. Another one: start anew.")
UNREAD = number(description="Notifications that are neither read nor archived.")
POSITION = number(description="The position of the stream, read before the items.")

ERROR = an_object(
    {
        "type": text(description="What kind of error it is, as a URI reference."),
        "title": text(),
        "detail": text(validators.DETAIL),
    },
    description="Why a job failed (RFC 9457).",
)

PROBLEM = an_object(
    {
        "type": text(),
        "title": text(),
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": text(description="What is wrong, and what to do."),
        "errors": a_list(
            an_object({"field": text(), "detail": text()}), description="The values that are wrong."
        ),
    },
    optional=("errors",),
    description="An answer that is an error (RFC 9457).",
)

NOTIFICATION = an_object(
    {
        "kind": {"const": "notification"},
        "id": ID,
        "seq": number(description="The position of its last change."),
        "raised": number(description="The position at which it came first; it never changes."),
        "level": {"type": "string", "enum": list(LEVELS)},
        "category": text(validators.CATEGORY),
        "title": text(validators.TITLE),
        "body": text(validators.BODY),
        "url": LINK,
        "job": {**ID, "type": ["string", "null"], "description": "The job that made it."},
        "created_at": TIME,
        "read_at": NO_TIME,
        "archived_at": NO_TIME,
        "data": {"type": "object"},
    },
    description="A durable message to one user.",
)

JOB = an_object(
    {
        "kind": {"const": "job"},
        "id": ID,
        "seq": number(description="The position of its end; 0 while it is active."),
        "version": number(description="Raised by every change."),
        "title": text(validators.TITLE),
        "task": text(),
        "state": {"type": "string", "enum": list(Job.State.values)},
        "done": YES_OR_NO,
        "attempt": number(),
        "max_attempts": number(),
        "progress": {
            "oneOf": [
                {"type": "null"},
                an_object(
                    {"current": number(), "total": number(null=True), "message": text(validators.PROGRESS)}
                ),
            ]
        },
        "created_at": TIME,
        "started_at": NO_TIME,
        "finished_at": NO_TIME,
        "run_after": NO_TIME,
        "error": {"oneOf": [{"type": "null"}, ref("Error")]},
        "url": LINK,
        "links": an_object(
            {
                "self": PATH,
                "result": {**PATH, "type": ["string", "null"], "description": "Once it has succeeded."},
                "cancel": {**PATH, "type": ["string", "null"], "description": "Until it is done."},
                "retry": {
                    **PATH,
                    "type": ["string", "null"],
                    "description": "If it failed or was cancelled.",
                },
            }
        ),
    },
    description="One asked-for execution of a task.",
)

SYNC = an_object(
    {
        "op": {"const": "sync"},
        "epoch": EPOCH,
        "prev": number(null=True, description="What it follows; null: a snapshot, forget what you have."),
        "seq": number(description="Where it leads."),
        "reset": YES_OR_NO,
        "more": {**YES_OR_NO, "description": "Ask again, from seq."},
        "unread": UNREAD,
        "items": a_list({"oneOf": [ref("Notification"), ref("Job")]}),
        "jobs": a_list(ref("Job"), description="The active jobs. Absent while there is more."),
    },
    optional=("jobs",),
    description="What followed a position.",
)

JOBS = an_object({"items": a_list(ref("Job")), "next": {**ID, "type": ["string", "null"]}})

NOTIFICATIONS = an_object(
    {
        "items": a_list(ref("Notification")),
        "next": number(null=True, description="What to ask for as after; null on the last page."),
        "epoch": EPOCH,
        "seq": POSITION,
        "unread": UNREAD,
    }
)

MARK = an_object(
    {
        "up_to": number(
            description="Touch none that was raised after this position, which has been reached."
        ),
        "ids": {
            "type": ["array", "null"],
            "items": ID,
            "maxItems": MAX_IDS,
            "description": "Only these; absent or null: all.",
        },
    },
    optional=("ids",),
)

MARKED = an_object(
    {
        "epoch": EPOCH,
        "seq": POSITION,
        "unread": UNREAD,
        "more": {**YES_OR_NO, "description": "Not all of them yet: send it again."},
    }
)

SCHEMAS = {
    "Error": ERROR,
    "Job": JOB,
    "Jobs": JOBS,
    "Mark": MARK,
    "Marked": MARKED,
    "Notification": NOTIFICATION,
    "Notifications": NOTIFICATIONS,
    "Problem": PROBLEM,
    "Sync": SYNC,
}
