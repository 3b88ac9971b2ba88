"""Questions: a job asks a person, and waits for the first answer.

asking                  the verbs of tasks, such as ``aquestion()``
models                  a question: a row of the core's table of waits
addressees              whom a question asks, and who may answer it now
question_notifications  the notification of each of those who are asked, from the question to its end
reminders               reminders, and who is asked when rights have changed while a job waits
answering               stores the first answer, and queues the job
answer_forms            answers by a Django form of the project
urls, views             the page and the API of answers
page_parts              what that page and the page of the job show
commands                ``jobs answer``
testing                 ``answer_question()``
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, JobSection, WaitKind

if TYPE_CHECKING:
    from django.http import HttpRequest

    from notifications.models import Job, Notification, Wait
    from notifications.upkeep import Duty, Upkeep


class QuestionKind(WaitKind):
    """Each of those who are asked has a notification of the question, which is closed with it."""

    kind = "question"

    def opened(self, waits: Sequence[Wait], jobs: Mapping[UUID, Job]) -> Sequence[Notification]:
        from notifications.contrib.questions.question_notifications import open_notifications

        return open_notifications(waits, jobs)  # type: ignore[arg-type]  # as the verbs have made them

    def ended(self, waits: Sequence[Wait]) -> set[Any]:
        from notifications.contrib.questions.question_notifications import close_notifications

        return close_notifications(waits)

    def count_notifications(self, wait: Wait) -> int:
        return len(json.loads(wait.details)["notifications"])

    def is_shown_to(self, wait: Wait, user: Any) -> bool:
        return str(user) in json.loads(wait.details)["to"]

    def page(self, job: UUID, id: UUID) -> str:
        from notifications.contrib.questions.question_notifications import question_page

        return question_page(job, id)

    def answer_path(self, job: UUID, id: UUID) -> str | None:
        from notifications.contrib.questions.question_notifications import answer_path

        return answer_path(job, id)

    def remind(self) -> None:
        from notifications.contrib.questions.reminders import remind_of_due

        remind_of_due()


class QuestionSection(JobSection):
    """The first question that a job waits for and its owner may answer."""

    name = "question"
    page_template = "notifications/job_question.html"
    is_in_pane = False

    def page_context(self, job: Job, request: HttpRequest) -> dict[str, Any]:
        from notifications.contrib.questions.page_parts import describe_open_question

        return describe_open_question(job, request.user)


class Questions(Extension):
    name = "notifications.contrib.questions"
    label = "notifications_questions"
    verbose_name = _("Questions")
    wait_kinds = (QuestionKind(),)
    job_sections = (QuestionSection(),)
    subcommands: ClassVar[dict[str, str]] = {
        "jobs answer": "notifications.contrib.questions.commands.AnswerCommand",
    }

    def duties(self, process: Upkeep) -> Iterable[Duty]:
        from notifications.contrib.questions import reminders
        from notifications.upkeep import Duty, Search, run_all

        start, remind = process.project_threads.start, partial(run_all, reminders.remind_of_due)
        update = partial(run_all, Search(reminders.update_addressees).run_chunk)
        return [
            Duty(
                "remind of open questions",
                0,
                lambda: start(remind, "Could not remind of open questions"),
                is_for_each_process=True,
                condition=reminders.due_condition,
            ),
            Duty(
                "update who is asked open questions",
                reminders.CHECK_INTERVAL_SECONDS,
                lambda: start(update, "Could not update who is asked open questions"),
            ),
        ]

    def may_follow(self, job: UUID, user: Any) -> bool:
        """A job may ask about what it has written."""
        from notifications.contrib.questions.answering import find_open_question

        return find_open_question(job, user) is not None
