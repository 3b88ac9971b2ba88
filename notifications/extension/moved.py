"""Keys and commands of the apps in ``contrib``, by which errors name the app to install.

The tables are all that the core knows of these apps.
"""

from __future__ import annotations

#: The app of each key of ``NOTIFICATIONS``.
SETTINGS = {
    "ALERTS": "operations",
    "CALLBACK_ORIGINS": "webhooks",
    "CELERY": "celery",
    "DELIVERY": "deliveries",
    "HANDLERS": "webhooks",
    "METRICS_TOKEN": "operations",
    "SCHEDULES": "schedules",
    "SLACK": "slack",
    "USER_LANGUAGE": "broadcasts",
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


def describe_remedy(app: str) -> str:
    """Return what to do where a name of this app is used and the app is not installed."""
    return f'Add "notifications.contrib.{app}" to INSTALLED_APPS, and run manage.py migrate.'
