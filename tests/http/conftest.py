"""Fixtures and helpers for tests of HTTP responses."""

import pytest

from notifications.signals import rung
from tests.realtime.conftest import send_request as asgi  # noqa: F401 (a fixture: requests by ASGI)

#: Headers of a browser that loads a page.
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = "tests.http.views"


@pytest.fixture
def user_client(client_of, user):
    """Return a client of ``user`` that turns exceptions of views into responses with status 500."""
    return client_of(user, raise_request_exception=False)


def job_url(job, tail=""):
    return f"/notifications/api/jobs/{job.pk}/{tail}"


def assert_problem(response, status):
    """Assert that a response is a complete problem document (RFC 9457). Returns the document."""
    content_type = response["Content-Type"]
    assert (response.status_code, content_type) == (status, "application/problem+json"), response.content
    assert "no-store" in response["Cache-Control"]
    document = response.json()
    assert document["status"] == status and document["type"] and document["title"]
    assert document["detail"].endswith(".")
    return document


@pytest.fixture
def rings(transactional_db):
    """The rings of this process: the users of each."""
    users_of_rings = []

    def record_ring(users, **kwargs):
        users_of_rings.append(users)

    rung.connect(record_ring)
    yield users_of_rings
    rung.disconnect(record_ring)
