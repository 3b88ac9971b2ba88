"""Marking an inbox as read: by the request for up to a second, then in the background."""

from datetime import UTC, datetime

import pytest
from django.urls import reverse
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.db import retrying_atomic
from notifications.models import Notification, PendingMark, Stream
from notifications.streams import marking, marking_all, rebuilding
from tests.data.rows import unnumbered
from tests.support.duties import run_duty

MARK = "mark notifications as read"


def continue_once(*run):
    """Change a chunk of each pending mark. Return those of which more is left."""
    return marking_all.continue_marking(list(marking_all.find_pending()), *run)


pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.usefixtures("patient_marking"),
]

#: Notifications of the user: more than two chunks.
MANY = 250
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def user(user):
    """Return the user with MANY unread notifications."""
    unnumbered(user.pk, MANY)
    streams.number([user.pk])
    return user


@pytest.fixture
def impatient_marking(set_marking):
    """Have requests mark the first rows only, and leave the rest to the background."""
    set_marking(REQUEST_SECONDS=0)


def save_pending_read(user, up_to):
    """Leave the whole inbox up to a position to the background."""
    marking_all.save_pending(marking.Mark(user=user.pk, verb="read", moment=MOMENT, up_to=up_to))


def unread_rows(user):
    return Notification.objects.filter(user=user, read_at=None)


def test_slow_request_continues_in_the_background(user_client, user, impatient_marking):
    """Rows that the request does not reach in time are marked later; the page says so, and newer ones stay unread."""
    assert (
        user_client.post(reverse("notifications:inbox-mark"), {"up_to": MANY, "all": "read"}).status_code
        == 303
    )
    assert unread_rows(user).count() == MANY
    notify(user, "Later")
    assert (
        "Marking notifications as read." in user_client.get(reverse("notifications:inbox")).content.decode()
    )
    run_duty(MARK)
    assert [row.title for row in unread_rows(user)] == ["Later"]
    assert (
        "Marking notifications as read."
        not in user_client.get(reverse("notifications:inbox")).content.decode()
    )


def test_quick_request_marks_everything(user_client, user, set_marking):
    """A request that marks all rows in time leaves nothing to the background, however many the API marks at once."""
    set_marking(MAX_MARKED_ROWS=2)
    user_client.post(reverse("notifications:inbox-mark"), {"up_to": MANY, "all": "read"})
    assert not unread_rows(user).exists()
    assert marking_all.pending_marks(user.pk) == []


def test_unread_count_is_exact_after_each_chunk(user):
    """The unread count is exact after each chunk, because a chunk is numbered in the transaction that marks it."""
    save_pending_read(user, MANY - 50)
    counts = [Stream.objects.get(pk=user.pk).unread]
    while continue_once():
        counts.append(Stream.objects.get(pk=user.pk).unread)
        assert counts[-1] == unread_rows(user).count()
        assert rebuilding.find_wrong_counts() == {}
    assert counts == [250, 150, 50]


def test_marking_as_unread_during_the_background(user):
    """A notification that the user marks as unread while the background marks the rest stays unread."""
    save_pending_read(user, MANY)
    assert continue_once()
    first = Notification.objects.get(user=user, raised=1)
    marking.mark(user.pk, "unread", MANY, [first.pk])
    run_duty(MARK)
    assert list(unread_rows(user)) == [first]
    marking_all.mark_all(user.pk, "read", MANY)
    assert not unread_rows(user).exists()


def test_earlier_position_does_not_shorten_a_pending_read(user):
    """A second request with an earlier position does not shorten the first."""
    save_pending_read(user, MANY)
    save_pending_read(user, 10)
    ((_, mark),) = marking_all.pending_marks()
    assert (mark.after, mark.up_to) == (0, MANY)


def test_two_users_take_turns(user, other_user):
    """The background marks a chunk of each user in turn, so a large inbox does not delay a small one."""
    notify(other_user, "One")
    save_pending_read(user, MANY)
    save_pending_read(other_user, 1)
    continue_once()
    continue_once()
    assert not unread_rows(other_user).exists()
    assert unread_rows(user).exists()


def test_locked_row_is_marked_once_it_is_unlocked(on_postgresql, open_connection, user):
    """Neither the request nor the background waits for a locked row; it is marked once it is unlocked."""
    holder = open_connection()
    holder.begin()
    locked = Notification.objects.get(user=user, raised=20)
    holder.do(lambda: Notification.objects.select_for_update().get(pk=locked.pk))
    assert marking_all.mark_all(user.pk, "read", MANY).next is not None
    assert list(unread_rows(user)) == [locked]
    run_duty(MARK)
    holder.roll_back()
    run_duty(MARK)
    assert not unread_rows(user).exists()
    assert marking_all.pending_marks() == []


def test_undo_of_a_change_whose_first_row_was_locked(on_postgresql, open_connection, user):
    """The position for the undo is below the row, which the background marks later."""
    holder = open_connection()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(user=user, raised=1))
    marked = marking_all.mark_all(user.pk, "read", MANY)
    holder.roll_back()
    run_duty(MARK)
    assert not unread_rows(user).exists()
    marking_all.undo_mark(user.pk, "read", marked.moment, marked.after, MANY)
    assert unread_rows(user).count() == MANY


