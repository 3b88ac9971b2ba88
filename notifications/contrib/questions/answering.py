"""Answer the questions of jobs: the first answer counts, and queues its job."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model

from notifications.contrib.questions import answer_forms
from notifications.contrib.questions.addressees import may_answer
from notifications.contrib.questions.models import AskedQuestion
from notifications.db.bulk import lock_query
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.notifying import prepare_hooks
from notifications.jobs.transitions.conditional_updates import limit_lock_wait
from notifications.jobs.transitions.waiting import end_waits
from notifications.jobs.users import read_user
from notifications.models import Job, Wait

#: Characters of the name of who has answered.
MAX_NAME_LENGTH = 60


class QuestionNotFound(Exception):
    """There is no such question, or the user may not answer it."""


class QuestionEnded(Exception):
    """The question was answered before, has expired, or its job was cancelled. ``wait`` is its row."""

    def __init__(self, wait: AskedQuestion) -> None:
        super().__init__(wait.how)
        self.wait = wait


class WrongChoice(ValueError):
    """The value is none of the choices of the question, or not what its form has made of an answer."""


@dataclass(frozen=True, slots=True)
class CleanedFields:
    """What the form of a question has made of an answer."""

    json: str


def answer(
    job: UUID, id: UUID, value: Any, *, user: Any, by_staff: bool = False, using: str = ""
) -> AskedQuestion:
    """Store the first answer to a question, close its notifications, and queue its job if it waits for nothing else.

    ``user``
        Who answers, None for a command, which passes ``by_staff``.
    ``by_staff``
        The caller has checked that any question may be answered.
    ``using``
        The browser or command, of at most 100 characters.
    ``value``
        One of the choices. Of a question with a form the answer as JSON, by ``check_value()``.

    Returns the question. Raises ``QuestionNotFound``, ``QuestionEnded`` and ``WrongChoice``.
    """
    # The project's code is not called in the transaction: backends and managers find permissions and groups.
    name = name_of(user)
    asked = _read_question(job, id)
    if not by_staff and (asked is None or not _may_still_answer(asked, user)):
        raise QuestionNotFound

    def write() -> AskedQuestion:
        limit_lock_wait()
        # Whatever the state of the job: one that is being suspended must see this end, or this must see it wait.
        lock_query(Job.objects.using(database()).filter(id=job).only("id"), skip_locked=False).first()
        wait = _read_question(job, id)
        if wait is None:
            raise QuestionNotFound
        if wait.ended_at is not None:
            raise QuestionEnded(wait)
        encoded = _encode(value, json.loads(wait.details))
        now = database_now()
        wait.how = Wait.How.ANSWERED
        if wait.due_at is not None and wait.due_at <= now:  # the duty that ends it has not come to it yet
            wait.how = Wait.How.EXPIRED
            end_waits([wait], now)
            return wait
        wait.value, wait.ended_with = encoded, using[:100]
        wait.ended_by_id = None if user is None else user.pk
        wait.ended_by_name = name
        end_waits([wait], now)
        return wait

    prepare_hooks()  # a handler of the answer may be imported
    wait = retrying_atomic(write)
    if wait.how != Wait.How.ANSWERED:
        raise QuestionEnded(wait)
    return wait


def check_value(wait: AskedQuestion, value: Any) -> Any:
    """Return the value with which ``answer()`` is called, outside of a transaction: a form is the project's code.

    ``value``
        One of the choices, or the fields of the form.

    Raises ``answer_forms.WrongFields``, ``answer_forms.FormUnavailable`` and ``WrongChoice``.
    """
    if not (path := json.loads(wait.details).get("form")) or wait.ended_at is not None:
        return value
    if not isinstance(value, Mapping):
        raise WrongChoice("The answer must be an object with the fields of the form.")
    try:
        return CleanedFields(answer_forms.clean(path, value))
    except answer_forms.WrongFields:
        raise
    except ValueError as exc:
        raise WrongChoice(str(exc)) from exc


def find_question(job: UUID, id: UUID, user: Any) -> AskedQuestion:
    """Return a question that a user may answer, or might if it had not ended. Raises ``QuestionNotFound``."""
    wait = _read_question(job, id)
    if wait is None or not may_answer(wait.addressees, user):
        raise QuestionNotFound
    return wait


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


def name_of(user: Any) -> str:
    """Return the full name of a user, or else the username; "" without a user."""
    if user is None:
        return ""
    full_name = user.get_full_name() if hasattr(user, "get_full_name") else ""
    name: str = full_name.strip() or user.get_username()
    return name.replace("\0", "")[:MAX_NAME_LENGTH]


def name_of_answerer(wait: Wait) -> str:
    """Return the name of who has answered a question, "" if it was nobody or the user is gone."""
    if wait.ended_by_id is None:
        return ""
    return name_of(get_user_model()._base_manager.filter(pk=wait.ended_by_id).first())


def _encode(value: Any, details: dict[str, Any]) -> str:
    """Return an answer as JSON. Raises ``WrongChoice``."""
    if details.get("form"):
        if not isinstance(value, CleanedFields):
            raise WrongChoice("The question is answered by the fields of its form.")
        return value.json
    choices = details["choices"]
    if not isinstance(value, str) or value not in choices:
        raise WrongChoice(f"value must be one of {', '.join(map(repr, choices))}.")
    return json.dumps(value, ensure_ascii=False)


def _read_question(job: UUID, id: UUID) -> AskedQuestion | None:
    return AskedQuestion.objects.using(database()).filter(id=id, job=job).first()


def _may_still_answer(wait: AskedQuestion, user: Any) -> bool:
    """Return whether a user may answer now: since the user was read, a form may have been validated for a long time."""
    present = read_user(user.pk)
    return present is not None and may_answer(wait.addressees, present)
