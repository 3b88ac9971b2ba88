"""Reports: the list, the form, creating one, and its page."""

import json
import re

import pytest
from django.urls import reverse
from django.utils import timezone

from asyncsite.json_input import REMEDY
from asyncsite.models import Report
from notifications.models import Job, Notification

URLS = "https://api.example.com/1\nhttps://api.example.com/2\n"


def post_json(client, body, **headers):
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    return client.post("/reports/", content, content_type="application/json", **headers)


def set_job(report, state, **fields):
    """Create the job of a report in a state."""
    now = timezone.now()
    job = Job.objects.create(
        user=report.owner, state=state, task_path="t", backend="default", queue_name="default", title=report.title,
        url=report.get_absolute_url(), created_at=now, queued_at=now, **fields,
    )  # fmt: skip
    Report.objects.filter(pk=report.pk).update(job_id=job.pk)
    return job


def test_home_redirects_to_the_reports(person):
    assert person.get("/").headers["location"] == "/reports/"


def test_an_empty_list_names_the_actions(person, development):
    html = person.get("/reports/").content.decode()
    assert "No reports yet. Paste URLs above, or try it with sample URLs." in html


def test_the_list_shows_own_reports_newest_first(person, other_user, make_report):
    """A report whose job is no longer stored is done."""
    make_report(title="Oldest", ok=[1, 2], failed=1)
    running = make_report(title="Newer", ok=[1], missing=2)
    set_job(running, "running")
    make_report(title="Not mine", owner=other_user, ok=[1])
    html = person.get("/reports/").content.decode()
    assert re.findall(r'<a href="/reports/\d+/">(.*?)</a>', html) == ["Newer", "Oldest"]
    assert ">1 of 3<" in html and ">Running<" in html
    assert "2 ok, 1 failed" in html and ">Succeeded<" in html
    assert html.count("<notifications-job") == 1


def test_the_number_of_queries_does_not_depend_on_the_reports(
    person, make_report, django_assert_max_num_queries
):
    """25 per page."""
    for _ in range(30):
        make_report(ok=[1])
    with django_assert_max_num_queries(12):
        html = person.get("/reports/").content.decode()
    assert html.count('data-label="State"') == 25
    assert 'href="?page=2"' in html
    assert person.get("/reports/?page=2").content.decode().count('data-label="State"') == 5
    for nonsense in ("nonsense", "9" * 5000):
        assert person.get("/reports/", {"page": nonsense}).status_code == 200


def test_the_form_creates_a_report_and_redirects_to_it(person, user):
    """The report refers to its queued job."""
    response = person.post("/reports/", {"urls": f"\r\n {URLS}", "title": " Partners "})
    report = Report.objects.get()
    assert (response.status_code, response.headers["location"]) == (303, report.get_absolute_url())
    assert (report.owner, report.title, report.size) == (user, "Partners", 2)
    assert report.urls == ["https://api.example.com/1", "https://api.example.com/2"]
    job = Job.objects.get(pk=report.job_id)
    assert (job.user_id, job.title, job.url, job.state) == (
        user.pk,
        "Partners",
        f"/reports/{report.pk}/",
        "queued",
    )


def test_a_program_gets_202_with_the_job(program):
    """The default title has the number of URLs."""
    response = post_json(program, {"urls": ["https://api.example.com/1", " https://api.example.com/2 "]})
    assert response.status_code == 202
    report, job = Report.objects.get(), response.json()
    assert (job["kind"], job["id"], job["url"]) == ("job", str(report.job_id), f"/reports/{report.pk}/")
    assert job["title"] == report.title == "Check 2 URLs"
    assert response.headers["location"] == job["links"]["self"]
    assert report.urls == ["https://api.example.com/1", "https://api.example.com/2"]


