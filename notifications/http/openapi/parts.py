"""Parameters, headers and answers that several operations share, and those of views that answer with ``accepted()``."""

from __future__ import annotations

from typing import Any

from notifications.http.acceptance import RETRY_AFTER
from notifications.http.openapi.schemas import ID, ref, text
from notifications.http.prefer import MAX_WAIT_SECONDS
from notifications.http.requests import MAX_BODY_BYTES
from notifications.validators import KEY

Part = dict[str, Any]


def in_query(name: str, schema: Part, description: str) -> Part:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def in_header(name: str, schema: Part, description: str) -> Part:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def named(kind: str, *names: str) -> list[Part]:
    return [{"$ref": f"#/components/{kind}/{name}"} for name in names]


def answer(
    description: str, schema: Part | None = None, *, headers: tuple[str, ...] = (), **more: Part
) -> Part:
    found: Part = {"description": description}
    if headers:
        found["headers"] = {HEADERS[name][0]: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if schema is not None:
        found["content"] = {"application/json": {"schema": schema}}
    return found | more


def problem(description: str, *, headers: tuple[str, ...] = ()) -> Part:
    content = {"application/problem+json": {"schema": ref("Problem")}}
    return answer(description, headers=headers) | {"content": content}


#: As they are called here: the name on the wire, and what it says.
HEADERS: dict[str, tuple[str, Part]] = {
    "ContentLocation": ("Content-Location", {"schema": text(), "description": "The job."}),
    "ETag": ("ETag", {"schema": text(), "required": True, "description": "For If-None-Match."}),
    "Location": ("Location", {"schema": text(), "required": True, "description": "Where to look."}),
    "PreferenceApplied": (
        "Preference-Applied",
        {"schema": text(), "description": "What of Prefer was done."},
    ),
    "Replayed": (
        "Idempotency-Replayed",
        {"schema": {"const": "true"}, "description": "An earlier request with this key got the job."},
    ),
    "RetryAfter": (
        "Retry-After",
        {"schema": {"type": "integer", "minimum": 1}, "required": True, "description": "Seconds."},
    ),
    "RetryAfterUntilDone": (
        "Retry-After",
        {
            "schema": {"type": "integer", "minimum": 1},
            "description": f"Seconds after which to ask again, {RETRY_AFTER}; absent when nothing is to be waited for.",
        },
    ),
}

PARAMETERS: Part = {
    "Id": {"name": "id", "in": "path", "required": True, "schema": ID, "description": "The job."},
    "IfNoneMatch": in_header(
        "If-None-Match", text(), "Entity tags of what is known, or *: 304 where nothing has changed."
    ),
    "Prefer": in_header(
        "Prefer",
        text(),
        f"wait=N (RFC 7240): answer when there is news, or after N seconds, at most {MAX_WAIT_SECONDS}. "
        "Under WSGI it counts as 0.",
    ),
    "PreferToAsk": in_header(
        "Prefer",
        text(),
        f"wait=N (RFC 7240): 200 if the job is done within N seconds, at most {MAX_WAIT_SECONDS}. "
        "respond-async: 202 at once.",
    ),
    "IdempotencyKey": in_header(
        "Idempotency-Key",
        text(KEY, minLength=1, pattern="^[!-~]+$"),
        "The same request again within 24 hours is answered with the same job. Another request: 422.",
    ),
}

RESPONSES: Part = {
    "BadRequest": problem("The request cannot be read."),
    "SignedOut": problem("Nobody is signed in."),
    "Forbidden": problem("The CSRF check failed."),
    "NotFound": problem("There is none, or it is somebody else's."),
    "NotAcceptable": problem("It is not there in the form that Accept asks for."),
    "Conflict": problem(
        "The job is not in a state in which this is possible.", headers=("RetryAfterUntilDone",)
    ),
    "TooLarge": problem(f"The body has more than {MAX_BODY_BYTES} bytes."),
    "UnsupportedType": problem("The body is not application/json."),
    "WrongValue": problem("A value is impossible; errors names it."),
    "TooMany": problem("Too much at once.", headers=("RetryAfter",)),
    "NoEvents": problem("The server is a WSGI server. Ask sync/ now and then."),
    "Busy": problem("The database cannot take it now.", headers=("RetryAfter",)),
    "Accepted": answer(
        "For views that answer with accepted(): the job that was asked for.",
        ref("Job"),
        headers=("Location", "RetryAfterUntilDone", "ETag", "Replayed", "PreferenceApplied"),
    ),
    "Done": answer(
        "For views that answer with accepted(): the job, which was done in time.",
        ref("Job"),
        headers=("ContentLocation", "ETag", "Replayed", "PreferenceApplied"),
    ),
}

#: What answers with which status.
STATUS = {
    "BadRequest": "400",
    "SignedOut": "401",
    "Forbidden": "403",
    "NotFound": "404",
    "NotAcceptable": "406",
    "Conflict": "409",
    "TooLarge": "413",
    "UnsupportedType": "415",
    "WrongValue": "422",
    "TooMany": "429",
    "NoEvents": "501",
    "Busy": "503",
}
