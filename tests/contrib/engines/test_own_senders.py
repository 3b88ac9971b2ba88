"""Webhooks, push messages and e-mails of a project with an engine: a few of their ids are out for each process."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications.contrib.deliveries.sending import MAX_PER_USER, deliver, deliver_async
from notifications.contrib.engines import dispatching, own_senders
from notifications.contrib.engines.interface import dispatched_job
from notifications.ids import uuid7
from notifications.jobs.transitions import claims
from notifications.models import Job
from tests.jobs import tasks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("with_engine"),
    pytest.mark.with_all_apps("the senders are those of deliveries"),
]


def enqueue(count):
    """Enqueue jobs of senders; return their ids."""
    return [deliver.enqueue(str(uuid7()), str(uuid7())).id for _ in range(count)]


def dispatch():
    return own_senders.dispatch_sender_jobs()


def test_they_wait_until_there_is_room(engine_process):
    """Eight for each process: those that are sent, and those that run. The project's own go to their engine at once."""
    engine_process()
    enqueue(own_senders.MAX_PER_PROCESS + 3)
    tasks.noop.enqueue()
    assert set(Job.objects.values_list("executor", flat=True)) == {"engine_sender", "dispatched"}
    sent = dispatch()
    assert len(sent) == own_senders.MAX_PER_PROCESS and dispatch() == []
    claimed, _ = claims.claim_dispatched_jobs(uuid7(), [job.id for job in sent[:5]])
    assert len(claimed) == 5 and {each.row.executor for each in claimed} == {"engine_sender"}
    assert dispatch() == []
    Job.objects.filter(id__in=[each.row.id for each in claimed[:2]]).update(state="succeeded", worker=None)
    assert len(dispatch()) == 2
    engine_process()
    assert len(dispatch()) == 1


def test_a_lost_id_is_sent_again(engine_process):
    engine_process()
    enqueue(1)
    (job,) = dispatch()
    assert dispatch() == []
    Job.objects.update(next_dispatch_at=timezone.now() - timedelta(seconds=1))
    assert [each.id for each in dispatch()] == [job.id]


def test_an_engine_that_cannot_be_reached_gets_one(engine_process):
    engine_process()
    enqueue(3)
    assert len(own_senders.dispatch_sender_jobs({"default"})) == 1


def test_no_user_takes_all_places(engine_process, user, other_user):
    """Of one user at most eight are out, so a job of another one is among the first sixteen."""
    for _ in range(2):
        engine_process()
    for _ in range(20):
        deliver_async.enqueue(str(uuid7()), str(user.pk))
    neighbor = deliver_async.enqueue(str(uuid7()), str(other_user.pk)).id
    sent = {str(job.id) for job in dispatch()}
    assert neighbor in sent and len(sent) == MAX_PER_USER + 1


def test_what_a_process_could_not_claim_is_sent_again(engine_process):
    engine_process()
    enqueue(1)
    (job,) = dispatch()
    assert dispatching.take_back([job.id]) == set()
    assert [each.id for each in dispatch()] == [job.id]


def test_emails_take_no_place_of_the_engine(engine_process):
    """A process runs them on threads of its own, beside what the engine gives it: as async jobs."""
    for id, is_beside in ((enqueue(1)[0], True), (tasks.noop_sync.enqueue().id, False)):
        assert dispatched_job(Job.objects.get(id=id)).is_async == is_beside


def test_ids_that_could_not_be_sent_for_long_are_sent_soon_after(engine_process):
    """They keep others from their turn, so their intervals do not grow with the length of an outage."""
    engine_process()
    enqueue(1)
    for _ in range(12):
        (job,) = dispatch()
        dispatching.postpone_unsent([dispatched_job(job)])
        Job.objects.update(next_dispatch_at=timezone.now() - timedelta(seconds=1))
    dispatch()
    job = Job.objects.get()
    assert (
        job.next_dispatch_at - timezone.now()
    ).total_seconds() <= 1.25 * dispatching.FIRST_INTERVAL_SECONDS
    Job.objects.update(next_dispatch_at=None, dispatch_count=20)
    dispatch()
    job = Job.objects.get()
    assert (job.next_dispatch_at - timezone.now()).total_seconds() <= 1.25 * own_senders.MAX_INTERVAL_SECONDS
