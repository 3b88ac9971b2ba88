"""Queues that are paused and resumed."""

import uuid

import pytest
from django.db import transaction

from notifications.jobs import due, queues, states
from notifications.models import Job, Queue
from notifications.signals import rung
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def test_nothing_of_a_paused_queue_begins():
    """Others go on; resumed, it goes on too."""
    queues.pause("reports")
    paused, other = tasks.noop.using(queue_name="reports").enqueue(), tasks.noop.enqueue()
    assert run_jobs() == 1
    assert Job.objects.get(id=other.id).state == "succeeded"
    assert not due.is_due()
    assert states.claim(uuid.uuid4(), 10) == []
    assert states.claim(uuid.uuid4(), 10, queues=["reports"]) == []
    assert not due.is_due(["reports"])
    queues.resume("reports")
    assert due.is_due()
    assert run_jobs() == 1
    assert Job.objects.get(id=paused.id).state == "succeeded"


def test_running_ones_end(worker, gate):
    """Only the beginning is put off."""
    result = tasks.hold.enqueue()
    wait_until(lambda: tasks.held, what="the job to run")
    queues.pause("default")
    gate.set()
    assert until_done(result)[0].state == "succeeded"


def test_a_worker_hears_that_a_queue_is_resumed(worker):
    queues.pause("default")
    result = tasks.noop.enqueue()
    rings = []

    def hear(queue, **kwargs):
        rings.append(queue)

    rung.connect(hear)
    try:
        queues.resume("default")
    finally:
        rung.disconnect(hear)
    assert rings == [True]
    until_done(result)


def test_again_and_never_paused():
    """Pausing twice and resuming what runs change nothing."""
    for _ in range(2):
        queues.pause("default")
    assert Queue.objects.count() == 1
    for _ in range(2):
        queues.resume("default")
    queues.resume("reports")
    assert not Queue.objects.filter(paused_at__isnull=False).exists()


def test_in_a_transaction_it_is_put_off():
    with transaction.atomic():
        queues.pause("default")
        assert not Queue.objects.exists()
    assert Queue.objects.get().paused_at is not None


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_names_that_no_queue_has(name):
    with pytest.raises(ValueError, match="There is no queue"):
        queues.pause(name)


def test_a_queue_that_the_settings_do_not_know(settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["default", "mail"]}}
    with pytest.raises(ValueError, match=r"There is no queue 'mial'\. The settings know: default, mail\."):
        queues.pause("mial")
    queues.pause("mail")
