"""Whatever is stored can be sent: bounds are checked on writing."""

import json
import math
import uuid
from decimal import Decimal

import pytest
from django.utils import timezone
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from notifications import serializers, validators
from notifications.http import encode_json
from notifications.models import Job, Notification


def test_a_text_is_returned_as_it_is():
    """Its length counts characters, not bytes."""
    assert validators.text("title", "ü" * 200, 200) == "ü" * 200
    assert validators.text("body", "", 10) == ""
    assert validators.text("title", gettext_lazy("Title"), 10) == "Title"


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ("x" * 11, ValueError, "t has 11 characters. At most 10 are allowed. Shorten it."),
        ("", ValueError, "t is empty. Pass a short text."),
        (" \n", ValueError, "t is empty. Pass a short text."),
        ("a\0b", ValueError, "t contains NUL or a lone surrogate, which cannot be stored. Remove it."),
        ("\ud800", ValueError, "t contains NUL or a lone surrogate, which cannot be stored. Remove it."),
        (None, TypeError, "t must be a string, not NoneType."),
        (b"x", TypeError, "t must be a string, not bytes."),
        (1, TypeError, "t must be a string, not int."),
    ],
)
def test_a_text_that_is_refused(value, error, words):
    """With a fact and a remedy."""
    with pytest.raises(error) as raised:
        validators.text("t", value, 10, required=True)
    assert str(raised.value) == words


@pytest.mark.parametrize(
    "value",
    [
        "/",
        "/reports/7/",
        "/a?b=c#d",
        "/ü",
        "http://x",
        "https://example.com:8000/a?b",
        "HTTPS://EXAMPLE.com",
        "/%20",
    ],
)
def test_a_link(value):
    """A path from the root, or http(s)."""
    assert validators.link("url", value) == value


@pytest.mark.parametrize("value", [None, ""])
def test_no_link(value):
    """Is an empty text."""
    assert validators.link("url", value) == ""


@pytest.mark.parametrize(
    "value",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/a b",
        " /a",
        "/a\n",
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "http:/x",
        "http:x",
        "http://",
        "https:///x",
        "http://[",
        "ftp://x/",
        "relative",
        "?query",
        "#part",
        "mailto:a@b.example",
    ],
)
def test_a_link_that_is_refused(value):
    """Nothing that a browser would read as another site by mistake, or as a script."""
    with pytest.raises(ValueError, match=r"must be a path that begins with one '/'|Percent-encode it"):
        validators.link("url", value)


def test_a_link_of_another_type():
    """Is a TypeError."""
    with pytest.raises(TypeError, match="url must be a string, not int"):
        validators.link("url", 7)


@pytest.mark.parametrize("value", [{}, [], None, "ü\u2028", 1.5, {"a": [1, {"b": None}]}, True, 10**30])
def test_json(value):
    """Strict, without spaces."""
    assert json.loads(validators.json_text("data", value, 1000)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"a": math.inf}, {math.nan: 1}])
def test_numbers_that_json_does_not_have(value):
    """Are refused wherever they stand."""
    with pytest.raises(ValueError, match="data cannot be written as JSON"):
        validators.json_text("data", value, 1000)


@pytest.mark.parametrize("value", ["\0", ["\0"], {"\0": 1}, {"a": {"b": ("\0",)}}, "\udfff", {"\ud800": 1}])
def test_texts_that_cannot_be_stored(value):
    """NUL or a lone surrogate, in a key too; a backslash and a u is neither."""
    with pytest.raises(ValueError, match="data contains NUL or a lone surrogate"):
        validators.json_text("data", value, 1000)
    assert validators.json_text("data", "\\u0000", 1000) == '"\\\\u0000"'


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", uuid.uuid4(), Decimal(1), {(1, 2): 3}])
def test_values_that_are_no_json(value):
    """The remedy is said."""
    with pytest.raises(TypeError, match="Pass ids, numbers, strings, lists and dicts"):
        validators.json_text("data", value, 1000)


def test_json_in_a_circle():
    """Is an error, not a hang."""
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        validators.json_text("data", value, 1000)


def test_json_too_deep():
    """Is an error, not a crash."""
    value = []
    for _ in range(200_000):
        value = [value]
    with pytest.raises(RecursionError, match="cannot be written as JSON"):
        validators.json_text("data", value, 1_000_000)


