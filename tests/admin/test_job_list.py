"""The list of jobs: keyset pages in both directions, its filters and search, and counts that cost little."""

import html
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications import api
from notifications.admin import live_jobs, paging
from notifications.db import keyset
from notifications.models import Attempt, Job
from tests.jobs import tasks

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/notifications/job/"
START = datetime(2026, 5, 1, tzinfo=UTC)


def make_job(title, *, minutes=0, **fields):
    """Create the row of a job that was created so many minutes after ``START``."""
    job = Job(
        title=title,
        backend="default",
        **{"task_path": "shop.tasks.send", "queue_name": "default", "state": "succeeded", **fields},
    )
    job.created_at = job.queued_at = START + timedelta(minutes=minutes)
    job.save()
    return job


def titles(page):
    return re.findall(r'class="field-title[^"]*"><a[^>]*>([^<]*)<', page)


def link(page, text):
    """Return the address of a link of the list's foot, None if there is none."""
    found = re.search(rf'<a href="([^"]*)"[^>]*>{text}</a>', page)
    return found and html.unescape(found[1])


@pytest.fixture
def get(admin_client):
    """get(query) returns the text of the list."""

    def get(query=""):
        response = admin_client.get(LIST + query)
        assert response.status_code == 200, (response.status_code, response.headers)
        return response.text

    return get


@pytest.fixture
def short_pages(monkeypatch):
    """Pages have 3 rows, slices 4 rows, and a page is searched in 8 rows."""
    monkeypatch.setattr("notifications.admin.jobs.JobAdmin.list_per_page", 3)
    monkeypatch.setattr(keyset, "ROWS_PER_SLICE", 4)
    monkeypatch.setattr(keyset, "MAX_ROWS_READ", 8)
    monkeypatch.setattr(keyset, "MAX_ROWS_CHECKED", 8)


def walk(get, query, text):
    """Return the titles of a page and of those that follow by links with this text."""
    pages = []
    while query is not None:
        page = get(query)
        pages.append(titles(page))
        query = link(page, text)
    return pages


