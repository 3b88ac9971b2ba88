"""The public functions by which code of a project answers questions, as in a view, a chat or inbound mail.

No model is imported at the top: modules of tasks may be imported before the models are ready.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications.db import app_sync_to_async, user_keys_of
from notifications.exceptions import QuestionDoesNotExist

if TYPE_CHECKING:
    from notifications.contrib.questions.models import AskedQuestion
    from notifications.models import Wait


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The answer to a question: what ``question(details=True)`` returns.

    ``value``
        The value that was chosen, or the ``cleaned_data`` of the form.
    ``user``
        Who has answered. None for a command, for the ``default``, and once the user is deleted.
    ``answered_at``
        An aware datetime in UTC, None for the ``default``.
    ``via``
        How it was given: the browser, such as ``"Firefox on Linux"``, another client, such as ``"curl"``,
        ``"manage.py"``, or what was passed to ``answer()``; ``""`` if that is unknown.
    """

    value: Any
    user: Any
    answered_at: datetime | None
    via: str


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionInfo:
    """An open question as it was when it was read. It does not follow later changes.

    ``job_id``, ``name``
        The job that asks, a UUID, and the name of the question in it: what ``answer()`` takes.
    ``title``, ``body``, ``danger``, ``url``
        As they were passed to ``question()``.
    ``choices``
        The labels by value, None for a question that is answered by a form.
    ``form``
        The import path of the form, or ``""``.
    ``initial``
        The first values of its fields as JSON has them: dates and decimals as text, model instances as keys.
    ``page``
        The path of the question's page, ``""`` if the project does not include the app's URLs.
    ``created_at``, ``expires_at``
        Aware datetimes in UTC. ``expires_at`` is None without a limit.
    """

    job_id: UUID
    name: str
    title: str
    body: str
    choices: dict[str, str] | None
    danger: list[str]
    url: str
    form: str
    initial: dict[str, Any]
    page: str
    created_at: datetime
    expires_at: datetime | None


def answer(job: Any, name: str, value: Any, *, user: Any, via: str = "") -> Answer:
    """Answer a question of a job for a user, as the page of the question does. Return the answer as it is stored.

    ::

        answer(job_id, "ship", "yes", user=request.user)

    ``job``
        Its id, a ``JobInfo``, or what ``enqueue`` returned.
    ``name``
        The name of the question, as it was passed to ``question()``.
    ``value``
        The value of one of the choices, or the fields of the form, a dict or ``request.POST``.
    ``user``
        Who answers, a user or primary key.
    ``via``
        How, of which the first 100 characters are stored and shown with the answer: ``"Slack"``.

    The first answer counts. Raises ``QuestionEnded`` of ``notifications.exceptions`` if there is one already, the
    question has expired or its job was cancelled, and ``QuestionDoesNotExist`` without such a question. Raises
    ``PermissionDenied`` of ``django.core.exceptions`` if the user is not active, was not asked and does not have the
    permission ``notifications_questions.answer_question``; ``ValidationError`` of the same module for a value that is
    none of the choices, or with the errors of the form (``message_dict``); RuntimeError if the form has failed, which
    the log says; ValueError for a user who is not saved; TypeError. A transaction of the caller includes it.
    """
    from notifications.contrib.questions import answering
    from notifications.contrib.questions.addressees import read_user

    [key] = user_keys_of([user])
    present = read_user(key)
    question = answering.find_question(present, job=_job_id(job, name), name=name)
    return describe_answer(answering.store_answer(question, value, user=present, via=via), present)


async def aanswer(job: Any, name: str, value: Any, *, user: Any, via: str = "") -> Answer:
    """See answer()."""
    return await app_sync_to_async(answer)(job, name, value, user=user, via=via)


def open_questions(user: Any, *, limit: int = 100) -> list[QuestionInfo]:
    """Return the newest open questions that ask a user (or primary key), newest first, at most ``limit``.

    These are the questions of the user's inbox that the user may still answer. Those that a user may only answer by the
    permission ``notifications_questions.answer_question`` are not included.
    """
    from notifications.contrib.questions import answering

    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit is {limit!r}. It must be an integer of 1 or more.")
    [key] = user_keys_of([user])
    return [_info(question) for question in answering.read_open_questions(key, limit)]


async def aopen_questions(user: Any, *, limit: int = 100) -> list[QuestionInfo]:
    """See open_questions()."""
    return await app_sync_to_async(open_questions)(user, limit=limit)


def describe_answer(question: Wait, user: Any) -> Answer:
    """Return the answer to a question that has one, of a user who may be deleted."""
    return Answer(
        value=json.loads(question.value or "null"),
        user=user,
        answered_at=question.ended_at,
        via=question.ended_with,
    )


def _job_id(job: Any, name: str) -> UUID:
    value = getattr(job, "id", job)
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{job!r} is no job. Pass its id, a JobInfo, or what enqueue() returned.")
    try:
        return UUID(value)
    except ValueError:
        raise QuestionDoesNotExist(value, name) from None


def _info(question: AskedQuestion) -> QuestionInfo:
    from notifications.contrib.questions.question_notifications import question_page
    from notifications.contrib.questions.question_texts import read_details

    details = read_details(question)
    form = details.get("form", "")
    return QuestionInfo(
        job_id=question.job,
        name=question.name,
        title=details.get("title", question.title),
        body=details["body"],
        choices=None if form else details["choices"],
        danger=details.get("danger", []),
        url=details.get("url", ""),
        form=form,
        initial=details.get("initial", {}),
        page=question_page(question.job, question.id),
        created_at=question.created_at,
        expires_at=question.due_at,
    )