def test_the_size_of_json_counts_bytes():
    """Of UTF-8, as it is sent."""
    assert validators.json_text("data", "ü" * 4, 10)
    with pytest.raises(ValueError, match=r"data has 12 bytes of JSON\. At most 10 are allowed"):
        validators.json_text("data", "ü" * 5, 10)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_whatever_json_text_returns_is_strict(value):
    """It is UTF-8, has no NUL, and every strict reader reads it back as it was."""

    def refuse(name):
        raise AssertionError(name)

    try:
        text = validators.json_text("data", value, 10_000)
    except ValueError:
        return
    assert "\0" not in text
    assert json.loads(text.encode(), parse_constant=refuse) == value


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (2**53 - 1, 2**53 - 1),
        (2**53, 2**53 - 1),
        (-1, 0),
        (33.3, 33),
        (Decimal("33.3"), 33),
        (math.nan, None),
        (math.inf, None),
        ("many", None),
        (None, None),
    ],
)
def test_an_integer(value, number):
    """From 0 to what a browser counts exactly; of a fraction, its whole part."""
    assert validators.integer(value) == number


# A control character takes six bytes of JSON, a letter beyond ASCII up to four.
WIDE = "\x01"


def test_the_largest_notification_fits():
    """An item with everything at its bound stays below 32 KiB."""
    row = Notification(
        id=uuid.uuid4(),
        seq=validators.MAX_INTEGER,
        raised=validators.MAX_INTEGER,
        level="success",
        title=validators.text("title", WIDE * validators.MAX_TITLE_LENGTH, validators.MAX_TITLE_LENGTH),
        body=validators.text("body", WIDE * validators.MAX_BODY_LENGTH, validators.MAX_BODY_LENGTH),
        category=validators.text("category", WIDE * validators.MAX_NAME_LENGTH, validators.MAX_NAME_LENGTH),
        url=validators.link("url", "/" + "\U0001f600" * (validators.MAX_URL_LENGTH - 1)),
        job=uuid.uuid4(),
        data=validators.json_text(
            "data", {"x": "x" * (validators.MAX_DATA_BYTES - 8)}, validators.MAX_DATA_BYTES
        ),
        created_at=timezone.now(),
        read_at=timezone.now(),
        archived_at=timezone.now(),
    )
    assert len(encode_json(serializers.serialize(row)).encode()) < validators.MAX_ITEM_BYTES


def test_the_largest_job_fits():
    """An item with everything at its bound stays below 32 KiB."""
    row = Job(
        seq=validators.MAX_INTEGER,
        version=validators.MAX_INTEGER,
        task_path="\U0001f600" * 500,
        state="failed",
        title=WIDE * validators.MAX_TITLE_LENGTH,
        progress_current=validators.MAX_INTEGER,
        progress_total=validators.MAX_INTEGER,
        progress_message=WIDE * validators.MAX_PROGRESS_LENGTH,
        error=json.dumps(
            {"type": "task-failed", "title": "Failed", "detail": WIDE * validators.MAX_DETAIL_LENGTH}
        ),
        url="/" + "\U0001f600" * (validators.MAX_URL_LENGTH - 1),
        **dict.fromkeys(
            ("created_at", "queued_at", "started_at", "finished_at", "run_after"), timezone.now()
        ),
    )
    assert len(encode_json(serializers.serialize(row)).encode()) < validators.MAX_ITEM_BYTES


def test_the_columns_hold_what_the_bounds_allow():
    """A bound that the column does not keep would be an error of the database."""
    lengths = {
        (Notification, "title"): validators.MAX_TITLE_LENGTH,
        (Notification, "url"): validators.MAX_URL_LENGTH,
        (Notification, "category"): validators.MAX_NAME_LENGTH,
        (Notification, "key"): validators.MAX_KEY_LENGTH,
        (Job, "title"): validators.MAX_TITLE_LENGTH,
        (Job, "url"): validators.MAX_URL_LENGTH,
        (Job, "progress_message"): validators.MAX_PROGRESS_LENGTH,
    }
    for (model, name), limit in lengths.items():
        assert model._meta.get_field(name).max_length == limit
