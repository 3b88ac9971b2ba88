"""The settings of the app, read from the dict ``NOTIFICATIONS`` when they are used.

>>> from notifications.conf import settings
>>> settings.LEASE
20
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

DEFAULTS: dict[str, Any] = {
    "ACTIVE_JOBS_PER_USER": 1000,
    "ALERTS": {},
    "AUTHENTICATORS": [],
    "JOBS_PER_MINUTE": 1200,
    "CALLBACK_ORIGINS": [],
    "CATEGORIES": {},
    "CELERY": {},
    "CONCURRENCY": 100,
    "DELIVERY": {},
    "EMBEDDED_WORKER": None,
    "GRACE": 25,
    "HANDLERS": {},
    "LEASE": 20,
    "MAX_BODY_BYTES": None,
    "METRICS_TOKEN": "",
    "OPENTELEMETRY": False,
    "ORIGINS": [],
    "OUTBOUND_ALLOW": [],
    "OUTBOUND_PER_HOST": 10,
    "OUTBOUND_PORTS": [80, 443],
    "RETENTION": timedelta(days=30),
    "SCHEDULES": {},
    "SITE_URL": "",
    "SOCKETS_PER_USER": 20,
    "USER_LANGUAGE": "",
    "WEBHOOKS": False,
    "WEB_PUSH": {},
}


class WrongDeclaration(NamedTuple):
    """What is wrong with an entry of a setting that disables only itself; ``id`` is that of the system check."""

    id: str
    message: str
    hint: str


class Settings:
    """The keys of ``NOTIFICATIONS`` as attributes, with defaults.

    Raises ``ImproperlyConfigured`` for a value of the wrong type or range.
    """

    ACTIVE_JOBS_PER_USER: int
    ALERTS: dict[str, Any]
    AUTHENTICATORS: list[Any]
    JOBS_PER_MINUTE: int
    CALLBACK_ORIGINS: list[str]
    CATEGORIES: dict[str, Any]
    CELERY: dict[str, Any]
    CONCURRENCY: int
    DELIVERY: dict[str, Any]
    GRACE: float
    HANDLERS: dict[str, Any]
    LEASE: float
    MAX_BODY_BYTES: int | None
    METRICS_TOKEN: str
    OPENTELEMETRY: bool
    ORIGINS: list[str]
    OUTBOUND_ALLOW: list[str]
    OUTBOUND_PER_HOST: int
    OUTBOUND_PORTS: list[int]
    RETENTION: timedelta
    SCHEDULES: dict[str, Any]
    SITE_URL: str
    SOCKETS_PER_USER: int
    USER_LANGUAGE: str
    WEBHOOKS: bool
    WEB_PUSH: dict[str, Any]

    @property
    def EMBEDDED_WORKER(self) -> bool:
        """Whether this server process runs jobs too; by default with ``DEBUG`` only."""
        value = _read("EMBEDDED_WORKER")
        return django_settings.DEBUG if value is None else value

    def __getattr__(self, key: str) -> Any:
        if key not in DEFAULTS:
            raise AttributeError(f"There is no setting NOTIFICATIONS[{key!r}]. Known: {', '.join(DEFAULTS)}.")
        return _read(key)


settings = Settings()


def _is_positive(value: float) -> bool:
    return value > 0


def _is_origin(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+", value) is not None


def _is_celery(value: dict[str, Any]) -> bool:
    tasks = value.get("tasks", {})
    return (
        not set(value) - {"tasks"}
        and isinstance(tasks, dict)
        and all(isinstance(name, str) for name in tasks)
    )


#: The limits of alerts, each with whether None turns it off. ``operations/alerts/conditions.py`` has the defaults.
ALERT_LIMITS = {
    "interval": True,
    "stalled": True,
    "wait": True,
    "failure_rate": True,
    "min_failures": False,
    "no_worker": True,
    "question": True,
}


def _are_alerts(value: dict[str, Any]) -> bool:
    return all(
        key in ALERT_LIMITS
        and (
            (limit is None and ALERT_LIMITS[key])
            or (type(limit) in (int, float) and 0 < limit <= (1 if key == "failure_rate" else 604_800))
        )
        for key, limit in value.items()
    )


def _is_port(value: Any) -> bool:
    return type(value) is int and 0 < value < 65536


def _is_web_push(value: dict[str, Any]) -> bool:
    types = {"private_key": str, "subject": str, "show_content": bool}
    is_complete = not value or {"private_key", "subject"} <= set(value)
    return is_complete and all(isinstance(each, types.get(key, ())) for key, each in value.items())


#: The condition on a value, besides its type, and how an error states it.
RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "ACTIVE_JOBS_PER_USER": (_is_positive, "1 or more"),
    "JOBS_PER_MINUTE": (_is_positive, "1 or more"),
    "ALERTS": (
        _are_alerts,
        "a dict of limits above 0: interval, stalled, wait, no_worker and question in seconds (at most a week), "
        "failure_rate of at most 1, min_failures; None turns any but min_failures off, and as the interval all alerts",
    ),
    "AUTHENTICATORS": (
        lambda value: all(isinstance(each, str) or callable(each) for each in value),
        "a list of dotted paths or callables",
    ),
    "CALLBACK_ORIGINS": (
        lambda value: all(map(_is_origin, value)),
        "a list like ['https://crm.example.com'], without paths",
    ),
    "CELERY": (_is_celery, "{'tasks': {name of a task: options}}"),
    "CONCURRENCY": (_is_positive, "1 or more"),
    "GRACE": (lambda value: value >= 0, "0 seconds or more"),
    "LEASE": (_is_positive, "above 0 seconds"),
    "MAX_BODY_BYTES": (lambda value: value is None or value > 0, "1 or more, or None"),
    "METRICS_TOKEN": (lambda value: not value or len(value) >= 16, "a text of 16 characters or more, or ''"),
    "ORIGINS": (
        lambda value: all(map(_is_origin, value)),
        "a list like ['https://example.com'], without a path",
    ),
    "OUTBOUND_PER_HOST": (_is_positive, "1 or more"),
    "OUTBOUND_PORTS": (lambda value: all(map(_is_port, value)), "a list of port numbers"),
    "SITE_URL": (lambda value: not value or _is_origin(value), "like 'https://example.com', without a path"),
    "SOCKETS_PER_USER": (_is_positive, "1 or more"),
    "WEB_PUSH": (
        _is_web_push,
        "{'private_key': that of `manage.py notifications vapid`, 'subject': 'mailto:admin@example.com'}, and "
        "optionally 'show_content': True",
    ),
}


#: Settings whose values are not shown in errors.
SECRETS = {"METRICS_TOKEN", "WEB_PUSH"}


def _read(key: str) -> Any:
    configured = getattr(django_settings, "NOTIFICATIONS", {})
    if not isinstance(configured, dict):
        raise ImproperlyConfigured("NOTIFICATIONS is not a dict. Write NOTIFICATIONS = {...}.")
    value = configured.get(key, DEFAULTS[key])
    expected = _expected_types(key, DEFAULTS[key])
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        names = " or ".join(kind.__name__ for kind in expected)
        shown = "of another type" if key in SECRETS else repr(value)
        raise ImproperlyConfigured(f"NOTIFICATIONS[{key!r}] is {shown}. It must be of type {names}.")
    if key in RULES:
        is_valid, rule = RULES[key]
        if not is_valid(value):
            shown = "wrong" if key in SECRETS else repr(value)
            raise ImproperlyConfigured(f"NOTIFICATIONS[{key!r}] is {shown}. It must be {rule}.")
    return value


def _expected_types(key: str, default: Any) -> tuple[type, ...]:
    if key == "MAX_BODY_BYTES":
        return (int, type(None))
    if default is None:
        return (bool, type(None))
    if key in ("GRACE", "LEASE"):
        return (int, float)
    if isinstance(default, list):
        return (list, tuple)
    return (type(default),)
