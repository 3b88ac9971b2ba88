"""No regular expression of the app or the site takes time that grows faster than the text.

Clients choose most of these texts, and a pattern runs on the thread that serves everybody.
"""

import ast
import re
import time
from importlib import import_module
from itertools import product
from pathlib import Path
from re import _parser

import pytest

from tests.support.sources import list_nodes

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("fullmatch", "match", "search", "findall", "finditer", "sub", "split")
LENGTH = 4000
#: Seconds. A pattern that is quadratic takes longer for a text of twice the length, by far; others a tenth of it.
NEGLIGIBLE_SECONDS = 0.005


def uses():
    """(where, pattern, method) for each use of a regular expression in the sources."""
    for package in ("notifications", "asyncsite"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" in path.parts:
                continue
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in list_nodes(path):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    yield from use(name, node)


def use(module, call):
    method, value = call.func.attr, call.func.value
    if method not in METHODS or not isinstance(value, ast.Name | ast.Attribute):
        return
    name = value.id if isinstance(value, ast.Name) else value.attr
    if name != "re" and not name.isupper():  # no constant
        return
    if isinstance(value, ast.Attribute):  # of another module
        owner = getattr(import_module(module), getattr(value.value, "id", ""), None)
        if isinstance(found := getattr(owner, value.attr, None), re.Pattern):
            yield f"{module} {value.attr}", found, method
    elif value.id == "re":
        pattern, *rest = call.args
        flags = re.IGNORECASE if any("IGNORECASE" in ast.dump(one) for one in rest) else 0
        yield f"{module}:{call.lineno}", re.compile(ast.literal_eval(pattern), flags), method
    elif isinstance(found := getattr(import_module(module), value.id, None), re.Pattern):
        yield f"{module}.{value.id}", found, method


def characters(pattern):
    """A few characters that mean something to a pattern, and one that does not."""
    literals = {chr(code) for code in codes(_parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))}
    return sorted({" ", "a", "0", "\0", *literals})[:16]


def codes(parsed):
    """The code points that a parsed pattern names, and of each range the first."""
    for operation, argument in parsed:
        if str(operation) in ("LITERAL", "NOT_LITERAL"):
            yield argument
        elif str(operation) == "RANGE":
            yield argument[0]
        elif isinstance(argument, list | _parser.SubPattern):
            yield from codes(argument)
        elif isinstance(argument, tuple):
            for part in argument:
                if isinstance(part, _parser.SubPattern):
                    yield from codes(part)
                elif isinstance(part, list) and all(isinstance(one, _parser.SubPattern) for one in part):
                    for one in part:
                        yield from codes(one)


def texts(pattern, length):
    """Texts of about this length: one or two characters again and again, between others."""
    some = characters(pattern)
    for first, second in product(some, repeat=2):
        unit = (first + second) * (length // 2)
        for before, after in (("", ""), ("", "\0"), ("a://", "\0"), ('"', "\0")):
            yield before + unit + after


def seconds(pattern, method, text):
    begun = time.thread_time()
    if method == "sub":
        pattern.sub("", text)
    else:
        found = getattr(pattern, method)(text)
        if method == "finditer":
            list(found)
    return time.thread_time() - begun


def slow_texts(pattern, method):
    """Texts that take over three times as long when they are twice as long, with both times."""
    for short, long in zip(texts(pattern, LENGTH), texts(pattern, 2 * LENGTH), strict=True):
        if seconds(pattern, method, long) < NEGLIGIBLE_SECONDS:
            continue
        times = [min(seconds(pattern, method, text) for _ in range(3)) for text in (short, long)]
        if times[1] > NEGLIGIBLE_SECONDS and times[1] > 3 * times[0]:
            yield short[:20], times


@pytest.mark.long
def test_time_grows_with_the_length():
    """For texts made of what the pattern names. Those that read headers are among the patterns."""
    found = {f"{where} {method}": (pattern, method) for where, pattern, method in uses()}
    assert {
        "notifications.http.negotiation._PARAMETERS sub",
        "notifications.http.negotiation._PREFERENCE findall",
    } <= set(found)
    slow = [f"{use}: {text!r}, {times}" for use in found for text, times in slow_texts(*found[use])]
    assert not slow, "\n".join(slow)


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r'\s*;\s*(?!q\s*=)[^;,"]*(?:"[^"]*"[^;,"]*)*', "sub"),
        (r',[^"]*"', "findall"),
        (r"[a-z]+:", "search"),
        (r"(\s|;)*\s*=", "fullmatch"),
    ],
)
@pytest.mark.long
def test_a_quadratic_pattern_is_found(pattern, method):
    """Otherwise this file would find nothing."""
    assert any(slow_texts(re.compile(pattern), method))