@pytest.mark.parametrize(
    ("intervene", "unread", "unread_later"),
    [
        (lambda user: PendingMark.objects.all().delete(), MANY, MANY),
        (lambda user: continue_once(), MANY - 50, MANY - 50),
        (lambda user: save_pending_read(user, MANY), MANY, 0),
    ],
    ids=["undone", "continued", "extended"],
)
def test_pending_mark_changes_after_its_chunk_is_read(user, intervene, unread, unread_later):
    """Another process has changed it: this one changes nothing before it reads it again."""
    save_pending_read(user, 50)

    def run(work):
        intervene(user)
        return retrying_atomic(work)

    assert continue_once(run) == []
    assert unread_rows(user).count() == unread
    run_duty(MARK)
    assert unread_rows(user).count() == unread_later
    assert rebuilding.find_wrong_counts() == {}


def test_locked_inbox_does_not_delay_others(on_postgresql, open_connection, user, other_user):
    """A locked row in one inbox does not delay another, even if only one chunk is marked per call."""
    notify(other_user, "One")
    save_pending_read(user, 1)
    save_pending_read(other_user, 1)
    holder = open_connection()
    holder.begin()
    holder.do(lambda: Notification.objects.select_for_update().get(user=user, raised=1))
    continue_once()
    assert not unread_rows(other_user).exists()
    holder.roll_back()


def test_undo_while_the_rest_is_pending(monkeypatch, user, set_marking):
    """What was changed is changed back, and the rest is left as it is."""
    marking.mark(user.pk, "read", 10)
    before = list(Notification.objects.order_by("raised").values_list("read_at", "archived_at"))
    set_marking(REQUEST_SECONDS=0)
    marked = marking_all.mark_all(user.pk, "archive", MANY)
    continue_once()
    assert Notification.objects.filter(archived_at=None).count() == MANY - 100
    monkeypatch.undo()
    assert marking_all.undo_mark(user.pk, "archive", marked.moment, marked.after, MANY).next is None
    assert marking_all.pending_marks() == []
    assert before == list(Notification.objects.order_by("raised").values_list("read_at", "archived_at"))
    assert rebuilding.find_wrong_counts() == {}


def test_undo_continues_in_the_background(user, set_marking):
    """The rows that it does not reach within the request are changed back later."""
    marked = marking_all.mark_all(user.pk, "read", MANY)
    set_marking(REQUEST_SECONDS=0)
    assert marking_all.undo_mark(user.pk, "read", marked.moment, marked.after, MANY).next is not None
    assert unread_rows(user).count() == 0
    run_duty(MARK)
    assert unread_rows(user).count() == MANY


def test_equal_change_while_one_is_pending_is_undone_with_it(monkeypatch, user, impatient_marking):
    """Both have the time of the first."""
    first, second = (marking_all.mark_all(user.pk, "read", up_to) for up_to in (MANY - 10, MANY))
    assert first.moment == second.moment
    assert len(marking_all.pending_marks()) == 1
    run_duty(MARK)
    monkeypatch.undo()
    marking_all.undo_mark(user.pk, "read", second.moment, 0, MANY)
    assert unread_rows(user).count() == MANY


def test_filtered_change_examines_a_bounded_number_of_rows_at_once(user, set_marking):
    """Rows that the filter does not select are passed, in the request and in the background."""
    set_marking(MAX_ROWS_EXAMINED=7)
    Notification.objects.filter(raised__in=[3, 100, 248]).update(category="reports")
    for seconds in (60, 0):
        set_marking(REQUEST_SECONDS=seconds)
        marking_all.mark_all(user.pk, "read", MANY, categories=["reports"])
        run_duty(MARK)
        rows = Notification.objects.exclude(read_at=None)
        assert sorted(rows.values_list("raised", flat=True)) == [3, 100, 248]
        marking.mark(user.pk, "unread", MANY)


def test_number_of_pending_marks_of_a_user_is_limited(user, impatient_marking):
    """Each request of another category would store one more."""
    for n in range(marking_all.MAX_PENDING_MARKS_PER_USER):
        marking_all.mark_all(user.pk, "read", MANY, categories=[str(n)])
    with pytest.raises(marking_all.TooManyPendingMarks):
        marking_all.mark_all(user.pk, "read", MANY, categories=["one more"])


def test_undo_beside_too_many_pending_changes(user, impatient_marking):
    """It is refused as a change is, and it may continue what is pending itself."""
    notify(user, "One")
    categories = [f"c{number}" for number in range(marking_all.MAX_PENDING_MARKS_PER_USER)]
    marked = [marking_all.mark_all(user.pk, "read", 1, categories=[category]) for category in categories]
    assert all(change.next is not None for change in marked)
    with pytest.raises(marking_all.TooManyPendingMarks):
        marking_all.undo_mark(user.pk, "read", timezone.now(), 0, 1)
    assert marking_all.undo_mark(user.pk, "read", marked[0].moment, 0, 1).next is not None
    assert len(marking_all.pending_marks(user.pk)) == marking_all.MAX_PENDING_MARKS_PER_USER


def test_undo_beside_a_pending_change_of_many_groups(user, impatient_marking):
    """However many marks it has, it is one change."""
    groups = {f"n:{number}": MANY for number in range(marking_all.MAX_PENDING_MARKS_PER_USER + 1)}
    marking_all.mark_selected(user.pk, "archive", MANY, [], groups)
    assert len(marking_all.pending_marks(user.pk)) == len(groups)
    assert marking_all.undo_mark(user.pk, "read", timezone.now(), 0, MANY).next is not None
