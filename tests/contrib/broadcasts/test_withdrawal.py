"""A broadcast is withdrawn by a job: it disappears for those who have not read it, numbered as any change."""

import pytest

from notifications.contrib.broadcasts.models import Broadcast
from notifications.models import Job, Notification, Stream
from notifications.streams import changes, marking, positions, rebuilding
from notifications.testing import run_jobs
from tests.contrib.broadcasts.test_sending import withdraw  # noqa: F401 (a fixture)
from tests.support.duties import run_duty
from tests.support.lost_rights import RIGHTS, lose_right
from tests.support.statements import preceded

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.usefixtures("small_chunks"),
]

ARCHIVES = 'UPDATE "notifications_notification" SET "archived_at"'


@pytest.fixture
def users(make_user):
    return [make_user(f"user{number}") for number in range(7)]


@pytest.fixture
def sent(users, make_broadcast):
    """A broadcast that was sent to everybody; the first two users have read it."""
    broadcast = make_broadcast()
    run_jobs(raise_errors=True)
    for user in users[:2]:
        marking.mark(user.pk, "read", positions.position(user.pk).head)
    return broadcast


def archived(broadcast):
    rows = Notification.objects.filter(broadcast=broadcast.pk, archived_at__isnull=False)
    return sorted(rows.values_list("user_id", flat=True))


def test_unread_ones_are_archived_and_read_ones_stay(users, sender, sent, withdraw):  # noqa: F811
    """Each change has a number, so that browsers receive it, and the unread counts stay right."""
    before = {user.pk: positions.position(user.pk).head for user in users}
    assert withdraw(sent)
    run_jobs(raise_errors=True)
    assert archived(sent) == sorted(user.pk for user in [*users[2:], sender])
    assert Notification.objects.filter(broadcast=sent.pk).count() == 8
    for user in users[2:]:
        found = changes.read_missed({user.pk: [before[user.pk]]})[user.pk, before[user.pk]]
        assert [row.archived_at is not None for row in found.rows] == [True]
        assert Stream.objects.get(user=user).unread == 0
    assert positions.position(users[0].pk).head == before[users[0].pk]
    assert rebuilding.find_wrong_counts() == {}
    sent.refresh_from_db()
    assert (sent.state, sent.withdrawn) == ("withdrawn", 6) and sent.withdrawn_at
    job = Job.objects.get(pk=sent.withdrawal_job)
    end = Notification.objects.get(user=sender, title="Withdraw “Maintenance at 22:00”")
    assert (job.progress_current, end.body) == (6, "6 unread notifications were withdrawn.")


def test_second_request_begins_nothing(sent, withdraw):  # noqa: F811
    assert [withdraw(sent), withdraw(sent)] == [1, 0]
    run_jobs()
    assert withdraw(sent) == 0


def test_notification_that_is_not_numbered_yet_is_withdrawn(users, make_broadcast, withdraw):  # noqa: F811
    """Its process was killed between the commit and numbering."""
    broadcast = make_broadcast()
    run_jobs(raise_errors=True)
    Notification.objects.filter(broadcast=broadcast.pk, user=users[3]).update(
        seq=None, raised=None, counted=False
    )
    withdraw(broadcast)
    run_jobs(raise_errors=True)
    run_duty("number pending changes")
    note = Notification.objects.get(broadcast=broadcast.pk, user=users[3])
    assert note.archived_at and note.seq and not note.counted


@pytest.mark.parametrize("right", RIGHTS)
def test_right_that_is_lost_stops_it_before_the_next_chunk(sender, sent, withdraw, right):  # noqa: F811
    withdraw(sent)
    with preceded(ARCHIVES, lambda: lose_right(sender, right)):
        run_jobs()
    sent.refresh_from_db()
    assert (sent.state, sent.withdrawn, len(archived(sent))) == ("withdrawing", 2, 2)


def test_withdrawn_permission_stops_it(sender, sent, withdraw):  # noqa: F811
    withdraw(sent)
    sender.user_permissions.clear()
    run_jobs()
    assert archived(sent) == [] and Broadcast.objects.get().state == "withdrawing"
