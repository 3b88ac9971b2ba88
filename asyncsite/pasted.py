"""Reading a list of URLs that a person pasted or a program sent.

Only the shape is judged here. Whether an address may be called at all is decided when it is called, by the guarded
client, and stands in the report as "refused".
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

URLS_AT_MOST = 1000
URL_LENGTH = 2000
SHOWN = 60  # characters of a wrong line that are repeated in its error


@dataclass(frozen=True, kw_only=True)
class WrongLine:
    """One entry that is not a URL. ``line`` counts from 1, blank lines included."""

    line: int
    problem: str

    def __str__(self):
        return f"Line {self.line} {self.problem}"


def split_lines(text):
    """The lines of a text box, as (number, content), without the blank ones."""
    lines = enumerate(re.split(r"\r\n|\r|\n", text), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def wrong_lines(numbered):
    """What is wrong, for each of (number, content) that is not a URL."""
    return [
        WrongLine(line=number, problem=problem) for number, url in numbered if (problem := problem_with(url))
    ]


def problem_with(url):
    """Why this is not a URL that can be called, as the rest of a sentence; None if it is one."""
    if len(url) > URL_LENGTH:
        return f"is {len(url):,} characters long; at most {URL_LENGTH:,} are possible."
    if not re.match(r"https?://", url, re.IGNORECASE):
        return f"does not begin with http:// or https://: {shown(url)}"
    if re.search(r"[\s\x00-\x20\x7f-\x9f\ud800-\udfff]", url):
        return f"has a space or an invisible character in it: {shown(url)}"
    try:
        parts = urlsplit(url)
        if not parts.hostname or parts.port == 0:
            return f"names no server that can be called: {shown(url)}"
    except ValueError:
        return f"has a host or port that cannot be read: {shown(url)}"
    return None


def problem_with_count(count):
    """Why a report cannot have this many URLs, as a sentence; None if it can."""
    if count == 0:
        return "Paste at least one URL, one a line."
    if count > URLS_AT_MOST:
        return f"There are {count:,} URLs. A report takes at most {URLS_AT_MOST:,}: remove {count - URLS_AT_MOST:,}."
    return None


def shown(text):
    text = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return "".join(char if char.isprintable() else "�" for char in text)
