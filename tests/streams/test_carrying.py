"""What a ring carries: the same as a read after it, or nothing."""

import json
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from notifications import streams
from notifications.api import notify
from notifications.models import Epoch, Job, Notification, Ring, Stream, uuid7
from notifications.signals import rung
from notifications.streams import carrying
from notifications.streams.carrying import CarriedChange, parse_change
from notifications.times import now
from tests.data.rows import finish_job, job
from tests.extension import faulty
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, record, schedule_retries, succeeded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]

on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite stores rings")
CHANGE = CarriedChange(
    epoch="e1", guard=0, prev=1, seq=2, unread=3, unseen=4, items='{"title":"a, b\\nc"},{}'
)


@pytest.fixture(autouse=True)
def epoch(transactional_db):
    """The first client makes it."""
    return Epoch.objects.create(value=uuid4())


@pytest.fixture
def carried():
    """What rings have carried, and None for each user who must be read."""
    found = []

    def receive(sender, users, changes, **kwargs):
        found.extend((user, changes.get(user)) for user in users)

    rung.connect(receive)
    yield found
    rung.disconnect(receive)


def read_after(client, prev):
    """Return what a client reads after a position: the counts, the head and the items."""
    epoch = client.get("/notifications/api/sync/").json()["epoch"]
    frame = client.get("/notifications/api/sync/", {"epoch": epoch, "seq": prev}).json()
    assert not frame["reset"]
    return {key: frame[key] for key in ("epoch", "prev", "seq", "unread", "unseen", "items")}


def assert_equal_to_read(client, changes):
    [change] = changes
    frame = change._asdict() | {"items": json.loads(f"[{change.items}]")}
    assert frame.pop("guard") == 0
    assert frame == read_after(client, change.prev)


class TestEqualToARead:
    """Field by field, and the counts at that head."""

    @pytest.mark.parametrize("title", ["Ready", 'A "quoted" \\ title\u2028', "Жанна 🎉 \x7f"])
    def test_notification(self, user, user_client, carried, title):
        notify(user, "before")
        options = {"level": "success", "url": "/x/?a=1&b=ü", "data": {"ü": ["\n", 1.5, None]}}
        notify(user, title, body=title * 3, category="export", **options)
        assert_equal_to_read(user_client, carried[-1][1])

    def test_of_several_users(self, user, other_user, user_client, carried):
        notify([user, other_user], "Ready")
        found = dict(carried)
        assert found.keys() == {user.pk, other_user.pk}
        assert_equal_to_read(user_client, found[user.pk])
        assert "Ready" in found[other_user.pk][0].items

    @pytest.mark.parametrize("end", ["succeeded", "failed"])
    def test_end_of_a_job_with_its_notification(self, user, user_client, carried, end):
        row = job(user, title="Wörk")
        [claimed] = claim_rows(uuid7(), 1)
        assert claimed.pk == row.pk
        record(succeeded(claimed, {"ü": 1}) if end == "succeeded" else failed(claimed))
        [change] = carried[-1][1]
        assert change.seq - change.prev == 2
        assert_equal_to_read(user_client, carried[-1][1])


class TestNothing:
    """The user must be read."""

    def test_before_there_is_an_epoch(self, user, carried, epoch):
        """No client has begun to follow."""
        epoch.delete()
        notify(user, "Ready")
        assert carried == [(user.pk, None)]

    def test_of_a_job_that_goes_on(self, user, carried):
        job(user)
        schedule_retries(claim_rows(uuid7(), 1), 60)
        assert {changes for _, changes in carried} == {None}

    def test_where_a_row_of_the_same_transaction_is_not_carried(self, user, carried):
        """The end of one job and the retry of another one are one ring, merged."""
        with transaction.atomic():
            streams.ring([user.pk], changes={user.pk: (CHANGE,)})
            streams.ring([user.pk])
        assert carried == [(user.pk, None)]

    def test_with_the_setting(self, user, carried, settings):
        settings.NOTIFICATIONS = settings.NOTIFICATIONS | {"RINGS_CARRY_CHANGES": False}
        notify(user, "Ready")
        finish_job(job(user), uuid7())
        assert {changes for _, changes in carried} == {None}
        assert not Ring.objects.exclude(change=None).exists()

    def test_of_a_bulk_write(self, make_user, carried):
        users = [make_user(f"user{number}") for number in range(carrying.MAX_ROWS_CARRIED + 1)]
        notify(users, "Ready")
        assert {changes for _, changes in carried} == {None}
        carried.clear()
        notify(users[1:], "Ready")
        assert None not in {changes for _, changes in carried}

    def test_of_what_is_too_large(self, user, carried):
        notify(user, "Ready", body="€" * 2000, data={"text": "€" * 1000})
        assert carried == [(user.pk, None)]

    def test_of_rows_with_a_key_in_use(self, user, carried):
        notify(user, "first", key="k")
        notify(user, "second", key="k")
        assert carried[0][1] and carried[1] == (user.pk, None)

    @pytest.mark.parametrize("change", ["UPDATE {} SET title = 'Other'", "DELETE FROM {}"])
    def test_of_rows_that_a_hook_changes(self, user, carried, monkeypatch, change):
        def execute(rows, tx):
            with connection.cursor() as cursor:
                cursor.execute(change.format("notifications_notification"))
            return []

        faulty.install(monkeypatch, "on_created", fault=execute)
        notify(user, "Ready")
        assert carried == [(user.pk, None)]
        assert not Ring.objects.filter(change__contains="Ready").exists()


def test_rolled_back_changes_are_not_carried(user, carried):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        streams.ring([user.pk], changes={user.pk: (CHANGE,)})
        raise ZeroDivisionError
    assert not carried and not Ring.objects.exists()


def test_guard_is_that_of_the_stream(user, carried):
    notify(user, "first")
    streams.request_session_check(user.pk)
    notify(user, "second")
    assert [changes and changes[0].guard for _, changes in carried] == [0, None, 1]


@on_sqlite
class TestTexts:
    """Texts in rows of rings go with what they are about."""

    def test_of_a_deleted_user(self, user, other_user):
        notify([user, other_user], "Ready")
        user_id = user.pk
        assert Ring.objects.filter(user=user_id, change__contains="Ready").exists()
        user.delete()
        assert not Stream.objects.filter(pk=user_id).exists()
        assert not Ring.objects.filter(user=user_id).exclude(change=None).exists()
        assert Ring.objects.filter(user=other_user, change__contains="Ready").exists()

    def test_of_a_deleted_notification(self, user, other_user):
        notify([user, other_user], "Ready")
        Notification.objects.filter(user=user).update(archived_at=now())
        call_command("notifications", "prune", days=0)
        assert not Notification.objects.filter(user=user).exists()
        assert not Ring.objects.filter(user=user).exclude(change=None).exists()
        assert Ring.objects.filter(user=other_user).exclude(change=None).exists()

    def test_of_a_deleted_job(self, user):
        finish_job(job(user), uuid7())
        call_command("notifications", "prune", days=0)
        assert not Job.objects.filter(user=user).exists()
        assert not Ring.objects.exclude(change=None).exists()


class TestChange:
    def test_text(self):
        assert parse_change(CHANGE.to_text()) == (CHANGE,)

    @pytest.mark.parametrize(
        "text", [None, "", "e,1,2,3", "e,0,1,2,3,4,5\n{}", "e,0,1,2,3\n{}", "e,a,1,2,3,4\n{}"]
    )
    def test_text_of_another_version_carries_nothing(self, text):
        assert parse_change(text) == ()
