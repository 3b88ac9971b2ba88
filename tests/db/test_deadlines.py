"""Threads of the app's own give a silent PostgreSQL up; others wait as the project has configured it."""

import json
import logging
import subprocess
import sys
import threading

import pytest
from django.core.checks import Info
from django.db import DatabaseError, OperationalError, connection, connections

from notifications import testing
from notifications.db.deadlines import OPTIONS, limit_answers, limit_this_thread, set_options_of_this_thread
from notifications.extension import Check, Extension
from notifications.worker import DaemonExecutor, check_connections
from tests.support.checks import doctor
from tests.support.extensions import install
from tests.support.site import ROOT

pytestmark = pytest.mark.nightly_on_old_django


@pytest.fixture
def on_postgresql(transactional_db):
    if connection.vendor != "postgresql":
        pytest.skip("Only PostgreSQL is at the other end of a network. Run with --database postgres.")


def in_thread(work):
    """Do some work in a thread of its own; return what it returns or the error that it raises."""
    done = []

    def run():
        try:
            done.append(work())
        except DatabaseError as exc:
            done.append(exc)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="a-thread")
    thread.start()
    thread.join()
    return done[0]


def sleep(seconds):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])
        return "slept"


def test_the_limit_of_a_block_ends_with_it(on_postgresql):
    """A thread of the project's, as the one of ``call_command("notifications", "doctor", "--live")``, keeps none."""

    def work():
        sleep(0)  # the connection is open
        with pytest.raises(OperationalError, match="did not answer"), limit_answers(0.3):
            sleep(30)
        connection.close_if_unusable_or_obsolete()
        return sleep(0.6)

    assert in_thread(work) == "slept"


class SleepingCheck(Check):
    def __init__(self, id, seconds):
        self.id, self.seconds = id, seconds

    def find(self, examination):
        yield Info(sleep(self.seconds))


class SlowApp(Extension):
    name, label = "notifications.testing", "slow"

    def checks(self):
        return [SleepingCheck("slow", 30), SleepingCheck("next", 0)]


def test_doctor_limits_each_check(on_postgresql, monkeypatch, set_bounds):
    """What the database does not answer is a finding, and the checks after it are asked."""
    install(monkeypatch, SlowApp("notifications.testing", testing))
    set_bounds(statements=0.3)
    slow, following = doctor("slow", "next")
    assert slow["state"] == "error" and "did not answer" in slow["message"]
    assert following["message"] == "slept"


def test_a_limited_thread_gives_up_and_goes_on(on_postgresql, caplog):
    """The connection is logged and closed; the next one answers."""

    def work():
        limit_this_thread(0.5)
        with pytest.raises(OperationalError, match="did not answer"):
            sleep(30)
        assert connection.connection.closed
        connection.close_if_unusable_or_obsolete()
        return sleep(0)

    with caplog.at_level(logging.WARNING, "notifications.database"):
        assert in_thread(work) == "slept"
    (line,) = caplog.messages
    assert line == "Discarded a database connection that did not answer for 0.5 s: thread a-thread"


def test_answers_within_the_limit_are_waited_for(on_postgresql):
    """However many there are: the limit is for each."""

    def work():
        limit_this_thread(2)
        return [sleep(0.5) for _ in range(6)]

    assert in_thread(work) == ["slept"] * 6


def test_other_threads_wait_as_long_as_it_takes(on_postgresql, set_bounds):
    in_thread(lambda: limit_this_thread(0.1))
    set_bounds(statements=0.1)
    assert in_thread(lambda: sleep(1)) == "slept"


def test_the_options_of_the_project_win(on_postgresql, monkeypatch):
    """They are set for the thread, and never for the settings that all threads share."""
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "connect_timeout", 3)

    def work():
        limit_this_thread()
        return connection.settings_dict["OPTIONS"]

    assert in_thread(work) == {**OPTIONS, **connections.settings["default"]["OPTIONS"]}
    assert "tcp_user_timeout" not in connections.settings["default"]["OPTIONS"]
    assert "tcp_user_timeout" not in in_thread(lambda: connection.settings_dict["OPTIONS"])


