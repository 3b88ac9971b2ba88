"""Reminders of open questions."""

import json
import threading
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import Error, transaction

from notifications.contrib.deliveries.models import Delivery
from notifications.contrib.questions import answer, reminders
from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.testing import answer_question
from notifications.db import lock_query
from notifications.jobs import cancel
from notifications.models import Job, Notification, Stream
from notifications.testing import clock, run_jobs
from tests.contrib.questions import question_tasks
from tests.support.duties import run_duty
from tests.support.statements import preceded, refused
from tests.support.threads import run_in_threads

UPDATE = "update who is asked open questions"
pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("a reminder is delivered"),
    pytest.mark.nightly_on_postgres,
]

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def frozen(jobs_clock):
    return jobs_clock


def ask(owner, **arguments):
    """Enqueue a job and run it until it waits. Returns its row."""
    result = question_tasks.ask_sync.using(owner=owner).enqueue(**{"remind_hours": [1, 24], **arguments})
    run_jobs()
    return Job.objects.get(id=result.id)


def advance(duration):
    clock.advance(duration)
    run_jobs()


def notes_of(user):
    return list(Notification.objects.filter(user=user).order_by("id"))


def unread(user):
    return Stream.objects.get(user=user).unread


def test_a_reminder_replaces_the_notification(user):
    job = ask(user)
    (first,) = notes_of(user)
    advance(timedelta(minutes=59))
    assert len(notes_of(user)) == 1
    advance(timedelta(minutes=2))
    earlier, later = notes_of(user)
    assert earlier.id == first.id and earlier.archived_at and earlier.open_question is None
    assert "actions" not in json.loads(earlier.data)
    wait = AskedQuestion.objects.get(job=job.id)
    assert (later.title, later.open_question, later.url) == (first.title, wait.id, first.url)
    assert later.body == "Reminder: this question is still open.\nTo the new address."
    assert json.loads(later.data)["actions"] == json.loads(first.data)["actions"]
    assert later.raised > first.raised and unread(user) == 1
    answer_question("yes", by=user)
    later.refresh_from_db()
    assert later.read_at and json.loads(later.data)["question"]["ended"]["value"] == "yes"
    assert unread(user) == 0
    run_jobs()
    job.refresh_from_db()
    assert job.state == "succeeded"


def test_at_each_of_its_times(user):
    ask(user)
    for hours, count in [(2, 2), (21, 2), (2, 3), (100, 3)]:
        advance(hours * HOUR)
        assert len(notes_of(user)) == count
    assert unread(user) == 1
    wait = AskedQuestion.objects.get()
    assert wait.remind_at is None
    # One that comes at its very time is not followed by another one.
    assert wait.next_reminder(wait.created_at + HOUR) == wait.created_at + 24 * HOUR


def test_once_after_an_outage_over_several(user):
    ask(user)
    advance(48 * HOUR)
    advance(48 * HOUR)
    assert len(notes_of(user)) == 2


@pytest.mark.parametrize("end", ["answered", "expired", "cancelled"])
def test_those_that_were_replaced_say_how_it_ended(user, other_user, end):
    """Who reads them in the archive would take the question for open otherwise."""
    job = ask(user, to=[user.pk, other_user.pk], expires_ms=10**9, default="no")
    advance(2 * HOUR)
    advance(24 * HOUR)
    notes = notes_of(user)
    assert [bool(note.open_question) for note in notes] == [False, False, True]
    assert all(json.loads(note.data)["question"]["ended"] is None for note in notes)
    if end == "answered":
        answer_question("yes", by=user)
    elif end == "cancelled":
        cancel([job.id])
    else:
        clock.advance(timedelta(days=20))
        run_duty("end waits that are due")
    ends = [
        json.loads(note.data)["question"]["ended"] for note in [*notes_of(user)[:3], *notes_of(other_user)]
    ]
    assert [one["how"] for one in ends] == [end] * 6
    assert unread(other_user) == 0


