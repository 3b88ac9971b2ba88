"""The jobs of messages."""

import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core import signing

from notifications import times
from notifications.contrib.celery.observations import Observation
from tests.contrib.celery.test_headers import ID, header, headers  # noqa: F401


@pytest.mark.usefixtures("celery_app")
def test_time_within_which_a_task_is_to_start():
    """It counts from the eta, and Celery's own limit counts if it is earlier."""
    from notifications.contrib.celery.messages import Message, build_job

    now = times.now()
    hour = timedelta(hours=1)

    def expiry(start_within, **options):
        message = Message(id=str(uuid.uuid4()), name="shop.tasks.pay", args=(), kwargs={}, **options)
        job = build_job(None, message, Observation(start_within=start_within), now)
        return job.expires_at and job.expires_at - now

    assert (expiry(None), expiry(3600), expiry(hour)) == (None, hour, hour)
    assert expiry(hour, eta=now + hour) == 2 * hour
    assert expiry(hour, expires=now + hour / 2) == hour / 2
    assert expiry(None, expires=now + hour / 2) == hour / 2


def test_messages_without_a_header(headers):  # noqa: F811
    """Those of protocol 1 have empty headers."""
    from celery.app.task import Context

    from notifications.contrib.celery.messages import received_header

    assert [received_header(Context(headers=value)) for value in (None, {}, {"a": 1})] == [None] * 3
    assert received_header(Context(headers={headers.NAME: "x"})) == "x"
    assert received_header(Context({headers.NAME: "x"}, headers={})) == "x"


def test_a_job_of_a_forged_message_has_no_owner_but_the_declared_one(headers, header, user, celery_app):  # noqa: F811
    from notifications.contrib.celery import messages

    def job_of(value, observation):
        request = SimpleNamespace(
            id=ID,
            headers={headers.NAME: value},
            args=[user.pk, 1],
            kwargs={},
            eta=None,
            expires=None,
            delivery_info={"routing_key": "celery"},
            is_eager=False,
        )
        name = "tests.contrib.celery.tasks.export"
        return messages.build_job(celery_app, messages.received_message(name, request), observation)

    forged = signing.dumps({"id": ID, "user": str(user.pk)}, salt="another")
    assert job_of(forged, Observation()).user_id is None
    assert job_of(forged, Observation(owner="user_id")).user_id == user.pk
    assert job_of(headers.encode(header), Observation()).user_id == 7
