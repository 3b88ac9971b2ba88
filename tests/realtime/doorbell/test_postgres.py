"""PostgreSQL as the doorbell's transport: when NOTIFY is sent, and on which connection LISTEN runs."""

import pytest

from tests.realtime.ringing import ListenerProcess, ring

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN notifications_doorbell'"


@pytest.mark.smoke
def test_notify_is_sent_after_the_commit(postgres_site):
    """NOTIFY is a separate statement after the commit: inside the transaction it would serialize all commits."""
    order = """
from django.db import connection
from notifications.realtime.doorbell import postgres
order, send = [], postgres.PostgresPublisher._send
def record_and_send(self, db, users, queue, changes):
    assert db.connection is connection.connection
    assert db.connection.info.transaction_status == 0  # idle
    order.append(f"notify {users}")
    return send(self, db, users, queue, changes)
postgres.PostgresPublisher._send = record_and_send
with connection.execute_wrapper(lambda run, sql, *args: order.append(sql) or run(sql, *args)):
    with transaction.atomic():
        streams.ring([1])
        order.append("end")
assert order == ["end", "notify [1]"], order
"""
    ring(postgres_site, order)


def test_changes_are_carried(postgres_site):
    """One in its ring, and several that are combined; one with too many bytes for NOTIFY only rings."""
    listener = ListenerProcess(postgres_site)
    code = """
import uuid
from django.contrib.auth import get_user_model
from notifications.api import notify
from notifications.models import Epoch
postgres.COALESCE_SECONDS = 0.3
Epoch.objects.get_or_create(id=1, defaults={"value": uuid.uuid4()})  # as the first client does
users = [get_user_model().objects.create_user(f"user{n}").pk for n in range(4)]
for user in users[:3]:
    notify(user, "Жанна's 🎉")
notify(users[3], "large", body="€" * 2000, data={"text": "€" * 1000})
at = users[0]
"""
    first = int(ring(postgres_site, code))
    listener.until(lambda listener: listener.users >= set(range(first, first + 4)))
    carried = {int(user): changes for call in listener.calls for user, changes in call["changes"].items()}
    assert [len(carried[first + number]) for number in range(4)] == [1, 1, 1, 0]
    assert all("Жанна's 🎉" in carried[first + number][0][-1] for number in range(3))
    assert len(listener.calls) == 2


def test_rings_in_quick_succession_are_combined(postgres_site):
    """The first ring is sent on the committing connection; a thread sends the others together, also at process exit."""
    listener = ListenerProcess(postgres_site)
    code = """
from django.db import connections
from notifications.realtime.doorbell import postgres
postgres.COALESCE_SECONDS = 0.3
used, send = [], postgres.PostgresPublisher._send
postgres.PostgresPublisher._send = lambda self, db, *ring: used.append(db) or send(self, db, *ring)
for user in range(1, 21):
    streams.ring([user], queue=user == 7)
assert used == [connections["default"]], used
"""
    ring(postgres_site, code)
    listener.until(lambda listener: listener.users == set(range(1, 21)))
    assert len(listener.calls) == 2
    assert [call["queue"] for call in listener.calls] == [False, True]


def test_publisher_thread_closes_its_connection(postgres_site):
    """The idle publisher closes its connection, which would keep a test runner from dropping the database.

    Later rings open a new one.
    """
    again = """
import threading
from django.db import connection
from notifications.realtime.doorbell import doorbell

postgres.COALESCE_SECONDS = 1  # all but the first ring are left to the thread, also on a busy machine

def count():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]

for _ in range(2):
    before = count()
    for user in range(5):
        streams.ring([user])
    assert doorbell.transport.publisher._thread.is_running
    while doorbell.transport.publisher._thread.is_running or count() > before:
        time.sleep(0.01)
    assert doorbell.transport.publisher._flushed.is_set()
"""
    ring(postgres_site, again)


