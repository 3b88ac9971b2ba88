"""Staff make, change and delete stored schedules, with the permissions of those who run jobs with any arguments."""

import re
from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry

from notifications.contrib.schedules import schedule, update_schedule
from notifications.contrib.schedules.models import Schedule
from notifications.testing import clock
from tests.contrib.schedules.tasks import add
from tests.contrib.schedules.test_admin import act, messages_of, without_year

LIST = "/admin/notifications_schedules/schedule/"
ADD = f"{LIST}add/?task={add.module_path}"
VALUES = {"argument.a": "1", "argument.b": '{"x": 2}', "cron": "30 2 * * *", "zone": "Europe/Berlin"}
ALL = ("view_schedule", "add_schedule", "change_schedule", "delete_schedule", "run_schedule", "add_job")


@pytest.fixture(autouse=True)
def saturday(jobs_clock, db):
    """Clocks are set forward in Berlin in the night."""
    clock.ahead += datetime(2027, 3, 27, 12, tzinfo=UTC) - clock.now()


def submit(client, url, **values):
    """Fill in the form at an address, with what it shows, and submit it. Return the next page."""
    page = client.get(url).text
    fields = dict(re.findall(r'<input type="hidden" name="([\w.]+)" value="([^"]*)"', page))
    return client.post(url, {**fields, **values}, follow=True)


def confirm(client, url, page, **values):
    """Submit the form again that shows the next times."""
    [shown] = re.findall(r'name="shown" value="([^"]+)"', page.text)
    [token] = re.findall(r'name="token" value="([^"]+)"', page.text)
    return client.post(url, {**values, "shown": shown, "token": token}, follow=True)


def test_a_schedule_is_added(client, sign_in_staff, user):
    """First its task, then its arguments by their names and its times, of which five are shown before it is stored."""
    staff = sign_in_staff(*ALL)
    page = client.get(LIST).text
    assert f'href="{LIST}add/"' in page
    page = client.get(f"{LIST}add/").text
    assert f'<option value="{add.module_path}">' in page or "datalist" in page
    values = {**VALUES, "owner": "ada", "title": "Sum of the night"}
    shown = submit(client, ADD, **values)
    assert not Schedule.objects.exists() and 'value="Save"' in shown.text
    times = re.findall(r"<li>(\w+ \d+, [^<]+)</li>", without_year(shown))
    assert times[0].startswith("Mar 28, 03:00 CEST")  # 2:30 is skipped on that day
    days = ("Mar 29", "Mar 30", "Mar 31", "Apr 1")
    assert times[1:] == [f"{day}, 02:30 CEST" for day in days]
    stored = confirm(client, ADD, shown, **values)
    confirm(client, ADD, shown, **values)
    row = Schedule.objects.get()
    assert messages_of(stored) == ["“Sum of the night” was added."]
    assert (row.user_id, row.next_tick) == (user.pk, datetime(2027, 3, 28, 1, tzinfo=UTC))
    assert '"kwargs": {"a": 1, "b": {"x": 2}}' in row.options
    assert LogEntry.objects.filter(user=staff, object_id=row.pk, change_message="Added.").exists()
    assert "Sum of the night" in client.get(LIST).text


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"argument.a": "{"}, "not JSON"),
        ({"argument.a": ""}, "required"),
        ({"cron": "61 * * * *"}, "61"),
        ({"cron": ""}, "neither cron nor every"),
        ({"every": "0:10:00"}, "both cron and every"),
        ({"zone": "owner"}, "there is no owner"),
        ({"owner": "nobody"}, "no user with this name"),
    ],
)
def test_what_is_wrong(client, sign_in_staff, wrong, text):
    """Nothing is stored, and nothing typed is lost."""
    sign_in_staff(*ALL)
    page = submit(client, ADD, **{**VALUES, **wrong}).text
    assert "Nothing was stored." in page and text in page and "{&quot;x&quot;: 2}" in page
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("path", ["tests.contrib.schedules.test_stored.internal", "no.task", "os.path.join"])
def test_tasks_that_cannot_be_chosen(client, sign_in_staff, path):
    """Own tasks of apps among them; none is offered either."""
    sign_in_staff(*ALL)
    page = client.get(f"{LIST}add/?task={path}").text
    assert "errorlist" in page and "argument." not in page
    assert client.post(f"{LIST}add/?task={path}", VALUES).status_code == 200
    assert not Schedule.objects.exists()


def test_a_stored_one_is_changed(client, sign_in_staff, user):
    """Its times are shown again if they are others; its owner, and what is hidden of its arguments, stay."""
    sign_in_staff(*ALL, "view_job_arguments")
    row = schedule(add, [1, 2], cron="0 8 * * *", owner=user, zone="UTC", title="Old", overlap="allow")
    page = client.get(f"{LIST}{row.name.replace('_', '_5F')}/change/").text
    [url] = re.findall(r'action="([^"]+/edit/)"', page)
    page = client.get(url).text
    assert all(text in page for text in ('value="0 8 * * *"', 'value="Old"', "\n1</textarea>"))
    values = {**VALUES, "argument.b": "7", "owner": "", "title": "New"}
    shown = submit(client, url, **values)
    assert Schedule.objects.get().title == "Old"
    assert messages_of(confirm(client, url, shown, **values)) == ["“New” was changed."]
    changed = Schedule.objects.get()
    assert (changed.name, changed.user_id, changed.timing) == (row.name, user.pk, "30 2 * * * Europe/Berlin")
    assert '"overlap": "allow"' in changed.options and '"b": 7' in changed.options


