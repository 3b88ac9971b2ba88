"""What the details of alerts say, in the active language, from the facts that are stored with each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.contrib.operations.models import Alert
from notifications.extension import hooks

Kind = Alert.Kind


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
