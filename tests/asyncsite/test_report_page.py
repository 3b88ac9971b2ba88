"""The page of a report: its progress, its content, and what its user can do."""

import json
import re

import pytest
from django.urls import reverse
from django.utils import timezone

from asyncsite.models import Report
from notifications.models import Job, Notification
from tests.asyncsite.conftest import set_job

URLS = "https://api.example.com/1\nhttps://api.example.com/2\n"


def read_filters(html):
    links = re.findall(r'<a[^>]* href="[^"]*#calls"[^>]*>([^<]*)</a>', html.partition("<table")[0])
    return [text for text in links if text]


def test_a_running_report_shows_its_progress(person, make_report):
    """It is in the HTML, updated by the element, and reloaded without JavaScript."""
    report = make_report(ok=[1, 2], failed=1, missing=5)
    job = set_job(report, "running", attempt=1)
    html = person.get(report.get_absolute_url()).content.decode()
    href = reverse("notifications:api-job", args=[job.pk])
    assert f'<notifications-job row job="{job.pk}" href="{href}" data-state="running"' in html
    assert 'data-job-part="elapsed"></span>' in html and job.started_at is None
    assert 'max="8" value="3"' in html
    assert ">3 of 8 checked<" in html and html.count('class="outcome') == 1
    assert read_filters(html) == ["Not passed 1", "Passed 2"]
    assert (
        '<rect class="failed" width="37.5%" height="8"/><rect class="ok" width="25.0%" height="8"/>' in html
    )
    assert "You can leave this page. We'll notify you when it finishes." in html
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in html
    assert "· attempt" not in html and "Download" not in html


def test_the_content_is_read_again_only_if_it_has_changed(person, make_report, django_assert_max_num_queries):
    """It is the part of the page that a report changes. It has an ETag of job, calls and query."""
    report = make_report(ok=[1], missing=2)
    job = set_job(report, "running", attempt=1)
    url = reverse("report-content", args=[report.pk])
    first = person.get(url)
    content = first.content.decode()
    page = person.get(report.get_absolute_url()).content.decode()
    # CSRF tokens differ, and findings are appended by their own element.
    changing = r'value="\w{64}"|(?s:\s*<notifications-output.*</notifications-output>\s*)'
    content, page = (re.sub(changing, "", html) for html in (content, page))
    assert "<html" not in content and content.strip() in page
    etag = first.headers["ETag"]
    with django_assert_max_num_queries(6):
        assert person.get(url, headers={"if-none-match": etag}).status_code == 304
    assert person.get(f"{url}?sort=url", headers={"if-none-match": etag}).status_code == 200
    report.calls.create(position=2, url="https://api.example.com/2", outcome="ok")
    etag = assert_changed(person, url, etag)
    Job.objects.filter(pk=job.pk).update(state="succeeded", version=job.version + 1)
    assert_changed(person, url, etag)


def assert_changed(client, url, etag):
    response = client.get(url, headers={"if-none-match": etag})
    assert response.status_code == 200 and response.headers["ETag"] != etag
    return response.headers["ETag"]


def test_the_content_of_another_user_is_404(person, other_user, make_report):
    theirs = make_report(owner=other_user, ok=[1])
    assert person.get(reverse("report-content", args=[theirs.pk])).status_code == 404


@pytest.mark.parametrize("state", ["running", "succeeded"])
def test_a_second_attempt_is_shown(person, make_report, state):
    report = make_report(ok=[1], missing=1)
    set_job(report, state, attempt=2)
    assert "attempt 2" in person.get(report.get_absolute_url()).content.decode()


def test_a_done_report_shows_totals_chart_table_and_downloads(person, make_report):
    report = make_report(ok=[12, 40, 700], failed=2, refused=1)
    set_job(report, "succeeded", attempt=1)
    html = person.get(report.get_absolute_url()).content.decode()
    totals = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html))
    assert totals == {"Median response time": "40 ms", "95th percentile": "700 ms"}
    assert '<h2 class="state" data-state="succeeded">3 of 6 passed</h2>' in html
    assert "Succeeded" not in html.partition("<main")[2]
    assert read_filters(html) == ["All 6", "Failed 2", "Refused 1", "Passed 3"]
    parts = re.findall(r'<rect class="(\w+)" width="([\d.]+)%" height="8"/>', html)
    assert parts == [("refused", "100.0"), ("failed", "83.33"), ("ok", "50.0")], (
        "each covers the one before it"
    )
    assert 'role="img"' in html and "notifications-job" not in html and "http-equiv" not in html
    order = ['class="rows calls', 'id="times"', '<details class="log"']
    assert sorted(order, key=html.index) == order
    assert html.count('class="outcome ') == 6
    assert "It is not public." in html
    assert f"/reports/{report.pk}/report.csv" in html and f"/reports/{report.pk}/report.json" in html


