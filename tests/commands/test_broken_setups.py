"""`manage.py notifications doctor` turns red, or yellow, for each broken set-up, with its remedy."""

import json
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from importlib import metadata
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from notifications import outbound
from notifications.api import notify
from notifications.contrib.deliveries.models import ChannelOutage
from notifications.management import pause_queue
from notifications.management.diagnosis import configuration
from notifications.models import Job, Notification, Stream, Worker
from notifications.worker import Lease
from tests.contrib.engines.conftest import engine_process, idle_engine, wait_long  # noqa: F401 (fixtures)
from tests.jobs import tasks
from tests.jobs.conftest import live_worker  # noqa: F401 (a fixture)
from tests.support.site import ROOT
from tests.support.statements import refused
from tests.test_checks import unapplied_migration

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.database_law,
    pytest.mark.nightly_on_old_django,
]

#: The name of a case, and what doctor must find: the check, its state, and a part of the remedy.
CASES = {}


def case(check, state, remedy):
    """Register a function that breaks the set-up; it gets the fixtures by ``fixture(name)``."""

    def register(break_setup):
        CASES[break_setup.__name__] = (break_setup, check, state, remedy)
        return break_setup

    return register


def configure(fixture, **options):
    settings = fixture("settings")
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, **options}


@case("E002", "error", "Write NOTIFICATIONS = {...}")
def notifications_is_no_dict(fixture):
    fixture("settings").NOTIFICATIONS = ["CONCURRENCY"]


@case("E002", "error", "CONCURRENCY")
def a_misspelled_setting(fixture):
    configure(fixture, CONCURENCY=5)


@case("W022", "error", "Write either")
def a_schedule_without_a_time(fixture):
    configure(fixture, SCHEDULES={"nightly": {"task": "tests.jobs.tasks.noop"}})


@case("W021", "error", "dotted path")
def a_schedule_of_a_missing_task(fixture):
    configure(fixture, SCHEDULES={"nightly": {"task": "tests.jobs.tasks.missing", "cron": "0 3 * * *"}})


@case("schedules", "warning", "Create the user")
def a_schedule_of_a_missing_user(fixture):
    schedule = {"task": "tests.jobs.tasks.noop", "cron": "0 3 * * *"}
    configure(fixture, SCHEDULES={"nightly": {**schedule, "owner": "nobody"}})


@case("schedules", "warning", "Add a user to the group")
def a_schedule_of_an_empty_group(fixture):
    schedule = {"task": "tests.jobs.tasks.noop", "cron": "0 3 * * *"}
    configure(fixture, SCHEDULES={"nightly": {**schedule, "group": "Operators"}})


@case("E003", "error", "notifications.E003")
def a_setting_of_the_wrong_type(fixture):
    configure(fixture, CONCURRENCY="many")


@case("E004", "error", "")
def a_lease_that_is_too_short(fixture):
    configure(fixture, LEASE=1)


@case("W009", "error", "limits")
def limits_that_are_no_numbers(fixture):
    settings = fixture("settings")
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"mail": "few"}}}}


@case("W011", "error", "policies")
def a_policy_with_an_unknown_option(fixture):
    settings = fixture("settings")
    options = {"policies": {"shop.tasks.*": {"retries": 5}}}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}


@case("W027", "error", "dotted path")
def a_handler_without_its_task(fixture):
    configure(fixture, HANDLERS={"job.failed": ["tests.jobs.tasks.missing"]})


@case("W026", "error", "job.succeeded")
def a_handler_of_an_unknown_event(fixture):
    configure(fixture, HANDLERS={"job.done": ["tests.jobs.tasks.noop"]})


@case("W028", "error", "def tell_crm(event)")
def a_handler_without_a_parameter(fixture):
    configure(fixture, HANDLERS={"job.failed": ["tests.jobs.tasks.fail_with_what_is_no_json"]})


@case("W003", "warning", "notifications.jobs.backend.JobBackend")
def no_backend_of_the_app(fixture):
    settings = fixture("settings")
    package = "django.tasks" if hasattr(settings, "TASKS") and has_django_tasks() else "django_tasks"
    settings.TASKS = {"default": {"BACKEND": f"{package}.backends.dummy.DummyBackend"}}


@case("settings", "error", "Correct what has raised it.")
def urls_that_cannot_be_imported(fixture):
    fixture("settings").ROOT_URLCONF = "no.such.urls"


@case("W002", "warning", "include(")
def urls_that_are_not_mounted(fixture):
    fixture("settings").ROOT_URLCONF = __name__


