"""Paths of the app without a request, and links of notifications in the language of a page."""

from uuid import UUID

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path
from django.utils import translation

from notifications import paths

ID = UUID("0199e1c2-6e0f-7d3a-b1a5-5d3c1b0f6a11")
urlpatterns = i18n_patterns(path("n/", include("notifications.urls")))


@pytest.fixture
def languages_in_paths(settings):
    """URLs with a language, in a project whose own language is German."""
    settings.LANGUAGE_CODE, settings.ROOT_URLCONF = "de", __name__


@pytest.mark.parametrize(
    ("link", "localized"),
    [
        ("/de/n/", "/fr/n/"),
        (f"/de/n/jobs/{ID}/", f"/fr/n/jobs/{ID}/"),
        ("/de/n/jobs/?a=/de/n/jobs/", "/fr/n/jobs/?a=/de/n/jobs/"),
        ("/de/n", "/de/n"),
        ("/de/n/other/", "/de/n/other/"),
        ("/de/reports/1/", "/de/reports/1/"),
        (f"https://elsewhere.test/de/n/jobs/{ID}/", f"https://elsewhere.test/de/n/jobs/{ID}/"),
        ("", ""),
    ],
)
def test_links_to_pages_of_the_app_are_localized(languages_in_paths, link, localized):
    """Links to the inbox and to jobs lead to them in the current language, others are unchanged."""
    assert paths.job_path(ID) == f"/de/n/jobs/{ID}/"
    with translation.override("fr"):
        assert paths.localize_link(link) == localized
    with translation.override("de"):
        assert paths.localize_link(link) == link


@pytest.mark.parametrize("urlconf", ["tests.test_checks", ""])
def test_links_of_a_project_without_the_urls_are_unchanged(settings, urlconf):
    settings.ROOT_URLCONF = urlconf
    assert paths.inbox_page() == ""
    assert paths.localize_link("/de/n/") == "/de/n/"


def test_marks_outlive_a_rotated_secret_key(settings):
    """Marks of a fallback key are valid, as sessions are."""
    query = f"viewer={paths.page_token(1)}"
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "a new key"
    assert paths.is_page_of(query, 1)
    settings.SECRET_KEY_FALLBACKS = []
    assert not paths.is_page_of(query, 1)


@pytest.mark.parametrize(
    "query", ["viewer=", "viewer=%00", "viewer=ä", "viewer=1&viewer=2", "a=1;viewer=2&viewer="]
)
def test_invalid_marks_are_refused(query):
    assert not paths.is_page_of(query, 1)


@pytest.mark.parametrize("query", ["", "epoch=e&seq=1", "viewers", "%ff"])
def test_requests_without_a_mark_are_allowed(query):
    """Clients that are not pages have none."""
    assert paths.is_page_of(query, 1)
