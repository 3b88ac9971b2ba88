"""A script that sends a form of a page is told by the status whether it was done: 2xx, and nothing else."""

import re
from contextlib import nullcontext

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from notifications.contrib.deliveries.models import Reader
from notifications.http import bind_to_user
from notifications.models import uuid7
from tests.http.conftest import assert_problem
from tests.support.offenders import collect_offenders
from tests.support.statements import refused

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/notifications/preferences/"
JSON = {"Accept": "application/json"}


@pytest.fixture
def strict_client(client_of, user):
    """Return a client of ``user`` whose CSRF tokens are checked."""
    return client_of(user, enforce_csrf_checks=True)


def test_signed_out():
    """401 for each page; a browser is led to the page to sign in, whose 200 a script would take for success."""

    number_of_pages = 0
    with collect_offenders() as offenders:
        for pattern in get_resolver("notifications.urls").url_patterns:
            path = re.sub(r"<uuid:\w+>", str(uuid7()), str(pattern.pattern))
            url = "/notifications/" + re.sub(r"<(int|str):\w+>", "0", path)
            for method in ("GET", "POST"):
                if Client().generic(method, url).status_code != 302:
                    continue
                number_of_pages += 1
                with offenders.row(f"{method} {url}"):
                    assert_problem(Client().generic(method, url, headers=JSON), 401)
    assert number_of_pages > 30


def test_done(user, strict_client):
    """With the token in the header, and without the redirect to a page that the script does not show."""
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', strict_client.get(PAGE).text).group(1)
    response = strict_client.post(PAGE, {"digest_hour": "3"}, headers={**JSON, "X-CSRFToken": token})
    assert response.status_code == 200
    assert response.json() == {"location": f"{PAGE}?saved=1"}
    assert Reader.objects.get(user=user.pk).digest_hour == 3


def test_forged(user, strict_client):
    assert (
        "X-Csrftoken"
        in assert_problem(strict_client.post(PAGE, {"digest_hour": "3"}, headers=JSON), 403)["detail"]
    )
    assert not Reader.objects.exists()


def test_page_of_another_user(other_user, strict_client, user_client):
    url = bind_to_user(PAGE, other_user.pk)
    assert (
        "different user"
        in assert_problem(user_client.post(url, {"digest_hour": "3"}, headers=JSON), 401)["detail"]
    )
    assert not Reader.objects.exists()


def test_refused(user_client, settings):
    """As by a page, but as a problem document."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CATEGORIES": {"security": {"required": True}}}
    unavailable = refused("notifications_deliveries_reader")
    for url, body, status, failure in (
        (PAGE, {"digest_hour": "x"}, 400, nullcontext()),
        ("/notifications/mute/", {"category": "security"}, 409, nullcontext()),
        (PAGE, {"digest_hour": "3"}, 503, unavailable),
    ):
        with failure:
            assert_problem(user_client.post(url, body, headers=JSON), status)
            assert user_client.post(url, body).status_code == status
    job = reverse("notifications:job-cancel", args=[uuid7()])
    assert user_client.post(job, headers=JSON).status_code == 404
