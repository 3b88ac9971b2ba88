"""Whose job it is."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.utils.functional import SimpleLazyObject

from notifications.api import accepted, requester
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = pytest.mark.django_db


@pytest.fixture
def people():
    return [get_user_model().objects.create_user(name) for name in ("using", "request", "requester")]


def owner(result):
    return Job.objects.get(id=result.id).user_id


def ask_in_request(rf, user, ask):
    request = rf.post("/")
    request.user = user
    asked = []

    def work():
        asked.append(ask())
        return asked[0]

    assert accepted(request, work).status_code == 202
    return asked[0]


def test_precedence(people, rf):
    """.using(owner=…), then the request of accepted(), then requester(), then nobody."""
    told, asking, requesting = people
    with requester(requesting):
        assert owner(ask_in_request(rf, asking, lambda: tasks.noop.using(owner=told).enqueue())) == told.pk
        assert owner(ask_in_request(rf, asking, tasks.noop.enqueue)) == asking.pk
        assert owner(tasks.noop.enqueue()) == requesting.pk
    assert owner(tasks.noop.enqueue()) is None


def test_keys_are_owners_too(people):
    """A primary key, its text, or a lazy user, as request.user is."""
    user = people[0]
    for value in (user.pk, str(user.pk), SimpleLazyObject(lambda: user)):
        assert owner(tasks.noop.using(owner=value).enqueue()) == user.pk


def test_nobody_signed_in_is_nobody(people, rf):
    """An anonymous user owns nothing; who comes next in the order does."""
    assert owner(ask_in_request(rf, AnonymousUser(), tasks.noop.enqueue)) is None
    with requester(people[0]):
        assert owner(tasks.noop.using(owner=AnonymousUser()).enqueue()) == people[0].pk


def test_requester_ends_with_its_block(people):
    with requester(people[0]):
        with requester(people[1]):
            assert owner(tasks.noop.enqueue()) == people[1].pk
        assert owner(tasks.noop.enqueue()) == people[0].pk
    assert owner(tasks.noop.enqueue()) is None


@pytest.mark.parametrize("parent", [tasks.ask_child, tasks.ask_child_sync])
def test_children_inherit(people, parent):
    """What a job enqueues belongs to its owner, and so on; nothing of it stays with who runs the jobs."""
    result = parent.using(owner=people[0]).enqueue()
    assert run_jobs() == 2
    result.refresh()
    assert Job.objects.get(id=result.return_value).user_id == people[0].pk
    assert owner(tasks.noop.enqueue()) is None


def test_a_job_is_not_owned_by_who_runs_it(people):
    """The requester of the code that runs jobs in a test has nothing to do with their children."""
    result = tasks.ask_child.using(owner=people[0]).enqueue()
    orphan = tasks.ask_child.enqueue()
    with requester(people[1]):
        run_jobs()
    for parent, expected in ((result, people[0].pk), (orphan, None)):
        parent.refresh()
        assert Job.objects.get(id=parent.return_value).user_id == expected
