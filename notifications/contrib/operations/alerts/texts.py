"""What alerts say: their details, from the facts that are stored with each, and the notifications of operators."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import times, validators
from notifications.contrib.operations.additions import read_alert_kinds
from notifications.contrib.operations.models import Alert, Overview
from notifications.db import database
from notifications.extension import Topic
from notifications.inbox import ALERTS, active_users
from notifications.management import WaitCounts, admin_list
from notifications.models import Job

Kind = Alert.Kind
#: Jobs are counted by the minute.
MINUTE = timedelta(minutes=1)
#: The alerts that are open at once at most, of the queues and schedules of a project.
MAX_OPEN_ALERTS = 100
PREFIX, OPEN = "alert:", "open"
#: The permission of operators, and the users who are notified at most.
PERMISSION = "notifications_operations.receive_alerts"
MAX_RECIPIENTS = 1_000
#: The parameters of the list of jobs with which it shows what an alert of a kind is about.
_JOBS: dict[Any, dict[str, str]] = {
    Kind.STALLED: {"state__exact": "running"},
    Kind.WAIT: {"state__exact": "queued"},
    Kind.FAILURES: {"state__exact": "failed"},
    Kind.NO_WORKER: {"state__exact": "queued"},
    Kind.LEASE: {"created": "hour"},
    Kind.QUESTION: {"state__exact": "waiting"},
    Kind.HOOK: {},
}


def open_alerts() -> list[Alert]:
    """Return the open alerts, the oldest first, with their details in the active language."""
    rows = Alert.objects.using(database()).filter(closed_at__isnull=True)
    alerts = list(rows.order_by("opened_at", "id")[:MAX_OPEN_ALERTS])
    for alert in alerts:
        alert.detail = detail_of(alert)
    return alerts


def find_alert_topics(announced: Collection[str]) -> Iterator[Topic]:
    """Yield the open alerts, and those of which users were last notified that they are open."""
    found = {_key(alert): alert for alert in open_alerts()}
    for key, alert in found.items():
        yield Topic(key=key, state=OPEN, read_readers=read_recipients, describe=partial(_describe, alert))
    for key in announced:
        if key.startswith(PREFIX) and key not in found:
            yield Topic(key=key, state="", read_readers=read_recipients, describe=partial(_describe_end, key))


def read_recipients() -> list[Any]:
    """Return the keys of the active users with the permission, superusers included, at most ``MAX_RECIPIENTS``.

    A backend of ``AUTHENTICATION_BACKENDS`` without Django's method ``with_perm`` knows none.
    """
    users = active_users(permission=PERMISSION)
    return list(users.order_by("pk").values_list("pk", flat=True)[:MAX_RECIPIENTS])


def detail_of(alert: Alert) -> str:
    """Return the detail of an alert, the stored one if another version, or an app that is gone, knows its facts."""
    facts = json.loads(alert.facts)
    is_known = alert.kind in _DESCRIPTIONS or alert.kind in read_alert_kinds()
    return describe(alert.kind, facts) if facts and is_known else alert.detail


def describe(kind: str, facts: dict[str, Any]) -> str:
    if kind in read_alert_kinds():
        return read_alert_kinds()[kind].describe(facts)
    return _DESCRIPTIONS[kind](facts)


def in_words(seconds: float) -> str:
    """Return a time in whole seconds, minutes or hours."""
    if seconds < 120:
        return _("%(count)d s") % {"count": seconds}
    if seconds < 7200:
        return _("%(count)d min") % {"count": seconds / 60}
    return _("%(count)d h") % {"count": seconds / 3600}


def _describe_stalled(facts: dict[str, Any]) -> str:
    text = ngettext(
        "%(count)d job runs, for %(age)s.", "%(count)d jobs run, the oldest for %(age)s.", facts["count"]
    )
    detail = text % {"count": facts["count"], "age": in_words(facts["age"])}
    return f"{detail} " + _("None has ended for %(limit)s.") % {"limit": in_words(facts["limit"])}


def _describe_wait(facts: dict[str, Any]) -> str:
    text = ngettext(
        "%(count)s job waits, for %(age)s. The limit is %(limit)s.",
        "%(count)s jobs wait, the oldest for %(age)s. The limit is %(limit)s.",
        facts["count"],
    )
    count = f"{facts['count']}+" if facts["is_capped"] else str(facts["count"])
    detail = text % {"count": count, "age": in_words(facts["age"]), "limit": in_words(facts["limit"])}
    others = WaitCounts(facts["reasons"]).list_reasons()
    text = _("In the queue: %(reasons)s.") % {"reasons": ", ".join(others)}
    return f"{detail} {text}" if others else detail


def _describe_failures(facts: dict[str, Any]) -> str:
    return _("%(failed)d of %(ended)d jobs failed within %(window)s. The limit is %(limit)g %%.") % {
        "failed": facts["failed"],
        "ended": facts["ended"],
        "window": in_words(facts["window"]),
        "limit": 100 * facts["limit"],
    }


def _describe_no_worker(facts: dict[str, Any]) -> str:
    detail = _("No worker has been alive for %(age)s.") % {"age": in_words(facts["age"])}
    return f"{detail} {WaitCounts(facts['reasons']).describe()}."


def _describe_lost(facts: dict[str, Any]) -> str:
    text = _("%(worker)s ended, or was suspended, without releasing its jobs. They are run again.")
    return text % {"worker": facts["worker"]}


def _describe_unanswered(facts: dict[str, Any]) -> str:
    text = ngettext(
        "%(count)s question is open, for %(age)s. The limit is %(limit)s.",
        "%(count)s questions are open, the oldest for %(age)s. The limit is %(limit)s.",
        facts["count"],
    )
    count = f"{facts['count']}+" if facts["is_capped"] else str(facts["count"])
    return text % {"count": count, "age": in_words(facts["age"]), "limit": in_words(facts["limit"])}


def _describe_failing_hook(facts: dict[str, Any]) -> str:
    text = ngettext(
        "%(count)d call fails, and is tried again until the hook works.",
        "%(count)d calls fail, and are tried again until the hook works.",
        facts["count"],
    )
    return text % {"count": facts["count"]}


_DESCRIPTIONS: dict[Any, Callable[[dict[str, Any]], str]] = {
    Kind.STALLED: _describe_stalled,
    Kind.WAIT: _describe_wait,
    Kind.FAILURES: _describe_failures,
    Kind.NO_WORKER: _describe_no_worker,
    Kind.LEASE: _describe_lost,
    Kind.QUESTION: _describe_unanswered,
    Kind.HOOK: _describe_failing_hook,
}


def subject_url(alert: Alert, find_list: Callable[[type[Model]], str]) -> str:
    """Return the page that shows what an alert is about: jobs, or a row of its kind; "" if there is none.

    ``find_list`` returns the address of the list of a model, "" if there is none.
    """
    if kind := read_alert_kinds().get(alert.kind):
        rows_url = find_list(apps.get_model(kind.model))
        return f"{rows_url}{quote(alert.subject)}/change/" if rows_url else ""
    if alert.kind not in _JOBS:  # that of an app that is not installed any more
        return ""
    jobs_url = find_list(Job)
    is_of_queue = alert.subject and alert.kind != Kind.HOOK
    parameters = _JOBS[alert.kind] | ({"queue_name": alert.subject} if is_of_queue else {})
    parameters |= {"deliveries": "shown"}  # which alerts count too
    if alert.kind == Kind.FAILURES:  # those that it counted at its begin, and later ones
        window = timedelta(seconds=json.loads(alert.facts).get("window", 0))
        parameters["finished_from"] = f"{times.as_utc(alert.opened_at) - window - MINUTE:%Y-%m-%dT%H:%MZ}"
    return f"{jobs_url}?{urlencode(parameters)}" if jobs_url else ""


def _key(alert: Alert) -> str:
    return f"{PREFIX}{alert.kind}:{alert.subject}"[: validators.MAX_KEY_LENGTH]


def _describe(alert: Alert, before: str) -> dict[str, Any]:
    subject = subject_url(alert, admin_list)
    kind = read_alert_kinds().get(alert.kind)
    label = str(kind.model_label) if kind else _("Jobs")
    return {
        "title": validators.shortened(str(alert), validators.MAX_TITLE_LENGTH),
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
    title = _("Over: %(alert)s") % {"alert": alert or Alert(kind=kind, subject=subject)}
    return {
        "title": validators.shortened(title, validators.MAX_TITLE_LENGTH),
        "body": text,
        "url": admin_list(Overview),
        "level": "success",
        "category": ALERTS,
    }
