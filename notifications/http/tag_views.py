"""Views of the API for jobs with a tag."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from notifications import times, validators
from notifications.exceptions import TooManyJobs
from notifications.http.access import api_view, json_response
from notifications.http.parsing import parse_json_object
from notifications.jobs import limits, tags
from notifications.jobs.changing import JOBS_PER_CHUNK
from notifications.jobs.selection import JobFilter
from notifications.problems import Problem
from notifications.states import DONE


@api_view("GET")
def job_counts(request: HttpRequest) -> HttpResponse:
    """Return how many of the user's jobs with a ``tag`` there are, are done, and are in each state."""
    tag = parse_tag(request.GET.get("tag"))
    states = tags.count_states(tag, request.user.pk)
    done = sum(count for state, count in states.items() if state in DONE)
    return json_response({"tag": tag, "total": sum(states.values()), "done": done, "states": states})


@api_view("POST")
def jobs_change(request: HttpRequest, change: str) -> HttpResponse:
    """Cancel or retry the user's jobs with a ``tag``, 1,000 of them or a few more at a time."""
    user = request.user.pk
    tag = parse_tag(parse_json_object(request).get("tag"))
    conditions = JobFilter(tag=tag, user=str(user)).until(change, times.now())

    found = 0

    def change_some() -> int:
        nonlocal found
        changed = 0
        for chunk in conditions.change(change, by=user):  # those of one state after the other
            found, changed = found + len(chunk.found), changed + len(chunk.changed)
            if found >= JOBS_PER_CHUNK:
                break
        return changed

    try:
        changed = limits.retry_within_rate(user, None, change_some) if change == "retry" else change_some()
    except TooManyJobs as exc:
        raise Problem(429, str(exc), headers={"Retry-After": str(exc.retry_after)}) from exc
    return json_response({"changed": changed, "more": found >= JOBS_PER_CHUNK})


def parse_tag(tag: Any) -> str:
    """Return a tag that a request names. Raises Problem 422."""
    if not isinstance(tag, str) or not tag or "\0" in tag or not validators.encodable(tag):
        raise Problem(422, "tag must be the tag of jobs, a text.", field="tag")
    return tag
