"""Validation of a list of URLs."""

import pytest

from asyncsite.url_list import find_count_problem, find_url_problem, find_wrong_lines, split_lines

pytestmark = pytest.mark.nightly_on_old_django


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "HTTP://EXAMPLE.com:8443/a?b=c#d",
        "http://127.0.0.1:8000/upstream/ok",
        "http://[::1]/",
        "https://bücher.example/straße",
        "https://example.com/" + "x" * 1980,
    ],
)
def test_urls(url):
    """Whether an address may be called is decided at the call."""
    assert find_url_problem(url) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("example.com", "does not begin with http:// or https://: example.com"),
        ("ftp://example.com/", "does not begin with http:// or https://: ftp://example.com/"),
        ("javascript:alert(1)", "does not begin with http:// or https://: javascript:alert(1)"),
        ("https://", "has no host name: https://"),
        ("https:///path", "has no host name: https:///path"),
        ("https://example.com:0/", "has an invalid host or port: https://example.com:0/"),
        ("https://example.com:99999/", "has an invalid host or port: https://example.com:99999/"),
        ("https://[::1", "has an invalid host or port: https://[::1"),
        ("https://a b/", "contains a space or an invisible character: https://a b/"),
        ("https://a/\x00", "contains a space or an invisible character: https://a/\ufffd"),
        ("https://a/\ud800", "contains a space or an invisible character: https://a/\ufffd"),
        ("https://example.com/" + "x" * 1981, "has 2,001 characters. The limit is 2,000."),
    ],
)
def test_a_text_that_is_not_a_url_is_explained(text, problem):
    """The explanation is the end of a sentence that begins with "Line 3"."""
    assert find_url_problem(text) == problem


def test_lines_are_counted_as_in_the_box():
    """Blank lines count, are no error, and every kind of line end is one."""
    assert split_lines("a\r\n\r\n b \rc\n\n") == [(1, "a"), (3, "b"), (4, "c")]
    wrong = find_wrong_lines(split_lines("https://a/\n\nnonsense\n"))
    assert [str(line) for line in wrong] == ["Line 3 does not begin with http:// or https://: nonsense"]


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (0, "Enter at least one URL, one per line."),
        (1, None),
        (1000, None),
        (1204, "There are 1,204 URLs. A report takes at most 1,000: remove 204."),
    ],
)
def test_a_report_takes_1_to_1000(count, problem):
    assert find_count_problem(count) == problem
