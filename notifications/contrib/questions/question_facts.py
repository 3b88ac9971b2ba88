"""What is said of a question besides its texts: its job, until when it can be answered, by whom, and who has answered.

The page of the question, that of its notification, e-mails and push messages say the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models.functions import Coalesce
from django.utils.translation import gettext, ngettext

from notifications import times
from notifications.contrib.questions.addressees import may_answer, name_of
from notifications.contrib.questions.answering import find_users
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.question_notifications import describe_end_in_words
from notifications.db import database
from notifications.extension import Event, Fact, hooks
from notifications.http import read_data
from notifications.inbox import job_path
from notifications.jobs.step_list import read_steps
from notifications.models import Job, Notification, Wait

#: Names of others who are asked, and steps of the job in an e-mail, the last ones.
MAX_NAMES, MAX_STEPS = 3, 10
JOB_COLUMNS = (
    "id",
    "user",
    "title",
    "started_at",
    "progress_current",
    "progress_total",
    "progress_message",
)


def facts_of(rows: Sequence[Notification], reader: Any, place: str) -> dict[UUID, list[Fact]]:
    """See ``Extension.parts_of()``. Nothing once a question has ended, or the reader may not answer it any more."""
    if place == "list":
        return {}
    return {row.pk: _facts_of(row, reader, in_full=place == "email") for row in rows}


def _facts_of(row: Notification, reader: Any, *, in_full: bool) -> list[Fact]:
    rows = AskedQuestion.objects.using(database()).filter(id=row.open_question, ended_at=None)
    if (question := rows.first()) is None or not may_answer(question.addressees, reader):
        return []
    job = read_asking_job(question)
    facts = describe_question(question, job, reader, with_link=in_full)
    if job and in_full:
        steps = list_done_steps(job, reader)[-MAX_STEPS:]
        if steps:
            facts.append(Fact(gettext("Steps"), "\n".join(step.name for step in steps)))
        facts += [fact for section in hooks.job_sections if (fact := section.message_fact(job))]
    return facts


def read_asking_job(question: AskedQuestion) -> Job | None:
    """Return the job that asks, with what its addressees may see of it. See ``find_open_question()``."""
    return Job.objects.using(database()).only(*JOB_COLUMNS).filter(pk=question.job).first()


def find_notification(question: AskedQuestion, reader: Any) -> Notification | None:
    """Return the newest notification of a question that its reader has; None for staff who were not asked."""
    rows = Notification.objects.using(database()).filter(id__in=json.loads(question.details)["notifications"])
    # By the primary key: beside an indexed condition on the user, the whole inbox may be read.
    own = rows.alias(owner=Coalesce("user_id", "user_id")).filter(owner=reader.pk)
    return own.order_by("raised").last()


def describe_question(
    question: AskedQuestion, job: Job | None, reader: Any, *, with_link: bool = True
) -> list[Fact]:
    """Return the facts of a question for one of those who may answer it, without the steps and output of its job.

    ``with_link``
        With the link to what it is about. Push messages have no links, and pages of notifications have it as an action.
    """
    details = json.loads(question.details)
    facts = [] if job is None else describe_job(job, reader)
    if with_link and (url := details.get("url")):
        facts.insert(0, Fact(gettext("About"), gettext("View details"), url=url))
    if question.due_at:
        until = times.format_short(question.due_at)
        facts.append(Fact(gettext("Answer until"), until, at=times.as_utc(question.due_at)))
    if expiry := _describe_expiry(question, details):
        facts.append(Fact(gettext("Without an answer"), expiry))
    if names := _name_others(details["to"], reader):
        is_asked = str(reader.pk) in details["to"]
        facts.append(Fact(gettext("Also asked") if is_asked else gettext("Asked"), names))
    return facts


def describe_job(job: Job, reader: Any) -> list[Fact]:
    """Return the facts of the job that asks: its title, with a link for its owner, and its progress."""
    page = job_path(job.id) if job.user_id == reader.pk else ""
    return [Fact(gettext("Job"), job.title, url=page or ""), *describe_progress(job)]


def describe_progress(job: Job) -> list[Fact]:
    """Return the fact of how far a job is, none if it has not said so."""
    progress = job.progress_message
    if job.progress_total:
        values = {"current": job.progress_current or 0, "total": job.progress_total}
        progress = " · ".join(filter(None, (progress, gettext("{current} of {total}").format(**values))))
    return [Fact(gettext("Progress"), progress)] if progress else []


def list_done_steps(job: Job, reader: Any) -> list[Any]:
    """Return the steps of a job that are done, for its owner: others do not see them."""
    if job.user_id != reader.pk:
        return []
    steps = read_steps(job, with_results=False, reader=reader.pk, with_unfinished=False).first
    return [step for step in steps if step.took is not None]


def describe_ends(waits: Sequence[Wait], reader: Any) -> dict[UUID, str]:
    """See ``WaitKind.describe_ends()``. Not what was answered, which may be a secret of the job."""
    answered = [wait for wait in waits if wait.how == Wait.How.ANSWERED]
    expired = dict.fromkeys(
        (wait.id for wait in waits if wait.how == Wait.How.EXPIRED), gettext("No answer in time")
    )
    names = _read_names([wait.ended_by_id for wait in answered])
    return expired | {
        wait.id: gettext("You answered")
        if reader is not None and wait.ended_by_id == reader
        else gettext("{name} answered").format(name=names.get(wait.ended_by_id) or gettext("Staff"))
        for wait in answered
    }


def describe_events(subject: Job | Notification, reader: Any) -> Iterator[Event]:
    """See ``Extension.events_of()``: how the question of a notification has ended."""
    about = read_data(subject).get("question") if isinstance(subject, Notification) else None
    if not isinstance(about, dict) or not isinstance(ended := about.get("ended"), dict):
        return
    if ended.get("how") == "withdrawn":  # its user is not told who has answered
        return
    rows = AskedQuestion.objects.using(database()).filter(job=subject.job, ended_at__isnull=False)
    for question in rows.filter(name=str(about.get("name"))):
        name = _read_names([question.ended_by_id]).get(question.ended_by_id, "")
        more = [question.ended_with]
        texts = [describe_end_in_words(question, name, is_own=is_own, more=more) for is_own in (False, True)]
        yield Event(question.ended_at, texts[0], marks_read=True, by=question.ended_by_id, own_text=texts[1])


def _describe_expiry(question: AskedQuestion, details: Mapping[str, Any]) -> str:
    if question.due_at is None:
        return gettext("The job waits, without a time limit.")
    if (default := details["default"]) is None:
        return gettext("The question expires, and the job may fail.")
    if default:
        return gettext("The job goes on with “{answer}”.").format(answer=default)
    return gettext("The job goes on with its default.")


def _name_others(keys: Sequence[str], reader: Any) -> str:
    """Return a few names of those who are asked besides a reader, and the number of the others; "" if nobody is."""
    others = [key for key in keys if key != str(reader.pk)]
    names = list(_read_names(others[:MAX_NAMES]).values())
    if not names:
        return ""
    listed, more = ", ".join(names), len(others) - len(names)
    if more <= 0:
        return listed
    text = ngettext("{names} and {count} other", "{names} and {count} others", more)
    return text.format(names=listed, count=more)


def _read_names(keys: Collection[Any]) -> dict[Any, str]:
    """Return the names of users by their keys. See ``find_users()``."""
    return {key: name_of(user) for key, user in find_users(keys).items()}
