"""Turns: shares of jobs, their order, and what is said of the place of a job."""

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse
from django.utils import timezone

from notifications.api import batch, policy, task
from notifications.jobs import JobFilter, retry, turns
from notifications.management import queue_depths
from notifications.models import Job, Queue, QueueClock, uuid7
from tests.jobs import tasks
from tests.support.checks import doctor
from tests.support.claims import claim_rows
from tests.support.waiting import wait_until

pytestmark = pytest.mark.django_db


@task
@policy(share="tenant {tenant}")
async def of_tenant(tenant):
    return None


@pytest.fixture(autouse=True)
def exact_clocks(set_bounds):
    """Store the turns that have begun after each claim."""
    set_bounds(known=0.0)


@pytest.fixture
def people():
    create = get_user_model().objects.create_user
    return [create(username=name) for name in ("flood", "person")]


@pytest.fixture
def flood(people):
    return [tasks.noop.using(owner=people[0]).enqueue() for _ in range(30)]


def ids(results):
    return [result.id for result in results]


def claim(limit):
    return [str(job.id) for job in claim_rows(uuid7(), limit)]


def test_shares(people):
    """The share is what the policy names, the owner, or the task."""
    of_tenant.using(owner=people[0]).enqueue("7")
    tasks.noop.using(owner=people[0]).enqueue()
    tasks.noop.enqueue()
    shares = Job.objects.order_by("id").values_list("share_name", flat=True)
    assert list(shares) == ["tenant 7", f"user:{people[0].pk}", "task:tests.jobs.tasks.noop"]


def test_one_job_beside_a_flood(people, flood):
    """A job of another share begins after one of the flood, and the order within a share stays."""
    assert claim(4) == ids(flood[:4])
    single = tasks.noop.using(owner=people[1]).enqueue()
    assert claim(2) == [flood[4].id, single.id]
    assert QueueClock.objects.get().turn >= 4


def test_a_batch_beside_a_flood(people, flood):
    """Its jobs, whose turns one query reads, begin no earlier than one that is enqueued alone."""
    claim(4)
    with batch(owner=people[1]):
        single = tasks.noop.enqueue()
    assert claim(2) == [flood[4].id, single.id]


def test_the_clock_moves_though_claims_of_others_leave_nothing(people, set_bounds):
    """Those of async jobs, while sync ones wait for threads: newcomers would go before them for ever."""
    set_bounds(known=0.05)
    with batch():
        for _ in range(500):
            tasks.noop_sync.using(owner=people[0]).enqueue()

    def claim_each():
        claim_rows(uuid7(), 1, executors={"sync": 1})
        assert not claim_rows(uuid7(), 5, executors={"async": 5})
        return QueueClock.objects.exists()

    wait_until(claim_each, timeout=10, what="the clock to move")


def test_a_batch_takes_a_turn_for_each_job(people, flood):
    with batch(owner=people[1]):
        batched = [tasks.noop.using(owner=people[1]).enqueue() for _ in range(10)]
    of_flood = set(ids(flood))
    claimed = claim(20)
    assert abs(len(of_flood & set(claimed)) - 10) <= 1
    assert [id for id in claimed if id not in of_flood] == ids(batched)[
        : len(claimed) - len(of_flood & set(claimed))
    ]


def test_jobs_of_a_batch_have_the_share_of_its_owner(people):
    """Batches of two people take turns, though their jobs have no owner; a policy's share counts before it."""
    for person, count in zip(people, (10, 3), strict=True):
        with batch(owner=person):
            for _ in range(count):
                tasks.noop.enqueue()
            with batch():
                tasks.noop.enqueue()
    begun = Job.objects.filter(id__in=claim(6)).values_list("share_name", flat=True)
    assert sorted(begun) == sorted(3 * [f"user:{person.pk}" for person in people])
    with batch(owner=people[0]):
        of_tenant.enqueue("7")
    with batch():
        tasks.noop.using(owner=people[1]).enqueue()
        tasks.noop.enqueue()
    shares = list(Job.objects.order_by("id").values_list("share_name", flat=True)[20:])
    assert [share for share in shares if share] == [
        "tenant 7",
        f"user:{people[1].pk}",
        "task:tests.jobs.tasks.noop",
    ]


