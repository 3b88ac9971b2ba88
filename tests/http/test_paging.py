"""Pages of a list for an app of a project: links, positions, and what others change meanwhile."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import RequestFactory

from notifications.http import Problem, page_view, paginate

pytestmark = pytest.mark.django_db

START = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def rows():
    """Seven rows with a key of the database; some have the same time."""
    User = get_user_model()
    User.objects.all().delete()
    for number in range(7):
        joined = START + timedelta(minutes=number // 3)
        User.objects.create(username=f"u{number}", date_joined=joined)
    return User.objects.all()


def read(rows, query="", **options):
    return paginate(RequestFactory().get(f"/letters/{query}"), rows, ("date_joined", "id"), **options)


def names(page):
    return "".join(row.username.removeprefix("u") for row in page.rows)


def urls_of(page):
    return {
        unescape(text): unescape(url) for url, text in re.findall(r'href="([^"]*)"[^>]*>([^<]*)', page.links)
    }


def test_there_and_back(rows, django_assert_num_queries):
    """From the newest row to the oldest, and back, each page by one query."""
    pages = [read(rows, limit=3)]
    with django_assert_num_queries(2):
        while pages[-1].next:
            pages.append(read(rows, f"?after={pages[-1].next}", limit=3))
    assert [names(page) for page in pages] == ["654", "321", "0"]
    assert (pages[0].previous, pages[-1].next) == (None, None)
    before = read(rows, f"?before={pages[-1].previous}", limit=3)
    first = read(rows, f"?before={before.previous}", limit=3)
    assert [names(before), names(first), first.previous] == ["321", "654", None]
    assert names(read(rows, f"?after={first.next}", limit=3)) == "321"


def test_rows_that_come_and_go_move_no_other(rows):
    page = read(rows, limit=3)
    get_user_model().objects.create(username="u8", date_joined=START + timedelta(days=1))
    page.rows[-1].delete()
    assert names(read(rows, f"?after={page.next}", limit=3)) == "321"


def test_links(rows):
    """They keep the other parameters, and lead to the newest page without a position."""
    page = read(rows, "?state=sent&limit=3")
    assert urls_of(page) == {"Older": f"/letters/?state=sent&limit=3&after={page.next}"}
    page = read(rows, f"?state=sent&limit=3&after={page.next}")
    assert urls_of(page) == {
        "Newest": "/letters/?state=sent&limit=3",
        "Newer": f"/letters/?state=sent&limit=3&before={page.previous}",
        "Older": f"/letters/?state=sent&limit=3&after={page.next}",
    }
    assert read(rows).links.strip() == ""


@pytest.mark.parametrize(
    "query",
    [
        *("after=", "after=1", "after=1.2.3", "after=x.1", "before=1.x", "after=1.9e9", "after=1.%00"),
        *(f"after={10**20}.1", f"before=1.{10**20}", "limit=0", "limit=x"),
    ],
)
def test_what_no_page_has_given(rows, user, rf, query):
    """It is a problem with the name of the parameter, which a page shows as text."""
    with pytest.raises(Problem) as raised:
        read(rows, f"?{query}")
    assert (raised.value.status, list(raised.value.errors)) == (422, [query.partition("=")[0]])
    request = rf.get(f"/?{query}")
    request.user = user
    response = page_view(lambda request: HttpResponse(read(rows, f"?{query}").links))(request)
    assert (response.status_code, response.content.decode()) == (422, raised.value.detail)
    assert response["Content-Type"] == "text/plain; charset=utf-8"


def test_local_times(rows, settings):
    """As a project stores them that has no time zones."""
    settings.USE_TZ = False
    page = read(rows, limit=3)
    assert names(read(rows, f"?after={page.next}", limit=3)) == "321"
