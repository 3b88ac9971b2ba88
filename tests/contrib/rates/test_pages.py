"""What owners and operators read of rates."""

import io
import json
import re
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from notifications.contrib.rates.models import Limit
from notifications.db import database_now
from tests.contrib.rates import rated_tasks
from tests.contrib.rates.conftest import claim_all
from tests.contrib.rates.test_jobs import moved
from tests.support.checks import doctor

pytestmark = pytest.mark.django_db


def close(seconds=120):
    """Have the partner close its limit, as a response with ``Retry-After`` does."""
    now = database_now()
    until = int((now + timedelta(seconds=seconds)).timestamp() * 1e6)
    Limit.objects.update(closed_until=until, corrected_by=f"Retry-After: {seconds}", corrected_at=now)


@pytest.fixture
def waiting(declare, user):
    """The second of two jobs of which a minute allows one."""
    declare(partner={"rate": "1/m", "burst": 1})
    _, second = [rated_tasks.fetch.using(owner=user).enqueue() for _ in range(2)]
    claim_all()
    return second


def test_the_page_of_a_job_says_what_it_waits_for(waiting, user_client):
    page = user_client.get(reverse("notifications:job", args=[waiting.id])).text
    assert re.search(r"Waits for the limit of partner, about \d\d:\d\d\.", page)


@pytest.mark.parametrize(
    ("seconds", "rate", "expected"), [(3, "5/s", 10), (99, "5/s", 99), (9, "1/d", 3_600)]
)
def test_an_open_page_is_loaded_again_at_the_time_that_it_shows(
    declare, waiting, user_client, seconds, rate, expected
):
    """Then it shows that to which the limit has moved since; not each moment, where no worker takes the queue."""
    declare(partner=rate)
    close(seconds)
    page = user_client.get(reverse("notifications:job", args=[waiting.id])).text
    assert re.findall(r'reload-after="(\d+)"', page) == [str(expected)]


def test_an_open_page_without_a_time_is_loaded_again(waiting, user_client, set_bounds):
    """Over so many jobs before it."""
    set_bounds(counted=-1)
    page = user_client.get(reverse("notifications:job", args=[waiting.id])).text
    assert "Waits for the limit of partner." in page and 'reload-after="300"' in page


def test_the_time_moves_with_the_limit(waiting, capsys):
    def about():
        printed = io.StringIO()
        call_command("notifications", "jobs", "show", waiting.id, "--json", stdout=printed)
        return json.loads(printed.getvalue())["rate"]

    before = about()
    assert before["name"] == "partner"
    close()
    assert about()["about"] > before["about"]


def test_jobs_that_wait_for_nothing_say_nothing(declare, user, user_client):
    declare(partner="1/m")
    job = rated_tasks.fetch.using(owner=user).enqueue()
    claim_all()
    assert "Waits for the limit" not in user_client.get(reverse("notifications:job", args=[job.id])).text


def test_the_admin_lists_limits(waiting, admin_client):
    close()
    page = admin_client.get(reverse("admin:notifications_rates_limit_changelist")).text
    for text in ("1/m, burst 1", "Retry-After: 120", ">1<"):
        assert text in page
    page = admin_client.get(reverse("admin:notifications_rates_limit_change", args=["partner"])).text
    assert "Retry-After: 120" in page
    assert (
        "Waits for the limit of partner"
        in admin_client.get(reverse("admin:notifications_job_change", args=[waiting.id])).text
    )


def test_the_admin_counts_what_waits_for_all_limits_in_one_query(declare, user, admin_client, set_bounds):
    """And no more of a limit than it shows."""
    set_bounds(counted=2)
    declare(partner={"rate": "1/m", "burst": 1})

    def read():
        with CaptureQueriesContext(connection) as queries:
            page = admin_client.get(reverse("admin:notifications_rates_limit_changelist")).text
        return re.findall(r'field-waiting">([^<]+)<', page), len(queries)

    rated_tasks.fetch.using(owner=user).enqueue()
    claim_all()
    read()  # the first page reads more, such as the types of models
    one, count = read()
    for account in ("ada", "bob"):
        for _ in range(3 if account == "ada" else 5):
            rated_tasks.fetch_of.using(owner=user).enqueue(account)
    claim_all()
    several, count_of_several = read()
    assert (one, several) == (["0"], ["0", "2", "2+"])
    assert count_of_several == count


def test_the_admin_says_what_is_used_of_each_declared_limit_and_when_the_waiting_will_be_over(
    declare, admin_client
):
    declare(partner={"rate": "60/m", "burst": 4}, hourly="1000/h")
    for _ in range(10):
        rated_tasks.fetch.enqueue()
    claim_all()

    def read():
        page = admin_client.get(reverse("admin:notifications_rates_limit_changelist")).text
        return [re.findall(rf"field-{name}[^>]*>([^<]+)<", page) for name in ("used_now", "begun")]

    (unused, used), (none, begun) = read()
    assert (unused, used, none) == ("0 of 1,000 this hour", "3 of 60 this minute", "-")
    assert re.search(r"\d\d", begun)
    page = admin_client.get(reverse("admin:notifications_rates_limit_change", args=["hourly"])).text
    assert "0 of 1,000 this hour" in page
    with moved(seconds=61):  # a minute of which nothing was used yet
        assert read()[0] == ["0 of 1,000 this hour", "0 of 60 this minute"]


def test_doctor_names_closed_limits(waiting):
    [finding] = doctor("rates")
    assert finding["state"] == "ok"
    assert re.fullmatch(
        r"Declared: 1\. partner: 1 jobs waiting, all begun in \d\d s; 1 of 1/m used\.", finding["message"]
    )
    close()
    [finding] = doctor("rates")
    assert finding["state"] == "warning"
    assert "partner for 1" in finding["message"]