def test_jobs_that_are_retried_by_hand_take_turns(people, flood, django_capture_on_commit_callbacks):
    """A thousand retried jobs do not go before those of others, though they are older."""
    failed = ids(flood)
    Job.objects.filter(id__in=failed).update(state="failed", seq=None, turn=0)
    singles = [tasks.noop.using(owner=people[1]).enqueue() for _ in range(3)]
    with django_capture_on_commit_callbacks(execute=True):
        retry(failed)
    assert Job.objects.filter(id__in=failed, turn__gt=0).count() == len(failed)
    assert set(ids(singles)) <= set(claim(7))


def test_delayed_jobs_that_are_to_begin_now_take_turns(people, flood, django_capture_on_commit_callbacks):
    Job.objects.filter(id__in=ids(flood)).update(
        run_after="2100-01-01T00:00Z", due_at="2100-01-01T00:00Z", turn=0
    )
    singles = [tasks.noop.using(owner=people[1]).enqueue() for _ in range(3)]
    with django_capture_on_commit_callbacks(execute=True):
        list(JobFilter().change("run_now"))
    assert Job.objects.filter(id__in=ids(flood), turn__gt=0).count() == len(flood)
    assert set(ids(singles)) <= set(claim(7))


def test_a_named_share_outlasts_a_delay(people, django_capture_on_commit_callbacks):
    job = of_tenant.using(owner=people[0]).enqueue("7").id
    for moment in (timezone.now() + timedelta(hours=1), None):
        with django_capture_on_commit_callbacks(execute=True):
            list(JobFilter(search=job).change("reschedule" if moment else "run_now", run_at=moment))
    assert Job.objects.get().share_name == "tenant 7"


def test_place(people, flood, client):
    """The API and the page of a queued job say how many of its share are before it; others' do not count."""
    for _ in range(5):
        tasks.noop.using(owner=people[1]).enqueue()
    client.force_login(people[0])
    url = reverse("notifications:api-job-place", args=[flood[7].id])
    assert client.get(url).json() == {"before": 7}
    assert "7 jobs before it" in client.get(reverse("notifications:job", args=[flood[7].id])).content.decode()
    claim(36)
    assert client.get(url).json() == {"before": None}
    client.force_login(people[1])
    assert client.get(url).status_code == 404


def test_doctor_names_a_large_share(people, flood):
    """Of a queue of which it holds over half for over a minute; not that of a paused queue."""
    assert doctor("shares")[0]["state"] == "ok" and queue_depths().find_large_shares() == []
    Job.objects.update(queued_at="2020-01-01T00:00Z")
    (share,) = queue_depths().find_large_shares()
    assert (share.share, share.jobs, share.total) == (f"user:{people[0].pk}", 30, 30)
    (warning,) = doctor("shares")
    assert f"user:{people[0].pk} has 30 of 30 in default" in warning["message"]
    for _ in range(30):
        tasks.noop.using(owner=people[1]).enqueue()
    assert queue_depths().find_large_shares() == []
    tasks.noop.using(owner=people[1]).enqueue()
    Job.objects.update(queued_at="2020-01-01T00:00Z")
    assert [share[:4] for share in queue_depths().find_large_shares()] == [
        ("default", f"user:{people[1].pk}", 31, 61)
    ]
    Queue.objects.create(name="default", paused_at="2026-01-01T00:00Z")
    assert queue_depths().find_large_shares() == []


def test_what_a_process_knows_of_a_share_is_soon_read_again(people, monkeypatch, set_bounds):
    """A transaction that was rolled back costs a share turns for a moment only."""
    set_bounds(known=60)
    owner = tasks.noop.using(owner=people[0])
    owner.enqueue()
    key, (last, until) = next(
        (key, value) for key, value in turns._last_turns.items() if key[2] == f"user:{people[0].pk}"
    )
    monkeypatch.setitem(turns._last_turns, key, (last + 1_000, until))
    assert Job.objects.get(id=owner.enqueue().id).turn > 1_000
    monkeypatch.setitem(turns._last_turns, key, (last + 9_000, until - 60))
    assert Job.objects.get(id=owner.enqueue().id).turn < 2_000
