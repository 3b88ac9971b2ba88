"""System checks of settings, URLs, models and the database. A feature has those of its own in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from itertools import chain
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, router
from django.urls import NoReverseMatch, reverse

from notifications import conf, readiness
from notifications.db import missing_tables, pools, schema
from notifications.db.transactions import MANUAL_COMMITS, connection, database, dialect
from notifications.extension import Dispatch, hooks, shipped
from notifications.extension.installed import list_apps
from notifications.http.authentication import read_authenticators
from notifications.inbox.categories import read_categories
from notifications.jobs.backend import describe_other_backends, find_job_backends
from notifications.jobs.claiming.queues import find_wrong_limits
from notifications.jobs.declaring import package_tasks  # noqa: F401 (a check)
from notifications.jobs.declaring.policies import SETTINGS_EXAMPLE, Policy, imported
from notifications.jobs.declaring.tasks import POLICY_OPTIONS, has_engine
from notifications.jobs.reader_languages import find_wrong_language
from notifications.realtime import checks as realtime_checks  # noqa: F401
from notifications.tracing import checks as tracing_checks  # noqa: F401
from notifications.worker.lease import RENEWALS

#: Seconds by which the clocks of the database and of this machine may differ.
MAX_CLOCK_SKEW_SECONDS = 2.0
#: Rows with the time of a wrong clock that a message names.
MAX_TIMES_NAMED = 5
#: The recommended options of a SQLite database, as in the quick start.
SQLITE_OPTIONS = (
    '{"transaction_mode": "IMMEDIATE", "timeout": 20, '
    '"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"}'
)


@register("notifications")
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E002, E003, E004: keys, types and the lease in ``NOTIFICATIONS``."""
    configured = getattr(settings, "NOTIFICATIONS", {})
    if not isinstance(configured, dict):
        hint = "Write NOTIFICATIONS = {...}."
        return [Error("NOTIFICATIONS is not a dict.", hint=hint, id="notifications.E002")]
    found: list[CheckMessage] = [
        *_find_misspelled_names(),
        *(_find_wrong_key(key) for key in configured if key not in conf.SETTINGS),
    ]
    for key in conf.SETTINGS:
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


def _find_misspelled_names() -> Iterator[Error]:
    """Yield an error for each setting with a name like ``NOTIFICATION`` that has a key of ours."""
    for name in get_close_matches("NOTIFICATIONS", {*dir(settings)} - {"NOTIFICATIONS"}, cutoff=0.9):
        value = getattr(settings, name)
        for key in [key for key in conf.SETTINGS if key in value][:1] if isinstance(value, dict) else ():
            message = (
                f"The settings have {name}, which nothing reads. It has the key {key!r} of NOTIFICATIONS."
            )
            yield Error(message, hint="Write NOTIFICATIONS = {...}.", id="notifications.E002")


def _find_wrong_key(key: Any) -> Error:
    if app := shipped.find_app_of_setting(key):
        message = f"NOTIFICATIONS has the key {key!r}, whose app is not installed."
        return Error(message, hint=shipped.describe_remedy(app), id="notifications.E002")
    message = f"NOTIFICATIONS has an unknown key {key!r}."
    near = get_close_matches(str(key).upper(), conf.SETTINGS, n=1)
    hint = f"Known keys: {', '.join(conf.SETTINGS)}."
    return Error(message, hint=f"Did you mean {near[0]!r}? {hint}" if near else hint, id="notifications.E002")


