"""The filters of the list of jobs: each shows the jobs that meet it, and reads few others."""

import html
import json
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications import api
from notifications.models import Job
from tests.admin.test_job_list import LIST, START, link, make_job, titles, walk
from tests.support.offenders import collect_offenders

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
    pytest.mark.nightly_on_old_django,
]

#: Queries of filters, and the titles that each shows of the jobs of ``filtered_jobs``.
SHOWN = {
    "?state__exact=failed": "failed other-error lost",
    "?state__exact=queued": "delayed queued",
    "?state__exact=running": "running",
    "?state__exact=cancelled": "cancelled",
    "?state__exact=succeeded": "recent owned mail",
    "?task_path=shop.tasks.render": "other-error mail",
    "?queue_name=mail": "mail",
    "?user=ada": "owned",
    "?user=nobody-of-this-name": "",
    "?created=hour": "recent",
    "?created_from=2026-05-01T00:07&created_until=2026-05-01T00:09": "cancelled lost",
    "?state__exact=failed&finished_from=2026-05-01T02:07": "lost other-error",
    "?finished_from=2026-05-01T02:00&finished_until=2026-05-01T02:07": "failed lost",
    "?finished=hour": "",
    "?error=shop.tasks.send+builtins.ValueError": "failed",
    "?error=shop.tasks.send+lost": "lost",
    "?error=shop.tasks.render+builtins.ValueError": "other-error",
    "?q=RENDER": "other-error mail",
    "?q=ow+send": "owned",
    "?state__exact=failed&queue_name=default&q=other": "other-error",
}


@pytest.mark.parametrize("rows_per_slice", [1, pytest.param(5_000, marks=pytest.mark.long)])
def test_filters(get, filtered_jobs, set_bounds, rows_per_slice):
    """Each filter and the search show the jobs that meet it, however small the slices are that are read."""
    set_bounds(rows=rows_per_slice)
    with collect_offenders() as offenders:
        for query, shown in SHOWN.items():
            with offenders.row(query):
                assert sorted(titles(get(query))) == sorted(shown.split())


def test_choices_come_from_the_newest_rows(get, filtered_jobs, set_bounds):
    """A value that the newest rows do not have can be typed, and is shown while it is chosen."""
    set_bounds(searched=3)
    page = get()
    assert "?task_path=shop.tasks.send" in page and "?queue_name=mail" not in page
    assert "?error=shop.tasks.render+builtins.ValueError" in page
    assert ">mail</a></li>" in get("?queue_name=mail")
    assert '<input type="hidden" name="state__exact" value="failed">' in get("?state__exact=failed")


def test_what_failed_since_a_time_is_found_at_once(get, short_pages):
    """By its end, however many jobs were created later."""
    for number in range(20):
        ended = START + timedelta(days=not number)
        make_job(f"{number}", minutes=number, state="failed", finished_at=ended)
    for query in ("?state__exact=failed", "?failure=+"):
        page = get(f"{query}&finished_from=2026-05-02T00:00")
        assert titles(page) == ["0"] and "1 job" in page and not link(page, "Search further")


@pytest.mark.parametrize("name", ["created_from", "finished_until"])
def test_times_at_the_end_of_the_calendar(admin_client, name):
    """They are refused as any other text that is no time."""
    response = admin_client.get(LIST, {name: "0001-01-01T00:00+05:00"})
    assert (response.status_code, response.headers["Location"]) == (302, f"{LIST}?e=1")


#: Words, and the titles of the jobs of ``jobs_with_arguments`` that have them in arguments that are shown.
FOUND = {
    "ada%40users.example": "mail",
    "ADA@users": "mail",
    "4711": "order nested",
    "4711 blue": "nested",
    "colors": "nested",
    "colour": "",
    "Größe": "order",
    '"no"': "quoted",
    '"no" \\\\': "quoted",
    "100%25": "",
    "hunter2": "",
    "DE89370400440532013000": "",
    "unknown-task": "",
    "keyword": "unknown",
    "damaged": "",
    "_": "quoted",
}


@api.task
@api.policy(redact=("iban",))
def pay(customer, iban="", **more):
    """Take a secret of its own."""


@pytest.fixture
def jobs_with_arguments(user):
    path = f"{__name__}.pay"
    rows = {
        "mail": (["ada@users.example"], {}),
        "order": ([4711, "DE89370400440532013000"], {"size": "Größe"}),
        "nested": ([{"orders": [4711], "password": "hunter2"}], {"colors": ["blue"], "token": "hunter2"}),
        "quoted": (['say "no" to C:\\\\a_b'], {}),
    }
    for number, (title, (args, kwargs)) in enumerate(rows.items()):
        encoded = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in (args, kwargs))
        args, kwargs = encoded
        make_job(title, minutes=number, task_path=path, args=args, kwargs=kwargs, user=user)
    make_job("unknown", minutes=8, args='["unknown-task"]', kwargs='{"name":"keyword"}', user=user)
    make_job("broken", minutes=9, args="[damaged", kwargs="{}", user=user)


@pytest.mark.parametrize(
    ("query", "rows_per_slice"),
    [("", 1), pytest.param("", 5_000, marks=pytest.mark.long), ("&user=ada", 5_000)],
)
def test_arguments(get, jobs_with_arguments, set_bounds, query, rows_per_slice):
    """Words of values and keywords are found, whatever the case; of secrets and of values that are not shown none."""
    set_bounds(rows=rows_per_slice)
    with collect_offenders() as offenders:
        for words, found in FOUND.items():
            with offenders.row(words):
                page = get(f"?arguments={words}{query}")
                assert sorted(titles(page)) == sorted(found.split())
                assert re.search(rf"\b{len(found.split())} jobs?\b", page)


