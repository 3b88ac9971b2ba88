"""The URLs of a page carry a mark of its user, and are refused when a different user has signed in meanwhile."""

import json
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from notifications.api import notify
from notifications.models import Notification
from tests.data.rows import job
from tests.templatetags.test_notifications import client_data, render, script

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]


def page_urls(user):
    """Return the URLs of a page of ``user`` and the mark that its tabs share."""
    elements = render(user)
    data = script(elements)
    sync, list_, socket, job_url = (data[f"data-{name}"] for name in ("sync", "list", "socket", "job"))
    return [sync, list_, client_data(elements)["marks"]["read"], socket, job_url], data["data-user"]


def test_urls_carry_the_mark_of_the_user(user, other_user):
    pages = page_urls(user), page_urls(other_user)
    for urls, mark in pages:
        assert {parse_qs(urlsplit(url).query)["viewer"][0] for url in urls} == {mark}
    assert pages[0][1] != pages[1][1]


def test_urls_of_another_user_are_refused(user, other_user, client_of):
    """They are answered with 401, as without a session, and change nothing."""
    client = client_of(other_user)
    notify(other_user, "For Bob")
    row = job(other_user)
    for page_owner, status in ((user, 401), (other_user, 200)):
        (sync, list_, read, _, job_url), _ = page_urls(page_owner)
        job_url = job_url.replace(str(UUID(int=0)), str(row.pk))
        responses = [client.get(url) for url in (sync, f"{list_}8", job_url)]
        responses.append(client.post(read, json.dumps({"up_to": 1}), content_type="application/json"))
        assert [response.status_code for response in responses] == [status] * 4
        assert Notification.objects.filter(read_at=None).exists() == (page_owner == user)
    assert "Reload it" in client.get(page_urls(user)[0][0]).json()["detail"]
