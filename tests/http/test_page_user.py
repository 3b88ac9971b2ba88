"""Addresses of a page are for the user whom it was made for, whoever is signed in in its browser meanwhile."""

import json
from urllib.parse import urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from notifications.api import notify
from notifications.models import Notification
from notifications.realtime.auth import page_user
from notifications.templatetags.notifications import NO_JOB
from tests.data.rows import job
from tests.templatetags.test_notifications import render, script


@pytest.fixture
def people(transactional_db):
    return [get_user_model().objects.create_user(name) for name in ("ada", "bob")]


def addresses(user):
    data = script(render(user))
    return [data[f"data-{name}"] for name in ("sync", "list", "read", "socket", "job")], data["data-user"]


def test_a_page_has_addresses_of_its_own(people):
    """All that it asks say whose page it is, by the name that its tabs have."""
    ada, bob = (addresses(user) for user in people)
    for found, name in (ada, bob):
        assert {urlsplit(address).query for address in found} == {f"viewer={name}"}
    assert ada[1] != bob[1]


def test_they_answer_nobody_else(people, settings):
    """Somebody else's page is as that of somebody signed out, and changes nothing."""
    ada, bob = people
    client = Client()
    client.force_login(bob)
    notify(bob, "For Bob")
    row = job(bob)
    for user, status in ((ada, 401), (bob, 200)):
        (sync, list_, read, _, job_url), _ = addresses(user)
        gets = [client.get(url) for url in (sync, f"{list_}&limit=8", job_url.replace(NO_JOB, str(row.pk)))]
        post = client.post(read, json.dumps({"up_to": 1}), content_type="application/json")
        assert [answer.status_code for answer in (*gets, post)] == [status] * 4
        assert Notification.objects.filter(read_at=None).exists() == (user == ada)
    assert "Load it again" in client.get(addresses(ada)[0][0]).json()["detail"]


def test_a_new_secret_key_signs_no_page_out(people, settings):
    """While the old key is among the fallbacks, as for sessions."""
    (sync, *_), _ = addresses(people[0])
    query = urlsplit(sync).query
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new key"
    assert page_user.is_meant(query, people[0].pk)
    settings.SECRET_KEY_FALLBACKS = []
    assert not page_user.is_meant(query, people[0].pk)


@pytest.mark.parametrize(
    "query", ["viewer=", "viewer=%00", "viewer=ä", "viewer=1&viewer=2", "a=1;viewer=2&viewer="]
)
def test_a_mark_that_is_none_is_nobodys(query):
    """Also what no page was ever given."""
    assert not page_user.is_meant(query, 1)


@pytest.mark.parametrize("query", ["", "epoch=e&seq=1", "viewers", "%ff"])
def test_who_has_no_mark_needs_none(query):
    """Other clients know who they are."""
    assert page_user.is_meant(query, 1)
