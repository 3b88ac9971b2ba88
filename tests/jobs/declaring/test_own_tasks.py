"""The policies of the app's own tasks, and the queue of jobs of its senders."""

import pytest
from django.db import OperationalError
from django.utils.module_loading import import_string

from notifications.extension import hooks
from notifications.jobs.declaring import own_tasks
from notifications.jobs.declaring.policies import declared_policy

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]
BACKEND = {"BACKEND": "notifications.jobs.backend.JobBackend"}


def test_queue_of_a_backend_that_lists_its_queues(settings):
    names = {}
    for queues in ([], ["default", "deliveries"], ["default", "slow"], ["b", "a"]):
        settings.TASKS = {"default": {**BACKEND, "QUEUES": queues}}
        names[tuple(queues)] = own_tasks.sender_queue_name()
    assert list(names.values()) == ["deliveries", "deliveries", "default", "a"]


def test_queue_of_an_engine(settings):
    """Its workers may serve the queues only that they are started with."""
    engine = {"OPTIONS": {"engine": "tests.contrib.engines.recording_engine"}}
    for queues, expected in (([], "default"), (["default", "deliveries"], "deliveries")):
        settings.TASKS = {"default": {**BACKEND, **engine, "QUEUES": queues}}
        assert own_tasks.sender_queue_name() == expected


@pytest.mark.with_all_apps("these have tasks")
def test_each_is_tried_again_while_the_database_is_away():
    """A policy names only what is particular to its task."""
    for path in (*hooks.own_tasks, "notifications.contrib.broadcasts.sending.send_broadcast"):
        assert OperationalError in declared_policy(import_string(path).func).retry_on
