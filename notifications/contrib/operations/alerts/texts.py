"""What the details of alerts say, from the facts that are stored with each, and the page of what they are about."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications import times
from notifications.contrib.operations.models import Alert
from notifications.extension import hooks
from notifications.models import Job

Kind = Alert.Kind
#: Jobs are counted by the minute.
MINUTE = timedelta(minutes=1)
#: The parameters of the list of jobs with which it shows what an alert of a kind is about.
_JOBS: dict[Any, dict[str, str]] = {
    Kind.STALLED: {"state__exact": "running"},
    Kind.WAIT: {"state__exact": "queued"},
    Kind.FAILURES: {"state__exact": "failed"},
    Kind.NO_WORKER: {"state__exact": "queued"},
    Kind.LEASE: {"created": "hour"},
    Kind.QUESTION: {"state__exact": "waiting"},
}


def detail_of(alert: Alert) -> str:
    """Return the detail of an alert, the stored one if another version, or an app that is gone, knows its facts."""
    facts = json.loads(alert.facts)
    is_known = alert.kind in _DESCRIPTIONS or alert.kind in hooks.alert_kinds
    return describe(alert.kind, facts) if facts and is_known else alert.detail


def describe(kind: str, facts: dict[str, Any]) -> str:
    """Return the text for the facts of a condition."""
    if kind in hooks.alert_kinds:
        return hooks.alert_kinds[kind].describe(facts)
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
    return text % {"count": count, "age": in_words(facts["age"]), "limit": in_words(facts["limit"])}


def _describe_failures(facts: dict[str, Any]) -> str:
    return _("%(failed)d of %(ended)d jobs failed within %(window)s. The limit is %(limit)g %%.") % {
        "failed": facts["failed"],
        "ended": facts["ended"],
        "window": in_words(facts["window"]),
        "limit": 100 * facts["limit"],
    }


def _describe_no_worker(facts: dict[str, Any]) -> str:
    text = ngettext("%(count)d job waits.", "%(count)d jobs wait.", facts["due"]) % {"count": facts["due"]}
    detail = _("No worker has been alive for %(age)s.") % {"age": in_words(facts["age"])}
    return f"{detail} {text}"


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


_DESCRIPTIONS: dict[Any, Callable[[dict[str, Any]], str]] = {
    Kind.STALLED: _describe_stalled,
    Kind.WAIT: _describe_wait,
    Kind.FAILURES: _describe_failures,
    Kind.NO_WORKER: _describe_no_worker,
    Kind.LEASE: _describe_lost,
    Kind.QUESTION: _describe_unanswered,
}


def subject_url(alert: Alert, find_list: Callable[[type[Model]], str]) -> str:
    """Return the page that shows what an alert is about: jobs, or a row of its kind; "" if there is none.

    ``find_list`` returns the address of the list of a model, "" if there is none.
    """
    if kind := hooks.alert_kinds.get(alert.kind):
        rows_url = find_list(apps.get_model(kind.model))
        return f"{rows_url}{quote(alert.subject)}/change/" if rows_url else ""
    if alert.kind not in _JOBS:  # that of an app that is not installed any more
        return ""
    jobs_url = find_list(Job)
    parameters = _JOBS[alert.kind] | ({"queue_name": alert.subject} if alert.subject else {})
    if alert.kind == Kind.FAILURES:  # those that it counted at its begin, and later ones
        window = timedelta(seconds=json.loads(alert.facts).get("window", 0))
        parameters["finished_from"] = f"{times.as_utc(alert.opened_at) - window - MINUTE:%Y-%m-%dT%H:%MZ}"
    return f"{jobs_url}?{urlencode(parameters)}" if jobs_url else ""
