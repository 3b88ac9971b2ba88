"""Build parts of the OpenAPI document: parameters, headers and responses that several operations share."""

from __future__ import annotations

from typing import Any

from notifications.http.job_responses import RETRY_AFTER_SECONDS
from notifications.http.negotiation import MAX_WAIT_SECONDS
from notifications.http.openapi.schemas import ID, ref, string
from notifications.http.parsing import MAX_BODY_BYTES
from notifications.jobs.enqueueing.unique import KEY_LIFETIME_HOURS
from notifications.validators import MAX_KEY_LENGTH

#: A node of the OpenAPI document.
Part = dict[str, Any]


def query_parameter(name: str, schema: Part, description: str) -> Part:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header_parameter(name: str, schema: Part, description: str) -> Part:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def component_refs(kind: str, *names: str) -> list[Part]:
    """Return references to components. ``kind`` is ``"parameters"`` or ``"responses"``."""
    return [{"$ref": f"#/components/{kind}/{name}"} for name in names]


def response(
    description: str, schema: Part | None = None, *, headers: tuple[str, ...] = (), **fields: Part
) -> Part:
    """Return a response. ``schema`` describes its JSON body, ``headers`` are names in ``HEADERS``."""
    result: Part = {"description": description}
    if headers:
        result["headers"] = {HEADERS[name][0]: {"$ref": f"#/components/headers/{name}"} for name in headers}
    if schema is not None:
        result["content"] = {"application/json": {"schema": schema}}
    return result | fields


def problem_response(description: str, *, headers: tuple[str, ...] = ()) -> Part:
    content = {"application/problem+json": {"schema": ref("Problem")}}
    return response(description, headers=headers) | {"content": content}


#: Component name, then the name of the header and its description.
HEADERS: dict[str, tuple[str, Part]] = {
    "ContentLocation": ("Content-Location", {"schema": string(), "description": "The path of the job."}),
    "ETag": ("ETag", {"schema": string(), "required": True, "description": "Send it in If-None-Match."}),
    "Location": ("Location", {"schema": string(), "required": True, "description": "The path of the job."}),
    "PreferenceApplied": (
        "Preference-Applied",
        {"schema": string(), "description": "The preference of Prefer that was applied."},
    ),
    "Replayed": (
        "Idempotency-Replayed",
        {
            "schema": {"const": "true"},
            "description": "The job was enqueued by an earlier request with the same Idempotency-Key.",
        },
    ),
    "RetryAfter": (
        "Retry-After",
        {"schema": {"type": "integer", "minimum": 1}, "required": True, "description": "Seconds."},
    ),
    "RetryAfterUntilDone": (
        "Retry-After",
        {
            "schema": {"type": "integer", "minimum": 1},
            "description": f"Seconds until the next poll ({RETRY_AFTER_SECONDS}). Absent when the job is done.",
        },
    ),
}

PARAMETERS: Part = {
    "Id": {"name": "id", "in": "path", "required": True, "schema": ID, "description": "The id of the job."},
    "IfNoneMatch": header_parameter(
        "If-None-Match", string(), "Entity tags that the client has, or *. 304 if one of them is current."
    ),
    "Prefer": header_parameter(
        "Prefer",
        string(),
        f"wait=N (RFC 7240): delay the response until there is a change, at most N seconds (at most "
        f"{MAX_WAIT_SECONDS}). Ignored by WSGI servers.",
    ),
    "PreferToAsk": header_parameter(
        "Prefer",
        string(),
        f"wait=N (RFC 7240): 200 if the job is done within N seconds (at most {MAX_WAIT_SECONDS}), otherwise 202. "
        "respond-async: 202 immediately.",
    ),
    "IdempotencyKey": header_parameter(
        "Idempotency-Key",
        string(MAX_KEY_LENGTH, minLength=1, pattern="^[!-~]+$"),
        f"An equal request with the same key within {KEY_LIFETIME_HOURS} hours gets the same job. "
        "A different request gets 422.",
    ),
}

RESPONSES: Part = {
    "BadRequest": problem_response("The request cannot be read."),
    "SignedOut": problem_response("You are not signed in."),
    "Forbidden": problem_response("The CSRF check failed."),
    "NotFound": problem_response("It does not exist, or it belongs to another user."),
    "NotAcceptable": problem_response("The response is not available in a media type of Accept."),
    "Conflict": problem_response(
        "The state of the job does not allow the operation.", headers=("RetryAfterUntilDone",)
    ),
    "TooLarge": problem_response(f"The body has more than {MAX_BODY_BYTES} bytes."),
    "UnsupportedType": problem_response("The body is not application/json."),
    "WrongValue": problem_response("A value is invalid. errors names it."),
    "TooMany": problem_response("A limit of requests or jobs is reached.", headers=("RetryAfter",)),
    "NoEvents": problem_response("The server is a WSGI server. Poll sync/ instead."),
    "NotReady": problem_response(
        "The database does not answer or is not migrated, or no worker is alive.", headers=("RetryAfter",)
    ),
    "Busy": problem_response("The database is not available.", headers=("RetryAfter",)),
    "Accepted": response(
        "For views that return accepted(): the job is enqueued.",
        ref("Job"),
        headers=("Location", "RetryAfterUntilDone", "ETag", "Replayed", "PreferenceApplied"),
    ),
    "Done": response(
        "For views that return accepted(): the job was done in time.",
        ref("Job"),
        headers=("ContentLocation", "ETag", "Replayed", "PreferenceApplied"),
    ),
}

#: Statuses of the problems in RESPONSES.
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
    "NotReady": "503",
    "Busy": "503",
}
