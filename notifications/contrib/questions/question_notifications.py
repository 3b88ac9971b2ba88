"""The notifications of questions: one for each addressee, stored with the question and closed with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils import translation
from django.utils.translation import gettext, gettext_lazy

from notifications import times, validators
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.question_texts import in_language_of, localize, read_details
from notifications.db import database, database_now, fair_atomic, lock_query, read_ids
from notifications.inbox import job_path
from notifications.jobs.notifying import number, record_change
from notifications.jobs.transitions.waiting import insert_notifications_of
from notifications.models import Job, Notification, Wait
from notifications.streams import build_notification

#: Bytes that stay free in the data of a notification for who answered, when and how.
RESERVED_BYTES = 1_024
#: Notifications that one transaction closes.
MAX_CLOSED_AT_ONCE = 100
#: The key of the notifications of a question, by which a reminder replaces the earlier one.
KEY = "question:{}"


def question_page(job: UUID, id: UUID) -> str:
    """Return the path of a question's page, ``""`` if the project does not include the app's URLs."""
    path = job_path(job)
    return f"{path}questions/{id}/" if path else ""


def answer_path(job: UUID, id: UUID) -> str | None:
    """Return the path of the API for the answer to a question, None if the project does not include it."""
    path = job_path(job, "api-job")
    return f"{path}answers/{id}/" if path else None


def build_notifications(
    wait: AskedQuestion, details: dict[str, Any], users: Sequence[Any], *, job_title: str = "", note: Any = ""
) -> None:
    """Set the unsaved notifications of a question for these users (keys), and its details.

    ``job_title``
        Their body, if the question has none.
    ``note``
        A first line of their body, which may be lazy.

    Raises ValueError if the choices do not fit into the data of a notification.
    """
    limit = validators.MAX_DATA_BYTES - RESERVED_BYTES

    def build(user: Any) -> Notification:
        with in_language_of(details, user):
            texts = localize(details)
            size = len(json.dumps(_make_data(wait, texts), ensure_ascii=False).encode())
            if size > limit:
                raise ValueError(
                    f"The choices have {size} bytes with their links. At most {limit} are allowed. Shorten them."
                )
            lines = (str(note), texts["body"] or job_title)
            return build_notification(
                user,
                texts.get("title", wait.title),
                body="\n".join(filter(None, lines))[: validators.MAX_BODY_LENGTH],
                url=question_page(wait.job, wait.id) or None,
                key=KEY.format(wait.id),
                job=wait.job,
            )

    wait.notifications = [build(user) for user in users]
    details = {
        **details,
        "to": [str(user) for user in users],
        "notifications": [str(row.id) for row in wait.notifications],
    }
    wait.details = json.dumps(details, ensure_ascii=False)


def open_notifications(waits: Sequence[AskedQuestion], jobs: Mapping[UUID, Job]) -> list[Notification]:
    """Return the unsaved notifications of new questions, whose jobs are given by their ids."""
    rows: list[Notification] = []
    for wait in waits:
        if not hasattr(wait, "notifications"):  # this was left out when it was stored
            asked, key = json.loads(wait.details), get_user_model()._meta.pk
            users = [key.to_python(user) for user in asked["to"]]
            build_notifications(wait, asked, users, job_title=jobs[wait.job].title)
        details = json.loads(wait.details)
        for row in wait.notifications:
            with translation.override(jobs[wait.job].language or None), in_language_of(details, row.user_id):
                data = json.dumps(_make_data(wait, localize(details)), ensure_ascii=False)
            row.data, row.open_question = data, wait.id
            rows.append(row)
    return rows


def change_addressees(
    wait: AskedQuestion, job: Job, users: Sequence[Any], now: datetime, *, is_reminder: bool
) -> set[Any]:
    """Ask an open question of these users (keys) from now on.

    Inside a transaction that holds the row of the job locked. Changes the details of the question, which the caller
    stores.

    ``is_reminder``
        All of them get a new notification, which archives their earlier one. Otherwise only those do who were not asked
        before. Those of users who are not asked any more are closed.

    Returns the keys of the users whose rows it then numbers.
    """
    details = json.loads(wait.details)
    current = set(users)
    rows = Notification.objects.using(database()).filter(id__in=details["notifications"])
    # Those that earlier reminders have replaced stay as they are: after ten reminders of 100 users they are 1,000.
    changing = rows.filter(Q(open_question__isnull=False) | ~Q(user__in=current))
    earlier = list(lock_query(changing.order_by("id").only("id", "user_id"), skip_locked=False))
    notified = [user for user in users if is_reminder or str(user) not in details["to"]]
    replaced = [row.id for row in earlier if row.user_id in current.intersection(notified)]
    # Without buttons, because the later one has them.
    plain = {key: value for key, value in _make_data(wait, details).items() if key != "actions"}
    rows.filter(id__in=replaced).update(
        open_question=None, data=json.dumps(plain, ensure_ascii=False), seq=None
    )
    withdrawn = {row.id: row.user_id for row in earlier if row.user_id not in current}
    with translation.override(job.language or None):
        if withdrawn:
            _withdraw(wait, details, list(withdrawn), now)
        note = gettext_lazy("Reminder: this question is still open.") if is_reminder else ""
        build_notifications(wait, details, notified, job_title=job.title, note=note)
    changed_users = insert_notifications_of([wait], [job], now)
    changed = json.loads(wait.details)
    changed["to"] = [str(user) for user in users]
    gone = set(map(str, withdrawn))
    changed["notifications"] += [id for id in details["notifications"] if id not in gone]
    wait.details = json.dumps(changed, ensure_ascii=False)
    return changed_users | set(withdrawn.values())


def _withdraw(wait: Wait, details: dict[str, Any], ids: Sequence[Any], now: datetime) -> None:
    """Close the notifications of users who may not answer an open question any more, nor be shown its answer."""
    ended = dict.fromkeys(("how", "at", "by", "with", "value", "label"))
    ended |= {"how": "withdrawn", "at": times.format_time(now)}
    body = "\n".join(filter(None, (gettext("You cannot answer this question any more."), details["body"])))
    Notification.objects.using(database()).filter(id__in=ids).update(
        data=json.dumps(_make_data(wait, details, ended), ensure_ascii=False),
        body=body[: validators.MAX_BODY_LENGTH],
        read_at=now,
        open_question=None,
        seq=None,
    )


def close_notifications(waits: Iterable[Wait]) -> set[Any]:
    """Mark the notifications of questions that have ended as read, and store in them how they ended.

    Inside the transaction that ends the questions, after their rows. Returns the keys of their users, whose rows it
    then numbers.
    """
    ids: dict[str, Wait] = {}
    for wait in waits:
        ids |= dict.fromkeys(json.loads(wait.details).get("notifications", []), wait)
    if not ids:
        return set()
    rows = Notification.objects.using(database()).filter(id__in=list(ids))
    # An UPDATE locks in no order, so the rows are locked first, by id.
    locked = list(lock_query(rows.order_by("id"), skip_locked=False))
    jobs = Job.objects.using(database()).filter(id__in={wait.job for wait in ids.values()})
    found = {job.id: job for job in jobs.only("id", "language", "task_path")}
    for wait in {wait.id: wait for wait in ids.values()}.values():
        details = json.loads(wait.details)
        job = found.get(wait.job)
        closed = [row for row in locked if ids[str(row.id)] is wait]
        # Those that a reminder has replaced show the end too, but were not what anybody has answered.
        answered = [row for row in closed if row.open_question]
        groups: dict[Any, list[Notification]] = {}
        for row in closed:
            # Who answers reads it in the language of the request.
            is_own = row.user_id == wait.ended_by_id
            language = None if is_own else details.get("languages", {}).get(str(row.user_id))
            groups.setdefault((is_own, language), []).append(row)
        for (is_own, language), readers in groups.items():
            language = language or (job and job.language) or None
            with nullcontext() if is_own else translation.override(language):
                texts = localize(details)
                end = describe_end_in_words(wait, wait.ended_by_name, is_own=is_own)
                data = json.dumps(_make_data(wait, texts), ensure_ascii=False)
            values = {
                "data": data,
                "body": "\n".join(filter(None, (end, texts["body"])))[: validators.MAX_BODY_LENGTH],
                "read_at": wait.ended_at,
                "open_question": None,
            }
            rows.filter(id__in=[row.id for row in readers]).update(**values, seq=None)
            for row in readers:
                for name, value in values.items():
                    setattr(row, name, value)
        if wait.how == Wait.How.ANSWERED and job:
            record_change("answered", answered, now=wait.ended_at, jobs={row.id: job for row in answered})
    return {row.user_id for row in locked}


def find_left_notifications() -> Iterator[UUID]:
    """Yield the ids of open notifications of questions that have ended, or whose job was deleted.

    The app was not installed then, or a user who owned the job of a question to others was deleted.
    """
    is_left = (
        "open_question IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM notifications_wait w WHERE w.id = open_question AND w.ended_at IS NULL)"
    )
    yield from read_ids(Notification, is_left, (), "open_question")


def close_left_notifications(ids: Sequence[UUID]) -> None:
    """Close notifications of questions that are not open any more."""
    fair_atomic(lambda: _close_left(ids), more_follows=True)


def _close_left(ids: Sequence[UUID]) -> None:
    rows = Notification.objects.using(database()).filter(open_question__isnull=False)
    waits = Wait.objects.using(database())
    locked = list(lock_query(rows.filter(id__in=ids).order_by("id"), skip_locked=False))
    ended = list(waits.filter(id__in=[row.open_question for row in locked]))
    close_notifications(ended)
    now = database_now()
    closed = {id for wait in ended for id in json.loads(wait.details).get("notifications", [])}
    for row in locked:
        if str(row.id) not in closed:
            data = json.loads(row.data)
            data.pop("actions", None)
            nothing = dict.fromkeys(("by", "with", "value", "label"))
            data["question"]["ended"] = {"how": "cancelled", "at": times.format_time(now), **nothing}
            body = "\n".join(filter(None, (gettext("The job was cancelled."), row.body)))
            rows.filter(id=row.id).update(
                data=json.dumps(data, ensure_ascii=False),
                body=body[: validators.MAX_BODY_LENGTH],
                read_at=now,
                open_question=None,
                seq=None,
            )
    number({row.user_id for row in locked})


def describe_end(wait: Wait, name: str) -> dict[str, Any] | None:
    """Return how a question ended, when, and by whom, whose name is given; None if it is open."""
    if wait.ended_at is None:
        return None
    value = None if wait.value is None else json.loads(wait.value)
    return {
        "how": str(wait.how),
        "at": times.format_time(wait.ended_at),
        "by": name or None,
        "with": wait.ended_with or None,
        # The fields of a form may be many, and not for all who were asked.
        "value": value if isinstance(value, str) else None,
        "label": read_details(wait)["choices"].get(value) if isinstance(value, str) else None,
    }


def describe_end_in_words(wait: Wait, name: str, *, is_own: bool, more: Sequence[str] = ()) -> str:
    """Return a sentence such as "Ada answered “Ship”.", for a question that has ended.

    ``name``
        Who has answered, "" for the staff.
    ``is_own``
        Whether its reader has.
    ``more``
        What follows an answer: when it was given, and by which browser.
    """
    if wait.how == Wait.How.EXPIRED:
        return gettext("Nobody answered in time.")
    if wait.how != Wait.How.ANSWERED:
        return gettext("The job was cancelled.")
    details, value = read_details(wait), json.loads(wait.value)
    answer = "" if details.get("form") else details["choices"].get(value, value)
    if is_own:
        text = gettext("You answered “{answer}”") if answer else gettext("You answered")
    else:
        text = gettext("{name} answered “{answer}”") if answer else gettext("{name} answered")
    return ", ".join(filter(None, (text.format(name=name or gettext("Staff"), answer=answer), *more))) + "."


def describe_consequences(details: dict[str, Any]) -> dict[str, str]:
    """Return what is said before each dangerous choice is confirmed, by its value."""
    text = gettext("The answer “{answer}” cannot be taken back.")
    given = details.get("consequences", {})
    return {
        value: given.get(value) or text.format(answer=details["choices"][value])
        for value in details.get("danger", ())
    }


def _make_data(wait: Wait, details: dict[str, Any], ended: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the data of a notification of a question. ``ended``: how it ended for its reader alone."""
    ended = ended or describe_end(wait, wait.ended_by_name)
    page, answer = question_page(wait.job, wait.id), answer_path(wait.job, wait.id)
    about = {
        "id": str(wait.id),
        "name": wait.name,
        "expires_at": times.format_time(wait.due_at),
        "choices": None if details.get("form") else details["choices"],
        "url": details.get("url") or None,
        "links": {"answer": answer, "page": page or None},
        "ended": ended,
    }
    data: dict[str, Any] = {"question": about, "icon": "comment"}
    if ended or not answer:
        return data
    if details.get("form"):
        data["actions"] = [{"label": gettext("Open the form"), "url": page}] if page else []
    elif len(details["choices"]) <= validators.MAX_ACTIONS:
        consequences = describe_consequences(details)
        data["actions"] = [
            {"label": label, "post": f"{answer}?{urlencode({'value': value})}"}
            | ({"danger": consequences[value]} if value in consequences else {})
            for value, label in details["choices"].items()
        ]
    if about["url"] and "actions" in data and len(data["actions"]) < validators.MAX_ACTIONS:
        data["actions"].append({"label": gettext("View details"), "url": about["url"]})
    return data
