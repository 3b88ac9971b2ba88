"""What other extensions add to alerts, the overview and metrics."""

from notifications import extension, paths
from notifications.contrib.operations.alerts import evaluation, texts
from notifications.contrib.operations.alerts.texts import subject_url
from notifications.contrib.operations.metrics import exposition


def test_alert_kinds(user, recorder):
    """They are evaluated with the others. The page of the row is linked to."""
    evaluation.evaluate()
    (alert,) = texts.open_alerts()
    assert (str(alert), alert.detail) == ("Too many records: 1", "They are 3.")
    assert subject_url(alert, paths.admin_list) == "/admin/notifications/notification/1/change/"
    extension.hooks.alert_kinds.pop("records")
    assert subject_url(alert, paths.admin_list) == ""
    assert texts.open_alerts()[0].detail == "They are 3."


def test_overview_sections(admin_client, recorder):
    page = admin_client.get("/admin/notifications_operations/overview/").text
    assert page.count("<h2>Of admin</h2>") == 1


def test_metrics(recorder):
    text, _ = exposition("")
    assert b"\nrecords 3.0\n" in text
    assert recorder.calls == [("metrics", 0, False)]
