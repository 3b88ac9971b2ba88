"""The list of jobs: keyset pages in both directions, its filters and search, and counts that cost little."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from notifications.api import notify
from notifications.models import Attempt, Job, uuid7
from tests.jobs import tasks
from tests.support.admins import own_bases

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
def short_pages(set_bounds):
    """Pages have 3 rows, slices 4 rows, and a page is searched in 8 rows."""
    set_bounds(shown=3, rows=4, searched=8)


def walk(get, query, text):
    """Return the titles of a page and of those that follow by links with this text."""
    pages = []
    while query is not None:
        page = get(query)
        pages.append(titles(page))
        query = link(page, text)
    return pages


def test_the_count_is_that_of_all_pages(get, short_pages):
    for number in range(8):
        make_job(f"{number}")
    page = get()
    assert len(titles(page)) == 3 and "8 jobs" in page and "3 jobs" not in page


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
        "sortable column-created sorted descending"
    ]


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


def test_states_have_the_numbers_of_their_jobs(get, filtered_jobs, set_bounds):
    """Where the list has all jobs, or all of a state; the script of the page keeps them up to date."""
    set_bounds(counted=2)
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


def test_search_stops_and_goes_on(get, short_pages):
    """A page reads few rows, says so when it has found too little, and a link goes on from there."""
    for number in range(20):
        make_job("rare" if number in (1, 2) else f"{number}", minutes=number)
    pages = walk(get, "?q=rare", "Search further")
    assert pages == [[], [], ["rare", "rare"]]
    assert "Only a part of the table was searched" in get("?q=rare")


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


def test_notifications_have_pages(admin_client, user, set_bounds):
    set_bounds(shown=2)
    for number in range(5):
        tasks.noop.using(owner=user, title=f"{number}").enqueue()
    from notifications.testing import run_jobs

    run_jobs()

    def get(query=""):
        return admin_client.get(f"/admin/notifications/notification/{query}").text

    assert sorted(title for page in walk(get, "", "Next page") for title in page) == list("01234")


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


def test_where_a_failed_job_stopped(get):
    """Its last message alone would not say how much of it is done."""
    make_job("import", state="failed", progress_current=7, progress_total=12, progress_message="Send")
    assert "7 / 12 · Send" in get()


@pytest.fixture
def core_alone():
    with own_bases(with_apps=False):
        yield


@pytest.mark.parametrize("query", ["?batch={batch}", "?user=ada"])
@pytest.mark.parametrize("ids_read", [2, 1_000])
def test_few_jobs_are_looked_up_by_their_ids(core_alone, get, short_pages, user, set_bounds, query, ids_read):
    """With the core alone too. More than the limit are searched for in the slices of all jobs."""
    set_bounds(rows=ids_read)
    batch = uuid7()
    for number in range(3):
        make_job(f"part {number}", minutes=number, batch=batch, user=user)
    for number in range(20):
        make_job(f"{number}", minutes=10 + number)
    page = get(query.format(batch=batch))
    if ids_read == 2:
        assert titles(page) == [] and "Nothing found so far." in page
    else:
        assert titles(page) == ["part 2", "part 1", "part 0"] and "3 jobs" in page
    for nothing in (f"?batch={uuid7()}", "?user=nobody-of-this-name"):
        assert "0 jobs" in get(nothing)


def test_few_notifications_are_looked_up_by_their_ids(core_alone, admin_client, user, other_user, set_bounds):
    """With the core alone too."""
    set_bounds(rows=2, searched=2)
    notify(user, "Old")
    for number in range(5):
        notify(other_user, f"{number}")
    page = admin_client.get("/admin/notifications/notification/?user=ada").text
    assert titles(page) == ["Old"]
