"""Names of the apps in ``contrib``: their keys, commands and public names, by which errors name the app to install.

The tables are all that the core knows of these apps.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
