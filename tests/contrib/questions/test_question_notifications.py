"""The notifications of a question of many users."""

import pytest
from django.db import transaction
from django.utils import timezone

from notifications.contrib.questions.models import AskedQuestion
from notifications.contrib.questions.question_notifications import change_addressees
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


class CountedUsers(list):
    """Counts how often it is read from its start."""

    reads = 0

    def __iter__(self):
        self.reads += 1
        return super().__iter__()


def test_changes_of_many_addressees_take_linear_time(user, make_user, monkeypatch):
    """While the job is locked, neither the users nor the notifications are compared pair by pair."""
    users = [make_user(f"user{number}").pk for number in range(12)]
    result = question_tasks.ask_sync.using(owner=user).enqueue(to=users)
    run_jobs()
    job, compared = Job.objects.get(id=result.id), []
    equals = Notification.__eq__
    monkeypatch.setattr(Notification, "__eq__", lambda *rows: compared.append(rows) or equals(*rows))
    kept = CountedUsers(users[:6])
    with transaction.atomic():
        changed = change_addressees(AskedQuestion.objects.get(), job, kept, timezone.now(), is_reminder=False)
    assert changed == set(users[6:])
    assert (kept.reads <= 3, compared) == (True, [])
