"""What is said of alerts: their details, the page of what each is about, and the notifications of operators."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.admin.utils import quote
from django.core.checks import CheckMessage, Info
from django.db.models import Model
from django.utils import translation
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from notifications import times, validators
from notifications.contrib.operations.alerts.conditions import JOB_CHECKS, in_words, read_limits
from notifications.contrib.operations.alerts.failing import Failing
from notifications.contrib.operations.models import Alert, Overview
from notifications.db import database
from notifications.extension import Check, Topic
from notifications.inbox import ALERTS, active_users
from notifications.management import Examination, admin_list
from notifications.models import Job

#: The alerts that are open at once at most, of the queues and schedules of a project.
MAX_OPEN_ALERTS = 100
PREFIX, OPEN = "alert:", "open"
#: Open alerts that ``doctor`` names.
MAX_ALERTS_NAMED = 5
#: The permission of operators, and the users who are notified at most.
PERMISSION = "notifications_operations.receive_alerts"
MAX_RECIPIENTS = 1_000
#: The parameters of the list of jobs for alerts of the core, which are about no queue.
JOBS_OF_HOOKS: dict[str, str] = {}


def open_alerts() -> list[Alert]:
    """Return the open alerts, the oldest first, with their details in the active language."""
    rows = Alert.objects.using(database()).filter(closed_at__isnull=True)
    alerts = list(rows.order_by("opened_at", "id")[:MAX_OPEN_ALERTS])
    for alert in alerts:
        alert.detail = detail_of(alert)
    return alerts


class OpenAlerts(Check):
    """Says which alerts are open, and notifies operators of them."""

    id = "alerts"

    def find(self, examination: Any) -> Iterator[CheckMessage]:
        if read_limits().interval is None:
            yield Info("Off: NOTIFICATIONS['ALERTS'] has no interval.")
            return
        with translation.override("en"):  # as all output of commands
            named = ", ".join(map(str, open_alerts()[:MAX_ALERTS_NAMED]))
        yield Info(f"Open: {named}." if named else "No alert is open.")

    def topics(self, announced: Mapping[str, Collection[str]]) -> Iterator[Topic]:
        """Yield the open alerts, and those of which users were last notified that they are open."""
        found = {_key(alert): alert for alert in open_alerts()}
        for key, alert in found.items():
            yield Topic(key=key, state=OPEN, read_readers=read_recipients, describe=partial(_describe, alert))
        for key in announced:
            if key.startswith(PREFIX) and key not in found:
                yield Topic(
                    key=key, state="", read_readers=read_recipients, describe=partial(_describe_end, key)
                )


def make_checks() -> list[Check]:
    return [*JOB_CHECKS, Failing(), OpenAlerts()]


def read_recipients() -> list[Any]:
    """Return the keys of the active users with the permission, superusers included, at most ``MAX_RECIPIENTS``.

    A backend of ``AUTHENTICATION_BACKENDS`` without Django's method ``with_perm`` knows none.
    """
    users = active_users(permission=PERMISSION)
    return list(users.order_by("pk").values_list("pk", flat=True)[:MAX_RECIPIENTS])


def detail_of(alert: Alert) -> str:
    """Return the detail of an alert, the stored one if another version, or an app that is gone, knows its facts."""
    check = Examination.alert_checks().get(alert.kind)
    facts = json.loads(alert.facts)
    return check.describe(facts) if facts and check else alert.detail


def subject_url(alert: Alert, find_list: Callable[[type[Model]], str]) -> str:
    """Return the page that shows what an alert is about: jobs, or a row of its kind; "" if there is none.

    ``find_list`` returns the address of the list of a model, "" if there is none.
    """
    check = Examination.alert_checks().get(alert.kind)
    if check and check.model:
        rows_url = find_list(apps.get_model(check.model))
        return f"{rows_url}{quote(alert.subject)}/change/" if rows_url else ""
    if check is None:  # that of an app that is not installed any more
        return ""
    jobs_url, parameters = find_list(Job), getattr(check, "jobs", None)
    facts = json.loads(alert.facts)
    if alert.kind == "failures":
        parameters = dict(parameters or {})
        tasks = facts.get("tasks", [alert.subject])
        if len(tasks) == 1:  # else the list has the jobs of all that fail
            parameters["task_path"] = tasks[0]
        if since := facts.get("since"):
            parameters["finished_from"] = f"{times.as_utc(datetime.fromisoformat(since)):%Y-%m-%dT%H:%MZ}"
    elif alert.subject and parameters is not None:
        parameters = {**parameters, "queue_name": alert.subject}
    parameters = {**(parameters or JOBS_OF_HOOKS), "deliveries": "shown"}  # which alerts count too
    return f"{jobs_url}?{urlencode(parameters)}" if jobs_url else ""


def _key(alert: Alert) -> str:
    return f"{PREFIX}{alert.kind}:{alert.subject}"[: validators.MAX_KEY_LENGTH]


def _name_of(alert: Alert) -> str:
    """Return what an alert is called where there is little room: a task by the end of its path."""
    name = alert.subject.rpartition(".")[2] if alert.kind == Failing.id else alert.subject
    return str(Alert(kind=alert.kind, subject=name))


def _describe(alert: Alert, before: str) -> dict[str, Any]:
    subject = subject_url(alert, admin_list)
    check = Examination.alert_checks().get(alert.kind)
    model = apps.get_model(check.model) if check and check.model else None
    label = capfirst(model._meta.verbose_name) if model else _("Jobs")
    return {
        "title": validators.shortened(_name_of(alert), validators.MAX_TITLE_LENGTH),
        "body": validators.shortened(detail_of(alert), validators.MAX_BODY_LENGTH),
        "url": admin_list(Overview),
        "level": "error",
        "category": ALERTS,
        "actions": [{"label": label, "url": subject}]
        if 0 < len(subject) <= validators.MAX_URL_LENGTH
        else (),
    }


def _describe_end(key: str, before: str) -> dict[str, Any]:
    kind, _separator, subject = key.removeprefix(PREFIX).partition(":")
    # A key of this length may have been cut.
    lookup = "subject" if len(key) < validators.MAX_KEY_LENGTH else "subject__startswith"
    rows = Alert.objects.using(database()).filter(kind=kind, **{lookup: subject})
    alert = rows.order_by("-id").first()
    text = ""
    if alert:
        seconds = (alert.seen_at - alert.opened_at).total_seconds()
        text = _("It lasted %(time)s.") % {"time": in_words(seconds)}
        check, facts = Examination.alert_checks().get(kind), json.loads(alert.facts)
        if facts and (describe_end := getattr(check, "describe_end", None)):
            text = describe_end(facts)
    title = _("Over: %(alert)s") % {"alert": _name_of(alert or Alert(kind=kind, subject=subject))}
    return {
        "title": validators.shortened(title, validators.MAX_TITLE_LENGTH),
        "body": text,
        "url": admin_list(Overview),
        "level": "success",
        "category": ALERTS,
    }
