"""The queue of jobs of the app's own senders."""

import pytest

from notifications.jobs.declaring import own_tasks

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