@pytest.mark.parametrize(("status", "shown"), [(404, "404 Not Found"), (599, "599")])
def test_a_response_that_is_an_error_is_named_once(person, make_report, status, shown):
    report = make_report(ok=[1], failed=1)
    report.calls.filter(outcome="failed").update(status=status, error="api.example.com answered.")
    html = person.get(report.get_absolute_url()).content.decode()
    assert [text.strip() for text in re.findall(r"<td>([2-5]\d\d[^<]*)</td>", html)] == [shown, "200"]
    assert "api.example.com answered." not in html


def test_the_table_can_be_filtered_by_outcome(person, make_report):
    """An unknown outcome shows all. One that no call has is not offered, unless it is chosen."""
    url = make_report(ok=[1, 2], failed=1).get_absolute_url()
    assert read_filters(person.get(url).content.decode()) == ["All 3", "Failed 1", "Passed 2"]
    assert "Refused 0" in read_filters(person.get(f"{url}?outcome=refused").content.decode())
    assert read_filters(person.get(make_report(ok=[1, 2]).get_absolute_url()).content.decode()) == []
    assert person.get(f"{url}?outcome=failed").content.decode().count('class="outcome ') == 1
    assert person.get(f"{url}?outcome=nonsense").content.decode().count('class="outcome ') == 3
    assert "No refused calls." in person.get(f"{url}?outcome=refused").content.decode()


def test_a_failed_report_shows_reason_and_remedy(person, make_report):
    """Recorded calls are shown."""
    report = make_report(ok=[1], missing=2)
    error = {"type": "worker-lost", "title": "Failed", "detail": "The work was interrupted 3 times."}
    set_job(report, "failed", attempt=3, error=json.dumps(error))
    html = person.get(report.get_absolute_url()).content.decode()
    assert "The work was interrupted 3 times." in html
    assert "The report failed" in html and "1 of 3 checked" in html and "Check remaining 2" in html
    assert f'href="/reports/?again={report.pk}"' in html
    assert html.count('class="outcome ') == 1


@pytest.mark.parametrize(
    ("by_other", "heading"), [(False, "Cancelled by you"), (True, "Cancelled by another user")]
)
def test_a_cancelled_report_is_no_problem(person, make_report, by_other, heading):
    """Its calls can be continued. Without any, it does not say "yet"."""
    report = make_report(missing=2)
    set_job(report, "cancelled", cancelled_by_other=by_other, error='{"title": "Cancelled"}')
    html = person.get(report.get_absolute_url()).content.decode()
    assert re.search(f'<h2 class="state"[^>]*>{heading}</h2>', html) and 'class="problem"' not in html
    assert "Check remaining 2" in html and "No URL was called." in html
    assert "no calls yet" not in person.get("/reports/").content.decode()


def test_a_report_of_1000_urls_is_sent_in_pages_with_failures_first(person, make_report):
    """A page has 50 calls and at most 41 kB. The other pages, the sort order and a search are links and a form."""
    url = make_report(ok=range(1, 981), failed=15, refused=5).get_absolute_url()
    response = person.get(url)
    html = response.content.decode()
    assert len(response.content) <= 41_000
    assert html.count('class="outcome ') == 50
    assert re.findall(r'class="outcome (\w+)"', html)[:21] == ["failed"] * 15 + ["refused"] * 5 + ["ok"]
    assert "1 to 50 of 1,000" in html and 'href="?page=2#calls"' in html
    last = person.get(f"{url}?page=20&sort=-elapsed_ms").content.decode()
    assert "951 to 1,000 of 1,000" in last and 'href="?sort=-elapsed_ms&amp;page=19#calls"' in last
    assert 'aria-sort="descending"><a href="?sort=elapsed_ms#calls">Response time' in last
    slowest = person.get(f"{url}?sort=-elapsed_ms").content.decode()
    assert re.findall(r"<td>([\d,]+) ms", slowest)[:2] == ["980 ms"[:-3], "979"]
    found = person.get(f"{url}?q=example.com/977&outcome=ok").content.decode()
    assert found.count('class="outcome ') == 1 and 'value="example.com/977"' in found
    assert "No passed calls match “nowhere”" in person.get(f"{url}?q=nowhere&outcome=ok").content.decode()
    for nonsense in ("?sort=nonsense", "?page=x", "?q=%00", "?sort=-", "?page=999&q=" + "x" * 3000):
        assert person.get(url + nonsense).status_code == 200


