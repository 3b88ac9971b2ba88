"""What other apps add to alerts, the overview and metrics: a module ``operations`` in their packages."""

from types import SimpleNamespace

import pytest
from django.db import connection
from django.template import Template
from prometheus_client.core import GaugeMetricFamily

from notifications.contrib.operations import additions
from notifications.contrib.operations.alerts import texts
from notifications.contrib.operations.alerts.texts import subject_url
from notifications.extension import AlertKind, calls, hooks
from notifications.management import admin_list
from tests.contrib.operations.test_metrics import read, token  # noqa: F401 (a fixture)
from tests.extension import faulty
from tests.support.duties import run_duty


class TooManyRecords(AlertKind):
    kind, label = "records", "Too many records"
    model, model_label = "notifications.Notification", "Notification"

    def find(self, now):
        return [("1", {"count": 3})]

    def describe(self, facts):
        return f"They are {facts['count']}."


def metrics():
    assert not connection.in_atomic_block
    return [GaugeMetricFamily("records", "Rows.", 3)]


def overview_sections(model_admin, request):
    return [{"template": Template("<h2>Of {{ section.reader }}</h2>"), "reader": request.user}]


@pytest.fixture
def module(transactional_db, monkeypatch):
    """That of an app beside those that are installed."""
    module = SimpleNamespace(
        alert_kinds=lambda: [TooManyRecords()], metrics=metrics, overview_sections=overview_sections
    )
    found = {**hooks.find_modules("operations"), "records": module}
    monkeypatch.setattr(hooks, "find_modules", lambda name: found)
    additions.read_alert_kinds.cache_clear()
    yield module
    additions.read_alert_kinds.cache_clear()


def test_alert_kinds(user, module):
    """They are evaluated with the others. The page of the row is linked to."""
    run_duty("evaluate alerts")
    (alert,) = texts.open_alerts()
    assert (str(alert), alert.detail) == ("Too many records: 1", "They are 3.")
    assert subject_url(alert, admin_list) == "/admin/notifications/notification/1/change/"
    del module.alert_kinds
    additions.read_alert_kinds.cache_clear()
    assert subject_url(alert, admin_list) == ""
    assert texts.open_alerts()[0].detail == "They are 3."


def test_overview_sections(admin_client, module):
    page = admin_client.get("/admin/notifications_operations/overview/").text
    assert page.count("<h2>Of admin</h2>") == 1


def test_metrics(client, module):
    assert b"\nrecords 3.0\n" in read(client).content


@pytest.mark.parametrize("fault", [*faulty.FAULTS, "returns None"])
def test_what_fails_is_left_out(admin_client, module, fault, caplog, monkeypatch):
    monkeypatch.setattr(calls, "_logged_at", {})
    for name in ("metrics", "alert_kinds", "overview_sections"):
        setattr(module, name, faulty.FAULTS.get(fault, faulty.return_none))
    run_duty("evaluate alerts")
    assert not texts.open_alerts()
    assert b"# TYPE notifications_alerts_open" in read(admin_client).content
    assert admin_client.get("/admin/notifications_operations/overview/").status_code == 200
    assert ("was left out: records.metrics" in caplog.text) == (fault != "returns None")


def test_an_app_without_such_a_module(db):
    assert "notifications_slack" not in hooks.find_modules("operations")
