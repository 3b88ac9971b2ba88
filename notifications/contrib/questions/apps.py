"""Questions: a job asks a person, and waits for the first answer.

asking                  the verbs of tasks, such as ``aquestion()``
models                  a question: a row of the core's table of waits
addressees              whom a question asks, and who may answer it now
question_texts          the texts of a question in the languages of those who are asked
question_notifications  the notification of each of those who are asked, from the question to its end
question_facts          what pages, e-mails and push messages say of a question, and who has answered
reminders               reminders, and who is asked when rights have changed while a job waits
answers                 the functions by which code of a project answers, such as ``answer()``
answering               stores the first answer, and queues the job
answer_forms            answers by a Django form of the project
urls, views             the page and the API of answers, and what the page of the job shows of a question
commands                ``jobs answer``
testing                 ``answer_question()``
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from notifications.extension import Extension, JobSection, WaitKind, import_later

if TYPE_CHECKING:
    from notifications.models import Wait


class QuestionKind(WaitKind):
    """Each of those who are asked has a notification of the question, which is closed with it."""

    kind, label = "question", _("Question")

    opened = import_later("question_notifications.open_notifications")
    ended = import_later("question_notifications.close_notifications")
    page = import_later("question_notifications.question_page")
    answer_path = import_later("question_notifications.answer_path")
    describe_ends = import_later("question_facts.describe_ends")
    remind = import_later("reminders.remind_of_due")

    def notification_ids(self, wait: Wait) -> list[UUID]:
        return [UUID(id) for id in json.loads(wait.details)["notifications"]]

    def is_shown_to(self, wait: Wait, user: Any) -> bool:
        return str(user) in json.loads(wait.details)["to"]


class QuestionSection(JobSection):
    """The first question that a job waits for and its owner may answer."""

    name = "question"
    page_template = "notifications/job_question.html"
    is_in_pane = False

    page_context = import_later("views.describe_open_question")


class Questions(Extension):
    name = "notifications.contrib.questions"
    label = "notifications_questions"
    verbose_name = _("Questions")
    wait_kinds = (QuestionKind(),)
    job_sections = (QuestionSection(),)
    subcommands: ClassVar[dict[str, str]] = {
        "jobs answer": "notifications.contrib.questions.commands.AnswerCommand",
    }

    duties = import_later("reminders.make_duties")
    may_follow = import_later("answering.may_follow")
    parts_of = import_later("question_facts.facts_of", rows_with="open_question")
    events_of = import_later("question_facts.describe_events")
