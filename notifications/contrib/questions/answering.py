"""Answer the questions of jobs: the first answer counts, and queues its job."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.utils.translation import gettext

from notifications import times
from notifications.contrib.questions import answer_forms
from notifications.contrib.questions.addressees import ANSWER_PERMISSION, may_answer, name_of, read_user
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.question_notifications import describe_end_in_words
from notifications.db import database
from notifications.exceptions import QuestionDoesNotExist, QuestionEnded
from notifications.jobs import end_stored
from notifications.models import Notification, Wait


def store_answer(
    question: AskedQuestion, value: Any, *, user: Any, by_staff: bool = False, via: str = ""
) -> AskedQuestion:
    """Store the first answer to a question, close its notifications, and queue its job if it waits for nothing else.

    ``value``
        One of the choices, or the fields of the form.
    ``user``
        Who answers, None for a command, which passes ``by_staff``.
    ``by_staff``
        The caller has checked that any question may be answered.
    ``via``
        The browser, client or command, of which 100 characters are stored.

    Returns the question as it is stored. Raises ``PermissionDenied``, ``ValidationError``, ``QuestionEnded``,
    ``QuestionDoesNotExist`` if its job was retried meanwhile, and ``answer_forms.FormUnavailable``.
    """
    encoded = _encode(json.loads(question.details), value) if question.ended_at is None else ""
    if not by_staff and not _may_still_answer(question, user):
        raise _refusal(question)
    rows = AskedQuestion.objects.using(database()).filter(id=question.id)
    name = name_of(user)  # the project's code is not called in the transaction
    wait, is_stored = end_stored(
        question.job, rows, how="answered", value=encoded, user=user, user_name=name, via=via
    )
    if wait is None:
        raise QuestionDoesNotExist(question.job, question.name)
    if not is_stored:
        raise QuestionEnded(describe_end_to(wait, user), wait.how)
    return wait


def find_question(user: Any, **lookup: Any) -> AskedQuestion:
    """Return a question that a user may answer, or might if it had not ended.

    ``lookup``
        ``job``, and ``id`` or ``name``.

    Raises ``QuestionDoesNotExist`` and ``PermissionDenied``.
    """
    question = AskedQuestion.objects.using(database()).filter(**lookup).first()
    if question is None:
        raise QuestionDoesNotExist(lookup["job"], lookup.get("name", lookup.get("id")))
    if user is None or not may_answer(question.addressees, user):
        raise _refusal(question)
    return question


def read_open_questions(key: Any, limit: int) -> list[AskedQuestion]:
    """Return the newest open questions that ask a user (key) who may answer them, at most ``limit``."""
    if (user := read_user(key)) is None:
        return []
    asked = Notification.objects.using(database()).filter(user=key, open_question__isnull=False)
    rows = AskedQuestion.objects.using(database()).filter(id__in=asked.values("open_question"), ended_at=None)
    allowed: dict[str, bool] = {}  # by whom they ask: most ask the same users
    found: list[AskedQuestion] = []
    page = list(rows.order_by("-id")[:limit])
    while True:
        for question in page:
            to = json.dumps(question.addressees)
            if to not in allowed:
                allowed[to] = may_answer(question.addressees, user)
            if allowed[to]:
                found.append(question)
        if len(found) >= limit or len(page) < limit:
            return found[:limit]
        page = list(rows.filter(id__lt=page[-1].id).order_by("-id")[:limit])


def find_open_question(job: UUID, user: Any) -> AskedQuestion | None:
    """Return the first open question of a job that a user may answer, None without one.

    While there is one, the user may see the title, the progress and the output of the job, but not its arguments, steps
    and result: a job may ask about what it has written.
    """
    rows = AskedQuestion.objects.using(database()).filter(job=job, ended_at=None).order_by("id")
    return next((question for question in rows if may_answer(question.addressees, user)), None)


def may_follow(job: UUID, user: Any) -> bool:
    """Return whether a user may see what a job has written, because it asks the user. See ``find_open_question()``."""
    return find_open_question(job, user) is not None


def find_users(keys: Collection[Any]) -> dict[Any, Any]:
    """Return users by their keys, active or not, without a query if there are no keys. None is left out."""
    wanted = set(keys) - {None}
    users = get_user_model()._base_manager.filter(pk__in=wanted).order_by("pk") if wanted else ()
    return {user.pk: user for user in users}


def read_name_of_answerer(question: Wait) -> str:
    """Return the name of who has answered a question, "" if it was nobody or the user is deleted."""
    return name_of(find_users([question.ended_by_id]).get(question.ended_by_id))


def describe_end_to(question: Wait, reader: Any, *, with_time: bool = True) -> str:
    """Return a sentence such as "Ada answered “Ship”, 14:05, Firefox on Linux.", "" for an open question.

    ``reader``
        The user who reads it, None for the output of a command.
    ``with_time``
        Pages show the time beside it, in the time zone of the browser.
    """
    if question.ended_at is None:
        return ""
    is_own = reader is not None and question.ended_by_id == reader.pk
    name = read_name_of_answerer(question)
    time = times.format_short(question.ended_at) if with_time else ""
    return describe_end_in_words(question, name, is_own=is_own, more=(time, question.ended_with))


def describe_finish(question: Wait, owner: Any) -> str:
    """Return what the owner (key) reads when a job has succeeded that has asked, unless its task says what came of it.

    "Succeeded." would be odd after a "No". What others have answered may be a secret of the job.
    """
    is_own = question.ended_by_id == owner
    is_told = is_own or question.how == Wait.How.EXPIRED
    end = describe_end_in_words(question, "", is_own=is_own) if is_told else ""
    return " ".join(filter(None, (gettext("Finished."), end)))


def _encode(details: Mapping[str, Any], value: Any) -> str:
    """Return an answer as JSON. See ``store_answer()`` for what it raises."""
    if path := details.get("form"):
        if not isinstance(value, Mapping):
            raise ValidationError("The answer must be an object with the fields of the form.")
        return answer_forms.clean(path, value)
    choices = details["choices"]
    if not isinstance(value, str) or value not in choices:
        raise ValidationError(f"value must be one of {', '.join(map(repr, choices))}.")
    return json.dumps(value, ensure_ascii=False)


def _refusal(question: AskedQuestion) -> PermissionDenied:
    return PermissionDenied(
        f"The user was not asked {question.name!r}, or may not answer it any more. Pass one who was asked, or give the "
        f"user the permission {ANSWER_PERMISSION}."
    )


def _may_still_answer(wait: AskedQuestion, user: Any) -> bool:
    """Return whether a user may answer now: since the user was read, a form may have been validated for a long time."""
    present = read_user(user.pk)
    return present is not None and may_answer(wait.addressees, present)