def test_the_apps_own_threads_try_no_connection_before_a_call(on_postgresql, monkeypatch):
    """That would take a round trip before each job and message. Threads of jobs do as the project says."""
    monkeypatch.setitem(connections.settings["default"], "CONN_HEALTH_CHECKS", True)
    tried = []

    def work():
        db = connections["default"]
        db.is_usable = lambda: tried.append(threading.current_thread().name) or type(db).is_usable(db)
        sleep(0)
        check_connections(keep=True)
        return sleep(0)

    assert in_thread(lambda: limit_this_thread() or work()) == "slept"
    assert not tried
    assert in_thread(work) == "slept"
    assert tried == ["a-thread"]


def test_threads_of_jobs_have_the_options_and_no_limit(on_postgresql, set_bounds):
    """A query of a job may take as long as it likes; that its packets are lost is noticed."""
    set_bounds(statements=0.1)
    threads = DaemonExecutor(1, "jobs")
    assert threads.submit(lambda: connection.settings_dict["OPTIONS"]).result(30).items() >= OPTIONS.items()
    assert threads.submit(sleep, 1).result(30) == "slept"
    threads.shutdown()


def test_a_database_without_its_driver_is_passed_over(on_postgresql, monkeypatch):
    """It costs nobody the others."""
    monkeypatch.setitem(connections.settings, "archive", {"ENGINE": "no.such.engine", "OPTIONS": {}})

    def work():
        limit_this_thread()
        options = connection.settings_dict["OPTIONS"]
        del connections.settings["archive"]
        return options

    assert in_thread(work).items() >= OPTIONS.items()


def test_threads_of_the_app_use_no_connection_of_a_pool(on_postgresql, monkeypatch):
    """Which jobs and views may use up. Those are left as the project has configured them."""

    def work(limit):
        limit()
        return connection.settings_dict["OPTIONS"]

    options = connections.settings["default"]["OPTIONS"]
    # Only here: the connection of the test itself, which empties the tables afterwards, is of no pool.
    with monkeypatch.context() as patch:
        patch.setitem(options, "pool", {"min_size": 1})
        own = in_thread(lambda: work(limit_this_thread))
        assert own.items() >= OPTIONS.items() and "pool" not in own
        assert in_thread(lambda: work(set_options_of_this_thread)) == options
        with limit_answers():
            assert in_thread(lambda: work(lambda: None))["pool"] == {"min_size": 1}


#: Connects with no, one, two … free descriptors, on a thread of the app, and prints the class of each error.
PROGRAM_WITHOUT_DESCRIPTORS = """
import gc, json, os, resource
import django
from django.conf import settings
apps = ["django.contrib.auth", "django.contrib.contenttypes", "notifications"]
settings.configure(DATABASES={{"default": {database!r}}}, INSTALLED_APPS=apps)
django.setup()
from django.db import connection
from notifications.db.thread_connections import check_connections
from notifications.db.threads import DaemonExecutor

def connect():
    connection.ensure_connection()
    connection.close()

def find_error():
    error = threads.submit(connect).exception()
    return error and f"{{type(error).__module__}}.{{type(error).__name__}}"

threads = DaemonExecutor(1, "threads")
errors = [find_error()]  # imports what it needs
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
opened = []
try:
    while True:
        opened.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for _ in range(20):
    errors.append(find_error())
    gc.collect()  # the socket of a connection that failed is closed with its traceback
    os.close(opened.pop())
print(json.dumps(errors))
"""


def test_lack_of_descriptors_is_an_error_of_the_database(on_postgresql):
    """Wherever the driver needs one. As a bare OSError it would end a job that is tried again after such errors."""
    before, without, *others, last = json.loads(run_program(PROGRAM_WITHOUT_DESCRIPTORS))
    assert (before, without, last) == (None, "django.db.utils.OperationalError", None)
    assert set(others) <= {None, "django.db.utils.OperationalError"}


def run_program(program):
    """Return what a program prints that uses the database of the test."""
    names = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")
    database = {name: connection.settings_dict[name] for name in names}
    done = subprocess.run(
        [sys.executable, "-c", program.format(database=database)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
