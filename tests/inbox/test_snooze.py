"""Snoozed notifications leave the inbox, and are raised again at their time."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command

from notifications import times
from notifications.api import notify
from notifications.contrib.deliveries.models import Reader
from notifications.models import Notification, Stream
from notifications.streams import snoozing
from tests.inbox.test_groups import read_titles
from tests.support.duties import run_duty
from tests.support.statements import preceded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

INBOX = "/notifications/"
#: A Wednesday, 22:30 in Vienna.
NOW = datetime(2026, 11, 25, 21, 30, tzinfo=UTC)


def snooze(client, id, until="hours", **fields):
    head = Stream.objects.get().head
    response = client.post(f"{INBOX}snooze/", {"up_to": head, "snoozed": id, "until": until, **fields})
    assert response.status_code == 303
    return client.get(response["Location"]).content.decode()


def end(*ids):
    """Have the time of snoozed notifications come."""
    Notification.objects.filter(id__in=ids).update(snoozed_until=times.now() - timedelta(seconds=1))
    run_duty("raise snoozed notifications")


def test_it_leaves_the_inbox_and_is_raised_again_as_new(user_client, user):
    (id,) = notify(user, "Later")
    notify(user, "Now")
    snoozing.snooze(user.pk, [id], 2, times.now() + timedelta(hours=1))
    assert read_titles(user_client) == ["Now"]
    assert read_titles(user_client, f"{INBOX}?view=snoozed") == ["Later"]
    assert read_titles(user_client, f"{INBOX}?view=done") == []
    stream = Stream.objects.get()
    assert (stream.head, stream.unread) == (3, 1)
    run_duty("raise snoozed notifications")
    assert read_titles(user_client) == ["Now"]
    user_client.post("/notifications/api/notifications/seen/", {"up_to": 3}, content_type="application/json")
    end(id)
    assert read_titles(user_client) == ["Later", "Now"]
    row, stream = Notification.objects.get(id=id), Stream.objects.get()
    assert (row.seq, row.raised, row.read_at, row.archived_at) == (stream.head, stream.head, None, None)
    assert (stream.unread, stream.unseen) == (2, 1)
    assert "view=snoozed" not in user_client.get(INBOX).content.decode()


def test_by_the_button_of_a_row(user_client, user):
    """Without a dialog or another page: until tomorrow."""
    notify(user, "Other")
    (id,) = notify(user, "Later")
    assert f'name="until" value="tomorrow.{id}"' in user_client.get(INBOX).content.decode()
    assert "1 snoozed until " in snooze(user_client, "", f"tomorrow.{id}")
    assert Notification.objects.get(id=id).snoozed_until and read_titles(user_client) == ["Other"]


def test_undo_and_move_to_inbox_end_it(user_client, user):
    (id,) = notify(user, "Later")
    page = snooze(user_client, id)
    assert "1 snoozed until " in page and 'href="/notifications/?view=snoozed"' in page
    user_client.post(f"{INBOX}undo/", dict(re.findall(r'name="(query|changed)" value="([^"]*)"', page)))
    assert read_titles(user_client) == ["Later"]
    row = Notification.objects.get()
    assert (row.snoozed_until, row.raised) == (None, 1)
    end()
    assert Notification.objects.get().raised == 1


def test_what_a_newer_one_has_replaced_is_not_raised(user_client, user):
    (old,) = notify(user, "Old", key="k")
    snoozing.snooze(user.pk, [old], 1, times.now() + timedelta(hours=1))
    (new,) = notify(user, "New", key="k")
    end(old)
    assert read_titles(user_client) == ["New"]
    assert read_titles(user_client, f"{INBOX}?view=done") == ["Old"]
    assert Notification.objects.get(id=new).archived_at is None


def test_the_newest_of_a_key_stays_in_the_inbox(user_client, user):
    (id,) = notify(user, "Later", key="k")
    snoozing.snooze(user.pk, [id], 1, times.now() + timedelta(hours=1))
    end(id)
    notify(user, "New", key="k")
    assert read_titles(user_client) == ["New"]


def test_one_that_is_replaced_while_it_is_raised_stays_too(user_client, user):
    """The newer one is committed after it was looked for, and is not replaced by the older one itself."""
    (old,) = notify(user, "Old", key="k")
    snoozing.snooze(user.pk, [old], 1, times.now() + timedelta(hours=1))

    Notification.objects.update(snoozed_until=times.now() - timedelta(seconds=1))
    with preceded('UPDATE "?notifications_notification', lambda: notify(user, "New", key="k")) as found:
        run_duty("raise snoozed notifications")
    assert found
    assert read_titles(user_client) == ["New"]
    assert Notification.objects.get(id=old).snoozed_until is None


def test_one_that_an_older_version_has_moved_to_the_inbox_stays_there(user_client, user):
    """It does not know the column, and leaves the time."""
    (id,) = notify(user, "Later")
    snoozing.snooze(user.pk, [id], 1, times.now() + timedelta(hours=1))
    Notification.objects.update(archived_at=None)
    assert read_titles(user_client, f"{INBOX}?view=snoozed") == []
    end(id)
    row = Notification.objects.get()
    assert (row.raised, row.snoozed_until) == (1, None)


def test_the_view_of_what_is_snoozed_moves_to_the_inbox_only(user_client, user):
    (id,) = notify(user, "Later")
    notify(user, "Unread")
    snoozing.snooze(user.pk, [id], 2, times.now() + timedelta(hours=1))
    page = user_client.get(f"{INBOX}?view=snoozed").content.decode()
    assert set(re.findall(r'name="verb" value="(\w+)"', page)) == {"unarchive"} and 'name="all"' not in page
    response = user_client.post(
        f"{INBOX}mark/", {"up_to": 3, "query": "view=snoozed", "one": f"unarchive.{id}"}
    )
    page = user_client.get(response["Location"]).content.decode()
    assert "1 moved to the inbox." in page and 'name="changed"' not in page and "Nothing is snoozed." in page


def test_it_is_not_pruned(user):
    (id,) = notify(user, "Later")
    snoozing.snooze(user.pk, [id], 1, times.now() + timedelta(hours=1))
    Notification.objects.update(archived_at=times.now() - timedelta(days=100))
    call_command("notifications", "prune", days=90)
    assert Notification.objects.count() == 1
    Notification.objects.update(snoozed_until=None)
    call_command("notifications", "prune", days=90)
    assert Notification.objects.count() == 0


def test_several_and_their_undo(user_client, user):
    """Those that are checked, without JavaScript; *Undo* moves exactly them back."""
    first, second, _ = (notify(user, title)[0] for title in ("First", "Second", "Third"))
    fields = {"up_to": 3, "id": [first, second], "until": "hours"}
    page = user_client.post(f"{INBOX}snooze/", fields, follow=True).content.decode()
    assert "2 snoozed until " in page and read_titles(user_client) == ["Third"]
    assert Notification.objects.exclude(snoozed_until=None).count() == 2
    user_client.post(f"{INBOX}undo/", dict(re.findall(r'name="(query|changed)" value="([^"]*)"', page)))
    assert sorted(read_titles(user_client)) == ["First", "Second", "Third"]
    assert not Notification.objects.exclude(snoozed_until=None).exists()


def test_a_page_that_is_open_snoozes_more_than_a_page_lists(user_client, user):
    """It gets no page in response, but what is wrong with a time."""
    ids = [notify(user, f"Number {n}")[0] for n in range(30)]
    fields = {"up_to": len(ids), "id": ids, "part": "list"}
    for until, status in (("time", 422), ("hours", 204)):
        response = user_client.post(f"{INBOX}snooze/", {**fields, "until": until})
        assert response.status_code == status
        assert ("Choose a time" in response.content.decode()) == (status == 422)
    assert Notification.objects.exclude(snoozed_until=None).count() == len(ids)


def test_open_questions_and_others_notifications_stay(user_client, user, other_user):
    (question,) = notify(user, "Question")
    Notification.objects.update(open_question=question)
    (others,) = notify(other_user, "Other")
    for id in (question, others):
        user_client.post(f"{INBOX}snooze/", {"up_to": 1, "snoozed": id, "until": "hours"})
    assert not Notification.objects.exclude(snoozed_until=None).exists()


class TestTimes:
    @pytest.mark.parametrize(
        ("until", "zone", "expected"),
        [
            ("hours", "Europe/Vienna", "2026-11-26 00:30 UTC"),
            ("tomorrow", "Europe/Vienna", "2026-11-26 07:00 UTC"),
            ("tomorrow", "Asia/Tokyo", "2026-11-26 23:00 UTC"),
            ("monday", "Europe/Vienna", "2026-11-30 07:00 UTC"),
            ("tomorrow", "nowhere", "2026-11-26 13:00 UTC"),
        ],
    )
    def test_are_those_of_the_browser_or_of_the_preferences(
        self, user_client, user, set_now, until, zone, expected
    ):
        set_now(NOW)
        Reader.objects.create(user=user, time_zone="America/New_York")
        (id,) = notify(user, "Later")
        snooze(user_client, id, until, zone=zone)
        assert f"{Notification.objects.get().snoozed_until:%Y-%m-%d %H:%M UTC}" == expected

    def test_one_that_is_chosen(self, user_client, user):
        (id,) = notify(user, "Later")
        chosen = times.now().astimezone(ZoneInfo("Asia/Tokyo")) + timedelta(days=3)
        snooze(user_client, id, "time", time=f"{chosen:%Y-%m-%dT%H:%M}", zone="Asia/Tokyo")
        stored = Notification.objects.get().snoozed_until
        assert stored == chosen.replace(second=0, microsecond=0)

    @pytest.mark.parametrize("time", ["", "x", "2020-01-01T00:00", "2999-01-01T00:00", "9999-12-31T23:59"])
    def test_a_wrong_one_changes_nothing(self, user_client, user, time):
        (id,) = notify(user, "Later")
        page = snooze(user_client, id, "time", time=time)
        assert "Choose a time in the future, at most a year ahead." in page
        assert Notification.objects.get().snoozed_until is None

    def test_bad_requests(self, user_client, user):
        (id,) = notify(user, "Later")
        for fields in (
            {"until": "never"},
            {},
            {"until": "hours", "snoozed": "x"},
            {"until": "hours", "up_to": "x"},
        ):
            response = user_client.post(f"{INBOX}snooze/", {"up_to": 1, "snoozed": id, **fields})
            assert response.status_code == 400
        assert user_client.get(f"{INBOX}snooze/").status_code == 405
