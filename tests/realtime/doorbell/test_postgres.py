"""PostgreSQL as a way between processes: when NOTIFY is said, and whose connection listens."""

from tests.realtime.ringing import Ear, ring

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN notifications_doorbell'"


def test_notify_is_a_statement_of_its_own_after_the_commit(postgres_site):
    """Inside the transaction it would make all commits of the database wait for one another."""
    order = """
from django.db import connection
from notifications.realtime.doorbell import postgres
order, tell = [], postgres.PostgresPublisher._tell
def telling(self, db, users, queue):
    assert db.connection is connection.connection
    assert db.connection.info.transaction_status == 0  # idle
    order.append(f"tell {users}")
    return tell(self, db, users, queue)
postgres.PostgresPublisher._tell = telling
with connection.execute_wrapper(lambda run, sql, *args: order.append(sql) or run(sql, *args)):
    with transaction.atomic():
        streams.ring([1])
        order.append("end")
assert order == ["end", "tell [1]"], order
"""
    ring(postgres_site, order)


def test_rings_one_after_the_other_are_told_together(postgres_site):
    """The first by the connection that committed, the others by a thread, also at the end of the process."""
    ear = Ear(postgres_site)
    loop = """
from django.db import connections
from notifications.realtime.doorbell import postgres
postgres.COALESCE_SECONDS = 0.3
told, tell = [], postgres.PostgresPublisher._tell
postgres.PostgresPublisher._tell = lambda self, db, *ring: told.append(db) or tell(self, db, *ring)
for user in range(1, 21):
    streams.ring([user], queue=user == 7)
assert told == [connections["default"]], told
"""
    ring(postgres_site, loop)
    ear.until(lambda ear: ear.users == set(range(1, 21)))
    assert len(ear.calls) == 2
    assert [call["queue"] for call in ear.calls] == [False, True]


def test_the_thread_that_tells_leaves_no_connection(postgres_site):
    """A test suite of the host could not drop its database; the next rings are told all the same."""
    again = """
import threading
from django.db import connection
from notifications.realtime.doorbell import doorbell

def count():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]

for _ in range(2):
    before = count()
    for user in range(5):
        streams.ring([user])
    assert doorbell._postgres._thread
    while doorbell._postgres._thread or count() > before:
        time.sleep(0.01)
    assert doorbell._postgres._told.is_set()
"""
    ring(postgres_site, again)


def test_a_connection_that_broke_costs_a_ring_only(postgres_site):
    """What was committed stays committed, and the next request gets another connection."""
    broken = """
from django.db import connection
from django.contrib.auth import get_user_model
with connection.cursor() as cursor:
    cursor.execute("SELECT pg_backend_pid()")
    (pid,) = cursor.fetchone()
other = connection.copy()
def cut(*args):
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
with transaction.atomic():
    get_user_model().objects.create(username="committed")
    transaction.on_commit(cut)
    streams.ring([1])
assert connection.errors_occurred
connection.close_if_unusable_or_obsolete()
assert get_user_model().objects.filter(username="committed").exists()
other.close()
"""
    ring(postgres_site, broken)


def test_strangers_may_say_anything(postgres_site):
    """Whoever may use the database may use its channels."""
    ear = Ear(postgres_site)
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
    ear.until_heard(2)
    assert ear.users == {2}
    assert "interrupted" not in ear.process.output


def test_the_connection_goes_with_the_last_listener(postgres_site):
    """One for the process, however many listen, and none when nobody does."""
    listens = """
import threading
from django.db import connection
from notifications.realtime import doorbell

def count():
    with connection.cursor() as cursor:
        cursor.execute({!r})
        return cursor.fetchone()[0]

stops = [doorbell.listen(lambda users, queue: None) for _ in range(3)]
watcher = doorbell.doorbell._watcher
while not watcher.hearing:
    time.sleep(0.01)
assert count() == 1
for stop in stops:
    assert count() == 1
    stop()
while count():
    time.sleep(0.01)
assert not watcher._thread.is_alive()
"""
    ring(postgres_site, listens.format(LISTENING))


def test_a_pool_keeps_its_connections(postgres_site):
    """The listening one is outside the project's pool, which may be as small as it likes."""
    pooled = """
from django.db import connection, connections
from notifications.realtime import doorbell
connections.settings["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
connection.settings_dict["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1, "timeout": 5}
doorbell.listen(lambda users, queue: None)
while not doorbell.doorbell._watcher.hearing:
    time.sleep(0.01)
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
connection.close()
connection.close_pool()
"""
    ring(postgres_site, pooled)
