"""The page and the API on which the questions of jobs are answered, and what the page of a job shows of them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.apps import apps
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from notifications import times
from notifications.contrib.questions import answer_forms, answering, question_facts
from notifications.contrib.questions.addressees import is_asked
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.question_notifications import (
    answer_path,
    describe_consequences,
    describe_end,
)
from notifications.contrib.questions.question_notifications import question_page as question_page_path
from notifications.contrib.questions.question_texts import read_details
from notifications.db import database
from notifications.exceptions import QuestionDoesNotExist, QuestionEnded
from notifications.extension import hooks
from notifications.http import (
    Problem,
    api_view,
    describe_browser,
    json_response,
    page_view,
    parse_json_object,
)
from notifications.inbox import read_numbered_position
from notifications.inbox.pages import describe_notification
from notifications.models import Job, Wait

logger = logging.getLogger("notifications")

#: Users who may not answer a question learn nothing of it, not even that it exists.
NOT_FOUND = (QuestionDoesNotExist, PermissionDenied)


@page_view
@require_http_methods(["GET", "HEAD", "POST"])
def question_page(request: HttpRequest, id: UUID, wait: UUID) -> HttpResponse:
    """Show a question with its choices or form. A POST with ``value`` or the fields answers it.

    Its end is on the page of the user's notification; here only for who has none.
    Who answers second is shown who was first. A choice that is dangerous is confirmed first: ``confirm`` in the query
    shows it, ``confirmed`` in the POST has done so.
    """
    page: dict[str, Any] = {}
    status, position = 200, read_numbered_position(request.user.pk)
    try:
        question = answering.find_question(request.user, job=id, id=wait)
        details = read_details(question)
        if request.method == "POST":
            page, status = _answer_on_page(request, question, details)
            if not page:
                return HttpResponseRedirect(reverse("notifications:question", args=[id, wait]), status=303)
        elif (chosen := request.GET.get("confirm", "")) in details["choices"]:
            page = {"confirm": chosen}
    except NOT_FOUND:
        raise Http404("The question does not exist.") from None
    row = question_facts.find_notification(question, request.user)
    if row and question.ended_at:
        return HttpResponseRedirect(reverse("notifications:notification", args=[row.pk]))
    of_row = describe_notification(row, request) if row else {}
    context = {
        **of_row,
        "notifications_position": position,
        "end": answering.describe_end_to(question, request.user, with_time=False),
        **describe_question(question, page),
        **describe_asking_job(question, request.user, is_own="job" in of_row, has_tools=row is not None),
        "confirm_label": details["choices"].get(page.get("confirm")),
    }
    if "form" in context and context["form"] is None:
        status = 503
    return render(request, "notifications/question.html", context, status=status)


@api_view("GET, POST")
def job_answer(request: HttpRequest, id: UUID, wait: UUID) -> HttpResponse:
    """Answer a question that the user was asked, by ``value`` or by the fields of its form. A GET describes it.

    404 if there is none, 409 if it was answered before, 410 if it has expired or its job was cancelled, 422 for a value
    that is none of its choices and for wrong fields, 503 if its form has failed.
    """
    body = parse_json_object(request) if request.method == "POST" else None
    try:
        asked = answering.find_question(request.user, job=id, id=wait)
        if body is None:
            return json_response(_serialize_question(asked))
        is_form = bool(json.loads(asked.details).get("form"))
        given = body if is_form else body.get("value", request.GET.get("value"))
        question = answering.store_answer(asked, given, user=request.user, via=_browser_of(request))
    except NOT_FOUND as exc:
        raise Problem(404, "The question does not exist, or you were not asked.") from exc
    except QuestionEnded as exc:
        raise Problem(409 if exc.how == Wait.How.ANSWERED else 410, str(exc)) from exc
    except answer_forms.WrongFields as exc:
        errors = {field: " ".join(problems) for field, problems in exc.message_dict.items()}
        raise Problem(422, " ".join(exc.messages), errors=errors) from exc
    except ValidationError as exc:
        raise Problem(422, exc.message, field="" if is_form else "value") from exc
    except answer_forms.FormUnavailable as exc:
        raise Problem(503, str(exc)) from exc
    _log_answer_of_staff(request.user, question)
    ended = describe_end(question, question.ended_by_name)
    item = {"id": str(question.id), "name": question.name, "ended": ended}
    return json_response(item)


def _serialize_question(question: AskedQuestion) -> dict[str, Any]:
    """Return a question as one who may answer it reads it."""
    details = read_details(question)
    return {
        "id": str(question.id),
        "job": str(question.job),
        "name": question.name,
        "title": details.get("title", question.title),
        "body": details["body"],
        "choices": None if details.get("form") else details["choices"],
        "danger": details.get("danger", []),
        "initial": details.get("initial", {}) if details.get("form") else None,
        "url": details.get("url") or None,
        "created_at": times.format_time(question.created_at),
        "expires_at": times.format_time(question.due_at),
        "links": {
            "answer": answer_path(question.job, question.id),
            "page": question_page_path(question.job, question.id) or None,
        },
        "ended": describe_end(question, answering.read_name_of_answerer(question)),
    }


def _answer_on_page(
    request: HttpRequest, question: AskedQuestion, details: dict[str, Any]
) -> tuple[dict[str, Any], int]:
    """Answer a question, unless it has ended. Returns what the page shows of a wrong answer and its status, or nothing.

    Raises ``QuestionDoesNotExist`` and ``PermissionDenied``.
    """
    value: Any = request.POST if details.get("form") else request.POST.get("value", "")
    if not details.get("form") and value in details.get("danger", ()) and "confirmed" not in request.POST:
        return {"confirm": value}, 200
    try:
        answered = answering.store_answer(question, value, user=request.user, via=_browser_of(request))
        _log_answer_of_staff(request.user, answered)
    except QuestionEnded:
        pass  # the page shows how
    except answer_forms.WrongFields as exc:
        return {"form": exc.form}, 422
    except ValidationError as exc:
        return {"wrong": exc.message if details.get("form") else gettext("Choose one of the answers.")}, 422
    except answer_forms.FormUnavailable as exc:
        return {"wrong": str(exc), "form": None}, 503
    return {}, 303


def _log_answer_of_staff(user: Any, question: AskedQuestion) -> None:
    """Add an answer to the log of the admin if its user was not asked, but may answer all questions."""
    if str(user.pk) in json.loads(question.details)["to"] or not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import CHANGE, LogEntry

    end: dict[str, Any] = describe_end(question, "") or {}
    text = gettext("Answered “{question}” by “{answer}”.").format(
        question=question.title, answer=end["label"] or gettext("the form")
    )
    try:
        if is_asked(question.addressees, user):  # since less than five minutes: no notification was sent yet
            return
        job = Job.objects.using(database()).only("id", "title").get(id=question.job)
        LogEntry.objects.log_actions(user.pk, [job], CHANGE, text)  # type: ignore[arg-type]
    except Exception:  # the answer is stored; the log may be in another database
        logger.exception("Could not log the answer of staff to the question %s", question.id)


def _browser_of(request: HttpRequest) -> str:
    """Return the browser of a request, the name of another client, such as "curl", or "" if it sends none."""
    agent = request.headers.get("User-Agent", "")
    if agent.startswith("Mozilla/"):
        return str(describe_browser(agent))
    client = re.match(r"[\w.-]{1,40}", agent, re.ASCII)
    return client[0] if client else ""


def describe_question(question: AskedQuestion, answered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context of ``question_answer.html``; ``form`` is None if the form of the question has failed.

    ``answered``
        What is to be shown instead, as the form with what was sent.
    """
    details = read_details(question)
    question.title = details.get("title", question.title)
    consequences = describe_consequences(details)
    context = {
        "question": question,
        "body": details["body"],
        "choices": details["choices"].items(),
        "danger": details.get("danger", ()),
        "buttons": [
            (value, label, consequences.get(value, "")) for value, label in details["choices"].items()
        ],
        "consequence": consequences.get(answered.get("confirm", "")),
        **answered,
    }
    if details.get("form") and question.ended_at is None and "form" not in context:
        try:
            context["form"] = answer_forms.unbound_form(details["form"], details.get("initial", {}))
        except answer_forms.FormUnavailable as exc:
            context |= {"wrong": str(exc), "form": None}
    return context


