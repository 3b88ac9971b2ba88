"""Access rules, for a sync and an async view."""

import json

import pytest
from django.db import OperationalError
from django.template.loader import render_to_string
from django.test import Client

from asyncsite.access import require_sign_in

PATHS = ["/reports/", "/check/"]
OWN = ["/reports/1/", "/reports/1/report.csv", "/reports/1/report.json"]


@pytest.mark.parametrize("path", [*PATHS, *OWN])
def test_a_page_redirects_to_the_sign_in_and_back(client, db, path):
    response = client.get(f"{path}?a=b", headers={"accept": "text/html"})
    assert response.status_code == 302
    assert response.headers["location"] == f"/accounts/login/?next={path}%3Fa%3Db"


@pytest.mark.parametrize("path", [*PATHS, *OWN])
def test_a_program_that_is_not_signed_in_gets_401(client, db, path):
    response = client.get(path, headers={"accept": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")


@pytest.mark.parametrize("path", PATHS)
def test_sign_in_is_checked_before_csrf(db, path):
    client = Client(enforce_csrf_checks=True)
    assert client.post(path, "{}", content_type="application/json").status_code == 401
    page = client.post(path, {"urls": "x"}, headers={"accept": "text/html"})
    assert page.headers["location"] == f"/accounts/login/?next={path}"


@pytest.mark.parametrize("path", PATHS)
def test_csrf_is_checked(user, client_of, path):
    client = client_of(user, enforce_csrf_checks=True)
    assert client.post(path, "{}", content_type="application/json").status_code == 403
    assert client.post(path, {"url": "x"}, headers={"accept": "text/html"}).status_code == 403


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_405(program, path):
    """A program gets the allowed methods."""
    response = program.put(path, "{}", content_type="application/json")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")
    assert response.json()["detail"] == "Use GET or HEAD or POST."
    assert program.delete(path, headers={"accept": "text/html"}).status_code == 405


@pytest.mark.parametrize("path", PATHS)
def test_another_content_type_is_415(program, path):
    response = program.post(path, "<urls/>", content_type="application/xml")
    assert (response.status_code, response.headers["content-type"]) == (415, "application/problem+json")


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_too_large_is_413(program, settings, path):
    """A program gets a problem, a browser a page."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body = json.dumps({"urls": ["https://a/"] * 100, "url": "x" * 200})
    response = program.post(path, body, content_type="application/json")
    assert (response.status_code, response.headers["content-type"]) == (413, "application/problem+json")
    page = program.post(path, {"urls": "x" * 200, "url": "x" * 200}, headers={"accept": "text/html"})
    assert page.status_code == 413 and "The request is too large" in page.content.decode()


def test_signing_in_and_out(client, make_user):
    """Signing out needs a POST. After a wrong password the username is kept."""
    make_user("demo", password="demo")
    html = client.post("/accounts/login/", {"username": "demo", "password": "x"}).content.decode()
    assert 'value="demo"' in html and 'role="alert"' in html
    response = client.post("/accounts/login/", {"username": "demo", "password": "demo", "next": "/check/"})
    assert response.headers["location"] == "/check/"
    html = client.get("/reports/").content.decode()
    assert '<form method="post" action="/accounts/logout/">' in html
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").headers["location"] == "/accounts/login/"
    assert client.get("/reports/").status_code == 302


def test_the_sign_in_does_not_redirect_to_other_sites(client, make_user):
    make_user("demo", password="demo")
    form = {"username": "demo", "password": "demo", "next": "https://elsewhere.example/"}
    assert client.post("/accounts/login/", form).headers["location"] == "/reports/"


@pytest.mark.parametrize("page", ["400.html", "500.html"])
def test_error_pages_need_no_context(page):
    """Django renders them without a request, and perhaps without a database."""
    assert "<h1>" in render_to_string(page)


def test_404_is_a_page_without_a_session_too(client, db):
    response = client.get("/nothing/")
    assert response.status_code == 404
    assert "or you do not have access to it" in response.content.decode()


@pytest.mark.parametrize("length", ["abc", "5,5", "-1", "\u00b2"])
def test_a_content_length_that_is_not_a_number_is_400(program, length):
    answer = program.post("/reports/", b"{}", content_type="application/json", CONTENT_LENGTH=length)
    assert answer.status_code == 400


def test_page_of_an_outage_makes_no_query(rf, user, django_assert_num_queries):
    @require_sign_in("GET")
    def view(request):
        raise OperationalError("the server closed the connection")

    request = rf.get("/", headers={"accept": "text/html"})
    request.user = user
    with django_assert_num_queries(0):
        response = view(request)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert "<h1>The database is not available</h1>" in response.content.decode()
