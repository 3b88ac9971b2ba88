"""The owner of a job."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.utils.functional import SimpleLazyObject

from notifications.api import accepted, requester
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = pytest.mark.django_db


@pytest.fixture
def users(make_user):
    return [make_user(name) for name in ("using", "request", "requester")]


def owner_of(result):
    return Job.objects.get(id=result.id).user_id


def enqueue_in_request(rf, user, enqueue):
    request = rf.post("/")
    request.user = user
    enqueued = []

    def work():
        enqueued.append(enqueue())
        return enqueued[0]

    assert accepted(request, work).status_code == 202
    return enqueued[0]


def test_precedence(users, rf):
    """.using(owner=…), then the request of accepted(), then requester(), then none."""
    owner, request_user, requesting_user = users
    with requester(requesting_user):
        with_owner = tasks.noop.using(owner=owner)
        assert owner_of(enqueue_in_request(rf, request_user, with_owner.enqueue)) == owner.pk
        assert owner_of(enqueue_in_request(rf, request_user, tasks.noop.enqueue)) == request_user.pk
        assert owner_of(tasks.noop.enqueue()) == requesting_user.pk
    assert owner_of(tasks.noop.enqueue()) is None


def test_an_owner_may_be_a_key_or_lazy(users):
    """A primary key, its text, or a lazy user, as request.user is."""
    user = users[0]
    for value in (user.pk, str(user.pk), SimpleLazyObject(lambda: user)):
        assert owner_of(tasks.noop.using(owner=value).enqueue()) == user.pk


def test_an_anonymous_user_is_skipped(users, rf):
    """The next user in the order of precedence owns the job."""
    assert owner_of(enqueue_in_request(rf, AnonymousUser(), tasks.noop.enqueue)) is None
    with requester(users[0]):
        assert owner_of(tasks.noop.using(owner=AnonymousUser()).enqueue()) == users[0].pk


@pytest.mark.parametrize("count", [0, 2])
def test_an_owner_is_one_user(users, count):
    with pytest.raises(ValueError, match=f"one user, not {count}"):
        tasks.noop.using(owner=users[:count]).enqueue()


def test_requester_ends_with_its_block(users):
    with requester(users[0]):
        with requester(users[1]):
            assert owner_of(tasks.noop.enqueue()) == users[1].pk
        assert owner_of(tasks.noop.enqueue()) == users[0].pk
    assert owner_of(tasks.noop.enqueue()) is None


@pytest.mark.parametrize("parent", [tasks.ask_child, tasks.ask_child_sync])
def test_children_inherit_the_owner(users, parent):
    """After the jobs, the thread that ran them has no owner set."""
    result = parent.using(owner=users[0]).enqueue()
    assert run_jobs() == 2
    result.refresh()
    assert Job.objects.get(id=result.return_value).user_id == users[0].pk
    assert owner_of(tasks.noop.enqueue()) is None


def test_children_do_not_inherit_the_requester_of_the_runner(users):
    """A requester() around run_jobs() has no effect on what the jobs enqueue."""
    result = tasks.ask_child.using(owner=users[0]).enqueue()
    without_owner = tasks.ask_child.enqueue()
    with requester(users[1]):
        run_jobs()
    for parent, expected in ((result, users[0].pk), (without_owner, None)):
        parent.refresh()
        assert Job.objects.get(id=parent.return_value).user_id == expected
