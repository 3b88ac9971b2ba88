"""Rings between processes: the same behavior with each transport."""

import json
from datetime import UTC, datetime

import pytest

from tests.realtime.ringing import ListenerProcess, ring
from tests.support.rings_only import LISTENING

pytestmark = pytest.mark.nightly_names("*[channels_redis.core.RedisChannelLayer]")

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


def layers(backend, url):
    return {"default": {"BACKEND": backend, "CONFIG": {"hosts": [url]}}}


@pytest.fixture(params=["sqlite", "postgres", CORE, PUBSUB])
def joined_site(request):
    """A site whose processes ring one another with this transport. No process runs yet."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_site")
    site = request.getfixturevalue("site")
    if request.param == "sqlite":
        if site.database_url.startswith("postgres"):
            pytest.skip("needs a SQLite file")
    else:
        redis = request.getfixturevalue("redis")
        site.environment["TEST_CHANNEL_LAYERS"] = json.dumps(layers(request.param, redis.url))
    return site


def test_rings_reach_other_processes_after_the_commit(joined_site):
    """Committed rings of a process that exits immediately reach another process, rolled-back rings do not.

    The users may need several messages; the queue flag arrives once.
    """
    listener = ListenerProcess(joined_site)
    committed_after = ring(
        joined_site,
        """
with transaction.atomic():
    streams.ring([1], queue=True)
    time.sleep(0.3)
    at = time.time()
""",
    )
    first = listener.wait_for_user(1)
    assert first["queue"]
    assert committed_after <= first["at"]

    ring(
        joined_site,
        """
try:
    with transaction.atomic():
        streams.ring([2])
        1 / 0
except ZeroDivisionError:
    streams.ring(range(1000, 3000))
""",
    )
    listener.until(lambda listener: listener.users >= set(range(1000, 3000)))
    assert listener.users == {1, *range(1000, 3000)}
    assert [call["queue"] for call in listener.calls].count(True) == 1


@pytest.mark.nightly_names("*[channels_redis.pubsub.*", "*[sqlite]")
def test_own_rings_arrive_once(joined_site):
    """A process receives its own ring once, although each transport delivers its own messages too."""
    listener = ListenerProcess(joined_site, then="streams.ring([5])")
    listener.wait_for_user(5)
    ring(joined_site, "streams.ring([6])")
    listener.wait_for_user(6)
    assert sum(5 in call["users"] for call in listener.calls) == 1


@pytest.mark.nightly_names("*[channels_redis.pubsub.*", "*[sqlite]")
def test_forked_process_listens_and_rings(joined_site):
    """A forked process listens and rings with its own connection and threads, and the parent keeps listening."""
    code = """
child = os.fork()
if not child:
    listen()
    from django.db import connections
    connections.close_all()
    streams.ring([5])
"""
    listener = ListenerProcess(joined_site, then=code)
    parent = listener.process.pid
    listener.until(
        lambda listener: any(call["pid"] == parent and 5 in call["users"] for call in listener.calls)
    )
    ring(joined_site, "streams.ring([6])")
    listener.until(lambda listener: len({call["pid"] for call in listener.calls if 6 in call["users"]}) == 2)


@pytest.mark.nightly_names("*[channels_redis.pubsub.*")
def test_worker_is_woken_and_outcome_rings(joined_site):
    """Without polling, an enqueue wakes a worker in another process, and the outcome rings a third process."""
    joined_site.environment["EMBEDDED_WORKER"] = "0"
    joined_site.change("tests.support.rings_only")
    joined_site.start_worker().wait_for_line(LISTENING)
    listener = ListenerProcess(joined_site)
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
    ring(joined_site, enqueue)
    demo = joined_site.rows("SELECT id FROM auth_user WHERE username = 'demo'")[0][0]
    last = max(
        timestamp(finished) for (finished,) in joined_site.rows("SELECT finished_at FROM notifications_job")
    )
    listener.until(
        lambda listener: any(demo in call["users"] and call["at"] >= last for call in listener.calls)
    )


def timestamp(value):
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
