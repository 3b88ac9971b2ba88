"""No text of a page is printed over another one, or cut, in four languages and at five widths."""

import pytest

from tests.browser.all_pages import create_content, start_with_push, wait_for_page
from tests.support import pseudo_locale
from tests.support.browser import sign_in_over_http
from tests.support.text_rectangles import WIDTHS, find_text_problems

pytestmark = [pytest.mark.browser, pytest.mark.timeout(480), pytest.mark.nightly]

#: That of tests is 40 % longer, and written from right to left.
LANGUAGES = ["en", "de", "fr", pseudo_locale.CODE]


def test_each_page(site, tmp_path, new_page):
    """tests/browser/test_layout_shift.py does the same before each merge, in German on a phone."""
    site.environment["TEST_LOCALE_PATH"] = str(pseudo_locale.write_catalog(tmp_path))
    start_with_push(site)
    creator = new_page()
    addresses = create_content(site, creator)
    creator.close()
    found = []
    for language in LANGUAGES:
        page = new_page(
            locale=language, viewport={"width": 380, "height": 800}, has_touch=True, is_mobile=True
        )
        for user, names in (("demo", addresses), ("admin", ["check", "preferences"])):
            sign_in_over_http(page.context, site.url, user)
            for name in names:
                page.goto(addresses[name])
                wait_for_page(page)
                problems = find_text_problems(page, WIDTHS)
                found += [f"{language}, {user}, {name}, {problem}" for problem in problems]
        page.close()
    assert not found, "\n".join(found)
