"""What can be known to be wrong without running anything is said by `manage.py check`, with its remedy."""

import importlib.util
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.urls import include, path
from django.utils import timezone

from notifications import checks
from notifications.extension import Dispatch, hooks
from notifications.models import Job
from tests.jobs.tasks import noop
from tests.support.checks import system_checks
from tests.support.django_tasks import BaseTaskBackend

pytestmark = pytest.mark.nightly_on_postgres

#: What is wrong with an engine.
ENGINES = ("E007", "W005", "W006", "W007")


def found(check):
    return [message.id for message in check(None)]


def test_the_checks_of_all_features_are_registered():
    """Their extensions import them, in a process that imports nothing else."""
    package = Path(checks.__file__).parent
    paths = [
        path.relative_to(package.parent) for path in package.rglob("checks.py") if "celery" not in path.parts
    ]
    assert paths
    code = (
        "import django; from django.core.checks.registry import registry; django.setup();"
        "print(*{check.__module__ for check in registry.registered_checks})"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {".".join(path.with_suffix("").parts) for path in paths} <= set(printed.split())


def test_the_site_is_clean(db, settings):
    """No warning of ours, and on these options no hint either."""
    steps = {"DELIVERY": {"*": [{"email": 600}]}, "SITE_URL": "https://site.example"}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, **steps}
    found = [message for message in run_checks() if message.id.startswith("notifications.")]
    # Other tests of this process may have declared tasks.
    assert [message for message in found if "The task tests." not in message.msg] == []


def test_an_unknown_key(settings):
    """E002, with the keys that are known."""
    settings.NOTIFICATIONS = {"LEES": 20}
    (message,) = checks.check_settings(None)
    assert message.id == "notifications.E002"
    assert "'LEES'" in message.msg
    assert "LEASE" in message.hint


def test_no_dict_at_all(settings):
    """E002."""
    settings.NOTIFICATIONS = [("LEASE", 20)]
    (message,) = checks.check_settings(None)
    assert (message.id, message.msg) == ("notifications.E002", "NOTIFICATIONS is not a dict.")


def test_a_wrong_type(settings):
    """E003 for each."""
    settings.NOTIFICATIONS = {"LEASE": "20", "ORIGINS": "x"}
    assert found(checks.check_settings) == ["notifications.E003"] * 2


def test_opentelemetry_is_missing(settings, monkeypatch):
    """W008 if spans are on. With the package, or with a wrong value, which is E003, there is none."""
    settings.NOTIFICATIONS = {"OPENTELEMETRY": True}
    assert system_checks("W008") == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert [error.id for error in system_checks("W008")] == ["notifications.W008"]
    for value in (False, "yes"):
        settings.NOTIFICATIONS = {"OPENTELEMETRY": value}
        assert system_checks("W008") == []


@pytest.mark.parametrize(("lease", "ids"), [(3, ["notifications.E004"]), (4, []), (20, [])])
def test_a_lease_that_is_too_short(lease, ids, settings):
    """E004: it would end between two renewals."""
    settings.NOTIFICATIONS = {"LEASE": lease}
    assert found(checks.check_settings) == ids


def test_the_order_of_apps(monkeypatch):
    """W001: after the admin, the admin's own template is found first."""
    configs = sorted(apps.get_app_configs(), key=lambda config: config.name == "notifications")
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    (message,) = checks.check_order(None)
    assert message.id == "notifications.W001"
    assert "before 'django.contrib.admin'" in message.hint


@pytest.mark.parametrize(
    ("theme", "adapter"),
    [
        ("unfold", "notifications.contrib.unfold"),
        ("jazzmin", "notifications.contrib.jazzmin"),
        ("wagtail.admin", "notifications.contrib.wagtail"),
    ],
)
def test_a_theme_of_the_admin_without_the_bell(monkeypatch, theme, adapter):
    """W034: its adapter is not installed, or comes after it, so that the theme's own template is found first."""
    for names, count in (([theme], 1), ([theme, adapter], 1), ([adapter, theme], 0), ([adapter], 0)):
        configs = [SimpleNamespace(name=name) for name in names]
        monkeypatch.setattr(apps, "get_app_configs", lambda configs=configs: configs)
        messages = checks.check_order(None)
        assert [message.id for message in messages] == ["notifications.W034"] * count
        assert all(f"{adapter!r} before {theme!r}" in message.hint for message in messages)