def test_a_reminder_locks_only_open_notifications(user):
    """Those that earlier reminders have replaced may be many, and are left alone."""
    if not lock_query(Job.objects.all()).query.select_for_update:
        pytest.skip("SQLite locks no rows.")
    ask(user)
    advance(2 * HOUR)
    free = []

    def read_free():
        with transaction.atomic():
            free.extend(note.id for note in Notification.objects.select_for_update(skip_locked=True))

    with preceded("INSERT INTO .?notifications_notification", lambda: run_in_threads(read_free)):
        advance(24 * HOUR)
    assert [note.id in free for note in notes_of(user)] == [True, False, False]


def test_who_loses_the_right_after_reminders(user, other_user):
    """All notifications of the user are closed, those that were replaced too, and do not say how it ends."""
    job = ask(user, to=[user.pk, other_user.pk])
    advance(2 * HOUR)
    type(other_user).objects.filter(pk=other_user.pk).update(is_active=False)
    run_duty(UPDATE)
    answer_question("yes", by=user)
    ends = [json.loads(note.data)["question"]["ended"]["how"] for note in notes_of(other_user)]
    assert ends == ["withdrawn", "withdrawn"]
    kept = [str(note.id) for note in notes_of(user)]
    assert sorted(json.loads(AskedQuestion.objects.get(job=job.id).details)["notifications"]) == sorted(kept)


@pytest.mark.parametrize("end", ["answered", "cancelled"])
def test_not_after_the_end(user, end):
    job = ask(user)
    if end == "answered":
        answer_question("yes", by=user)
    else:
        cancel([job.id])
    advance(2 * HOUR)
    assert len(Notification.objects.filter(title="Ship?")) == 1


def test_each_who_was_asked(user, other_user):
    ask(user, to=[user.pk, other_user.pk])
    advance(2 * HOUR)
    for one in (user, other_user):
        earlier, later = notes_of(one)
        assert earlier.archived_at and later.open_question and unread(one) == 1
    answer_question("yes", by=other_user)
    assert not Notification.objects.exclude(open_question=None).exists()
    assert unread(user) == unread(other_user) == 0


def test_those_who_are_still_active(user, other_user):
    ask(user, to=[user.pk, other_user.pk])
    other_user.is_active = False
    other_user.save()
    advance(2 * HOUR)
    assert (len(notes_of(user)), len(notes_of(other_user))) == (2, 1)
    answer_question("yes", by=user)
    assert not Notification.objects.exclude(open_question=None).exists()


def test_staff_if_nobody_else_is_left(user, make_user):
    staff = make_user("staff")
    staff.user_permissions.add(Permission.objects.get(codename="answer_question"))
    ask(user)
    user.is_active = False
    user.save()
    advance(2 * HOUR)
    (note,) = notes_of(staff)
    assert note.open_question
    answer_question("yes", by=staff)
    assert not Notification.objects.exclude(open_question=None).exists()


def test_nobody_is_left(user, caplog):
    """The next time comes nevertheless, and the job waits."""
    job = ask(user)
    user.is_active = False
    user.save()
    advance(2 * HOUR)
    assert "No one can answer the question" in caplog.text
    assert AskedQuestion.objects.get().remind_at == AskedQuestion.objects.get().created_at + 24 * HOUR
    job.refresh_from_db()
    assert job.state == "waiting"


