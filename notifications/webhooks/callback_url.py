"""The request header ``Callback-URL``: what is called when the job of the request ends."""

from __future__ import annotations

import re
from typing import Any

from notifications.jobs.handlers.declarations import load_handlers
from notifications.problems import Problem
from notifications.validators import MAX_URL_LENGTH

HEADER = "Callback-URL"
#: Visible ASCII without a comma, by which servers join repeated headers.
_ONE_URL = re.compile(rf"[\x21-\x2b\x2d-\x7e]{{1,{MAX_URL_LENGTH}}}")


def read_callback_url(request: Any) -> str:
    """Return the URL that the request has sent, empty if there is none.

    ``request`` may be one of Django REST framework. Raises Problem 400 for what is not one URL, and 422 for one that is
    not allowed.
    """
    value = request.headers.get(HEADER)
    if value is None:
        return ""
    value = value.strip(" \t")  # not part of a header's value, but some servers leave them
    if not _ONE_URL.fullmatch(value):
        raise Problem(
            400,
            f"{HEADER} must be one URL of at most {MAX_URL_LENGTH} visible ASCII characters. Write a comma in it as "
            "%2C.",
            field=HEADER,
        )
    if load_handlers().callback is None:
        raise _refused(
            "this site calls no URLs. Send the request without it, and request the job's URL instead"
        )
    # With aiohttp, in processes that need it only.
    from notifications.outbound.callbacks import check_callback_url
    from notifications.outbound.guard import Forbidden

    try:
        check_callback_url(value)
    except Forbidden as exc:
        raise _refused(str(exc)) from exc
    return str(value)


def _refused(reason: str) -> Problem:
    return Problem(422, f"{HEADER} is refused: {reason}.", field=HEADER)
