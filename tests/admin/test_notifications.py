"""The list of notifications: its filters, and who was notified of what, read and archived when."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from notifications.models import Notification, uuid7
from tests.support.offenders import collect_offenders

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

LIST = "/admin/notifications/notification/"
START = datetime(2026, 5, 1, tzinfo=UTC)
BROADCAST, UNKNOWN = UUID(int=2**100), UUID(int=2**101)


def make_note(title, user, *, minutes=0, **fields):
    """Create a notification that was created so many minutes after ``START``, with the time in its id."""
    created = START + timedelta(minutes=minutes)
    id = UUID(int=int(created.timestamp() * 1000) << 80 | uuid7().int & (2**80 - 1))
    return Notification.objects.create(id=id, title=title, user=user, created_at=created, **fields)


def titles(page):
    return re.findall(r'class="field-title[^"]*"><a[^>]*>([^<]*)<', page)


@pytest.fixture
def notes(user, other_user):
    make_note("unread", user, minutes=1)
    make_note("read", user, minutes=2, read_at=START)
    make_note("archived", user, minutes=3, archived_at=START)
    make_note("both", user, minutes=4, read_at=START, archived_at=START, level="error")
    make_note("ops", other_user, minutes=5, category="ops", level="warning", key="backup")
    make_note("sent", other_user, minutes=6, broadcast=BROADCAST)
    make_note("sent-read", user, minutes=7, broadcast=BROADCAST, read_at=START)
    make_note("recent", user, minutes=(timezone.now() - START) // timedelta(minutes=1))


#: Queries of filters, and the titles that each shows, newest first.
SHOWN = {
    "": "recent sent-read sent ops both archived read unread",
    "?read=unread": "recent sent ops unread",
    "?read=read": "sent-read both read",
    "?read=archived": "both archived",
    "?level=error": "both",
    "?category=ops": "ops",
    "?user=bob": "sent ops",
    "?user=bob&level=warning": "ops",
    "?user=no-such-user": "",
    f"?broadcast={BROADCAST}": "sent-read sent",
    f"?broadcast={BROADCAST}&read=read": "sent-read",
    f"?broadcast={BROADCAST}&user=bob": "sent",
    f"?broadcast={UNKNOWN}": "",
    "?created=hour": "recent",
    "?created_from=2026-05-01T00:02&created_until=2026-05-01T00:04": "archived read",
    "?created_from=2026-05-01T00:05&level=info&created_until=2026-05-02T00:00": "sent-read sent",
    "?q=sent": "sent-read sent",
    "?q=backup": "ops",
    "?q=sent&read=unread": "sent",
}


@pytest.mark.with_all_apps("apps add filters")
@pytest.mark.parametrize("rows_per_slice", [1, 5_000])
def test_filters(admin_client, notes, set_bounds, rows_per_slice):
    """However small the slices are that are read."""
    set_bounds(rows=rows_per_slice)
    with collect_offenders() as offenders:
        for query, expected in SHOWN.items():
            with offenders.row(query):
                assert titles(admin_client.get(LIST + query).text) == expected.split()


@pytest.mark.with_all_apps("apps add filters")
@pytest.mark.parametrize("query", [f"?broadcast={BROADCAST}", "?read=unread", "?created=hour"])
def test_pages_of_a_filter(admin_client, notes, set_bounds, query):
    """Each notification is on one page."""
    set_bounds(shown=1)
    shown, address = [], LIST + query
    while address:
        page = admin_client.get(address).text
        shown += titles(page)
        following = re.search(r'<a href="([^"]*)" rel="next">', page)
        address = following and LIST + following[1].replace("&amp;", "&")
    assert shown == SHOWN[query].split()


@pytest.mark.with_all_apps("apps add filters")
def test_choices(admin_client, notes):
    page = admin_client.get(LIST).text
    assert '<a href="?category=ops">ops</a>' in page and '<a href="?level=warning">Warning</a>' in page


@pytest.mark.parametrize(
    "query",
    [
        "?read=maybe",
        "?created=year",
        "?created_from=x",
        "?user=%00",
        "?category=%00",
        "?older=x",
    ],
)
def test_bad_parameters_lead_to_the_list(admin_client, notes, query):
    response = admin_client.get(LIST + query, follow=True)
    assert response.status_code == 200 and len(response.redirect_chain) == 1


def test_category_has_its_name(admin_client, user, settings):
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "CATEGORIES": {"export": {"name": "Exports"}, "ops": {"name": "ops"}},
    }
    for category, shown in (
        ("export", "Exports (export)"),
        ("ops", "ops"),
        ("other", "Other (other)"),
        ("", "-"),
    ):
        row = make_note("note", user, category=category)
        page = admin_client.get(f"{LIST}{row.pk}/change/").content.decode()
        (field,) = re.findall(r'field-category_name.*?<div class="readonly">([^<]*)</div>', page, re.DOTALL)
        assert field == shown