def test_the_rows_are_sorted_when_the_report_is_opened_after_its_end(person, make_report):
    """By outcome and number. A page that was watched until the end keeps the order in which the calls failed."""
    report = make_report(ok=[1], missing=3)
    for position, outcome in [(4, "failed"), (2, "refused"), (3, "failed")]:
        report.calls.create(position=position, url="https://api.example.com/", outcome=outcome)
    job = set_job(report, "running", attempt=1)
    content = reverse("report-content", args=[report.pk])

    def read_rows(url):
        return "".join(re.findall(r'<tr data-key="(\d)"', person.get(url).content.decode()))

    assert read_rows(report.get_absolute_url()) == "423"
    Job.objects.filter(pk=job.pk).update(state="succeeded", version=job.version + 1)
    assert read_rows(f"{content}?watched=1") == "4231"
    assert read_rows(content) == read_rows(report.get_absolute_url()) == "3421"


def test_external_texts_are_escaped(person, make_report):
    report = make_report(failed=1, title="<script>alert(1)</script>")
    report.calls.update(error='<img src=x onerror="alert(1)">', content_type="<b>")
    html = person.get(report.get_absolute_url()).content.decode()
    assert "<script>alert" not in html and "<img" not in html and "<b>" not in html


@pytest.mark.parametrize("path", ["", "report.csv", "report.json"])
def test_the_report_of_another_user_is_404(person, other_user, make_report, path):
    """The page is the same as for a report that does not exist."""
    theirs, none = make_report(owner=other_user, ok=[1]), 987654
    responses = [person.get(f"/reports/{pk}/{path}") for pk in (theirs.pk, none, 10**30)]
    assert [response.status_code for response in responses] == [404, 404, 404]
    pages = [re.sub(r'(nonce|value|csrf[a-z-]*)="[^"]*"', "", page.content.decode()) for page in responses]
    assert pages[0] == pages[1] == pages[2]


def test_pages_have_no_inline_code(person, make_report):
    """The Content-Security-Policy would block it."""
    report = make_report(ok=[1, 900], failed=1)
    running = make_report(ok=[1], missing=1)
    set_job(running, "running")
    for url in ("/reports/", "/check/", report.get_absolute_url(), running.get_absolute_url(), "/nothing/"):
        html = person.get(url).content.decode()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", html), url
        scripts = [tag for tag in re.findall(r"<script[^>]*>", html) if 'type="application/json"' not in tag]
        assert all("src=" in script for script in scripts), url


def test_no_notification_before_the_job_is_done(person):
    person.post("/reports/", {"urls": URLS})
    assert not Notification.objects.exists()


def find_form_action(html, label):
    """Return the action of the form whose button has this label."""
    return re.search(
        rf'<form method="post" action="([^"]+)"[^>]*>(?:(?!</form>).)*<button[^>]*>{label}</button>',
        html,
        re.S,
    )[1]


@pytest.mark.django_db(transaction=True)
def test_a_report_is_cancelled_and_continued(person):
    """Without JavaScript. Both buttons redirect to the report."""
    person.post("/reports/", {"urls": URLS})
    report = Report.objects.get()
    page = report.get_absolute_url()
    answer = person.post(find_form_action(person.get(page).content.decode(), "Cancel"))
    assert (answer.status_code, answer["Location"]) == (303, page)
    assert Job.objects.get().state == "cancelled"
    html = person.get(page).content.decode()
    assert "Cancelled by you" in html
    answer = person.post(find_form_action(html, "Check remaining 2"))
    assert (answer.status_code, answer["Location"]) == (303, page)
    assert Job.objects.get().state == "queued"


def test_a_report_that_is_being_cancelled_shows_it(person, make_report):
    report = make_report(ok=[1], missing=1)
    set_job(report, "running", cancel_requested_at=timezone.now())
    html = person.get(report.get_absolute_url()).content.decode()
    assert re.search(r'<h2 class="state"[^>]*>Cancelling… ', html) and "Results so far are kept." in html
    assert "<button disabled>Cancelling…</button>" in html and ">Cancel</button>" not in html


def test_a_failed_report_without_missing_urls_has_no_retry(person, make_report):
    """All of its URLs were called."""
    report = make_report(ok=[1])
    set_job(report, "failed", error='{"type": "failed", "title": "Failed", "detail": "It broke."}')
    html = person.get(report.get_absolute_url()).content.decode()
    assert "The report failed" in html and "Check remaining" not in html
