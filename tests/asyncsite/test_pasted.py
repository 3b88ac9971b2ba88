"""What counts as a URL in a pasted list."""

import pytest

from asyncsite.pasted import problem_with, problem_with_count, split_lines, wrong_lines


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
    """Whether an address may be called is not judged here."""
    assert problem_with(url) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("example.com", "does not begin with http:// or https://: example.com"),
        ("ftp://example.com/", "does not begin with http:// or https://: ftp://example.com/"),
        ("javascript:alert(1)", "does not begin with http:// or https://: javascript:alert(1)"),
        ("https://", "names no server that can be called: https://"),
        ("https:///path", "names no server that can be called: https:///path"),
        ("https://example.com:0/", "names no server that can be called: https://example.com:0/"),
        ("https://example.com:99999/", "has a host or port that cannot be read: https://example.com:99999/"),
        ("https://[::1", "has a host or port that cannot be read: https://[::1"),
        ("https://a b/", "has a space or an invisible character in it: https://a b/"),
        ("https://a/\x00", "has a space or an invisible character in it: https://a/\ufffd"),
        ("https://a/\ud800", "has a space or an invisible character in it: https://a/\ufffd"),
        ("https://example.com/" + "x" * 1981, "is 2,001 characters long; at most 2,000 are possible."),
    ],
)
def test_what_is_not_a_url_is_told_why(text, problem):
    """The rest of a sentence that begins with the line."""
    assert problem_with(text) == problem


def test_lines_are_counted_as_in_the_box():
    """Blank lines count, are no error, and every kind of line end is one."""
    assert split_lines("a\r\n\r\n b \rc\n\n") == [(1, "a"), (3, "b"), (4, "c")]
    wrong = wrong_lines(split_lines("https://a/\n\nnonsense\n"))
    assert [str(line) for line in wrong] == ["Line 3 does not begin with http:// or https://: nonsense"]


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (0, "Paste at least one URL, one a line."),
        (1, None),
        (1000, None),
        (1204, "There are 1,204 URLs. A report takes at most 1,000: remove 204."),
    ],
)
def test_a_report_takes_1_to_1000(count, problem):
    assert problem_with_count(count) == problem