def test_urls_that_are_not_mounted(settings):
    """W002, with the line to add."""
    settings.ROOT_URLCONF = "tests.test_checks"
    (message,) = checks.check_urls(None)
    assert message.id == "notifications.W002"
    assert 'include("notifications.urls")' in message.hint
    settings.ROOT_URLCONF = None
    assert found(checks.check_urls) == []


def test_urls_below_a_path_without_a_slash(settings):
    """W002, with an address that shows it. At the root there is a slash, before everything."""
    settings.ROOT_URLCONF = (path("notifications", include("notifications.urls")),)
    (message,) = checks.check_urls(None)
    assert message.id == "notifications.W002" and "/notificationsapi/sync/" in message.msg
    assert 'path("notifications/", include("notifications.urls"))' in message.hint
    for mount in ("", "notifications/"):
        settings.ROOT_URLCONF = (path(mount, include("notifications.urls")),)
        assert checks.check_urls(None) == []


@pytest.mark.parametrize(
    "tasks",
    [
        {},
        {"default": {"BACKEND": "no.such.Backend"}},
        {"default": {}},
        {"default": {"BACKEND": "django.http.HttpResponse"}},
    ],
)
def test_no_backend_of_ours(tasks, settings):
    """W003, with the setting to paste."""
    settings.TASKS = tasks
    (message,) = checks.check_tasks(None)
    assert message.id == "notifications.W003"
    assert "notifications.jobs.backend.JobBackend" in message.hint


