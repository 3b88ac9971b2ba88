"""What an alert is about: pages of the admin that show it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib.admin.utils import quote
from django.db.models import Model

from notifications import times
from notifications.contrib.operations.models import Alert
from notifications.extension import hooks
from notifications.models import Job

#: Jobs are counted by the minute.
MINUTE = timedelta(minutes=1)
#: The parameters of the list of jobs with which it shows what an alert of a kind is about.
_JOBS: dict[Any, dict[str, str]] = {
    Alert.Kind.STALLED: {"state__exact": "running"},
    Alert.Kind.WAIT: {"state__exact": "queued"},
    Alert.Kind.FAILURES: {"state__exact": "failed"},
    Alert.Kind.NO_WORKER: {"state__exact": "queued"},
    Alert.Kind.LEASE: {"created": "hour"},
    Alert.Kind.QUESTION: {"state__exact": "waiting"},
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
    if alert.kind == Alert.Kind.FAILURES:  # those that it counted at its begin, and later ones
        window = timedelta(seconds=json.loads(alert.facts).get("window", 0))
        parameters["finished_from"] = f"{times.as_utc(alert.opened_at) - window - MINUTE:%Y-%m-%dT%H:%MZ}"
    return f"{jobs_url}?{urlencode(parameters)}" if jobs_url else ""