def test_wrong_lines_are_422_with_the_form(person):
    """The summary gets the focus, each error is at its field, the form keeps its values, and nothing is stored."""
    typed = "https://api.example.com/1\n\nnonsense\nftp://<b>\n"
    response = person.post("/reports/", {"urls": typed, "title": "x" * 201})
    html = response.content.decode()
    assert response.status_code == 422
    assert "https://api.example.com/1\n\nnonsense\nftp://&lt;b&gt;\n</textarea>" in html
    assert f'value="{"x" * 201}"' in html
    assert html.count("Line 3 does not begin with http:// or https://: nonsense") == 2
    assert html.count("The title has 201 characters. The limit is 200.") == 2
    assert html.count('tabindex="-1" data-focus') == 1
    assert html.count('aria-invalid="true"') == 2
    described = re.search(r'<textarea[^>]*aria-describedby="([^"]+)"', html)[1].split()
    assert described and all(f'id="{name}"' in html for name in described)
    assert not Report.objects.exists()


def test_only_ten_wrong_lines_are_listed(person):
    html = person.post("/reports/", {"urls": "nonsense\n" * 14}).content.decode()
    assert "Line 10 does not" in html and "Line 11 does not" not in html
    assert "4 more lines are not URLs." in html


@pytest.mark.parametrize("typed", ["", " \n\n"])
def test_an_empty_text_box_is_422(person, typed):
    response = person.post("/reports/", {"urls": typed})
    assert response.status_code == 422
    assert "Enter at least one URL, one per line, or choose a file." in response.content.decode()


