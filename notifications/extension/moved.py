"""Names of the apps in ``contrib``: their keys, commands and public names, by which errors name the app to install.

The tables are all that the core knows of these apps.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from django.apps import apps
from django.template import TemplateSyntaxError
from django.urls import NoReverseMatch

#: The app of each key of ``NOTIFICATIONS``.
SETTINGS = {
    "ALERTS": "operations",
    "CALLBACK_ORIGINS": "webhooks",
    "CELERY": "celery",
    "DELIVERY": "deliveries",
    "HANDLERS": "webhooks",
    "METRICS_TOKEN": "operations",
    "RATES": "rates",
    "SCHEDULES": "schedules",
    "SLACK": "slack",
    "WEB_PUSH": "deliveries",
    "WEBHOOKS": "webhooks",
}
#: The app of each subcommand of ``manage.py notifications``, and of verbs below one: ``"jobs output"``.
SUBCOMMANDS: dict[str, str] = {
    "explain": "deliveries",
    "import_hq": "hq",
    "jobs answer": "questions",
    "jobs output": "output",
    "jobs stats": "operations",
    "schedules": "schedules",
    "vapid": "deliveries",
}
#: The app that exports what ``notifications.api`` had before.
API_NAMES: dict[str, str] = {
    "aoutput_from": "output",
    "output": "output",
    **dict.fromkeys(("Question", "aquestion", "aquestions", "question", "questions"), "questions"),
    "astep": "steps",
    "step": "steps",
    **dict.fromkeys(("Callback", "acallback", "callback", "verify_webhook"), "webhooks"),
}
#: The app whose ``testing`` exports what ``notifications.testing`` had before.
TESTING_NAMES: dict[str, str] = {
    "answer_question": "questions",
    "output": "output",
    "send_deliveries": "deliveries",
    "steps": "steps",
}
#: The app of each library of template tags.
TAG_LIBRARIES: dict[str, str] = {
    f"notifications_{app}": app for app in ("deliveries", "operations", "output", "questions")
}
#: The app of each name of a URL.
URL_NAMES: dict[str, str] = {
    **dict.fromkeys(("api-preferences", "device-remove", "devices", "mute", "preferences"), "deliveries"),
    **dict.fromkeys(("push-state", "push-subscribe", "push-worker", "unmute", "unsubscribe"), "deliveries"),
    "metrics": "operations",
    "api-job-output": "output",
    **dict.fromkeys(("api-job-answer", "question"), "questions"),
    **dict.fromkeys(("api-webhook", "api-webhook-attempts", "api-webhook-resend"), "webhooks"),
    **dict.fromkeys(("api-webhook-rotate", "api-webhook-test", "api-webhooks", "callback"), "webhooks"),
}
#: How Django begins its errors for a library, and for the name of a URL, that no installed app has.
_MISSING = re.compile(
    r"'(?P<library>\w+)' is not a registered tag library|Reverse for '(?P<url>[\w-]+)' not found\. .* not a valid"
)
#: The app that delivers by channels.
DELIVERIES = "notifications.contrib.deliveries"
#: The app that imports what django-notifications-hq has stored.
IMPORTER = "notifications.contrib.hq"
#: Apps whose templates put the bell into the header of an admin, which they must come before.
BELLS = {
    "django.contrib.admin": "notifications",
    "unfold": "notifications.contrib.unfold",
    "jazzmin": "notifications.contrib.jazzmin",
    "wagtail.admin": "notifications.contrib.wagtail",
}


def describe_remedy(app: str) -> str:
    """Return what to do where a name of this app is used and the app is not installed."""
    return f'Add "notifications.contrib.{app}" to INSTALLED_APPS, and run manage.py migrate.'


def add_note_of_remedy(exc: BaseException) -> None:
    """Add to an error of Django for template tags or a URL of an app that is not installed which app has them.

    The name of a URL may be the project's own: Django's error has no namespace.
    """
    if not isinstance(exc, TemplateSyntaxError | NoReverseMatch) or not (found := _MISSING.match(str(exc))):
        return
    library, url = found.groups()
    app = TAG_LIBRARIES.get(library) if library else URL_NAMES.get(url)
    if app and not apps.is_installed(f"notifications.contrib.{app}"):
        what = "These tags are" if library else f'If "notifications:{url}" is meant: it is'
        exc.add_note(f"{what} in an app that is not installed. {describe_remedy(app)}")


def import_from_api(name: str) -> Any:
    """Return a name that ``notifications.api`` had before. Raises AttributeError if it had none."""
    if name not in API_NAMES:
        raise AttributeError(f"module 'notifications.api' has no attribute {name!r}")
    return getattr(import_module(f"notifications.contrib.{API_NAMES[name]}"), name)


def import_from_testing(name: str) -> Any:
    """Return the same for ``notifications.testing``."""
    if name not in TESTING_NAMES:
        raise AttributeError(f"module 'notifications.testing' has no attribute {name!r}")
    return getattr(import_module(f"notifications.contrib.{TESTING_NAMES[name]}.testing"), name)
