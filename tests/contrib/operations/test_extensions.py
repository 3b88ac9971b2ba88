"""What other apps add to alerts, the overview and metrics: a module ``operations`` in their packages."""

from types import SimpleNamespace

import pytest
from django.db import connection
from django.template import Template
from prometheus_client.core import GaugeMetricFamily

from notifications import testing
from notifications.contrib.operations.models import Alert
from notifications.extension import Check, Extension, Finding, hooks
from tests.contrib.operations.test_metrics import read, token  # noqa: F401 (a fixture)
from tests.extension import faulty
from tests.support.checks import doctor
from tests.support.duties import run_duty
from tests.support.extensions import install

pytestmark = pytest.mark.nightly_on_postgres


class TooManyRecords(Check):
    id, label = "records", "Too many records"
    model, remedy = "notifications.Notification", "Delete some."

    def find(self, examination):
        yield Finding("1", {"count": 3})

    def describe(self, facts):
        return f"They are {facts['count']}."


def metrics():
    assert not connection.in_atomic_block
    return [GaugeMetricFamily("records", "Rows.", 3)]


def overview_sections(model_admin, request):
    return [{"template": Template("<h2>Of {{ section.reader }}</h2>"), "reader": request.user}]


class Records(Extension):
    name, label = "notifications.testing", "records"

    def checks(self):
        return [TooManyRecords()]


@pytest.fixture
def module(transactional_db, monkeypatch):
    """That of an app beside those that are installed."""
    module = SimpleNamespace(metrics=metrics, overview_sections=overview_sections)
    install(monkeypatch, Records("notifications.testing", testing))
    find_modules = hooks.find_modules
    found = {**find_modules("operations"), "records": module}
    monkeypatch.setattr(
        hooks, "find_modules", lambda name: found if name == "operations" else find_modules(name)
    )
    return module


def test_a_check_is_asked_by_doctor_and_alerts(admin_client, module, monkeypatch):
    """With those of the core. The page of the row is linked to."""
    (found,) = doctor("records")
    assert (found["state"], found["message"], found["remedy"]) == ("error", "1: They are 3.", "Delete some.")
    run_duty("evaluate alerts")
    [alert] = Alert.objects.all()
    assert (str(alert), alert.closed_at) == ("Too many records: 1", None)
    link, page = "/admin/notifications/notification/1/change/", "/admin/notifications_operations/alert/"
    assert f'<a href="{link}">They are 3.</a>' in admin_client.get(page).text
    monkeypatch.undo()
    text = admin_client.get(page).text
    assert "They are 3." in text and link not in text


def test_overview_sections(admin_client, module):
    page = admin_client.get("/admin/notifications_operations/overview/").text
    assert page.count("<h2>Of admin</h2>") == 1


def test_metrics(client, module):
    assert b"\nrecords 3.0\n" in read(client).content


@pytest.mark.parametrize("fault", [*faulty.FAULTS, "returns None"])
def test_what_fails_is_left_out(admin_client, module, fault, caplog, forgotten_log, monkeypatch):
    for name in ("metrics", "overview_sections"):
        setattr(module, name, faulty.FAULTS.get(fault, faulty.return_none))
    monkeypatch.setattr(TooManyRecords, "find", faulty.FAULTS.get(fault, faulty.return_none))
    run_duty("evaluate alerts")
    assert not Alert.objects.exists()
    assert b"# TYPE notifications_alerts_open" in read(admin_client).content
    assert admin_client.get("/admin/notifications_operations/overview/").status_code == 200
    assert ("was left out: records.metrics" in caplog.text) == (fault != "returns None")


def test_an_app_without_such_a_module(db):
    assert "notifications_chat" not in hooks.find_modules("operations")
