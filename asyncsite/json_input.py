"""Parse the JSON bodies that programs send."""

import json
from dataclasses import dataclass

from asyncsite.forms import MAX_TITLE_LENGTH
from asyncsite.url_list import find_count_problem, find_url_problem, find_wrong_lines

NOT_JSON = "The body is not JSON:"
REMEDY = 'Send one object as UTF-8, like {"urls": ["https://example.org/"]}.'
MAX_NUMBER_DIGITS = 400


class InvalidJson(ValueError):
    """The body is not JSON."""


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """Validated input for a new report. ``title`` may be empty."""

    urls: list
    title: str = ""


class InvalidValues(ValueError):
    """The body is JSON with invalid values. ``errors`` has one object for each of them."""

    def __init__(self, errors):
        super().__init__("Some values are not valid.")
        self.errors = errors


def parse_report(body):
    """Return the ReportRequest in ``{"title": str?, "urls": [str]}``. Raises InvalidJson or InvalidValues."""
    data = parse_object(body)
    title, urls = data.get("title"), data.get("urls")
    errors = [*find_title_errors(title), *find_url_errors(urls)]
    if errors:
        raise InvalidValues(errors)
    return ReportRequest(title=(title or "").strip(), urls=[url.strip() for url in urls])


def parse_url(body):
    """Return the URL in ``{"url": str}``. Raises InvalidJson or InvalidValues."""
    url = parse_object(body).get("url")
    if not isinstance(url, str):
        raise InvalidValues([{"field": "url", "detail": "url must be a string."}])
    if problem := find_url_problem(url.strip()):
        raise InvalidValues([{"field": "url", "detail": f"The URL {problem}"}])
    return url.strip()


def parse_object(body):
    try:
        data = json.loads(
            body.decode(),
            parse_constant=reject_constant,
            parse_int=parse_int,
            object_pairs_hook=build_object,
        )
    except RecursionError as error:
        raise InvalidJson(f"{NOT_JSON} it is nested too deeply. {REMEDY}") from error
    except ValueError as error:
        raise InvalidJson(f"{NOT_JSON} {error}. {REMEDY}") from error
    if not isinstance(data, dict):
        raise InvalidValues([{"field": "", "detail": f"The body must be an object. {REMEDY}"}])
    return data


def find_title_errors(title):
    if title is None:
        return
    if not isinstance(title, str):
        yield {"field": "title", "detail": "title must be a string."}
    elif len(title.strip()) > MAX_TITLE_LENGTH:
        yield {"field": "title", "detail": f"title must have at most {MAX_TITLE_LENGTH} characters."}
    elif not is_storable(title):
        yield {"field": "title", "detail": "title must not contain NUL or a lone surrogate."}


def find_url_errors(urls):
    if not isinstance(urls, list):
        yield {"field": "urls", "detail": "urls must be a list of strings."}
    elif problem := find_count_problem(len(urls)):
        yield {"field": "urls", "detail": problem}
    elif wrong_types := [number for number, url in enumerate(urls, start=1) if not isinstance(url, str)]:
        for number in wrong_types:
            yield {"field": "urls", "line": number, "detail": f"Line {number} is not a string."}
    else:
        for wrong in find_wrong_lines((number, url.strip()) for number, url in enumerate(urls, start=1)):
            yield {"field": "urls", "line": wrong.line, "detail": str(wrong)}


def is_storable(text):
    """Return whether a database can store the text: it has no NUL and no lone surrogate."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def reject_constant(name):
    raise ValueError(f"{name} is not a JSON number")


def parse_int(digits):
    if len(digits) > MAX_NUMBER_DIGITS:
        raise ValueError(f"a number has over {MAX_NUMBER_DIGITS} digits")
    return int(digits)


def build_object(pairs):
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("an object has a key twice")
    return data