def enter(fixture, context):
    """Enter a context until the end of the test."""
    context.__enter__()
    fixture("request").addfinalizer(lambda: context.__exit__(None, None, None))


@case("database", "error", "Check DATABASES")
def a_database_that_is_away(fixture):
    enter(fixture, refused(""))


@case("tables", "error", "Run manage.py migrate.")
def migrations_that_are_not_applied(fixture):
    enter(fixture, unapplied_migration())


@case("W012", "error", "CREATE INDEX")
def an_index_that_is_missing(fixture):
    [index] = [index for index in Job._meta.indexes if index.name == "notifications_job_queued"]
    with connection.schema_editor() as editor:
        editor.remove_index(Job, index)

    def create():
        with connection.schema_editor() as editor:
            editor.add_index(Job, index)

    fixture("request").addfinalizer(create)


@case("W013", "warning", "NTP")
def clocks_that_differ(fixture):
    fixture("jobs_clock").advance(90)


@case("numbering", "error", "Start a web process or a worker")
def changes_that_no_process_numbers(fixture):
    notify(fixture("user"), "Hello")
    Notification.objects.update(seq=None)


@case("positions", "error", "manage.py notifications doctor --recount")
def rows_above_the_head_of_their_stream(fixture):
    notify(fixture("user"), "Hello")
    Stream.objects.all().delete()


@case("unread", "error", "manage.py notifications doctor --recount")
def a_wrong_unread_count(fixture):
    notify(fixture("user"), "Hello")
    Stream.objects.update(unread=7)


@case("doorbell", "error", "CHANNEL_LAYERS")
def a_channel_layer_that_is_away(fixture):
    fixture("set_bounds")(checks=0.5)
    layer = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://127.0.0.1:9/0"]},
    }
    fixture("settings").CHANNEL_LAYERS = {"default": layer}


@case("versions", "warning", "socket_timeout")
def a_version_of_redis_that_closes_connections(fixture):
    a_channel_layer_that_is_away(fixture)
    fixture("monkeypatch").setattr(
        configuration, "version", lambda name: "8.0.1" if name == "redis" else metadata.version(name)
    )


@case("old tasks", "warning", "django_tasks_db_dbtaskresult (default)")
def tasks_that_were_enqueued_before_the_switch(fixture):
    table = "django_tasks_db_dbtaskresult"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} (backend_name varchar(32), status varchar(10))")
        fixture("request").addfinalizer(lambda: connection.cursor().execute(f"DROP TABLE {table}"))
        cursor.execute(f"INSERT INTO {table} VALUES ('default', 'READY'), ('default', 'SUCCESSFUL')")


@case("workers", "error", "set EMBEDDED_WORKER, and call get_asgi_application() of notifications.asgi")
def jobs_without_a_worker(fixture):
    tasks.noop.enqueue()
    wait_for_a_minute()


@case("workers", "error", "with --queue for each")
def a_queue_that_no_worker_takes(fixture):
    Worker.objects.filter(id=fixture("live_worker")(60)).update(queues="mail")
    tasks.noop.using(queue_name="forgotten").enqueue()
    wait_for_a_minute()


@case("round trip", "error", "Check the log of the workers")
def a_worker_that_is_frozen(fixture):
    fixture("live_worker")(60)


@case("lost jobs", "error", "Start a worker, which runs them again")
def a_worker_that_was_lost(fixture):
    id = fixture("live_worker")(-60)
    job = tasks.noop.enqueue().id
    Job.objects.filter(id=job).update(state="running", worker=id, attempt=1)


@case("queues", "warning", "manage.py notifications jobs resume default")
def a_queue_that_was_left_paused(fixture):
    tasks.noop.enqueue()
    pause_queue("default")


@case("e-mail", "warning", "Check the address and the port")
def a_mail_server_that_does_not_answer(fixture):
    until = timezone.now() + timedelta(minutes=1)
    ChannelOutage.objects.create(channel="email", timeouts=3, suspended_until=until)


@case("outbound", "warning", "called again automatically")
def a_server_whose_circuit_is_open(fixture):
    worker_lease = Lease(queues=(), concurrency=1, load=lambda: 0)
    worker_lease._insert_row()
    circuit = outbound.overview.circuits.get("https://api.example.com").shared
    try:
        circuit.open("it fails")
        worker_lease._extend()
    finally:
        outbound.overview.circuits.reset()


@case("origin", "error", "ALLOWED_HOSTS")
def a_host_that_is_not_allowed(fixture):
    fixture("settings").ALLOWED_HOSTS = ["testserver"]
    return ["--origin", "https://other.example"]


@case("origin", "error", "scheme, host and port")
def a_page_that_is_no_origin(fixture):
    return ["--origin", "example.com"]


