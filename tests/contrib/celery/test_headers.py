"""The header of a message proves who the owner of its job is."""

import pytest
from django.core import signing

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
