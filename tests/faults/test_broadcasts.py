"""Workers are killed while they send or withdraw a broadcast: each recipient is notified once."""

import pytest

from tests.support.faults.engine import TIMEOUT_SECONDS, Engine
from tests.support.faults.statement_faults import INSERT
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly

PROGRESS = r'UPDATE "?notifications_broadcasts_broadcast"? SET'
#: Where a worker dies, or loses its connection, while it sends. The job has one attempt more than these.
MOMENTS = (
    f"SIGKILL after {PROGRESS}",
    f"SIGKILL after {INSERT.format('notification')}",
    f"SIGKILL after {INSERT.format('stream')}",
    f"LOSE_RESPONSE after {PROGRESS}",
)
SEND = """
from django.contrib.auth import get_user_model
from notifications import times
from notifications.contrib.broadcasts import starting
from notifications.contrib.broadcasts.models import Broadcast
users = get_user_model()
users.objects.bulk_create([users(username=f"user{{n}}", is_active=n > 0) for n in range({count})])
admin = users.objects.get(username="admin")
row = Broadcast(sender_id=admin.pk, title="Maintenance", level="info", audience_kind="everybody",
                audience_text="Everybody", recipients={count}, created_at=times.now())
assert starting.begin_sending(row, url="/")
"""
WITHDRAW = """
from django.contrib.auth import get_user_model
from notifications.contrib.broadcasts import starting
from notifications.contrib.broadcasts.models import Broadcast
admin = get_user_model().objects.get(username="admin")
assert starting.begin_withdrawal(Broadcast.objects.get().pk, by=admin, url="/")
"""
#: Of the notifications of the broadcast: users, rows, and those that are unread, have no number, or are miscounted.
TOTALS = """
SELECT count(DISTINCT n.user_id), count(*), sum(CASE WHEN n.archived_at IS NULL THEN 1 ELSE 0 END),
       sum(CASE WHEN n.seq IS NULL THEN 1 ELSE 0 END), sum(CASE WHEN s.head < n.seq THEN 1 ELSE 0 END)
FROM notifications_notification n JOIN notifications_stream s ON s.user_id = n.user_id WHERE broadcast IS NOT NULL
"""
#: Streams whose unread count differs from their unread notifications.
MISCOUNTED = """
SELECT count(*) FROM notifications_stream s WHERE unread <> (SELECT count(*) FROM notifications_notification n
WHERE n.user_id = s.user_id AND read_at IS NULL AND archived_at IS NULL)
"""


def broadcast(site):
    [row] = site.rows("SELECT state, sent, withdrawn FROM notifications_broadcasts_broadcast")
    return row


def wait_for_state(site, state):
    wait_until(lambda: broadcast(site)[0] == state, timeout=300, what=f"the broadcast to be {state}")


def assert_totals(site, *, users, unread):
    wait_until(lambda: site.rows(TOTALS) == [(users, users, unread, 0, 0)], what="all rows to be numbered")
    assert site.rows(MISCOUNTED) == [(0,)]


@pytest.fixture
def engine(site):
    engine = Engine(site, "broadcasts")
    yield engine
    engine.close()


@pytest.mark.timeout(600)
def test_kills_at_the_worst_moments(engine):
    """A worker dies after it has moved the position, inserted notifications or locked streams, or after its commit."""
    site = engine.site
    site.python(SEND.format(count=700))
    for moment in MOMENTS[:-1]:
        worker = engine.start_worker(fault=moment)
        wait_until(
            lambda worker=worker: not worker.running,
            timeout=2 * TIMEOUT_SECONDS,
            what=f"the worker to die: {moment}",
        )
        assert worker.popen.returncode == -9, worker.output
    engine.start_worker(fault=MOMENTS[-1])
    wait_for_state(site, "sent")
    # demo, other and admin are users too; user0 is not active.
    assert broadcast(site) == ("sent", 702, 0)
    assert_totals(site, users=702, unread=702)


@pytest.mark.timeout(900)
def test_kills_while_it_is_sent_and_withdrawn(site):
    """By a signal from outside, at any statement, and without receivers of signals."""
    site.environment["EMBEDDED_WORKER"] = "0"
    site.python(SEND.format(count=2_500))
    for least in (300, 1_000):
        worker = site.start_worker()
        worker.wait_until(
            lambda least=least: broadcast(site)[1] >= least, what=f"{least} to be sent", timeout=300
        )
        worker.kill()
    worker = site.start_worker()
    wait_for_state(site, "sent")
    assert broadcast(site) == ("sent", 2_502, 0)
    assert_totals(site, users=2_502, unread=2_502)
    site.python(WITHDRAW)
    worker.wait_until(lambda: broadcast(site)[2] >= 500, what="500 to be withdrawn", timeout=300)
    worker.kill()
    site.start_worker()
    wait_for_state(site, "withdrawn")
    assert broadcast(site) == ("withdrawn", 2_502, 2_502)
    assert_totals(site, users=2_502, unread=0)
