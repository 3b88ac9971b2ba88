"""Staff see schedules with their runs, and pause, resume and run them with permission; the log says who did."""

import io
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.utils import timezone

from notifications.contrib.schedules.admin import describe_tick
from notifications.contrib.schedules.models import Schedule, Tick
from notifications.models import Job
from notifications.testing import run_jobs

pytestmark = pytest.mark.nightly_on_postgres

LIST = "/admin/notifications_schedules/schedule/"


@pytest.fixture
def declared(settings, db):
    """One schedule is declared, one was."""
    schedules = {"poll": {"task": "tests.jobs.tasks.noop", "every": timedelta(minutes=10), "owner": "ada"}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": schedules}
    call_command("notifications", "schedules", "list", stdout=io.StringIO())
    row = Schedule.objects.get()
    row.name, row.timing, row.task_path, row.next_tick = "old", "0 3 * * * UTC", "gone.task", None
    row.save(force_insert=True)


def run_by_hand():
    call_command("notifications", "schedules", "run", "poll", stdout=io.StringIO())
    return Job.objects.get().id


def act(client, action, *names):
    return client.post(LIST, {"action": action, "_selected_action": names}, follow=True)


def press(client, button):
    """Submit the form of a button of the page of a schedule."""
    page = client.get(f"{LIST}poll/change/").text
    [form] = re.findall(rf'<input type="submit"[^>]* form="([^"]+)" value="{button}">', page)
    [(url, fields)] = re.findall(rf'<form id="{form}" method="post" action="([^"]+)">(.*?)</form>', page)
    return client.post(url, dict(re.findall(r'name="(\w+)" value="([^"]*)"', fields)), follow=True)


def without_year(response):
    """Return a page whose times in 2027 read as if that was the current year."""
    return response.text.replace(", 2027", "")


def messages_of(response):
    return [str(message) for message in response.context["messages"]]


def test_list_and_page(client, sign_in_staff, declared):
    """State, next and last run; a schedule that was removed says so. What is declared is listed without a worker."""
    Schedule.objects.filter(name="poll").delete()
    sign_in_staff("view_schedule", "view_job")
    page = client.get(LIST).content.decode()
    assert "Not declared" in page and "every 600 s" in page and "UTC" in page
    job = run_by_hand()
    run_jobs()
    Tick.objects.update(job_state="succeeded")
    job_url = f"/admin/notifications/job/{job}/change/"
    assert "Succeeded (run by hand)" in client.get(LIST).content.decode()
    page = client.get(f"{LIST}poll/change/").content.decode()
    assert job_url in page and "owner: ada" in page
    assert "The user ada does not exist." in page and "Create the user, or correct" in page
    assert "Run now" not in page and "Pause" not in page
    assert "gone.task" in client.get(f"{LIST}old/change/").content.decode()
    Schedule.objects.filter(name="poll").update(problem="failed", problem_since=timezone.now())
    assert "Failing since" in client.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "Missed"), (1_000, "1,000 missed"), (1_001, "1,000+ missed")],
)
def test_as_many_missed_ticks_as_are_counted(count, text):
    """The text has a plus only if there are more than are counted."""
    assert describe_tick(Tick(outcome=Tick.Outcome.MISSED, count=count)) == text


def test_times_are_those_of_the_reader(client, sign_in_staff, declared):
    """In the time zone that a middleware of the project has activated, and its name."""
    sign_in_staff("view_schedule")
    with timezone.override("Asia/Tokyo"):
        assert " JST" in client.get(LIST).content.decode()


def test_links_to_jobs_need_a_permission(client, sign_in_staff, declared):
    """The list is for others too."""
    job = run_by_hand()
    sign_in_staff("view_schedule")
    for url in (LIST, f"{LIST}poll/change/"):
        assert str(job) not in client.get(url).content.decode()


def test_pause_and_resume(client, sign_in_staff, declared):
    """With the permission to change schedules."""
    staff = sign_in_staff("view_schedule", "change_schedule")
    assert messages_of(act(client, "pause_schedules", "poll", "old")) == ["2 schedules were paused."]
    assert "Paused since" in client.get(LIST).content.decode()
    page = client.get(f"{LIST}poll/change/").content.decode()
    assert 'value="Resume"' in page and 'value="Run now"' not in page
    assert messages_of(press(client, "Resume")) == ["1 schedule was resumed."]
    assert messages_of(press(client, "Pause")) == ["1 schedule was paused."]
    assert messages_of(press(client, "Resume")) == ["1 schedule was resumed."]
    assert messages_of(act(client, "resume_schedules", "poll")) == [
        "No schedule was resumed, because none of them is paused."
    ]
    logged = LogEntry.objects.filter(object_id="poll").order_by("id")
    assert [(entry.user_id, entry.change_message) for entry in logged] == [
        (staff.pk, "Paused."),
        (staff.pk, "Resumed."),
        (staff.pk, "Paused."),
        (staff.pk, "Resumed."),
    ]


def test_run_now(client, sign_in_staff, declared):
    """With a permission of its own. A refusal says why."""
    sign_in_staff("view_schedule", "run_schedule")
    assert messages_of(press(client, "Run now")) == ["1 job was enqueued."]
    [message] = messages_of(act(client, "run_schedules", "poll"))
    assert message.startswith("poll was not run. The previous run is still active.")
    [message] = messages_of(act(client, "run_schedules", "old"))
    assert "not declared" in message
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Run now."]
    assert Job.objects.count() == 1


@pytest.mark.parametrize("action", ["pause_schedules", "resume_schedules", "run_schedules"])
def test_actions_need_their_permission(client, sign_in_staff, declared, action):
    """To view is not enough, nor is the permission of another action."""
    sign_in_staff("view_schedule", "change_schedule" if action == "run_schedules" else "run_schedule")
    act(client, action, "poll")
    assert not LogEntry.objects.exists() and not Job.objects.exists()


def test_without_permission(client, sign_in_staff, declared):
    """No page, and nothing is inserted."""
    Schedule.objects.all().delete()
    sign_in_staff("view_job")
    assert client.get(LIST).status_code == 403
    assert not Schedule.objects.exists()