@pytest.mark.parametrize("is_ascending", [False, True], ids=["newest first", "oldest first"])
def test_pages_have_each_job_once(get, short_pages, is_ascending):
    """In both directions, also where jobs were created at one moment, and where ids do not ascend with time."""
    for number in range(8):
        make_job(f"{number}", minutes=number // 3)
    order = re.search(r'<a href="(\?o=\d+)"', get())[1] if is_ascending else ""
    jobs = Job.objects.order_by(*(("created_at", "id") if is_ascending else ("-created_at", "-id")))
    expected = list(jobs.values_list("title", flat=True))
    pages = walk(get, order, "Next page")
    assert pages == [expected[:3], expected[3:6], expected[6:]]
    last = order
    while (following := link(get(last), "Next page")) is not None:
        last = following
    back = walk(get, last, "Previous page")
    assert [title for page in reversed(back) for title in page] == expected


def test_header_of_the_only_sortable_column_is_linked(get):
    make_job("one")
    headers = re.findall(r'<th scope="col" class="([^"]*)"', get())
    assert [header for header in headers if "sortable" in header] == [
        "sortable column-created_at sorted descending"
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


@pytest.fixture
def filtered_jobs(user):
    make_job("mail", minutes=1, queue_name="mail", task_path="shop.tasks.render", priority=7)
    make_job("owned", minutes=2, user=user)
    make_job("running", minutes=3, state="running", attempt=1)
    make_job("queued", minutes=4, state="queued")
    make_job("delayed", minutes=5, state="queued", run_after=START + timedelta(days=9999))
    for minutes, title, task, error in (
        (6, "failed", "send", "builtins.ValueError"),
        (7, "lost", "send", ""),
        (9, "other-error", "render", "builtins.ValueError"),
    ):
        ended = START + timedelta(hours=2, minutes=minutes)
        fields = {"state": "failed", "task_path": f"shop.tasks.{task}", "finished_at": ended}
        job = make_job(title, minutes=minutes, attempt=2, **fields)
        for number, path in ((1, "builtins.KeyError"), (2, error)):
            Attempt.objects.create(
                job=job,
                number=number,
                ended_at=START,
                exception_class_path=path,
                outcome="failed" if path else "lost",
            )
    make_job("cancelled", minutes=8, state="cancelled")
    make_job("recent", minutes=(timezone.now() - START) // timedelta(minutes=1))


@pytest.mark.parametrize("query", SHOWN)
@pytest.mark.parametrize("rows_per_slice", [1, 5_000])
def test_filters(get, filtered_jobs, monkeypatch, rows_per_slice, query):
    """Each filter and the search show the jobs that meet it, however small the slices are that are read."""
    monkeypatch.setattr(keyset, "ROWS_PER_SLICE", rows_per_slice)
    assert sorted(titles(get(query))) == sorted(SHOWN[query].split())


def test_states_have_the_numbers_of_their_jobs(get, filtered_jobs, monkeypatch):
    """Where the list has all jobs, or all of a state; the script of the page keeps them up to date."""
    monkeypatch.setattr(live_jobs, "MAX_JOBS_PER_STATE", 2)
    for page in (get(), get("?state__exact=queued")):
        assert "Failed (2+)</span>" in page and "Running (1)</span>" in page and ">Succeeded</a>" in page
        assert "Queued (2)</span>" in page
    address = html.unescape(re.search(r'data-overview-figures="([^"]*)"', get()).group(1))
    Job.objects.filter(state="queued").update(state="cancelled")
    assert "Queued (0)</span>" in get(address.removeprefix(LIST))
    assert "Failed (" not in get("?queue_name=mail") and "Failed (" not in get("?q=send")


def test_links_of_rows_keep_the_filters(get, filtered_jobs):
    """The page of a job leads back to the list with the same filters."""
    job = Job.objects.get(title="mail")
    address = f"{LIST}{job.pk}/change/"
    assert f'href="{address}"' in get()
    assert f'href="{address}?_changelist_filters=queue_name%3Dmail"' in get("?queue_name=mail")


def test_job_is_found_by_its_id(get, filtered_jobs):
    job = Job.objects.get(title="mail")
    for text in (str(job.pk), job.pk.hex):
        assert titles(get(f"?q={text}")) == ["mail"]


def test_choices_come_from_the_newest_rows(get, filtered_jobs, monkeypatch):
    """A value that the newest rows do not have can be typed, and is shown while it is chosen."""
    monkeypatch.setattr("notifications.contrib.operations.admin.job_filters.MAX_ROWS_READ", 3)
    page = get()
    assert "?task_path=shop.tasks.send" in page and "?queue_name=mail" not in page
    assert "?error=shop.tasks.render+builtins.ValueError" in page
    assert ">mail</a></li>" in get("?queue_name=mail")
    assert '<input type="hidden" name="state__exact" value="failed">' in get("?state__exact=failed")


def test_search_stops_and_goes_on(get, short_pages):
    """A page reads few rows, says so when it has found too little, and a link goes on from there."""
    for number in range(20):
        make_job("rare" if number in (1, 2) else f"{number}", minutes=number)
    pages = walk(get, "?q=rare", "Search further")
    assert pages == [[], [], ["rare", "rare"]]
    assert "Only a part of the table was searched" in get("?q=rare")


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


def test_counts(get, short_pages, monkeypatch):
    """Few rows are counted exactly; many are estimated, or counted up to a limit."""
    monkeypatch.setattr(paging, "MAX_ROWS_COUNTED", 10)
    for number in range(5):
        make_job(f"{number}", state="failed")
    assert "5 jobs" in get() and "5 jobs" in get("?state__exact=failed")
    for number in range(6):
        make_job(f"{number}", state="failed")
    assert re.search(r"about \d+ jobs", get())
    assert "over 10 jobs" in get("?state__exact=failed")
    assert " jobs\n" not in get("?queue_name=default")
    assert "1 job\n" in get(f"?q={Job.objects.first().pk}")


def test_all_of_a_short_list_are_shown(get, short_pages):
    for number in range(5):
        make_job(f"{number}")
    page = get()
    assert len(titles(page)) == 3
    assert len(titles(get(link(page, "Show all")))) == 5
    assert link(get("?all="), "Next page") is None


@pytest.mark.parametrize(
    "query",
    [
        *("?older=x", "?older=1", "?older=999999999999999999999999.0", "?newer=1.x", "?created=year"),
        *(
            "?created_from=yesterday",
            "?finished_until=soon",
            "?state__exact=done",
            "?runs_on=nothing",
            "?no_such_field=1",
        ),
        *("?created_until=2026-02-31T00:00", "?user=%00", "?q=%00", "?task_path=%00", "?older=1.2.3"),
    ],
)
def test_bad_parameters_lead_to_the_list(admin_client, query):
    """What a filter cannot mean is answered with the whole list, never with an error page."""
    make_job("one")
    response = admin_client.get(LIST + query, follow=True)
    assert response.status_code == 200
    assert "/admin/notifications/job/" in response.request["PATH_INFO"]


def test_notifications_have_pages(admin_client, user, monkeypatch):
    monkeypatch.setattr("notifications.admin.notifications.NotificationAdmin.list_per_page", 2)
    for number in range(5):
        tasks.noop.using(owner=user, title=f"{number}").enqueue()
    from notifications.testing import run_jobs

    run_jobs()

    def get(query=""):
        return admin_client.get(f"/admin/notifications/notification/{query}").text

    assert sorted(title for page in walk(get, "", "Next page") for title in page) == list("01234")
    assert titles(get("?category=nothing")) == []
    assert len(titles(get("?category=job"))) == 2


def test_a_search_goes_on_by_itself(admin_client, short_pages):
    """Without a script, until it has rows to show or has searched the whole table; a link stops it."""
    make_job("needle")
    for number in range(1, 21):
        make_job(f"{number}", minutes=number)
    address, steps = f"{LIST}?q=needle", 0
    while not titles((response := admin_client.get(address)).text):
        assert "Nothing found so far." in response.text
        stay = admin_client.get(LIST + link(response.text, "Stop"))
        assert "Refresh" not in stay.headers and "Only a part of the table" in stay.text
        pause, _, address = response.headers["Refresh"].partition("; url=")
        assert int(pause) >= 1
        steps += 1
    assert titles(response.text) == ["needle"] and steps > 1
    assert "Refresh" not in response.headers
    assert "Refresh" not in admin_client.get(LIST).headers


def test_a_job_that_succeeded_in_part(get):
    """What it says of itself is not headed "Succeeded"."""
    make_job("import", progress_current=70, progress_total=70, progress_message="9 of 70 failed")
    page = get()
    assert "9 of 70 failed" in page
    assert '<span class="state" data-state="succeeded">Finished</span><br>' in page


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


@pytest.mark.parametrize("words", FOUND)
@pytest.mark.parametrize(("query", "rows_per_slice"), [("", 1), ("", 5_000), ("&user=ada", 5_000)])
def test_arguments(get, jobs_with_arguments, monkeypatch, words, query, rows_per_slice):
    """Words of values and keywords are found, whatever the case; of secrets and of values that are not shown none."""
    monkeypatch.setattr(keyset, "ROWS_PER_SLICE", rows_per_slice)
    page = get(f"?arguments={words}{query}")
    assert sorted(titles(page)) == sorted(FOUND[words].split())
    assert re.search(rf"\b{len(FOUND[words].split())} jobs?\b", page)


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
