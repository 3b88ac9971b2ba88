"""What people type into the search of the docs is on the page, or in the section, that answers it.

``make docs`` searches for each, in the pages that it has built.
"""

import re
import runpy
from functools import cache

from tests.docs.pages import DOCS
from tests.support.offenders import collect_offenders

SEARCH = runpy.run_path(str(DOCS / "search_terms.py"))


@cache
def read_page(page):
    """Return the text of a page in lower case, and the page with the entries of the search."""
    text = (DOCS / f"{page}.md").read_text()
    return text.lower(), SEARCH["add_terms"](page, text)


def test_each_term_is_answered():
    """Its words are on the page, and the search ranks the page by an entry below the heading."""
    with collect_offenders() as offenders:
        for term, address in SEARCH["SEARCH_TERMS"].items():
            with offenders.row(f"{term}: {address}"):
                address, _, words = address.partition(" ")
                page, _, section = address.partition("#")
                text, with_terms = read_page(page)
                assert [word for word in (words or term).lower().split() if word not in text] == [], (
                    "It is not there."
                )
                [above] = re.findall(rf"^(.*)\n\n```{{index}} .*! {re.escape(term)}(?:,|$)", with_terms, re.M)
                assert above.startswith("#") and (not section or SEARCH["slug"](above.strip("# ")) == section)