def describe_open_question(job: Job, request: HttpRequest) -> dict[str, Any]:
    """Return what the page of a job shows of the first question that it waits for and the user may answer.

    ``waiting``
        The id of the question that the item of the job has, "" without one.
    """
    wait = json.loads(job.waiting) if job.waiting else {"kind": ""}
    context: dict[str, Any] = {"waiting": wait["id"] if wait["kind"] == "question" else ""}
    question = answering.find_open_question(job.id, request.user) if job.state == Job.State.WAITING else None
    if question is None:
        return context
    facts = question_facts.describe_question(question, None, request.user)
    return {
        **context,
        **describe_question(question, {}),
        "question_facts": [*question_facts.describe_progress(job), *facts],
        "question_page": question_page_path(question.job, question.id),
    }


def describe_asking_job(
    question: AskedQuestion, reader: Any, *, is_own: bool, has_tools: bool
) -> dict[str, Any]:
    """Return the facts that the page of a question shows, and for others than the owner excerpts of extensions.

    What it is about is one of the tools of its notification, where it has one.

    See ``find_open_question()``, which says what these may see; of a question that has ended nothing.
    """
    if question.ended_at:
        return {}
    job = question_facts.read_asking_job(question)
    facts = question_facts.describe_question(question, job, reader, with_link=not has_tools)
    context: dict[str, Any] = {"facts": facts}
    if has_tools:
        context["about_url"] = json.loads(question.details).get("url")
    if job is None or is_own:
        return context
    shown = [section for section in hooks.job_sections if section.excerpt_template]
    context["excerpts"] = [section.excerpt_template for section in shown]
    for section in shown:
        context |= section.excerpt_context(job)
    return context