@register(Tags.database)
def check_database(app_configs: Any, databases: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E001: the tables are another app's. E012: they differ. W012: no indexes. W013, W014: clocks, and their times."""
    if database() not in (databases or ()) or not schema.is_supported():
        return []
    if mismatch := schema.find_mismatch():  # the other checks would read columns that do not exist
        if mismatch.is_unmigrated:  # before it applies migrations, migrate runs this check
            return []
        id = "notifications.E001" if mismatch.is_of_other_app else "notifications.E012"
        return [Error(mismatch.problem, hint=mismatch.remedy, id=id)]
    return [] if readiness.pending_migrations() else list(_check_rows())


def _check_rows() -> Iterator[CheckMessage]:
    if missing := sorted(readiness.missing_indexes()):
        problem = (
            f"Indexes are missing: {', '.join(missing)}. Queries are slow; on SQLite jobs cannot be claimed."
        )
        hint = "Run their CREATE INDEX statements, which manage.py sqlmigrate prints for the app."
        yield Warning(problem, hint=hint, id="notifications.W012")
    if abs(skew := readiness.clock_skew_seconds()) > MAX_CLOCK_SKEW_SECONDS:
        problem = f"The clock of the database differs by {skew:+.1f} s from the clock of this machine."
        hint = "Synchronize both by NTP. Until then times in the inbox and of delayed jobs are wrong."
        yield Warning(problem, hint=hint, id="notifications.W013")
    if wrong := list(readiness.find_wrong_times()):
        others = f", and {len(wrong) - MAX_TIMES_NAMED} more" if len(wrong) > MAX_TIMES_NAMED else ""
        yield Warning(
            f"Stored while a clock was wrong: {'; '.join(wrong[:MAX_TIMES_NAMED])}{others}.",
            hint="Run jobs now with manage.py notifications jobs reschedule ID --at now, or cancel them. What else "
            "waits goes on at its time.",
            id="notifications.W014",
        )


@register("notifications")
def check_routing(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E005: the models are routed to different databases, but are written in one transaction."""
    aliases = {
        model._meta.label: router.db_for_write(model)
        for config in list_apps()
        for model in config.get_models()
    }
    if len(set(aliases.values())) < 2:
        return []
    routed = ", ".join(f"{label} to {alias!r}" for label, alias in sorted(aliases.items()))
    return [
        Error(
            f"The models of notifications are routed to different databases: {routed}.",
            hint="Route the app and all its extensions to one database in DATABASE_ROUTERS.",
            id="notifications.E005",
        )
    ]


@register("notifications")
def check_vendor(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E011, W050: the app cannot use its database. E013: each tenant has tables of its own."""
    if shared := [name for name in getattr(settings, "TENANT_APPS", ()) if name.startswith("notifications")]:
        return [
            Error(
                f"TENANT_APPS has {shared[0]!r}: each tenant's schema would have jobs of its own.",
                hint="Workers read one schema, so no worker would run them. Tenants by schema are not supported.",
                id="notifications.E013",
            )
        ]
    if schema.is_supported():
        if str(connection().settings_dict["NAME"]) != missing_tables.IN_MEMORY:
            return []
        message = (
            f"DATABASES[{database()!r}] is {missing_tables.IN_MEMORY!r}: each connection, and so each thread and "
            "process, has a database of its own, in which migrate has made no tables."
        )
        return [Warning(message, hint=missing_tables.FILE_REMEDY, id="notifications.W050")]
    engine = connection().settings_dict["ENGINE"]
    message = f"The tables of notifications are in the database {database()!r}, whose ENGINE is {engine!r}."
    hint = "Use PostgreSQL or SQLite, for the whole project or for this app by DATABASE_ROUTERS."
    return [Error(message, hint=hint, id="notifications.E011")]


@register("notifications")
def check_autocommit(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E010: the project commits manually, after which Django calls no hooks."""
    if settings.DATABASES.get(database(), {}).get("AUTOCOMMIT", True):
        return []
    hint = "Remove it, and use ATOMIC_REQUESTS or transaction.atomic()."
    return [Error(MANUAL_COMMITS.format(database()), hint=hint, id="notifications.E010")]


@register("notifications")
def check_requests(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """I002: the transaction of a request does not include the database of the jobs."""
    if database() == DEFAULT_DB_ALIAS or not settings.DATABASES[DEFAULT_DB_ALIAS].get("ATOMIC_REQUESTS"):
        return []
    message = (
        "ATOMIC_REQUESTS is on, but jobs are in another database: they start before the request's own rows are "
        "committed, and remain if the request fails."
    )
    hint = (
        "Put @transaction.non_atomic_requests on views that call accepted(): it opens a transaction in both."
    )
    return [Info(message, hint=hint, id="notifications.I002")]


#: Apps whose templates put the bell into the header of an admin, which they must come before.
BELLS = {
    "django.contrib.admin": "notifications",
    "unfold": "notifications.contrib.unfold",
    "jazzmin": "notifications.contrib.jazzmin",
    "wagtail.admin": "notifications.contrib.wagtail",
}


@register("notifications")
def check_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W001: the app is after the admin, whose template then has no bell. W034: the same of a theme's adapter."""
    names = [config.name for config in apps.get_app_configs()]
    return [
        Warning(
            f"{app} is not before {admin} in INSTALLED_APPS, so its pages have no bell.",
            hint=f"Put {app!r} before {admin!r}.",
            id="notifications.W001" if app == "notifications" else "notifications.W034",
        )
        for admin, app in BELLS.items()
        if admin in names and app not in names[: names.index(admin)]
    ]


@register("notifications")
def check_urls(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W002: the URLs are not mounted, or not below a path that ends with a slash."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    remedy = 'path("notifications/", include("notifications.urls"))'
    try:
        if reverse("notifications:inbox").endswith("/"):
            return []
        sync = reverse("notifications:api-sync")
        message, hint = f"The URLs of notifications lack a slash: {sync}.", f"Write {remedy}, with the slash."
    except NoReverseMatch:
        message = "The URLs of notifications are not mounted, so there is no inbox and no API."
        hint = f"Add {remedy} to the URLs of the project."
    return [Warning(message, hint=hint, id="notifications.W002")]


@register("notifications")
def check_tasks(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W003: TASKS has no backend of this app. W009, W011: limits and policies that are ignored."""
    backends = find_job_backends()
    if not backends:
        hint = (
            'Write TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}}, also in '
            "the settings of tests, which run jobs by run_jobs() of notifications.testing."
        )
        message = f"No backend in TASKS stores jobs in this app{describe_other_backends()}."
        return [Warning(message, hint=hint, id="notifications.W003")]
    return [
        error
        for alias, params in backends.items()
        for error in [*_check_limits(alias, params), *_check_policies(alias, params)]
    ]


def _check_limits(alias: str, params: dict[str, Any]) -> Iterator[CheckMessage]:
    for _, problem, hint in find_wrong_limits(params):
        yield Warning(f"TASKS[{alias!r}] {problem}", hint=hint, id="notifications.W009")


def _check_policies(alias: str, params: dict[str, Any]) -> Iterator[CheckMessage]:
    policies = params.get("OPTIONS", {}).get("policies", {})
    label = f"TASKS[{alias!r}]['OPTIONS']['policies']"
    if not isinstance(policies, dict):
        yield Warning(f"{label} is not a dict.", hint=f"Write {SETTINGS_EXAMPLE}.", id="notifications.W011")
        return
    for pattern, options in policies.items():
        problem = ""
        if not isinstance(pattern, str) or "." not in pattern:
            problem = "The key is no path of tasks."
        elif isinstance(options, dict) and (unknown := [key for key in options if key not in POLICY_OPTIONS]):
            problem = f"The option {unknown[0]!r} is unknown."
        else:
            try:
                Policy(**imported(options))
            except (TypeError, ValueError) as exc:
                problem = str(exc)
        if problem:
            hint = f"Write {SETTINGS_EXAMPLE}. Options: {', '.join(POLICY_OPTIONS)}."
            yield Warning(f"{label}[{pattern!r}]: {problem}", hint=hint, id="notifications.W011")


@register("notifications")
def check_declarations(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W031, W035 and E014: wrong entries of settings, each of which disables itself only."""
    wrong = chain(read_categories().wrong, find_wrong_language(), read_authenticators().wrong)
    return [each.as_check_message() for each in wrong]


@register("notifications", deploy=True)  # not printed by each command; doctor reports it too
def check_sqlite(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """I001: with SQLite's default options transactions of the project may fail while a worker writes."""
    if dialect().begins_with_lock(connection()):
        return []
    problem = (
        "SQLite begins transactions without a lock, so one that reads first may fail with 'database is locked' "
        "while a worker writes."
    )
    hint = f'Add to the database in DATABASES: "OPTIONS": {SQLITE_OPTIONS}'
    return [Info(problem, hint=hint, id="notifications.I001")]


@register("notifications", deploy=True)
def check_pool(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """I005: a pool of connections lets a worker run fewer sync jobs at once than it has threads for them."""
    from notifications.worker.state import MAX_SYNC_THREADS  # which each command would import otherwise

    threads = min(MAX_SYNC_THREADS, conf.settings.CONCURRENCY)
    if (sync_jobs := pools.limit_by_pool(threads)) == threads:
        return []
    problem = (
        f"The connection pool of the database holds {pools.pool_size()}, of which {pools.OWN_POOLED_CONNECTIONS} are "
        f"kept for other work: each worker runs {sync_jobs} sync jobs at once, in place of {threads}."
    )
    hint = f'Set "pool": {{"min_size": 4, "max_size": {threads + pools.OWN_POOLED_CONNECTIONS}}}, or accept that.'
    return [Info(problem, hint=hint, id="notifications.I005")]


@register("notifications")
def check_engines_have_an_app(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E007: a backend has an engine, and no app that has engines is installed."""
    if type(hooks.dispatch) is not Dispatch:
        return []
    return [
        Error(
            f"TASKS[{alias!r}] has an engine, whose app is not installed.",
            hint=hooks.dispatch.remedy(),
            id="notifications.E007",
        )
        for alias in find_job_backends()  # a backend of another package may have an option of this name
        if has_engine(alias)
    ]