class TestAddresseesWhoLeave:
    """While the job waits, without a reminder."""

    @pytest.fixture
    def staff(self, make_user):
        staff = make_user("staff")
        staff.user_permissions.add(Permission.objects.get(codename="answer_question"))
        return staff

    def search(self):
        run_duty(UPDATE)

    @pytest.mark.parametrize("is_deleted", [True, False])
    def test_staff_are_asked_once(self, user, other_user, make_user, staff, is_deleted):
        """Only the questions of which nobody is left."""
        third = make_user("third")
        jobs = [
            ask(user, to=to, remind_hours=[])
            for to in ([other_user.pk], [other_user.pk, third.pk], [third.pk], [other_user.pk])
        ]
        if is_deleted:
            other_user.delete()
        else:
            type(other_user).objects.filter(pk=other_user.pk).update(is_active=False)
        for _ in range(2):
            self.search()
        assert {note.job for note in notes_of(staff)} == {jobs[0].id, jobs[3].id}
        assert len(notes_of(staff)) == unread(staff) == 2
        assert Notification.objects.filter(user=third).count() == 2
        answer(jobs[0], "ship", "yes", user=staff)
        run_jobs()
        jobs[0].refresh_from_db()
        assert (jobs[0].state, unread(staff)) == ("succeeded", 1)

    def test_two_searches_ask_once(self, user, other_user, staff):
        """A backend takes longer than the interval, after which another process searches too."""
        ask(user, to=other_user.pk, remind_hours=[])
        other_user.delete()
        with preceded('FROM "auth_user"', self.search) as meanwhile:
            self.search()
        assert meanwhile
        assert len(notes_of(staff)) == 1

    def test_without_staff_it_waits(self, user, other_user, caplog):
        """It is logged once for each question."""
        for _ in range(3):
            ask(user, to=other_user.pk, remind_hours=[])
        other_user.delete()
        for _ in range(2):
            self.search()
        assert caplog.text.count("No one can answer the question") == 3
        assert set(Job.objects.values_list("state", flat=True)) == {"waiting"}


def test_it_comes_later_if_users_cannot_be_read(user):
    """As while a directory of the project is away: nothing else would remind of the question."""
    ask(user, remind_hours=[1])
    clock.advance(2 * HOUR)
    with refused('FROM "auth_user"', times=1), pytest.raises(Error):
        reminders.remind_of_due()
    assert len(notes_of(user)) == 1
    advance(timedelta(minutes=2))
    assert len(notes_of(user)) == 2
    assert AskedQuestion.objects.get().remind_at is None


def test_it_is_delivered_like_the_first(user, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "DELIVERY": {"*": [{"email": 600}]}}
    ask(user)
    advance(2 * HOUR)
    _, later = notes_of(user)
    assert Delivery.objects.filter(notification=later.id).count() == 1


def test_a_question_whose_job_is_locked_holds_up_no_other(user, other_user):
    if not lock_query(Job.objects.all()).query.select_for_update:
        pytest.skip("SQLite locks no rows.")
    locked, free = ask(user), ask(other_user)
    clock.advance(2 * HOUR)
    is_locked, may_end = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Job.objects.select_for_update().get(id=locked.id)
            is_locked.set()
            may_end.wait(60)

    def remind():
        assert is_locked.wait(60)
        reminders.remind_of_due()
        may_end.set()

    run_in_threads(hold, remind)
    assert (len(notes_of(user)), len(notes_of(other_user))) == (1, 2)
    reminders.remind_of_due()
    assert len(notes_of(user)) == 2
    assert AskedQuestion.objects.get(job=free.id).remind_at


def test_answers_race_with_reminders(user, other_user):
    """Whichever comes first, nobody keeps a notification of a question that was answered."""
    jobs = [ask(user, to=[user.pk, other_user.pk]) for _ in range(10)]
    clock.advance(2 * HOUR)

    def answer_all():
        for job in jobs:
            answer(job, "ship", "yes", user=other_user)

    def remind():
        for _ in range(5):
            reminders.remind_of_due()

    run_in_threads(answer_all, remind, remind)
    run_jobs()
    assert {job.state for job in Job.objects.all()} == {"succeeded"}
    assert not Notification.objects.exclude(open_question=None).exists()
    assert unread(other_user) == 0
    reminded = Notification.objects.filter(body__startswith="Reminder", user=other_user)
    assert all(note.read_at for note in reminded)