def test_broken_connection_loses_a_ring_only(postgres_site):
    """If the connection breaks before NOTIFY, the commit stands and the next use opens a new connection."""
    broken = """
from django.db import connection
from django.contrib.auth import get_user_model
with connection.cursor() as cursor:
    cursor.execute("SELECT pg_backend_pid()")
    (pid,) = cursor.fetchone()
other = connection.copy()
def terminate(*args):
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
with transaction.atomic():
    get_user_model().objects.create(username="committed")
    transaction.on_commit(terminate)
    streams.ring([1])
assert connection.errors_occurred
connection.close_if_unusable_or_obsolete()
assert get_user_model().objects.filter(username="committed").exists()
other.close()
"""
    ring(postgres_site, broken)


def test_a_server_that_has_become_read_only_is_left(postgres_site):
    """It answers a probe, but those who write ring at another server: the listener connects anew."""
    name = postgres_site.database_url.rpartition("/")[2]
    with_short_probes = """
from notifications.realtime.doorbell import postgres
postgres.PROBE_SECONDS = 0.2
"""
    listener = ListenerProcess(postgres_site, then=with_short_probes)
    postgres_site.write([(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on', ())])
    terminate = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN notifications_doorbell'"
    )
    postgres_site.rows(f"{terminate} AND datname = current_database()")
    listener.process.wait_for_line("PostgreSQL has become read-only")
    reset = f'ALTER DATABASE "{name}" RESET default_transaction_read_only'
    postgres_site.write([("SET TRANSACTION READ WRITE", ()), (reset, ())])
    listener.ring_until_received(postgres_site, 8)


def test_foreign_payloads_are_ignored(postgres_site):
    """Payloads that are not rings are ignored: any database user can send on any channel."""
    listener = ListenerProcess(postgres_site)
    texts = ["", "no json", "[1]", '{"type": "doorbell", "users": ["x"]}', "\\u0000"]
    ring(
        postgres_site,
        f"""
from django.db import connection
with connection.cursor() as cursor:
    for text in {texts!r}:
        cursor.execute("SELECT pg_notify('notifications_doorbell', %s)", [text])
streams.ring([2])
""",
    )
    listener.wait_for_user(2)
    assert listener.users == {2}
    assert "A thread failed" not in listener.process.output


def test_connection_is_closed_with_the_last_callback(postgres_site):
    """A process listens on one connection for all callbacks, and closes it with the last callback."""
    code = """
import threading
from django.db import connection
from notifications.realtime import doorbell

def count():
    with connection.cursor() as cursor:
        cursor.execute({!r})
        return cursor.fetchone()[0]

stops = [doorbell.listen(lambda users, queue: None) for _ in range(3)]
listener = doorbell.doorbell._listener
while not listener.is_listening:
    time.sleep(0.01)
assert count() == 1
for stop in stops:
    assert count() == 1
    stop()
while count():
    time.sleep(0.01)
assert not listener.is_running
"""
    ring(postgres_site, code.format(LISTENING))


def test_connection_is_not_taken_from_the_pool(postgres_site):
    """The listener's connection is not taken from the project's pool, which may have only one connection."""
    pooled = """
from django.db import connection, connections
from notifications.realtime import doorbell
connections.settings["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
connection.settings_dict["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
doorbell.listen(lambda users, queue: None)
while not doorbell.doorbell._listener.is_listening:
    time.sleep(0.01)
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
connection.close()
connection.close_pool()
"""
    ring(postgres_site, pooled)


def test_an_answer_to_the_probe_that_is_there_at_once(postgres_site):
    """The answer may be read together with what came before: the connection works, and is not made again."""
    code = """
from notifications.realtime.doorbell import postgres
postgres.PROBE_SECONDS, postgres.PROBE_ANSWER_SECONDS = 0.05, 2

class SlowConnection:
    probes = 0
    def __init__(self, pgconn):
        self._pgconn = pgconn
    def __getattr__(self, name):
        return getattr(self._pgconn, name)
    def flush(self):
        self._pgconn.flush()
        time.sleep(0.1)
        SlowConnection.probes += 1

receive, connections = postgres.PostgresListener._receive, []
def receive_slowly(self, pgconn):
    connections.append(pgconn)
    receive(self, SlowConnection(pgconn))
postgres.PostgresListener._receive = receive_slowly
listener = postgres.PostgresListener("here", lambda *args, **kwargs: None)
while SlowConnection.probes < 5:
    time.sleep(0.01)
listener.stop()
assert len(connections) == 1, connections
"""
    ring(postgres_site, code)
