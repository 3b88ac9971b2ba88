"""The site with its own settings: a finished check that its owner has not seen is sent by e-mail, and no other."""

from email import message_from_bytes, policy

import pytest

from asyncsite.environment import Environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_old_django

CHECK = """
from django.contrib.auth import get_user_model
from django.db import transaction
from asyncsite.tasks import enqueue_report
user = get_user_model().objects.get(username="demo")
get_user_model().objects.update(email="demo@example.com")
with transaction.atomic():
    enqueue_report(user, {urls!r}, title={title!r})
"""
SEE = """
from notifications.models import Notification
from notifications.streams.marking_seen import mark_seen
row = Notification.objects.get()
mark_seen(row.user_id, row.raised)
"""
# Not before it was seen: no clock decides which comes first.
HAVE_DUE = "UPDATE notifications_deliveries_delivery SET due_at = '2020-01-01 00:00:00'"


def read_mails(site):
    """Return the e-mails that Django's backend has written, one a file."""
    files = sorted((site.folder / "mail").glob("*"))
    return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]


def read_deliveries(site):
    return site.rows("SELECT channel, state, reason FROM notifications_deliveries_delivery ORDER BY id")


@pytest.fixture
def own_settings(site):
    """The settings of the site itself, which the tests of all else change."""
    site.environment["DJANGO_SETTINGS_MODULE"] = "asyncsite.settings"
    return site


def test_what_was_not_seen_is_sent(own_settings):
    site = own_settings
    worker = site.start_worker()
    site.python(CHECK.format(urls=["http://127.0.0.1:9/"], title="Seen"))
    wait_until(lambda: read_deliveries(site) == [("email", "pending", "")], what="the check to end")
    site.python(SEE)
    site.write([(HAVE_DUE, ())])
    wait_until(lambda: read_deliveries(site) == [("email", "skipped", "seen")], what="the decision")
    worker.stop()

    site.environment["EMAIL_DELAY_SECONDS"] = "0"
    site.start_worker()
    site.python(CHECK.format(urls=["http://127.0.0.1:9/"], title="Not seen"))
    wait_until(lambda: ("email", "sent", "") in read_deliveries(site), what="the e-mail")

    (mail,) = read_mails(site)
    assert mail["Subject"] == "Not seen finished"
    assert mail["To"] == "demo@example.com"
    text = mail.get_body(("plain",)).get_content()
    assert f"{site.url}/reports/2/" in text
    assert f"{site.url}/notifications/preferences/" in text
    assert f"<{site.url}/notifications/unsubscribe/" in mail["List-Unsubscribe"]


def test_pages_link_to_preferences(user_client):
    """Each page of the site, and the page of preferences says that it is the current one."""
    for path in ("/reports/", "/check/", "/notifications/"):
        assert b'href="/notifications/preferences/">Preferences' in user_client.get(path).content
    page = user_client.get("/notifications/preferences/").content
    assert b'href="/notifications/preferences/" aria-current="page">Preferences' in page


def test_only_development_has_emails_without_a_setting(tmp_path):
    assert str(tmp_path / "mail") in str(Environment(tmp_path, {"DEBUG": "1"}).mail(True))
    assert Environment(tmp_path, {"SECRET_KEY": "k"}).mail(False) == {}
