"""Rings between processes: the same behaviour by every way there is."""

import json
from datetime import UTC, datetime

import pytest

from tests.realtime.ringing import Ear, ring
from tests.support.rings_only import HEARING

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


def layers(backend, url):
    return {"default": {"BACKEND": backend, "CONFIG": {"hosts": [url]}}}


@pytest.fixture(params=["sqlite", "postgres", CORE, PUBSUB])
def joined(request):
    """A site whose processes hear of one another by this way; nothing runs yet."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_site")
    site = request.getfixturevalue("site")
    if request.param == "sqlite":
        if site.database_url.startswith("postgres"):
            pytest.skip("rings by the file are SQLite's own")
    else:
        redis = request.getfixturevalue("redis")
        site.environment["TEST_CHANNEL_LAYERS"] = json.dumps(layers(request.param, redis.url))
    return site


def test_rings_reach_other_processes_after_the_commit(joined):
    """All users, also more than one message holds, the queue, and nothing of a transaction that is rolled back.

    From a process that ends at once.
    """
    ear = Ear(joined)
    before_the_commit = ring(
        joined,
        """
with transaction.atomic():
    streams.ring([1], queue=True)
    time.sleep(0.3)
    at = time.time()
""",
    )
    first = ear.until_heard(1)
    assert first["queue"]
    assert before_the_commit <= first["at"]

    ring(
        joined,
        """
try:
    with transaction.atomic():
        streams.ring([2])
        1 / 0
except ZeroDivisionError:
    streams.ring(range(1000, 3000))
""",
    )
    ear.until(lambda ear: ear.users >= set(range(1000, 3000)))
    assert ear.users == {1, *range(1000, 3000)}
    assert [call["queue"] for call in ear.calls].count(True) == 1


def test_a_process_hears_itself_once(joined):
    """Its own messages come back by every way, and are not told again."""
    ear = Ear(joined, then="streams.ring([5])")
    ear.until_heard(5)
    ring(joined, "streams.ring([6])")
    ear.until_heard(6)
    assert sum(5 in call["users"] for call in ear.calls) == 1


def test_a_forked_process_hears_and_rings(joined):
    """With a connection and threads of its own, and those of its parent go on."""
    forks = """
child = os.fork()
if not child:
    listen()
    from django.db import connections
    connections.close_all()
    streams.ring([5])
"""
    ear = Ear(joined, then=forks)
    parent = ear.process.pid
    ear.until(lambda ear: any(call["pid"] == parent and 5 in call["users"] for call in ear.calls))
    ring(joined, "streams.ring([6])")
    ear.until(lambda ear: len({call["pid"] for call in ear.calls if 6 in call["users"]}) == 2)


def test_a_worker_is_woken_and_its_outcome_pushed(joined):
    """An enqueue in one process starts a job in another, and its outcome reaches a listener in a third, by rings
    alone: none of them looks by itself."""
    joined.environment |= {"EMBEDDED_WORKER": "0", "TEST_RINGS_ONLY": "1"}
    joined.start_worker().wait_for_line(HEARING)
    ear = Ear(joined)
    enqueue = """
from tests.jobs import tasks
from tests.support.waiting import wait_until
from django.contrib.auth import get_user_model
from notifications.models import Job
demo = get_user_model().objects.get(username="demo")
for _ in range(7):
    job = tasks.add.using(owner=demo).enqueue(1, 2)
    wait_until(lambda: Job.objects.get(id=job.id).state == "succeeded")
"""
    ring(joined, enqueue)
    demo = joined.rows("SELECT id FROM auth_user WHERE username = 'demo'")[0][0]
    last = max(moment(finished) for (finished,) in joined.rows("SELECT finished_at FROM notifications_job"))
    ear.until(lambda ear: any(demo in call["users"] and call["at"] >= last for call in ear.calls))


def moment(value):
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
