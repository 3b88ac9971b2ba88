"""What the page of a question and that of its job show of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from notifications.jobs import question_forms
from notifications.jobs.transitions import answering
from notifications.models import Job, Wait


def describe_question(question: Wait, answered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context of ``question_answer.html``; ``form`` is None if the form of the question has failed.

    ``answered``
        What is to be shown instead, as the form with what was sent.
    """
    details = json.loads(question.details)
    context = {
        "question": question,
        "body": details["body"],
        "choices": details["choices"].items(),
        "danger": details.get("danger", ()),
        **answered,
    }
    if details.get("form") and question.ended_at is None and "form" not in context:
        try:
            context["form"] = question_forms.unbound_form(details["form"])
        except question_forms.FormUnavailable as exc:
            context |= {"wrong": str(exc), "form": None}
    return context


def describe_open_question(job: Job, user: Any) -> dict[str, Any]:
    """Return what the page of a job shows of the first question that it waits for, if the user may answer it.

    ``waiting``
        Its id, "" without one.
    """
    wait = json.loads(job.waiting) if job.waiting else {"kind": ""}
    context: dict[str, Any] = {"waiting": ""}
    if wait["kind"] != Wait.Kind.QUESTION:
        return context
    context["waiting"] = wait["id"]
    try:
        question = answering.find_question(job.id, UUID(wait["id"]), user)
    except answering.QuestionNotFound:
        return context
    return context if question.ended_at else context | describe_question(question, {})
