"""``jobs answer``: answer a question of a job."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from notifications.contrib.questions import answer_forms, answering
from notifications.contrib.questions.models import AskedQuestion
from notifications.db import database
from notifications.exceptions import QuestionDoesNotExist, QuestionEnded
from notifications.management import ManagementCommand


class AnswerCommand(ManagementCommand):
    help = "answer a question of a waiting job"
    examples = ("answer 01a1f8f2-ae7a-7f43-862b-61a65fab0c49 yes",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", type=self.job_id)
        help_text = "the value of one of its choices, or the fields of its form as a JSON object"
        parser.add_argument("choice", help=help_text)
        parser.add_argument("--name", help="the name of the question, if several are open")

    def handle(self, *args: Any, id: UUID, choice: str, name: str | None, **options: Any) -> None:
        answered = answer(id, choice, name)
        self.report(options, f"{id} {answered}: {choice}", id=str(id), name=answered, value=choice)


def answer(job: UUID, value: str, name: str | None) -> str:
    """Answer the open question of a job, that of a name if there are several. Returns its name.

    Raises CommandError.
    """
    rows = AskedQuestion.objects.using(database()).filter(job=job, ended_at=None)
    questions = {wait.name: wait for wait in rows.order_by("name")}
    listed = ", ".join(questions)
    if not questions or (name is not None and name not in questions):
        raise CommandError(
            f"The job {job} has no such open question.{f' Open: {listed}.' if questions else ''}"
        )
    if name is None and len(questions) > 1:
        raise CommandError(f"The job {job} has {len(questions)} open questions. Add --name: {listed}.")
    wait = questions[name or listed]
    try:
        given = _parse_fields(value) if json.loads(wait.details).get("form") else value
        answering.store_answer(wait, given, user=None, by_staff=True, via="manage.py")
    except answer_forms.WrongFields as exc:
        listed = " ".join(f"{field}: {' '.join(problems)}" for field, problems in exc.message_dict.items())
        raise CommandError(f"The form has refused the answer. {listed}") from exc
    except ValidationError as exc:
        raise CommandError(exc.message) from exc
    except answer_forms.FormUnavailable as exc:
        raise CommandError(str(exc)) from exc
    except (QuestionEnded, QuestionDoesNotExist) as exc:
        raise CommandError("The question has ended meanwhile, so the answer was not stored.") from exc
    return wait.name


def _parse_fields(text: str) -> dict[str, object]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise CommandError("The question has a form. Pass its fields as a JSON object, as '{\"amount\": 5}'.")
    return fields