def test_a_backend_of_ours_under_another_name(settings):
    """Is one."""
    settings.TASKS = {"slow": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": []}}
    assert found(checks.check_tasks) == []


def test_sqlite_with_default_options(monkeypatch):
    """I001, an Info only, and not printed by each command: only by `check --deploy`, and by doctor."""
    assert found(checks.check_sqlite) == []
    assert checks.check_sqlite in registry.get_checks(include_deployment_checks=True)
    assert checks.check_sqlite not in registry.get_checks()
    if connection.vendor == "sqlite":
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
        (message,) = checks.check_sqlite(None)
        assert message.id == "notifications.I001"
        assert "IMMEDIATE" in message.hint
        assert not message.is_serious()


@pytest.mark.parametrize(
    ("pool", "sync_jobs", "size"),
    [(True, 1, 4), ({"min_size": 2}, 1, 2), ({"min_size": 2, "max_size": 20}, 17, 20)],
)
def test_a_pool_smaller_than_the_worker(pool, sync_jobs, size, monkeypatch):
    """I005 says both numbers."""
    postgres = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": pool}}
    monkeypatch.setitem(connections.settings, "default", {**connections.settings["default"], **postgres})
    (message,) = checks.check_pool(None)
    assert message.id == "notifications.I005"
    assert message.msg == (
        f"The connection pool of the database holds {size}, of which 3 are kept for other work: each worker runs "
        f"{sync_jobs} sync jobs at once, in place of 32."
    )
    assert message.hint.startswith('Set "pool": {"min_size": 4, "max_size": 35}')


@pytest.mark.parametrize("pool", [None, False, {"min_size": 4, "max_size": 35}])
def test_a_pool_for_all_sync_jobs(pool, monkeypatch):
    postgres = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": pool}}
    monkeypatch.setitem(connections.settings, "default", {**connections.settings["default"], **postgres})
    assert found(checks.check_pool) == []


@contextmanager
def unapplied_migration():
    """Have the last migration of the app not be applied. Yields its name."""
    row = MigrationRecorder(connection).migration_qs.filter(app="notifications").latest("name")
    row.delete()
    try:
        yield f"notifications.{row.name}"
    finally:
        row.save()


def test_the_database(db, jobs_clock):
    """W012 to W014, only when its database is checked, and only after its migrations."""
    assert checks.check_database(None, databases=["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX notifications_job_queued")
    jobs_clock.advance(-2.5)
    far = timezone.now() + timedelta(days=3650)
    job = Job.objects.create(
        title="t", task_path="t", created_at=far, queued_at=far, run_after=far, due_at=far
    )
    found = [(message.id, message.msg) for message in checks.check_database(None, databases=["default"])]
    wrong_times = found.pop()
    assert found == [
        (
            "notifications.W012",
            "Indexes are missing: notifications_job_queued. Queries are slow; on SQLite jobs cannot be claimed.",
        ),
        ("notifications.W013", "The clock of the database differs by -2.5 s from the clock of this machine."),
    ]
    assert wrong_times[0] == "notifications.W014"
    assert wrong_times[1].startswith(f"Stored while a clock was wrong: job {job.pk}: run_after is ")
    assert checks.check_database(None, databases=None) == []
    with unapplied_migration():
        assert checks.check_database(None, databases=["default"]) == []


class Apart:
    def db_for_write(self, model, **hints):
        return "other" if model._meta.label == "notifications.Job" else None


def test_models_routed_apart(settings):
    """E005 names who goes where."""
    assert found(checks.check_routing) == []
    settings.DATABASE_ROUTERS = [Apart()]
    (message,) = checks.check_routing(None)
    assert message.id == "notifications.E005"
    assert "notifications.Job to 'other'" in message.msg


class ExtensionsApart:
    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "notifications_broadcasts" else None


def test_models_of_an_extension_routed_apart(settings):
    """E005: what it inserts belongs into the transactions of the core."""
    settings.DATABASE_ROUTERS = [ExtensionsApart()]
    (message,) = checks.check_routing(None)
    assert message.id == "notifications.E005"
    assert "notifications_broadcasts.Broadcast to 'other'" in message.msg


class Elsewhere:
    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "notifications" else None


def test_requests_whose_transaction_cannot_hold_a_job(settings, monkeypatch):
    """I002, only where both are so."""
    assert found(checks.check_requests) == []
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    assert found(checks.check_requests) == []
    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert found(checks.check_requests) == ["notifications.I002"]
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", False)
    assert found(checks.check_requests) == []


def test_manual_commits(settings, monkeypatch):
    """E010, for the database of the app only."""
    assert found(checks.check_autocommit) == []
    monkeypatch.setitem(settings.DATABASES["default"], "AUTOCOMMIT", False)
    (message,) = checks.check_autocommit(None)
    assert (message.id, message.hint) == (
        "notifications.E010",
        "Remove it, and use ATOMIC_REQUESTS or transaction.atomic().",
    )
    settings.DATABASE_ROUTERS = [Elsewhere()]
    assert found(checks.check_autocommit) == []


def with_engine(engine, **others):
    """Return ``TASKS`` with this engine for the jobs, and other backends."""
    jobs = {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": [], "OPTIONS": {"engine": engine}}
    return {"default": jobs, **others}


DUMMY, IMMEDIATE = (
    {"BACKEND": f"{BaseTaskBackend.__module__.rpartition('.')[0]}.{name}"}
    for name in ("dummy.DummyBackend", "immediate.ImmediateBackend")
)
JOBS = {"BACKEND": "notifications.jobs.backend.JobBackend"}


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        ("nowhere.engine", "cannot be imported"),
        ("tests.test_checks", "cannot be set up"),
        (7, "must be a dotted path"),
        ("alias:", "has no backend ''"),
        ("alias:other", "Its other backends: builtin, dummy, immediate, typo."),
        ("alias:typo", "Could not find backend"),
        ("alias:default", "a backend of this app itself"),
        ("alias:builtin", "a backend of this app itself"),
        ("alias:dummy", "DummyBackend has no workers"),
        ("alias:immediate", "ImmediateBackend has no workers"),
    ],
)
@pytest.mark.django_db
def test_engine_that_cannot_run_jobs(engine, problem, settings):
    """E007, and enqueueing raises the same error: the job would wait for ever."""
    others = {"builtin": JOBS, "dummy": DUMMY, "immediate": IMMEDIATE, "typo": {"BACKEND": "no.such.Backend"}}
    settings.TASKS = with_engine(engine, **others)
    (message,) = system_checks(*ENGINES)
    assert message.id == "notifications.E007"
    assert problem in message.msg
    with pytest.raises(ImproperlyConfigured) as raised:
        noop.enqueue()
    assert str(raised.value) == message.msg
    assert not Job.objects.exists()


def test_an_engine_without_the_app_of_engines(settings, monkeypatch):
    """E007 for backends of this app. Those of other packages may have an option of the same name."""
    monkeypatch.setattr(hooks, "dispatch", Dispatch())
    settings.TASKS = with_engine(
        "notifications.contrib.celery", other=IMMEDIATE | {"OPTIONS": {"engine": "v8"}}
    )
    (message,) = checks.check_engines_have_an_app(None)
    assert message.id == "notifications.E007"
    assert message.msg.startswith("TASKS['default']")


def create_engine(alias, name):
    raise ValueError("No.")


@pytest.mark.django_db
def test_error_of_the_other_backend(settings):
    """E007 too, and enqueueing raises it: its app is not installed here."""
    pytest.importorskip("django_tasks_db")
    settings.TASKS = with_engine("alias:other", other={"BACKEND": "django_tasks_db.DatabaseBackend"})
    (message,) = system_checks(*ENGINES)
    assert (message.id, message.hint) == ("notifications.E007", "Insert 'django_tasks_db' in INSTALLED_APPS")
    with pytest.raises(ImproperlyConfigured, match="Insert 'django_tasks_db'"):
        noop.enqueue()


def test_queues_that_the_other_backend_lacks(settings, monkeypatch):
    """W005 names them, and the queue in which their jobs run."""
    pytest.importorskip("django_tasks_db")
    other = {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": ["default", "reports"]}
    settings.TASKS = with_engine("alias:other", other=other)
    monkeypatch.setattr(apps, "is_installed", lambda name: True)
    assert [message.id for message in system_checks(*ENGINES)] == []
    settings.TASKS["default"]["QUEUES"] = ["default", "mail"]
    settings.TASKS = {**settings.TASKS}
    (message,) = system_checks(*ENGINES)
    assert message.id == "notifications.W005"
    assert "in the queue 'default': mail" in message.msg


def test_limits_of_rq(settings, monkeypatch):
    """W006 without a longer time limit. I004 with `check --deploy` only."""
    pytest.importorskip("django_tasks_rq")
    redis = {"URL": "redis://127.0.0.1:6379/0"}
    settings.RQ_QUEUES = {
        "default": {**redis, "DEFAULT_TIMEOUT": 400},
        "mail": redis,
        "long": {**redis, "DEFAULT_TIMEOUT": -1},
    }
    monkeypatch.setattr(apps, "is_installed", lambda name: True)
    settings.TASKS = with_engine(
        "alias:rq", rq={"BACKEND": "django_tasks_rq.RQBackend", "QUEUES": ["default", "mail", "long"]}
    )
    (message,) = system_checks(*ENGINES)
    assert message.id == "notifications.W006"
    assert message.msg.endswith(": mail.")
    assert len(system_checks("I004", include_deployment_checks=True)) == 1
    assert system_checks("I004") == []


@pytest.mark.parametrize(
    ("url", "ids"),
    [
        ("redis://127.0.0.1:6379/0", []),
        ("amqp://user:password@host/", []),
        ("", ["notifications.W007"]),
        ("nonsense://host", ["notifications.E007"]),
        ("redis://127.0.0.1:port/0", ["notifications.E007"]),
    ],
)
def test_broker_of_celery(url, ids, settings, monkeypatch):
    """E007 or W007, without connecting to it."""
    celery = pytest.importorskip("celery")
    from notifications.contrib.celery import app as connected

    app = celery.Celery("checked", set_as_current=False)
    app.conf.broker_url = url
    monkeypatch.setattr(connected, "_connected_app", app)
    settings.TASKS = with_engine("notifications.contrib.celery")
    assert [message.id for message in system_checks(*ENGINES)] == ids


@pytest.mark.django_db
def test_celery_without_an_app(settings, monkeypatch):
    """E007 has the line to add, and enqueueing raises it."""
    pytest.importorskip("celery")
    from notifications.contrib.celery import app as connected

    monkeypatch.setattr(connected, "_connected_app", None)
    settings.TASKS = with_engine("notifications.contrib.celery")
    (message,) = system_checks(*ENGINES)
    assert message.id == "notifications.E007"
    with pytest.raises(ImproperlyConfigured, match=r"connect\(app\)"):
        noop.enqueue()
    assert not Job.objects.exists()


urlpatterns = []


def test_an_app_of_each_tenant(settings):
    """E013: django-tenants would give each tenant's schema the tables, and workers read that of no tenant."""
    settings.TENANT_APPS = ["shop", "notifications.contrib.steps"]
    assert found(checks.check_vendor) == ["notifications.E013"]
    settings.TENANT_APPS = ["shop"]
    assert found(checks.check_vendor) == []
