"""PostgreSQL as a way between processes: when NOTIFY is said, and whose connection listens."""

from tests.realtime.ringing import Ear, ring

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN notifications_doorbell'"


def test_notify_is_a_statement_of_its_own_after_the_commit(postgres_site):
    """Inside the transaction it would make all commits of the database wait for one another."""
    order = """
from django.db import connection
from django.test.utils import CaptureQueriesContext
with CaptureQueriesContext(connection) as captured:
    with transaction.atomic():
        streams.ring([1])
said = [query["sql"].split("(")[0] for query in captured]
assert said == ["BEGIN", "COMMIT", "SELECT pg_notify"], said
"""
    ring(postgres_site, order)


def test_rings_one_after_the_other_are_told_together(postgres_site):
    """The first by the connection that committed, the others by a thread, also at the end of the process."""
    ear = Ear(postgres_site)
    loop = """
from django.db import connection
from django.test.utils import CaptureQueriesContext
from notifications.realtime import doorbell_postgres
doorbell_postgres.GATHER = 0.3
with CaptureQueriesContext(connection) as captured:
    for user in range(1, 21):
        streams.ring([user], queue=user == 7)
assert len(captured) == 1, captured.captured_queries
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
