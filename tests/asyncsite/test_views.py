"""Reports: the list, the form, and creating one."""

import json
import re

import pytest

from asyncsite.json_input import REMEDY
from asyncsite.models import Report
from notifications.models import Job
from tests.asyncsite.conftest import set_job

URLS = "https://api.example.com/1\nhttps://api.example.com/2\n"


def post_json(client, body, **headers):
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    return client.post("/reports/", content, content_type="application/json", **headers)


def test_home_shows_the_reports(person):
    """Without a redirect on the way, also to sign in."""
    assert 'href="/reports/" aria-current="page"' in person.get("/").text
    person.logout()
    assert person.get("/").headers["location"] == "/accounts/login/?next=/"


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
    assert ">Running · 1 of 3<" in html
    assert ">2 of 3 passed<" in html and ">1 failed<" in html
    assert "Succeeded" not in html.partition("<main")[2]
    assert html.count("<notifications-job") == 1


def test_the_number_of_queries_does_not_depend_on_the_reports(
    person, make_report, django_assert_max_num_queries
):
    """25 per page."""
    for _ in range(30):
        make_report(ok=[1])
    with django_assert_max_num_queries(12):
        html = person.get("/reports/").content.decode()
    assert html.count('class="came"') == 25
    assert 'href="?page=2"' in html
    assert person.get("/reports/?page=2").content.decode().count('class="came"') == 5
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


def test_browsers_find_an_icon(client):
    assert client.get("/favicon.ico").headers["location"].endswith("icon.svg")


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
