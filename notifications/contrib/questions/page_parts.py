"""What the page of a question and that of its job show of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from notifications.contrib.questions import answer_forms
from notifications.contrib.questions.answering import find_open_question
from notifications.contrib.questions.models import AskedQuestion
from notifications.db.transactions import database
from notifications.extension import hooks
from notifications.models import Job


def describe_question(question: AskedQuestion, answered: Mapping[str, Any]) -> dict[str, Any]:
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
            context["form"] = answer_forms.unbound_form(details["form"])
        except answer_forms.FormUnavailable as exc:
            context |= {"wrong": str(exc), "form": None}
    return context


def describe_open_question(job: Job, user: Any) -> dict[str, Any]:
    """Return what the page of a job shows of the first question that it waits for and the user may answer.

    ``waiting``
        The id of the question that the item of the job has, "" without one.
    """
    wait = json.loads(job.waiting) if job.waiting else {"kind": ""}
    context: dict[str, Any] = {"waiting": wait["id"] if wait["kind"] == "question" else ""}
    question = find_open_question(job.id, user) if job.state == Job.State.WAITING else None
    return context | describe_question(question, {}) if question else context


def describe_asking_job(question: AskedQuestion) -> dict[str, Any]:
    """Return what the page of an open question shows of its job: its title, progress, and excerpts of extensions.

    See ``find_open_question()``, which says what others than the owner may see.
    """
    columns = ("id", "title", "progress_current", "progress_total", "progress_message")
    job = Job.objects.using(database()).only(*columns).filter(pk=question.job).first()
    shown = [section for section in hooks.job_sections if job and section.excerpt_template]
    context = {"asking_job": job, "excerpts": [section.excerpt_template for section in shown]}
    for section in shown:
        context |= section.excerpt_context(job)
    return context
