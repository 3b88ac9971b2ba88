"""Somebody who asks over HTTP."""

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from tests.realtime.conftest import ask as asgi  # noqa: F401 (a fixture: requests by ASGI)

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = "tests.http.views"


@pytest.fixture
def ada(db):
    return get_user_model().objects.create_user("ada")


@pytest.fixture
def bob(db):
    return get_user_model().objects.create_user("bob")


@pytest.fixture
def client(ada):
    """Ada's."""
    return signed_in(ada)


def signed_in(user):
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def assert_problem(answer, status):
    """The answer is a problem as RFC 9457 has it, with words. Returns it."""
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), (
        answer.content
    )
    assert "no-store" in answer["Cache-Control"]
    told = answer.json()
    assert told["status"] == status and told["type"] and told["title"]
    return told