def test_search_of_arguments_goes_on(get, short_pages):
    """Secrets that match are passed over, and what follows them in a slice is found."""
    for number in range(20):
        name = "value" if number in (1, 2, 9) else "password"
        make_job(f"{number}", minutes=number, kwargs=json.dumps({name: "needle"}))
    pages = walk(get, "?arguments=needle", "Search further")
    assert pages == [[], ["9"], ["2", "1"]]
    Job.objects.update(kwargs='{"value": "needle"}')
    assert walk(get, "?arguments=needle", "Next page")[:2] == [["19", "18", "17"], ["16", "15", "14"]]


def test_the_work_does_not_tell_what_secrets_are(get, jobs_with_arguments):
    """The same queries, which read the same jobs: a job with the words in a secret takes no more time than others."""
    queries = {}
    for words in ("hunter2", "hunter3"):
        with CaptureQueriesContext(connection) as context:
            get(f"?arguments={words}")
        queries[words] = [query["sql"] for query in context if "args" in query["sql"]]
    assert queries["hunter2"] == queries["hunter3"] != []


def test_arguments_need_their_permission(client, sign_in_staff, jobs_with_arguments):
    """Without it the filter is not there, and its parameter is refused, whether a job matches or not."""
    staff = sign_in_staff("view_job", "change_job")
    for words in ("4711", "nothing"):
        response = client.get(f"{LIST}?arguments={words}")
        assert (response.status_code, response.headers["Location"]) == (302, f"{LIST}?e=1")
    assert 'name="arguments"' not in client.get(LIST).text
    staff.user_permissions.add(Permission.objects.get(codename="view_job_arguments"))
    assert 'name="arguments"' in client.get(LIST).text


def test_an_action_does_not_tell_what_secrets_are(client, sign_in_staff, jobs_with_arguments):
    """It is done for selected jobs, whatever they have in secrets, and not for all that match."""
    sign_in_staff("view_job", "change_job", "view_job_arguments")
    Job.objects.update(state="failed")
    id = Job.objects.get(title="nested").pk
    form = {"action": "retry_jobs", "_selected_action": str(id)}
    page = client.post(
        f"{LIST}?arguments=4711", {**form, "select_across": "1", "confirmed": "1"}, follow=True
    )
    assert "cannot be changed with the filter “arguments”" in page.text
    assert not Job.objects.filter(state="queued").exists()
    for words in ("hunter2", "hunter3"):
        Job.objects.update(state="failed")
        client.post(f"{LIST}?arguments={words}", form)
        assert Job.objects.get(state="queued").pk == id


def test_a_long_text_of_arguments(admin_client):
    """It says what is wrong in place of an error page."""
    response = admin_client.get(f"{LIST}?arguments={'x' * 10_000}", follow=True)
    assert response.status_code == 200
    assert "has 10000 characters. At most 200 are allowed." in response.text
    assert admin_client.get(f"{LIST}?arguments={'x ' * 100}").status_code == 200


@pytest.mark.with_all_apps("a list that hides the jobs of notifications.contrib.deliveries has no estimate")
def test_counts(get, short_pages, set_bounds):
    """Few rows are counted exactly; many are estimated, or counted up to a limit."""
    set_bounds(counted=10)
    for number in range(5):
        make_job(f"{number}", state="failed")
    assert "5 jobs" in get() and "5 jobs" in get("?state__exact=failed")
    for number in range(6):
        make_job(f"{number}", state="failed")
    assert re.search(r"about \d+ jobs", get("?deliveries=shown"))
    assert "over 10 jobs" in get("?state__exact=failed&deliveries=shown")
    assert " jobs\n" not in get("?queue_name=default") and " jobs\n" not in get()
    assert "1 job\n" in get(f"?q={Job.objects.first().pk}")


def test_notifications_of_a_category(admin_client, user):
    for category in ("", "export", "export"):
        api.notify(user, "Hello", category=category)
    page = "/admin/notifications/notification/?category="
    assert titles(admin_client.get(f"{page}nothing").text) == []
    assert len(titles(admin_client.get(f"{page}export").text)) == 2


SENDER = "notifications.contrib.deliveries.sending.deliver"


@pytest.mark.with_all_apps("the jobs are those of notifications.contrib.deliveries")
def test_jobs_that_send_messages_are_shown_when_they_are_asked_for(get, short_pages):
    """By the filter, or by their task, queue or id; the numbers of states are of what is shown, also as they change."""
    for number in range(9):
        make_job(
            f"mail-{number}", minutes=9 + number, task_path=SENDER, queue_name="deliveries", state="failed"
        )
    for number in range(2):
        make_job(f"{number}", minutes=number, state="failed")
    assert walk(get, "?state__exact=failed", "Search further") == [[], ["1", "0"]]
    page = get()
    assert "Failed (2)</span>" in page and "Hidden</a>" in page
    make_job("now", minutes=99, state="running")
    for query, count in (("", 2), ("?deliveries=shown", 11)):
        page = get(query)
        assert ("mail-8" in page) == bool(query)
        address = html.unescape(re.search(r'data-overview-figures="([^"]*)"', page).group(1))
        for text in (page, get(address.removeprefix(LIST))):
            assert f"Failed ({count})</span>" in text
    id = Job.objects.get(title="mail-3").pk
    for query in (f"?task_path={SENDER}", "?queue_name=deliveries", f"?q={id}"):
        assert "mail-3" in " ".join(map(" ".join, walk(get, query, "Next page"))), query
    assert "mail" not in " ".join(titles(get("?q=mail")))
