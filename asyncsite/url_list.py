"""Validate a list of URLs that a user pasted or a program sent.

Only the syntax is checked. Whether an address may be called is decided by the guarded client at the call, and the
report shows it as "refused".
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.utils.translation import gettext as _

from asyncsite.numbers import format_number

MAX_URLS = 1000
MAX_URL_LENGTH = 2000
#: Characters of a wrong line that its error quotes.
MAX_QUOTED_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class WrongLine:
    """A line that is not a URL. ``line`` counts from 1, blank lines included."""

    line: int
    problem: str

    def __str__(self):
        return _("Line {line} {problem}").format(line=self.line, problem=self.problem)


def split_lines(text):
    """Return the non-blank lines of a text as (number, content) pairs."""
    lines = enumerate(re.split(r"\r\n|\r|\n", text), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def find_wrong_lines(numbered):
    """Return a WrongLine for each (number, content) pair that is not a URL."""
    return [
        WrongLine(line=number, problem=problem)
        for number, url in numbered
        if (problem := find_url_problem(url))
    ]


def find_url_problem(url):
    """Return why a text is not a URL that can be called, as the end of a sentence, or None."""
    if len(url) > MAX_URL_LENGTH:
        text = _("has {count} characters. The limit is {limit}.")
        return text.format(count=format_number(len(url)), limit=format_number(MAX_URL_LENGTH))
    if not re.match(r"https?://", url, re.IGNORECASE):
        return _("does not begin with http:// or https://: {url}").format(url=quote_excerpt(url))
    if re.search(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff]", url):
        return _("contains a space or an invisible character: {url}").format(url=quote_excerpt(url))
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return _("has no host name: {url}").format(url=quote_excerpt(url))
        if parts.port == 0:
            return _("has an invalid host or port: {url}").format(url=quote_excerpt(url))
    except ValueError:
        return _("has an invalid host or port: {url}").format(url=quote_excerpt(url))
    return None


def find_count_problem(count):
    """Return why a report cannot have this many URLs, as a sentence, or None."""
    if count == 0:
        return _("Enter at least one URL, one per line.")
    if count > MAX_URLS:
        text = _("There are {count} URLs. A report takes at most {limit}: remove {excess}.")
        numbers = {"count": count, "limit": MAX_URLS, "excess": count - MAX_URLS}
        return text.format(**{name: format_number(number) for name, number in numbers.items()})
    return None


def quote_excerpt(text):
    text = text if len(text) <= MAX_QUOTED_LENGTH else text[:MAX_QUOTED_LENGTH] + "…"
    return "".join(char if char.isprintable() else "�" for char in text)