@case("database", "warning", '"transaction_mode": "IMMEDIATE"')
def sqlite_with_its_default_options(fixture):
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no such options.")
    fixture("monkeypatch").setitem(connection.settings_dict, "OPTIONS", {})


@case("engine", "error", "TASKS['default']")
def an_engine_that_cannot_be_set_up(fixture):
    fixture("idle_engine")
    settings = fixture("settings")
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"engine": "no.such.engine"}}}


@case("engine", "error", "Start its broker")
def an_engine_whose_broker_is_away(fixture):
    fixture("idle_engine").error = ConnectionError("Connection refused")


@case("engine", "error", "Start its broker")
def an_engine_whose_broker_is_silent(fixture):
    import threading

    fixture("set_bounds")(checks=0.2)
    fixture("idle_engine").wait = threading.Event()


@case("engine", "error", "Start a process of Idle")
def an_engine_without_processes(fixture):
    fixture("idle_engine")
    tasks.noop.enqueue()
    wait_long()


@case("ready", "error", "Start one: manage.py run_jobs")
def a_probe_without_a_worker(fixture):
    return ["--live"]


@case("ready", "error", "Check DATABASES")
def a_probe_without_a_database(fixture):
    enter(fixture, refused(""))
    return ["--live"]


@case("ready", "error", "Correct TASKS or NOTIFICATIONS")
def a_probe_with_a_backend_that_is_missing(fixture):
    fixture("settings").TASKS = {"default": {"BACKEND": "no.such.Backend"}}
    return ["--live"]


@case("ready", "error", "Correct TASKS or NOTIFICATIONS")
def a_probe_with_tasks_that_are_no_dict(fixture):
    fixture("settings").TASKS = ["default"]
    return ["--live"]


urlpatterns = []  # of urls_that_are_not_mounted


def has_django_tasks():
    try:
        import django.tasks  # noqa: F401
    except ImportError:
        return False
    return True


def wait_for_a_minute():
    Job.objects.update(queued_at=timezone.now() - timedelta(seconds=60))


def diagnose(arguments):
    """Return the findings by check, and the text of the error that ended the command, if one did."""
    out, error = StringIO(), ""
    try:
        call_command("notifications", "doctor", "--json", *arguments, stdout=out)
    except CommandError as exc:
        error = str(exc)
    return {finding["check"]: finding for finding in map(json.loads, out.getvalue().splitlines())}, error


@pytest.mark.parametrize("name", CASES)
def test_a_broken_setup(name, request, set_bounds):
    """The check names the problem and the remedy, and an error ends the command with 1."""
    set_bounds(checks=0.3)
    break_setup, check, state, remedy = CASES[name]
    arguments = break_setup(request.getfixturevalue) or ["--timeout", "0.1"]
    try:
        findings, error = diagnose(arguments)
    finally:
        with suppress(pytest.FixtureLookupError, AttributeError):
            if name == "an_engine_whose_broker_is_silent":
                request.getfixturevalue("idle_engine").wait.set()
    assert check in findings, findings
    found = findings[check]
    assert found["state"] == state and found["message"], found
    assert found["remedy"] and remedy in found["remedy"] + found["message"], found
    assert (check in error) == (state == "error"), error


@pytest.mark.django_db
def test_all_that_is_wrong_with_the_settings_is_named(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "CONCURENCY": 5, "CONCURRENCY": "many"}
    findings, error = diagnose([])
    assert {"E002", "E003"} <= findings.keys(), findings
    assert "E002" in error and "E003" in error, error


DOCTOR = """
from django.conf import settings
settings.TASKS = {tasks}
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "notifications", "doctor", "--json", *{arguments}])
"""


@pytest.mark.nightly_names("*[arguments1-*")
@pytest.mark.parametrize(
    "tasks", ["{'default': {'BACKEND': 'no.such.Backend'}}", "{'default': {}}", "['default']"]
)
@pytest.mark.parametrize(("arguments", "check"), [(["--live"], "ready"), ([], "settings")])
def test_process_with_wrong_tasks(tasks, arguments, check, site):
    """It starts nevertheless, although the app declares tasks of its own, and the finding says what is wrong."""
    code = DOCTOR.format(tasks=tasks, arguments=arguments)
    process = subprocess.run(
        [sys.executable, "-c", code], env=site.env(), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    found = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    assert process.returncode == 1 and "Traceback" not in process.stderr, process.stderr
    assert [finding["check"] for finding in found if finding["state"] == "error"] == [check]


def test_there_are_enough_of_them():
    assert len(CASES) >= 20