@pytest.mark.parametrize("zone", ["UTC", "Japan", "Etc/GMT-3", ""])
def test_a_zone_that_is_no_place(client, sign_in_staff, settings, zone):
    """It is chosen already in the form, so that another change leaves it as it was."""
    settings.TIME_ZONE = "Europe/Berlin"
    sign_in_staff(*ALL, "view_job_arguments")
    row = schedule(add, [1, 2], cron="0 8 * * *", zone=zone)
    url = f"{LIST}{row.name.replace('_', '_5F')}/edit/"
    [chosen] = re.findall(r'<option value="([^"]*)" selected', client.get(url).text)
    values = {**VALUES, "cron": "0 8 * * *", "zone": chosen, "title": "New"}
    confirm(client, url, submit(client, url, **values), **values)
    changed = Schedule.objects.get()
    assert (changed.title, changed.timing) == ("New", row.timing)


@pytest.mark.parametrize("options", ["[]", "no JSON", '{"every": "x"}'])
def test_one_that_cannot_be_read_is_not_changed(client, sign_in_staff, options):
    """The page says so."""
    sign_in_staff(*ALL, "view_job_arguments")
    row = schedule(add, [1, 2], cron="0 8 * * *")
    Schedule.objects.update(options=options)
    page = client.get(f"{LIST}{row.name.replace('_', '_5F')}/edit/", follow=True)
    assert ["cannot be read" in message for message in messages_of(page)] == [True]
    with pytest.raises(ValueError, match="cannot be read"):
        update_schedule(row, title="New")


def test_paused_run_and_deleted(client, sign_in_staff):
    sign_in_staff(*ALL)
    row = schedule(add, [1, 2], cron="0 8 * * *", title="Daily")
    assert messages_of(act(client, "run_schedules", row.name)) == ["1 job was enqueued."]
    assert messages_of(act(client, "pause_schedules", row.name)) == ["1 schedule was paused."]
    assert messages_of(act(client, "resume_schedules", row.name)) == ["1 schedule was resumed."]
    page = client.get(f"{LIST}{row.name.replace('_', '_5F')}/change/").text
    [url] = re.findall(r'href="([^"]+/delete/)"', page)
    assert client.post(url, {"post": "yes"}, follow=True).status_code == 200
    assert not Schedule.objects.exists()


@pytest.mark.parametrize("missing", ["add_schedule", "add_job"])
def test_to_add_needs_both_permissions(client, sign_in_staff, missing):
    sign_in_staff(*(name for name in ALL if name != missing))
    assert client.get(ADD).status_code == client.post(ADD, VALUES).status_code == 403
    assert f'href="{LIST}add/"' not in client.get(LIST).text


@pytest.mark.parametrize("missing", ["change_schedule", "add_job", "view_job_arguments"])
def test_to_change_needs_these_permissions(client, sign_in_staff, missing):
    """And to view the arguments, which the form shows."""
    sign_in_staff(*(name for name in (*ALL, "view_job_arguments") if name != missing))
    row = schedule(add, [1, 2], cron="0 8 * * *")
    url = f"{LIST}{row.name.replace('_', '_5F')}/"
    assert "/edit/" not in client.get(f"{url}change/").text
    assert client.get(f"{url}edit/").status_code == client.post(f"{url}edit/", VALUES).status_code == 403


def test_what_is_declared_is_neither_changed_nor_deleted(client, sign_in_staff, settings):
    """It would come again with the next process."""
    declared = {"poll": {"task": add.module_path, "args": [1, 2], "cron": "0 8 * * *"}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": declared}
    sign_in_staff(*ALL, "view_job_arguments")
    client.get(LIST)
    page = client.get(f"{LIST}poll/change/").text
    assert "/edit/" not in page and "/delete/" not in page
    assert client.post(f"{LIST}poll/edit/", VALUES).status_code == 403
    assert client.post(f"{LIST}poll/delete/", {"post": "yes"}).status_code == 403
    act(client, "delete_selected", "poll")
    assert Schedule.objects.filter(name="poll").exists()


def test_without_permission(client, sign_in_staff):
    """No page, also for one who is signed out."""
    row = schedule(add, [1, 2], cron="0 8 * * *")
    urls = [ADD, f"{LIST}{row.name.replace('_', '_5F')}/edit/"]
    assert {client.get(url).status_code for url in urls} == {302}
    sign_in_staff("view_job")
    assert {client.get(url).status_code for url in urls} == {403}
