"""The list of alerts in the admin."""

import json
import re

import pytest
from django.contrib.auth.models import Permission
from django.utils import timezone

from notifications.contrib.operations.models import Alert

pytestmark = pytest.mark.nightly_on_postgres


def open_alert():
    facts = {"age": 61, "reasons": {"no_worker": 1}}
    now, detail = timezone.now(), "No worker has run for 61 s."
    fields = {"facts": json.dumps(facts), "detail": detail, "opened_at": now, "seen_at": now}
    return Alert.objects.create(kind="no_worker", **fields)


def test_details_are_in_the_language_of_the_page(db, admin_client):
    """Not in the one in which the alert was stored."""
    alert = open_alert()
    german = "Seit 61 s ist kein Worker aktiv."
    for path in ("", f"{alert.pk}/change/"):
        page = admin_client.get(
            f"/admin/notifications_operations/alert/{path}", headers={"accept-language": "de"}
        ).content.decode()
        assert german in page and alert.detail not in page


def test_no_link_to_jobs_that_may_not_be_viewed(db, client, sign_in_staff):
    open_alert()
    user = sign_in_staff("view_alert")
    address, link = "/admin/notifications_operations/alert/", "job/?state__exact=queued"
    assert link not in client.get(address).text
    user.user_permissions.add(Permission.objects.get(codename="view_job"))
    assert link in client.get(address).text


def test_times_are_short_and_exact_on_hover(db, admin_client):
    """As in all lists of the admin; and the name of an alert may be broken after its dots."""
    moment = timezone.now().replace(month=1, day=5, hour=13, minute=7)
    Alert.objects.create(kind="failures", subject="shop.tasks.fetch", opened_at=moment, seen_at=moment)
    page = admin_client.get("/admin/notifications_operations/alert/").text
    assert re.search(
        r'class="field-opened_at"><time datetime="[^"]*" title="Jan. 5, \d{4}, 1:07 p.m. UTC">Jan 5, 13:07 UTC<',
        page,
    )
    assert 'class="field-closed_at"><span class="none">-</span>' in page
    assert "Many jobs fail: shop.<wbr>tasks.<wbr>fetch" in page
