"""What can be known to be wrong without running anything; each with its remedy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, router
from django.urls import NoReverseMatch, reverse

from notifications import conf
from notifications.jobs.worker.lease import RENEWALS

#: What the database in DATABASES should have for SQLite; the quick start has the same.
SQLITE_OPTIONS = (
    '{"transaction_mode": "IMMEDIATE", "timeout": 20, '
    '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"}'
)


@register("notifications")
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E002, E003, E004: keys, types and the lease in ``NOTIFICATIONS``."""
    told = getattr(settings, "NOTIFICATIONS", {})
    if not isinstance(told, dict):
        return [
            Error(
                "NOTIFICATIONS is not a dict.", hint="Write NOTIFICATIONS = {...}.", id="notifications.E002"
            )
        ]
    found: list[CheckMessage] = [
        Error(
            f"NOTIFICATIONS has an unknown key {key!r}.",
            hint=f"Known keys: {', '.join(conf.DEFAULTS)}.",
            id="notifications.E002",
        )
        for key in told
        if key not in conf.DEFAULTS
    ]
    for key in conf.DEFAULTS:
        try:
            getattr(conf.settings, key)
        except ImproperlyConfigured as exc:
            found.append(Error(str(exc), id="notifications.E003"))
    if not found and conf.settings.LEASE < RENEWALS:
        found.append(
            Error(
                f"NOTIFICATIONS['LEASE'] is {conf.settings.LEASE} s; it is renewed {RENEWALS} times before it ends.",
                hint="Give it at least 4 seconds; 20 is the default.",
                id="notifications.E004",
            )
        )
    return found


@register(Tags.database)
def check_label(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E001: another app with the same label has left its tables; ours would meet them."""
    from django.db import connections
    from django.db.migrations.recorder import MigrationRecorder

    from notifications.db.transactions import database

    if database() not in (databases or ()):
        return []
    applied = MigrationRecorder(connections[database()]).applied_migrations()
    # Beside our own first migration it is a row that somebody forgot, and the tables are ours.
    if ("notifications", "0001_initial") not in applied or ("notifications", "0001_streams") in applied:
        return []
    return [
        Error(
            "This database holds the tables of another app with the label 'notifications' (django-notifications-hq?).",
            hint="Save what you need of them; drop the table notifications_notification; delete the rows with app "
            "'notifications' from django_migrations; then run migrate.",
            id="notifications.E001",
        )
    ]


@register("notifications")
def check_routing(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E005: what is written in one transaction must be in one database."""
    aliases = {
        model._meta.label: router.db_for_write(model)
        for model in apps.get_app_config("notifications").get_models()
    }
    if len(set(aliases.values())) < 2:
        return []
    routed = ", ".join(f"{label} to {alias!r}" for label, alias in sorted(aliases.items()))
    return [
        Error(
            f"The models of notifications are routed apart: {routed}.",
            hint="Let DATABASE_ROUTERS send the whole app to one database.",
            id="notifications.E005",
        )
    ]


@register("notifications")
def check_requests(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """I002: the transaction of a request cannot hold what is in another database."""
    from notifications.db.transactions import database

    if database() == DEFAULT_DB_ALIAS or not settings.DATABASES[DEFAULT_DB_ALIAS].get("ATOMIC_REQUESTS"):
        return []
    return [
        Info(
            "ATOMIC_REQUESTS is on, and jobs are in a database of their own: they begin before the request's own rows "
            "are committed, and stay where the request fails.",
            hint="Put @transaction.non_atomic_requests on views that call accepted(): ask has a transaction in both.",
            id="notifications.I002",
        )
    ]


@register("notifications")
def check_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W001: the bell is in the admin only if this app's templates come first."""
    names = [config.name for config in apps.get_app_configs()]
    if "django.contrib.admin" in names and names.index("notifications") > names.index("django.contrib.admin"):
        return [
            Warning(
                "notifications stands after django.contrib.admin: the admin has no bell.",
                hint="Put 'notifications' before 'django.contrib.admin' in INSTALLED_APPS.",
                id="notifications.W001",
            )
        ]
    return []


@register("notifications")
def check_urls(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W002: the URLs are not mounted."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        reverse("notifications:api-sync")
    except NoReverseMatch:
        return [
            Warning(
                "The URLs of notifications are not mounted: there is no inbox and no API.",
                hint='Add path("notifications/", include("notifications.urls")) to the URLs of the project.',
                id="notifications.W002",
            )
        ]
    return []


@register("notifications")
def check_tasks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W003: no backend of ours. E006: the limits of its queues."""
    from django.utils.module_loading import import_string

    from notifications.jobs.backend import JobBackend

    ours = {}
    for alias, params in getattr(settings, "TASKS", {}).items():
        try:
            if issubclass(import_string(params.get("BACKEND", "")), JobBackend):
                ours[alias] = params
        except (ImportError, TypeError):
            continue
    if not ours:
        return [
            Warning(
                "No backend in TASKS keeps its jobs here.",
                hint='TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}}',
                id="notifications.W003",
            )
        ]
    return [error for alias, params in ours.items() for error in _check_limits(alias, params)]


def _check_limits(alias: str, params: dict[str, Any]) -> Iterator[CheckMessage]:
    limits = params.get("OPTIONS", {}).get("limits", {})
    queues = params.get("QUEUES", ["default"])
    for name, limit in (limits if isinstance(limits, dict) else {"limits": limits}).items():
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            problem = f"limits {name!r} to {limit!r} jobs at once."
            hint = 'Write "OPTIONS": {"limits": {"reports": 5}}, with whole numbers from 1.'
        elif queues and name not in queues:
            problem = f"limits the queue {name!r}, which is not among its QUEUES."
            hint = f"Its queues: {', '.join(sorted(queues))}."
        else:
            continue
        yield Error(f"TASKS[{alias!r}] {problem}", hint=hint, id="notifications.E006")


@register("notifications", deploy=True)  # else each command prints it; doctor says it too
def check_sqlite(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """I001: with SQLite's default options a transaction of the project may fail while a worker writes."""
    from notifications.db.transactions import begins_with_lock, connection

    if begins_with_lock(connection()):
        return []
    return [
        Info(
            "SQLite begins transactions without a lock: one that reads first may fail with 'database is locked' while "
            "a worker writes.",
            hint=f'Add to the database in DATABASES: "OPTIONS": {SQLITE_OPTIONS}',
            id="notifications.I001",
        )
    ]
