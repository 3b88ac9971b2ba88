"""JSON Schemas of items, frames and errors."""

from __future__ import annotations

from typing import Any

from notifications import validators
from notifications.http.api_views import MAX_IDS
from notifications.models import Job
from notifications.streams.inbox import LEVELS

Schema = dict[str, Any]


def string(max_length: int | None = None, *, nullable: bool = False, **keywords: Any) -> Schema:
    limit = {} if max_length is None else {"maxLength": max_length}
    return {"type": ["string", "null"] if nullable else "string", **limit, **keywords}


def integer(*, nullable: bool = False, **keywords: Any) -> Schema:
    """Return the schema of an integer from 0 to the largest one that JavaScript represents exactly."""
    types = ["integer", "null"] if nullable else "integer"
    return {"type": types, "minimum": 0, "maximum": validators.MAX_INTEGER, **keywords}


def array(items: Schema, **keywords: Any) -> Schema:
    return {"type": "array", "items": items, **keywords}


def object_of(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), **keywords: Any) -> Schema:
    """Return the schema of an object whose properties are required, except the ``optional`` ones."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        **({"required": required} if required else {}),
        "properties": properties,
        **keywords,
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


ID = {"type": "string", "format": "uuid"}
TIME = {"type": "string", "format": "date-time"}
NULLABLE_TIME = {"type": ["string", "null"], "format": "date-time"}
BOOLEAN = {"type": "boolean"}
PATH = string(description="A path on this server.")
LINK = string(
    validators.MAX_URL_LENGTH, nullable=True, description="A path on this server, or an http(s) address."
)
EPOCH = string(
    description="Identifies the database. After a change of epoch, positions are invalid: start from a snapshot."
)
UNREAD = integer(description="Notifications that are neither read nor archived.")
UNSEEN = integer(
    description="Of these, the ones raised after the position up to which notifications are seen."
)
CATEGORY_PATTERN = "^[^\\x00]*$"
POSITION = integer(description="The position of the stream, which was read before the items.")

ERROR = object_of(
    {
        "type": string(description="The kind of error, as a URI reference."),
        "title": string(),
        "detail": string(validators.MAX_DETAIL_LENGTH),
    },
    description="Why a job failed (RFC 9457).",
)

PROBLEM = object_of(
    {
        "type": string(),
        "title": string(),
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": string(description="What is wrong, and how to fix it."),
        "errors": array(
            object_of({"field": string(), "detail": string()}), description="The invalid values."
        ),
    },
    optional=("errors",),
    description="An error response (RFC 9457).",
)

NOTIFICATION = object_of(
    {
        "kind": {"const": "notification"},
        "id": ID,
        "seq": integer(description="The position of its last change."),
        "raised": integer(description="The position at which it was first numbered. It never changes."),
        "level": {"type": "string", "enum": list(LEVELS)},
        "category": string(validators.MAX_CATEGORY_LENGTH),
        "title": string(validators.MAX_TITLE_LENGTH),
        "body": string(validators.MAX_BODY_LENGTH),
        "url": LINK,
        "job": {**ID, "type": ["string", "null"], "description": "The id of the job that created it."},
        "created_at": TIME,
        "read_at": NULLABLE_TIME,
        "archived_at": NULLABLE_TIME,
        "data": {"type": "object"},
    },
    description="A durable message to one user.",
)

JOB = object_of(
    {
        "kind": {"const": "job"},
        "id": ID,
        "seq": integer(description="The position of its last change, 0 while the job is active."),
        "version": integer(description="Increases with every change."),
        "title": string(validators.MAX_TITLE_LENGTH),
        "task": string(),
        "state": {"type": "string", "enum": list(Job.State.values)},
        "done": BOOLEAN,
        "attempt": integer(),
        "max_attempts": integer(),
        "progress": {
            "oneOf": [
                {"type": "null"},
                object_of(
                    {
                        "current": integer(),
                        "total": integer(nullable=True),
                        "message": string(validators.MAX_PROGRESS_LENGTH),
                    }
                ),
            ]
        },
        "created_at": TIME,
        "started_at": NULLABLE_TIME,
        "finished_at": NULLABLE_TIME,
        "run_after": NULLABLE_TIME,
        "error": {"oneOf": [{"type": "null"}, ref("Error")]},
        "url": LINK,
        "links": object_of(
            {
                "self": PATH,
                "result": {
                    **PATH,
                    "type": ["string", "null"],
                    "description": "Null until the job has succeeded.",
                },
                "cancel": {**PATH, "type": ["string", "null"], "description": "Null when the job is done."},
                "retry": {
                    **PATH,
                    "type": ["string", "null"],
                    "description": "Null unless the job has failed or was cancelled.",
                },
            }
        ),
    },
    description="One execution of a task.",
)

SYNC = object_of(
    {
        "op": {"const": "sync"},
        "epoch": EPOCH,
        "prev": integer(
            nullable=True, description="The position that the frame follows. Null in a snapshot."
        ),
        "seq": integer(description="The position after the frame."),
        "reset": BOOLEAN,
        "more": {**BOOLEAN, "description": "More changes follow: send another request with seq."},
        "unread": UNREAD,
        "unseen": UNSEEN,
        "items": array({"oneOf": [ref("Notification"), ref("Job")]}),
        "jobs": array(ref("Job"), description="The active jobs. Absent if more is true."),
    },
    optional=("jobs",),
    description="The changes after a position, or a snapshot.",
)

JOBS = object_of({"items": array(ref("Job")), "next": {**ID, "type": ["string", "null"]}})

NOTIFICATIONS = object_of(
    {
        "items": array(ref("Notification")),
        "next": integer(
            nullable=True, description="The value of after for the next page, null on the last page."
        ),
        "epoch": EPOCH,
        "seq": POSITION,
        "unread": UNREAD,
        "unseen": UNSEEN,
    }
)

MARK = object_of(
    {
        "up_to": integer(
            description="Notifications raised after this position stay unchanged. At most the current position."
        ),
        "ids": {
            "type": ["array", "null"],
            "items": ID,
            "maxItems": MAX_IDS,
            "description": "The notifications to mark. Absent or null: all.",
        },
        "category": string(
            nullable=True,
            pattern=CATEGORY_PATTERN,
            description="Notifications of this category only. Empty: those without a category.",
        ),
        "level": {
            "type": ["string", "null"],
            "enum": [*LEVELS, None],
            "description": "Notifications of this level only.",
        },
        "after": integer(
            nullable=True, description="The value of next in the previous response: where to continue."
        ),
    },
    optional=("ids", "category", "level", "after"),
)

SEEN = object_of(
    {
        "up_to": integer(
            description="The position that was shown. A lower one than before changes nothing. At most the current one."
        ),
    },
)

MARKED = object_of(
    {
        "epoch": EPOCH,
        "seq": POSITION,
        "unread": UNREAD,
        "unseen": UNSEEN,
        "more": {
            **BOOLEAN,
            "description": "The limit of one request was reached: send it again, with next as after if there is one.",
        },
        "next": integer(
            nullable=True,
            description="With category, level or after in the request: the value of after in the next one.",
        ),
    },
    optional=("next",),
)

HEALTH = object_of({"status": {"const": "ok"}})

SCHEMAS = {
    "Error": ERROR,
    "Health": HEALTH,
    "Job": JOB,
    "Jobs": JOBS,
    "Mark": MARK,
    "Marked": MARKED,
    "Notification": NOTIFICATION,
    "Notifications": NOTIFICATIONS,
    "Problem": PROBLEM,
    "Seen": SEEN,
    "Sync": SYNC,
}
