"""The header of a message proves who the owner of its job is."""

from types import SimpleNamespace

import pytest
from django.core import signing

from notifications.contrib.celery.observations import Observation
from tests.support.celery_worker import require_celery

ID = "0b0f1a0e-3f5e-4f43-8f4c-1f3b1d6c3a11"


@pytest.fixture
def headers():
    require_celery()
    from notifications.contrib.celery import headers

    return headers


@pytest.fixture
def header(headers):
    return headers.JobHeader(id=ID, user="7", title="Export", url="/exports/", language="en")


def test_a_header_is_read_as_it_was_written(headers, header):
    assert headers.decode(headers.encode(header), ID) == header


def test_messages_without_a_header(headers):
    """Those of protocol 1 have empty headers."""
    from celery.app.task import Context

    from notifications.contrib.celery.messages import received_header

    assert [received_header(Context(headers=value)) for value in (None, {}, {"a": 1})] == [None] * 3
    assert received_header(Context(headers={headers.NAME: "x"})) == "x"
    assert received_header(Context({headers.NAME: "x"}, headers={})) == "x"


@pytest.mark.parametrize(
    "forge",
    [
        lambda headers, header: signing.dumps({"id": ID, "user": "1"}, salt="another"),
        lambda headers, header: headers.encode(header)[:-2] + "xx",
        lambda headers, header: signing.dumps({"id": ID, "user": "1"}, salt=headers.SALT),
        lambda headers, header: signing.dumps([1], salt=headers.SALT),
        lambda headers, header: {"id": ID, "user": "1"},
        lambda headers, header: 3,
    ],
)
def test_a_forged_header_is_ignored_and_logged(headers, header, forge, caplog):
    assert headers.decode(forge(headers, header), ID) is None
    assert "Ignored the header of Celery task" in caplog.text


def test_a_header_of_another_task_is_ignored(headers, header, caplog):
    assert headers.decode(headers.encode(header), "another") is None
    assert "it was made for task" in caplog.text


def test_an_old_header_is_ignored(headers, header, monkeypatch):
    value = headers.encode(header)
    monkeypatch.setattr(headers, "MAX_AGE_SECONDS", -1)
    assert headers.decode(value, ID) is None


def test_a_job_of_a_forged_message_has_no_owner_but_the_declared_one(headers, header, user, celery_app):
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