def test_at_most_1000_urls(person):
    """1,000 of 2,000 characters are accepted, from the form and from JSON."""
    urls = [f"https://api.example.com/{number:04}".ljust(2000, "x") for number in range(1000)]
    assert person.post("/reports/", {"urls": "\n".join(urls)}).status_code == 303
    assert post_json(person, {"urls": urls}).status_code == 303
    assert [report.size for report in Report.objects.all()] == [1000, 1000]
    response = person.post("/reports/", {"urls": "https://a/\n" * 1001})
    assert "There are 1,001 URLs. A report takes at most 1,000: remove 1." in response.content.decode()
    assert post_json(person, {"urls": ["https://a/"] * 1001}).status_code == 422


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ([], [("", f"The body must be an object. {REMEDY}")]),
        ({}, [("urls", "urls must be a list of strings.")]),
        ({"urls": "https://a/"}, [("urls", "urls must be a list of strings.")]),
        ({"urls": []}, [("urls", "Enter at least one URL, one per line.")]),
        ({"urls": ["https://a/", 7]}, [("urls", "Line 2 is not a string.")]),
        ({"urls": ["https://a/"], "title": 7}, [("title", "title must be a string.")]),
        (
            {"urls": ["https://a/"], "title": "x" * 201},
            [("title", "title must have at most 200 characters.")],
        ),
        (
            {"urls": ["https://a/"], "title": "\0"},
            [("title", "title must not contain NUL or a lone surrogate.")],
        ),
        (
            {"urls": ["https://a/"], "title": "\ud800"},
            [("title", "title must not contain NUL or a lone surrogate.")],
        ),
    ],
)
def test_invalid_values_in_json_are_422(program, body, errors):
    response = post_json(program, body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert [(error["field"], error["detail"]) for error in problem["errors"]] == errors
    assert not Report.objects.exists()


def test_json_errors_have_line_numbers(program):
    """They count from 1."""
    problem = post_json(program, {"urls": ["https://a/", "nonsense", "https://b/", ""]}).json()
    assert problem["title"] == "Unprocessable Content" or problem["title"] == "Unprocessable Entity"
    assert [(error["field"], error["line"]) for error in problem["errors"]] == [("urls", 2), ("urls", 4)]
    assert problem["errors"][0]["detail"] == "Line 2 does not begin with http:// or https://: nonsense"


@pytest.mark.parametrize("body", [" ", "{", b"\xff", '{"urls": NaN}', "[" * 100_000, "1" * 5000])
def test_invalid_json_is_400(program, body):
    response = post_json(program, body)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")


def test_a_form_by_a_program_gets_problems_as_json(program):
    """As the browser client's ask() sends it."""
    response = program.post("/reports/", {"urls": "nonsense"}, headers={"accept": "application/json"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "urls"


def test_too_many_active_jobs_keep_the_form(person, settings):
    """A browser gets the form with the error, a program a problem."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    assert person.post("/reports/", {"urls": URLS}).status_code == 303
    response = person.post("/reports/", {"urls": URLS, "title": "Second"})
    html = response.content.decode()
    assert response.status_code == 429
    assert (
        "There are 1 active jobs already." in html
        and "https://api.example.com/2" in html
        and "Second" in html
    )
    assert post_json(person, {"urls": ["https://a/"]}, headers={"accept": "*/*"}).status_code == 429
    assert Report.objects.count() == 1, "a report without a job must not stay"


def test_the_samples_fill_the_form_without_javascript(person, settings, development):
    """40 URLs with the address of the settings, not with the Host of the request."""
    html = person.get("/reports/?sample=1", headers={"host": "localhost"}).content.decode()
    urls = re.search(r"<textarea[^>]*>([^<]*)", html)[1].split()
    assert len(urls) == 40
    assert all(url.startswith(f"{settings.SELF_URL}/upstream/") for url in urls)
    assert settings.NOTIFICATIONS["OUTBOUND_ALLOW"] == [settings.SELF_ADDRESS]


def test_outside_development_there_are_no_samples(person, settings):
    assert not settings.DEBUG
    assert "sample" not in person.get("/reports/").content.decode()


def test_the_urls_of_a_report_fill_the_form(person, other_user, make_report):
    """Another user's report is 404."""
    html = person.get(f"/reports/?again={make_report(ok=[1], missing=1).pk}").content.decode()
    assert (
        "https://api.example.com/1\nhttps://api.example.com/2</textarea>" in html and 'value="Mine"' in html
    )
    assert person.get(f"/reports/?again={make_report(owner=other_user, ok=[1]).pk}").status_code == 404
    for nonsense in ("x", "-1", "9" * 30, "9" * 5000, "\u0662"):
        assert person.get("/reports/", {"again": nonsense}).status_code == 404


def test_a_running_report_shows_its_progress(person, make_report):
    """It is in the HTML, updated by the element, and reloaded without JavaScript."""
    report = make_report(ok=[1, 2], failed=1, missing=5)
    job = set_job(report, "running", attempt=1)
    html = person.get(report.get_absolute_url()).content.decode()
    href = reverse("notifications:api-job", args=[job.pk])
    assert f'<notifications-job row job="{job.pk}" href="{href}" data-state="running"' in html
    assert 'data-job-part="elapsed"></span>' in html and job.started_at is None
    assert 'max="8" value="3"' in html
    assert ">3 of 8<" in html and html.count('data-label="Outcome"') == 3 and "<svg" in html
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
    content, page = (re.sub(r'value="\w{64}"', "", html) for html in (content, page))  # CSRF tokens differ.
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
    assert totals == {
        "Ok": "3", "Failed": "2", "Refused": "1", "Median response time": "40 ms", "95th percentile": "700 ms",
    }  # fmt: skip
    assert "<svg" in html and "notifications-job" not in html and "http-equiv" not in html
    assert html.count('data-label="Outcome"') == 6
    assert "It is not public." in html
    assert f"/reports/{report.pk}/report.csv" in html and f"/reports/{report.pk}/report.json" in html


def test_the_table_can_be_filtered_by_outcome(person, make_report):
    """An unknown outcome shows all."""
    url = make_report(ok=[1, 2], failed=1).get_absolute_url()
    assert person.get(f"{url}?outcome=failed").content.decode().count('data-label="Outcome"') == 1
    assert person.get(f"{url}?outcome=nonsense").content.decode().count('data-label="Outcome"') == 3
    assert "No refused calls." in person.get(f"{url}?outcome=refused").content.decode()


def test_a_failed_report_shows_reason_and_remedy(person, make_report):
    """Recorded calls are shown."""
    report = make_report(ok=[1], missing=2)
    error = {"type": "worker-lost", "title": "Failed", "detail": "The work was interrupted 3 times."}
    set_job(report, "failed", attempt=3, error=json.dumps(error))
    html = person.get(report.get_absolute_url()).content.decode()
    assert "The work was interrupted 3 times." in html
    assert "2 URLs not checked yet." in html and "Check remaining 2" in html
    assert f'href="/reports/?again={report.pk}"' in html
    assert html.count('data-label="Outcome"') == 1


@pytest.mark.parametrize(
    ("by_other", "heading"), [(False, "Cancelled by you"), (True, "Cancelled by another user")]
)
def test_a_cancelled_report_is_no_problem(person, make_report, by_other, heading):
    """Its calls can be continued. Without any, it does not say "yet"."""
    report = make_report(missing=2)
    set_job(report, "cancelled", cancelled_by_other=by_other, error='{"title": "Cancelled"}')
    html = person.get(report.get_absolute_url()).content.decode()
    assert f"<h2>{heading}</h2>" in html and 'class="problem"' not in html
    assert "Check remaining 2" in html and "No URL was called." in html
    assert "no calls yet" not in person.get("/reports/").content.decode()


def test_a_report_of_1000_urls_is_sent_in_pages_with_failures_first(person, make_report):
    """A page has 50 calls and at most 40 kB. The other pages, the sort order and a search are links and a form."""
    url = make_report(ok=range(1, 981), failed=15, refused=5).get_absolute_url()
    response = person.get(url)
    html = response.content.decode()
    assert len(response.content) <= 40_000
    assert html.count('data-label="Outcome"') == 50
    assert re.findall(r'class="outcome (\w+)"', html)[:21] == ["failed"] * 15 + ["refused"] * 5 + ["ok"]
    assert "1 to 50 of 1,000" in html and 'href="?page=2#calls"' in html
    last = person.get(f"{url}?page=20&sort=-elapsed_ms").content.decode()
    assert "951 to 1,000 of 1,000" in last and 'href="?sort=-elapsed_ms&amp;page=19#calls"' in last
    assert 'aria-sort="descending"><a href="?sort=elapsed_ms#calls">Response time' in last
    slowest = person.get(f"{url}?sort=-elapsed_ms").content.decode()
    assert re.findall(r'data-label="Time">([\d,]+) ms', slowest)[:2] == ["980 ms"[:-3], "979"]
    found = person.get(f"{url}?q=example.com/977&outcome=ok").content.decode()
    assert found.count('data-label="Outcome"') == 1 and 'value="example.com/977"' in found
    assert "No ok calls match “nowhere”" in person.get(f"{url}?q=nowhere&outcome=ok").content.decode()
    for nonsense in ("?sort=nonsense", "?page=x", "?q=%00", "?sort=-", "?page=999&q=" + "x" * 3000):
        assert person.get(url + nonsense).status_code == 200


def test_browsers_find_an_icon(client):
    assert client.get("/favicon.ico").headers["location"].endswith("icon.svg")


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


def test_csrf_is_checked_for_the_form_and_json(user, client_of):
    """A browser gets a page, a program a problem."""
    client = client_of(user, enforce_csrf_checks=True)
    page = client.post("/reports/", {"urls": URLS}, headers={"accept": "text/html"})
    assert page.status_code == 403 and "This form is out of date" in page.content.decode()
    problem = post_json(client, {"urls": ["https://a/"]})
    assert (problem.status_code, problem.headers["content-type"]) == (403, "application/problem+json")
    client.get("/reports/", headers={"accept": "text/html"})
    token = client.cookies["csrftoken"].value
    assert post_json(client, {"urls": ["https://a/"]}, headers={"x-csrftoken": token}).status_code == 202


def find_form_action(html, label):
    """Return the action of the form whose button has this label."""
    return re.search(
        rf'<form method="post" action="([^"]+)"[^>]*>(?:(?!</form>).)*<button>{label}</button>', html, re.S
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
    assert "Cancelled by you" in html and "2 URLs not checked yet." in html
    answer = person.post(find_form_action(html, "Check remaining 2"))
    assert (answer.status_code, answer["Location"]) == (303, page)
    assert Job.objects.get().state == "queued"


def test_a_report_that_is_being_cancelled_shows_it(person, make_report):
    report = make_report(ok=[1], missing=1)
    set_job(report, "running", cancel_requested_at=timezone.now())
    html = person.get(report.get_absolute_url()).content.decode()
    assert "Cancelling… Results so far are kept." in html and ">Cancel</button>" not in html


def test_a_failed_report_without_missing_urls_has_no_retry(person, make_report):
    """All of its URLs were called."""
    report = make_report(ok=[1])
    set_job(report, "failed", error='{"type": "failed", "title": "Failed", "detail": "It broke."}')
    html = person.get(report.get_absolute_url()).content.decode()
    assert "The report failed" in html and "Check remaining" not in html
