"""The page and the API on which the questions of jobs are answered."""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

from django.apps import apps
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext
from django.views.decorators.http import require_http_methods

from notifications import serializers
from notifications.db.transactions import database
from notifications.deliveries.devices import describe_browser
from notifications.http.decorators import api_view
from notifications.http.page_views import page_view
from notifications.http.parsing import header, parse_json_object
from notifications.jobs.transitions import answering
from notifications.jobs.transitions.question_notifications import describe_end
from notifications.models import Job, Wait
from notifications.problems import Problem, prevent_caching
from notifications.streams import pages

logger = logging.getLogger("notifications")


@page_view
@require_http_methods(["GET", "HEAD", "POST"])
def question_page(request: HttpRequest, id: UUID, wait: UUID) -> HttpResponse:
    """Show a question with its choices, or how it ended. A POST with ``value`` answers it.

    Who answers second is shown who was first.
    """
    try:
        if request.method == "POST":
            wrong = _answer_on_page(request, id, wait, request.POST.get("value"))
            if not wrong:
                return HttpResponseRedirect(reverse("notifications:question", args=[id, wait]), status=303)
        else:
            wrong = ""
        question = answering.find_question(id, wait, request.user)
    except answering.QuestionNotFound:
        raise Http404("The question does not exist.") from None
    details = json.loads(question.details)
    context = {
        "notifications_position": pages.read_stream_position(request.user.pk),
        "question": question,
        "body": details["body"],
        "choices": details["choices"].items(),
        "end": describe_end_in_words(question),
        "wrong": wrong,
    }
    return render(request, "notifications/question.html", context, status=422 if wrong else 200)


@api_view("POST")
def job_answer(request: HttpRequest, id: UUID, wait: UUID) -> HttpResponse:
    """Answer a question that the user was asked.

    404 if there is none, 409 if it was answered before, 410 if it has expired or its job was cancelled, 422 for a value
    that is none of its choices.
    """
    body = parse_json_object(request)
    try:
        question = answering.answer(
            id,
            wait,
            body.get("value", request.GET.get("value")),
            user=request.user,
            using=_browser_of(request),
        )
    except answering.QuestionNotFound as exc:
        raise Problem(404, "The question does not exist, or you were not asked.") from exc
    except answering.QuestionEnded as exc:
        status = 409 if exc.wait.how == Wait.How.ANSWERED else 410
        raise Problem(status, describe_end_in_words(exc.wait)) from exc
    except answering.WrongChoice as exc:
        raise Problem(422, str(exc), field="value") from exc
    _log_answer_of_staff(request.user, question)
    ended = describe_end(question, question.ended_by_name)
    item = {"id": str(question.id), "name": question.name, "ended": ended}
    return prevent_caching(HttpResponse(serializers.encode(item), content_type="application/json"))


def describe_end_in_words(wait: Wait) -> str:
    """Return a sentence such as "Ada answered Ship, 14:05, in Firefox", "" for an open question."""
    if wait.ended_at is None:
        return ""
    if wait.how == Wait.How.EXPIRED:
        return gettext("The question has expired. Nobody answered in time.")
    if wait.how != Wait.How.ANSWERED:
        return gettext("The job was canceled, so there is nothing to answer.")
    end: dict[str, Any] = describe_end(wait, answering.name_of_answerer(wait)) or {}
    values = {
        "name": end["by"] or gettext("Staff"),
        "answer": end["label"],
        "time": date_format(timezone.template_localtime(wait.ended_at), "DATETIME_FORMAT"),
        "place": end["with"] or "",
    }
    if values["place"]:
        return gettext("{name} answered {answer}, {time}, {place}").format(**values)
    return gettext("{name} answered {answer}, {time}").format(**values)


def _answer_on_page(request: HttpRequest, job: UUID, id: UUID, value: Any) -> str:
    """Answer a question, unless it has ended. Returns what is wrong with the answer. Raises ``QuestionNotFound``."""
    try:
        _log_answer_of_staff(
            request.user, answering.answer(job, id, value, user=request.user, using=_browser_of(request))
        )
    except answering.QuestionEnded:
        pass  # the page shows how
    except answering.WrongChoice:
        return gettext("Choose one of the answers.")
    return ""


def _log_answer_of_staff(user: Any, question: Wait) -> None:
    """Add an answer to the log of the admin if its user was not asked, but may answer all questions."""
    if str(user.pk) in json.loads(question.details)["to"] or not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import CHANGE, LogEntry

    end: dict[str, Any] = describe_end(question, "") or {}
    text = gettext("Answered “{question}” by “{answer}”.").format(
        question=question.title, answer=end["label"]
    )
    try:
        job = Job.objects.using(database()).only("id", "title").get(id=question.job)
        LogEntry.objects.log_actions(user.pk, [job], CHANGE, text)  # type: ignore[arg-type]
    except Exception:  # the answer is stored; the log may be in another database
        logger.exception("Could not log the answer of staff to the question %s", question.id)


def _browser_of(request: HttpRequest) -> str:
    return str(describe_browser(header(request, "User-Agent")))
