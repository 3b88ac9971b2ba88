"""What the core's pages show of broadcasts: senders in the inbox, withdrawn ones, the list of notifications."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.apps import apps

from notifications import times
from notifications.api import notify
from notifications.contrib.broadcasts.models import Broadcast
from notifications.models import Notification, uuid7
from notifications.streams import snoozing
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)

INBOX, LIST = "/notifications/", "/admin/notifications/notification/"


@pytest.fixture
def insert():
    """insert(**fields) inserts a broadcast that nobody sends."""

    def insert(**fields):
        values = {"level": "info", "title": "News", "audience_kind": "everybody", "recipients": 1}
        return Broadcast.objects.create(**{**values, "created_at": times.now(), **fields})

    return insert


@pytest.fixture
def extension():
    return apps.get_app_config("notifications_broadcasts")


def test_django_finds_the_extension(extension):
    """Class and label, which names of permissions, URLs and templates follow."""
    assert (type(extension).__name__, extension.label) == ("Broadcasts", "notifications_broadcasts")


def notify_of(broadcast, user, title):
    (id,) = notify(user, title)
    Notification.objects.filter(pk=id).update(broadcast=broadcast)
    return id


def test_the_sender_is_shown_in_the_inbox(user_client, user, make_user, insert):
    """By name; a user name may be an e-mail address."""
    senders = {
        make_user("eve@example.org"): "the staff",
        make_user("x", first_name="Eve", last_name="Adams"): "Eve Adams",
        None: "the staff",
    }
    for sender, name in senders.items():
        id = notify_of(insert(sender=sender).pk, user, "To all")
        page = user_client.get(f"{INBOX}{id}/").text
        assert re.findall(r"Sent to several users by (.*?)\s*<", page) == [name]
        assert "eve@example.org" not in page


def test_senders_of_many_rows_are_read_by_two_queries(user, insert, extension, django_assert_num_queries):
    """Those of a broadcast that was deleted are unknown; damaged rows have something else than an id."""
    ids = [insert(sender=user).pk for _ in range(3)]
    gone = uuid7()
    rows = [Notification(id=uuid7(), broadcast=id) for id in (*ids, gone, None, "damaged")]
    with django_assert_num_queries(2):
        assert extension.parts_of(rows, user, "list").keys() == {row.id for row in rows[:4]}
    with django_assert_num_queries(0):
        assert extension.parts_of(rows[4:], user, "list") == {}
        assert extension.parts_of(rows, user, "email") == {}


@pytest.mark.parametrize("state", ["withdrawn", "withdrawing"])
def test_a_snoozed_notification_of_a_withdrawn_broadcast_is_not_raised(user, insert, state):
    ids = [
        notify_of(insert(state=state).pk, user, "News"),
        notify_of(insert(state="sent").pk, user, "Sent"),
        *notify(user, "Other"),
    ]
    snoozing.snooze(user.pk, ids, 3, times.now() + timedelta(hours=1))
    Notification.objects.update(snoozed_until=times.now() - timedelta(seconds=1))
    run_duty("raise snoozed notifications")
    titles = Notification.objects.filter(archived_at=None).values_list("title", flat=True)
    assert sorted(titles) == ["Other", "Sent"]


def test_withdrawn_ones_of_many_rows_are_read_by_one_query(insert, extension, django_assert_num_queries):
    withdrawn, sent = insert(state="withdrawn").pk, insert(state="sent").pk
    rows = [Notification(id=uuid7(), broadcast=id) for id in (sent, withdrawn, None, sent)]
    with django_assert_num_queries(1):
        assert extension.before_raised(rows, None) == [rows[1].id]
    with django_assert_num_queries(0):
        assert extension.before_raised(rows[2:3], None) == []


def test_a_broadcast_does_not_name_a_deleted_user(user, insert):
    """It stays: its recipients are other users."""
    row = insert(sender=user)
    user.delete()
    row.refresh_from_db()
    assert row.sender_id is None


def test_the_list_of_notifications_offers_the_newest_broadcasts(admin_client, insert):
    """By title, and the chosen one."""
    row, other = insert(title="Maintenance"), UUID(int=2**100)
    assert f'<a href="?broadcast={row.pk}">Maintenance</a>' in admin_client.get(LIST).text
    assert f">{other}</a>" in admin_client.get(f"{LIST}?broadcast={other}").text


def test_a_wrong_id_leads_to_the_list(admin_client):
    response = admin_client.get(f"{LIST}?broadcast=x", follow=True)
    assert response.status_code == 200 and len(response.redirect_chain) == 1


def test_the_page_of_a_notification_links_to_its_broadcast(admin_client, user, insert):
    row = insert()
    id = notify_of(row.pk, user, "News")
    page = admin_client.get(f"{LIST}{id}/change/").text
    link = f'<a href="/admin/notifications_broadcasts/broadcast/{row.pk}/change/">A broadcast</a>'
    assert link in page
    (other,) = notify(user, "Other")
    assert "A broadcast" not in admin_client.get(f"{LIST}{other}/change/").text


@pytest.mark.parametrize("query", ["", "&read=unread"])
def test_the_filter_reads_no_other_notifications(admin_client, user, insert, query, set_bounds):
    """An index has those of a broadcast, in the order of the list: an old one is found at once."""
    set_bounds(rows=1, searched=2)
    row = insert()
    notify_of(row.pk, user, "News")
    for number in range(5):
        notify(user, f"Newer {number}")
    page = admin_client.get(f"{LIST}?broadcast={row.pk}{query}").text
    assert re.findall(r'class="field-title[^"]*"><a[^>]*>([^<]*)<', page) == ["News"]
