"""The page on which users choose what is done for them periodically: theirs only, and only if the project opens it."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from notifications.contrib.schedules import cancel_schedule, schedule
from notifications.contrib.schedules.models import Schedule
from notifications.testing import clock
from tests.contrib.schedules.tasks import add
from tests.contrib.schedules.test_admin import without_year
from tests.extension import faulty
from tests.support.checks import system_checks

URL = "/notifications/schedules/"
SALES = {"title": "Send me the sales report", "task": add.module_path, "args": [1], "kwargs": {"b": 2}}
MONDAYS = {"offer": "sales", "days": "* * 1", "at": "08:30"}


@pytest.fixture(autouse=True)
def offers(settings, jobs_clock, db):
    """The project has opened the page, with one offer. It is a Sunday."""
    set_offers(settings, sales=SALES)
    clock.ahead += datetime(2027, 3, 21, 20, 30, tzinfo=UTC) - clock.now()


def set_offers(settings, **offers):
    schedules = {"offers": offers, "per_user": 2}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "USER_SCHEDULES": schedules}


def post(client, name="", **fields):
    """Submit a form. Return the page that follows."""
    return client.post(f"{URL}{name}/" if name else URL, fields, follow=True)


def test_an_offer_is_scheduled(user, client_of):
    """Each Monday, with the arguments of the offer, once however often the form is sent, and says when it runs."""
    client = client_of(user)
    assert "You have no schedules." in client.get(URL).text
    page = without_year(post(client, **MONDAYS))
    post(client, **MONDAYS)
    row = Schedule.objects.get()
    assert (row.user_id, row.task_path, row.is_in_owner_zone) == (user.pk, add.module_path, True)
    assert row.next_tick == datetime(2027, 3, 22, 8, 30, tzinfo=UTC)
    assert "It runs next on Mar 22, 08:30 UTC." in page
    assert "Every Monday at 8:30 a.m. (UTC) · Next: Mar 22" in page


@pytest.mark.parametrize("wrong", [{"offer": "x"}, {"days": "*/5 * *"}, {"at": "25:00"}, {"at": "* *"}])
def test_what_is_not_offered(user, client_of, wrong):
    """Neither another task nor an expression of one's own; what was chosen stays in the form."""
    response = post(client_of(user), **{**MONDAYS, **wrong})
    assert response.status_code == 422 and not Schedule.objects.exists()
    assert "errorlist" in response.text and ("08:30" in response.text or "at" in wrong)


def test_paused_resumed_and_deleted(user, client_of):
    """A second button deletes, so that nothing needs to be restored."""
    client = client_of(user)
    post(client, **MONDAYS)
    row = Schedule.objects.get()
    assert "is paused." in post(client, row.name, verb="pause").text
    assert Schedule.objects.get().paused_at and "Resume" in client.get(URL).text
    page = post(client, row.name, verb="resume").text
    assert "is resumed." in page and re.search(r'<details.*value="delete".*</details>', page, re.S)
    page = post(client, row.name, verb="delete").text
    assert "is deleted." in page and not Schedule.objects.exists()
    post(client, restore="".join(re.findall(r'name="restore" value="([^"]+)"', page)))
    assert not Schedule.objects.exists()


def test_arguments_of_a_deleted_one(user, client_of):
    """They are secrets of those who chose them, and long ones are no hindrance; nor is a title in any characters."""
    title = "".join(chr(0x20000 + 97 * n) for n in range(200))
    row = schedule(add, ["x" * 20_000], {"b": 2}, cron="0 8 * * *", owner=user, title=title)
    response = post(client_of(user), row.name, verb="delete")
    assert response.status_code == 200 and not Schedule.objects.exists()
    assert "is deleted." in response.text and len(response.redirect_chain[0][0]) < 2_048


def test_one_that_is_paused_is_scheduled_again(user, client_of):
    """By the form: it is resumed, from now on."""
    client = client_of(user)
    post(client, **MONDAYS)
    post(client, Schedule.objects.get().name, verb="pause")
    clock.ahead += timedelta(days=31)
    page = without_year(post(client, **MONDAYS))
    row = Schedule.objects.get()
    assert row.paused_at is None and row.next_tick == datetime(2027, 4, 26, 8, 30, tzinfo=UTC)
    assert "It runs next on Apr 26, 08:30 UTC." in page


@pytest.mark.parametrize("broken", [{"task": "tests.nowhere.task"}, {"args": [1, 2, 3]}])
def test_an_offer_that_cannot_be_scheduled(user, client_of, settings, caplog, broken):
    """The user can choose another one; the log says what is wrong."""
    set_offers(settings, sales={**SALES, **broken})
    response = post(client_of(user), **MONDAYS)
    assert response.status_code == 422 and not Schedule.objects.exists()
    assert "This cannot be scheduled now." in response.text and "Traceback" in caplog.text


def test_a_time_zone_that_cannot_be_read(user, client_of, monkeypatch, caplog):
    """The page lists what is there. Nothing is scheduled in a zone that is not the user's."""
    client = client_of(user)
    post(client, **MONDAYS)
    faulty.install(monkeypatch, "time_zones_of", fault=faulty.raise_error)
    page = client.get(URL)
    assert page.status_code == 200 and "New schedule" in page.text and "your time zone" not in page.text
    response = post(client, **{**MONDAYS, "days": "* * 2"})
    assert response.status_code == 422 and Schedule.objects.count() == 1
    assert "This cannot be scheduled now." in response.text and "Traceback" in caplog.text


def test_title_of_an_offer_that_is_too_long(user, client_of, settings):
    """It is not offered, and a check says so."""
    set_offers(settings, sales={**SALES, "title": "T" * 201}, other={**SALES, "title": "Other"})
    page = client_of(user).get(URL).text
    assert "Other" in page and "TTT" not in page
    assert ["'sales'" in message.msg for message in system_checks("W020")] == [True]


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
    for response in (client.get(URL), client.post(URL, MONDAYS), client.post(f"{URL}{nobodys.name}/")):
        assert response.status_code == 302 and "login" in response["Location"]
    assert set(Schedule.objects.filter(paused_at=None)) == {row, nobodys}


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
