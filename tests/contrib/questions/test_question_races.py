"""Answers beside the suspension of the job, the end of the time and a cancellation."""

import json
import os
import random
import threading
import time
from collections import Counter

import pytest

from notifications.contrib.questions import answer
from notifications.contrib.questions.models import AskedQuestion
from notifications.exceptions import QuestionDoesNotExist, QuestionEnded
from notifications.jobs import cancel
from notifications.models import Job, Notification
from tests.contrib.questions import question_tasks
from tests.support.threads import run_in_threads
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
]

#: Rounds, and jobs in each.
ROUNDS, JOBS = int(os.environ.get("WAIT_ROUNDS", "2")), 100


@pytest.mark.long
@pytest.mark.timeout(120 + 30 * ROUNDS)
def test_answers_race_with_suspension_expiry_and_cancellation(worker, user, other_user):
    """One answer counts, the others are told so, and no job waits for ever."""
    ends = Counter()
    for _ in range(ROUNDS):
        ends.update(race([user, other_user]))
    assert ends.total() == ROUNDS * JOBS
    assert {"answered", "expired", "cancelled"} <= ends.keys()
    print(dict(ends))


def race(users):
    task = question_tasks.ask_who.using(owner=users[0])
    asked = {"to": [user.pk for user in users]}
    jobs = [
        task.enqueue(**asked, expires_ms=random.uniform(1, 150) if number % 2 else None).id
        for number in range(JOBS)
    ]
    counted, refused = Counter(), Counter()
    is_over = threading.Event()
    cancelled = {id for id in jobs if random.random() < 0.2}
    # Two that are cancelled once they wait, and two that expire: no one answers them.
    unanswered = jobs[:4]
    cancelled.difference_update(unanswered)

    def wait_for_ends():
        rows = Job.objects.filter(id__in=jobs, state__in=("succeeded", "failed", "cancelled"))
        wait_until(lambda: rows.count() == JOBS, timeout=25, what="all jobs to end")
        is_over.set()

    def cancel_jobs():
        for id in cancelled:
            cancel([id])
            time.sleep(random.uniform(0, 0.004))
        for id in unanswered[::2]:
            wait_until(
                lambda id=id: AskedQuestion.objects.filter(job=id).exists(), what="the question to be stored"
            )
            cancel([id])

    def answer_as(user):
        def run():
            remaining = [id for id in jobs if id not in unanswered]
            while remaining:
                id = remaining.pop(0)
                try:
                    answer(id, "ship", random.choice(["yes", "no"]), user=user)
                    counted[id] += 1
                except QuestionEnded:
                    refused[id] += 1
                except QuestionDoesNotExist:  # it is not stored yet, or never is
                    if not is_over.is_set():
                        remaining.append(id)
                        time.sleep(0.0005)

        return run

    run_in_threads(wait_for_ends, cancel_jobs, *map(answer_as, users))
    stored = {str(wait.job): wait for wait in AskedQuestion.objects.all()}
    for job in Job.objects.all():
        id = str(job.id)
        wait = stored.get(id)
        assert job.waiting is None
        if wait is None:  # its cancellation was requested before it was suspended
            assert job.state == "cancelled"
            continue
        assert wait.ended_at
        assert counted[id] == (wait.how == "answered")
        assert counted[id] + refused[id] == (0 if id in unanswered else len(users))
        if job.state == "cancelled":
            assert id in {*cancelled, *unanswered[::2]}
        else:
            assert (job.state, job.result) == ("succeeded", wait.value or '"no"')
        rows = Notification.objects.filter(id__in=json.loads(wait.details)["notifications"])
        assert len(rows) == len(users)
        for row in rows:
            assert row.read_at and row.seq and json.loads(row.data)["question"]["ended"]["how"] == wait.how
    result = Counter(stored[id].how if id in stored else "cancelled" for id in jobs)
    for model in (Job, AskedQuestion, Notification):
        model.objects.all().delete()
    return result
