"""Reading what was asked for, from a form or from JSON, into one shape."""

import json
from dataclasses import dataclass

from asyncsite.forms import TITLE_LENGTH
from asyncsite.pasted import problem_with, problem_with_count, wrong_lines

NOT_JSON = "The body is not JSON:"
REMEDY = 'Send one object as UTF-8, like {"urls": ["https://example.org/"]}.'
DIGITS = 400


class Unreadable(ValueError):
    """The body is not JSON."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A report that may be made: ``urls`` are checked, ``title`` is maybe empty."""

    urls: list
    title: str = ""


class WrongValues(ValueError):
    """The JSON is readable and says something impossible. ``errors`` has one object for each value that is wrong."""

    def __init__(self, errors):
        super().__init__("Some values are wrong.")
        self.errors = errors


def read_report(body):
    """The Wanted of ``{"title": str?, "urls": [str]}``; raises Unreadable or WrongValues."""
    data = read_object(body)
    title, urls = data.get("title"), data.get("urls")
    errors = [*wrong_title(title), *wrong_urls(urls)]
    if errors:
        raise WrongValues(errors)
    return Wanted(title=(title or "").strip(), urls=[url.strip() for url in urls])


def read_url(body):
    """The URL of ``{"url": str}``; raises Unreadable or WrongValues."""
    url = read_object(body).get("url")
    if not isinstance(url, str):
        raise WrongValues([{"field": "url", "detail": "url must be a string."}])
    if wrong := problem_with(url.strip()):
        raise WrongValues([{"field": "url", "detail": f"The URL {wrong}"}])
    return url.strip()


def read_object(body):
    try:
        data = json.loads(body.decode(), parse_constant=not_json, parse_int=int_of, object_pairs_hook=once)
    except RecursionError as error:
        raise Unreadable(f"{NOT_JSON} it is nested too deeply. {REMEDY}") from error
    except ValueError as error:
        raise Unreadable(f"{NOT_JSON} {error}. {REMEDY}") from error
    if not isinstance(data, dict):
        raise WrongValues([{"field": "", "detail": f"The body must be an object. {REMEDY}"}])
    return data


def wrong_title(title):
    if title is None:
        return
    if not isinstance(title, str):
        yield {"field": "title", "detail": "title must be a string."}
    elif len(title.strip()) > TITLE_LENGTH:
        yield {"field": "title", "detail": f"title has over {TITLE_LENGTH} characters."}
    elif not storable(title):
        yield {"field": "title", "detail": "title holds a character that cannot be stored."}


def wrong_urls(urls):
    if not isinstance(urls, list):
        yield {"field": "urls", "detail": "urls must be a list of strings."}
    elif problem := problem_with_count(len(urls)):
        yield {"field": "urls", "detail": problem}
    elif strays := [number for number, url in enumerate(urls, start=1) if not isinstance(url, str)]:
        for number in strays:
            yield {"field": "urls", "line": number, "detail": f"Line {number} is not a string."}
    else:
        for wrong in wrong_lines((number, url.strip()) for number, url in enumerate(urls, start=1)):
            yield {"field": "urls", "line": wrong.line, "detail": str(wrong)}


def storable(text):
    """Whether databases take the text: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def not_json(name):
    raise ValueError(f"{name} is no JSON number")


def int_of(digits):
    if len(digits) > DIGITS:
        raise ValueError(f"a number has over {DIGITS} digits")
    return int(digits)


def once(pairs):
    told = dict(pairs)
    if len(told) < len(pairs):
        raise ValueError("an object has a key twice")
    return told
