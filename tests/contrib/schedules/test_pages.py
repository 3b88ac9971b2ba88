"""The page on which users choose what is done for them periodically: theirs only, and only if the project opens it."""

import re
from datetime import UTC, datetime

import pytest

from notifications.contrib.schedules import cancel_schedule, schedule
from notifications.contrib.schedules.models import Schedule
from notifications.testing import clock
from tests.contrib.schedules.tasks import add

URL = "/notifications/schedules/"
SALES = {"title": "Send me the sales report", "task": add.module_path, "args": [1], "kwargs": {"b": 2}}
MONDAYS = {"offer": "sales", "days": "* * 1", "at": "08:30"}


@pytest.fixture(autouse=True)
def offers(settings, jobs_clock, db):
    """The project has opened the page, with one offer. It is a Sunday."""
    settings.NOTIFICATIONS = {
        **settings.NOTIFICATIONS,
        "USER_SCHEDULES": {"offers": {"sales": SALES}, "per_user": 2},
    }
    clock.ahead += datetime(2027, 3, 21, 20, 30, tzinfo=UTC) - clock.now()


def post(client, name="", **fields):
    """Submit a form. Return the page that follows."""
    return client.post(f"{URL}{name}/" if name else URL, fields, follow=True)


def test_an_offer_is_scheduled(user, client_of):
    """Each Monday, with the arguments of the offer, once however often the form is sent, and says when it runs."""
    client = client_of(user)
    assert "You have no schedules." in client.get(URL).text
    page = post(client, **MONDAYS).text
    post(client, **MONDAYS)
    row = Schedule.objects.get()
    assert (row.user_id, row.task_path, row.is_in_owner_zone) == (user.pk, add.module_path, True)
    assert row.next_tick == datetime(2027, 3, 22, 8, 30, tzinfo=UTC)
    assert "It runs next on Mar 22, 2027, 08:30 UTC." in page
    assert "Every Monday at 8:30 a.m. (UTC) · Next: Mar 22, 2027" in page


@pytest.mark.parametrize("wrong", [{"offer": "x"}, {"days": "*/5 * *"}, {"at": "25:00"}, {"at": "* *"}])
def test_what_is_not_offered(user, client_of, wrong):
    """Neither another task nor an expression of one's own; what was chosen stays in the form."""
    response = post(client_of(user), **{**MONDAYS, **wrong})
    assert response.status_code == 422 and not Schedule.objects.exists()
    assert "errorlist" in response.text and ("08:30" in response.text or "at" in wrong)


def test_paused_resumed_deleted_and_restored(user, client_of):
    client = client_of(user)
    post(client, **MONDAYS)
    row = Schedule.objects.get()
    assert "is paused." in post(client, row.name, verb="pause").text
    assert Schedule.objects.get().paused_at and "Resume" in client.get(URL).text
    assert "is resumed." in post(client, row.name, verb="resume").text
    page = post(client, row.name, verb="delete").text
    assert "is deleted." in page and not Schedule.objects.exists()
    [restore] = re.findall(r'name="restore" value="([^"]+)"', page)
    assert "Undone." in post(client, restore=restore).text
    found = Schedule.objects.get()
    assert (found.name, found.options, found.user_id) == (row.name, row.options, user.pk)


def test_as_many_as_a_user_may_have(user, client_of):
    """What was chosen is not lost."""
    client = client_of(user)
    for day in ("* * 1", "* * 2", "* * 3"):
        response = post(client, **{**MONDAYS, "days": day})
    assert "There are 2 schedules already" in response.text and Schedule.objects.count() == 2
    assert '<option value="* * 3" selected>' in response.text


def test_only_the_own_ones(user, other_user, client, client_of):
    """Another one's are not listed, and answer as if there were none; a signed-out one signs in."""
    row = schedule(add, [1, 2], cron="0 8 * * *", owner=user, title="Of Ada")
    nobodys = schedule(add, [1, 2], cron="0 8 * * *", title="Of nobody")
    assert "Of Ada" in client_of(user).get(URL).text
    other = client_of(other_user)
    assert "Of Ada" not in other.get(URL).text
    for name in (row.name, nobodys.name, "poll"):
        for verb in ("pause", "resume", "delete"):
            assert post(other, name, verb=verb).status_code == 404
    [restore] = re.findall(
        r'name="restore" value="([^"]+)"', post(client_of(user), row.name, verb="delete").text
    )
    assert "cannot be restored" in post(other, restore=restore).text
    for response in (client.get(URL), client.post(URL, MONDAYS), client.post(f"{URL}{nobodys.name}/")):
        assert response.status_code == 302 and "login" in response["Location"]
    assert list(Schedule.objects.all()) == [nobodys] and Schedule.objects.get().paused_at is None


def test_a_page_that_is_not_open(user, client_of, settings):
    """Without offers in the settings there is no page and no link; with none of them it lists what code has made."""
    client = client_of(user)
    row = schedule(add, [1, 2], cron="*/5 8 * * *", owner=user, title="By code")
    assert "My schedules" in client.get("/notifications/").text
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_SCHEDULES": {"offers": {}}}
    page = client.get(URL).text
    assert "By code" in page and "*/5 8 * * * (UTC)" in page and "New schedule" not in page
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_SCHEDULES": {}}
    assert client.get(URL).status_code == client.post(URL, MONDAYS).status_code == 404
    assert client.post(f"{URL}{row.name}/", {"verb": "delete"}).status_code == 404
    assert "My schedules" not in client.get("/notifications/").text
    cancel_schedule(row)


def test_a_schedule_that_cannot_be_read(user, client_of):
    """It can be deleted."""
    row = schedule(add, [1, 2], cron="0 8 * * *", owner=user)
    Schedule.objects.update(options="no JSON")
    client = client_of(user)
    assert "It cannot be read." in client.get(URL).text
    post(client, row.name, verb="delete")
    assert not Schedule.objects.exists()
