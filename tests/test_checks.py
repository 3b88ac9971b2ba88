"""What can be known to be wrong without running anything is said by `manage.py check`, with its remedy."""

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from notifications import checks


def found(check):
    return [message.id for message in check(None)]


def test_the_site_is_clean(db):
    """No warning of ours, and on these options no hint either."""
    assert [message for message in run_checks() if message.id.startswith("notifications.")] == []


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


@pytest.mark.parametrize(("lease", "ids"), [(3, ["notifications.E004"]), (4, []), (20, [])])
def test_a_lease_that_is_too_short(lease, ids, settings):
    """E004: it would end between two renewals."""
    settings.NOTIFICATIONS = {"LEASE": lease}
    assert found(checks.check_settings) == ids


def test_the_order_of_apps(monkeypatch):
    """W001: after the admin, the admin's own template is found first."""
    configs = sorted(apps.get_app_configs(), key=lambda config: config.name == "notifications")
    monkeypatch.setattr(checks.apps, "get_app_configs", lambda: configs)
    (message,) = checks.check_order(None)
    assert message.id == "notifications.W001"
    assert "before 'django.contrib.admin'" in message.hint


def test_urls_that_are_not_mounted(settings):
    """W002, with the line to add."""
    settings.ROOT_URLCONF = "tests.test_checks"
    (message,) = checks.check_urls(None)
    assert message.id == "notifications.W002"
    assert 'include("notifications.urls")' in message.hint
    settings.ROOT_URLCONF = None
    assert found(checks.check_urls) == []


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


@pytest.mark.database_law
@pytest.mark.django_db(transaction=True)
def test_the_tables_of_another_app_with_this_label():
    """E001, with the steps; not where the tables are ours already, and only when databases are checked."""
    assert checks.check_label(None, databases=["default"]) == []
    recorder = MigrationRecorder(connection)
    recorder.record_applied("notifications", "0001_initial")
    assert checks.check_label(None, databases=["default"]) == []
    recorder.record_unapplied("notifications", "0001_streams")
    try:
        (message,) = checks.check_label(None, databases=["default"])
        assert checks.check_label(None, databases=None) == []
    finally:
        recorder.record_unapplied("notifications", "0001_initial")
        recorder.record_applied("notifications", "0001_streams")
    assert message.id == "notifications.E001"
    assert "django_migrations" in message.hint


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


urlpatterns = []
