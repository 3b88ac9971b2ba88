"""The results of steps come back as the types that they had, in the attempt that made the call and in later ones."""

import json
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.contrib.steps import step
from notifications.contrib.steps.models import Step
from notifications.contrib.steps.testing import steps as stored_steps
from notifications.contrib.steps.values import decode, encode
from notifications.models import Attempt, Job
from notifications.testing import run_jobs, run_until_idle
from tests.contrib.steps import step_tasks

pytestmark = [pytest.mark.database_law, pytest.mark.nightly_on_postgres]

VALUES = {
    "decimal": Decimal("1.10"),
    "negative zero": Decimal("-0.00"),
    "infinity": Decimal("-Infinity"),
    "aware": datetime(2026, 11, 27, 6, 44, 9, 123456, tzinfo=UTC),
    "offset": datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    "naive": datetime(2026, 11, 27, 6, 44, 9, 1),
    "midnight": datetime(2026, 11, 27),
    "date": date(1, 1, 1),
    "time": time(23, 59, 59, 999999),
    "aware time": time(1, 2, tzinfo=UTC),
    "uuid": uuid.UUID("01a21bd1-3df1-796c-8a3f-3540ed2cc892"),
}
NESTED = {
    "all": list(VALUES.values()),
    "deep": {"a": [{"b": VALUES["decimal"]}, VALUES["uuid"], None, "text", 1.5]},
    "tag alone": {"@decimal": "not one"},
    "tags": [{"@date": 1}, {"@@date": {"@uuid": date(2026, 1, 1)}}, {"@id": "x"}, {"@": 1}],
    "tag beside": {"@time": "x", "other": Decimal(1)},
    "text like one": '{"@decimal":"1"}',
}


def typed(value):
    """Return a value with the types in it, because ``1 == Decimal(1)``."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return type(value), value, getattr(value, "tzinfo", None) and value.utcoffset()


@pytest.mark.parametrize("name", [*VALUES, *NESTED])
def test_a_value_comes_back_as_it_was(db, monkeypatch, name):
    """From the call, from what is stored, and in assertions."""
    value = {**VALUES, **NESTED}[name]
    monkeypatch.setattr(step_tasks, "returned", value)
    step_tasks.received.clear()
    result = step_tasks.return_and_fail.enqueue()
    run_until_idle()
    first, second = step_tasks.received
    assert typed(first) == typed(second) == typed(value)
    assert typed(stored_steps(result)) == typed({"value": value})
    assert step("outside", lambda: value) == value


def test_json_is_stored_as_it_is(db, monkeypatch):
    """Only objects of one key that could be a tag are stored in another way."""
    monkeypatch.setattr(step_tasks, "returned", {"@id": 1, "@decimal": "x", "a": [True, None, {"$ref": "b"}]})
    step_tasks.return_and_fail.enqueue()
    run_until_idle()
    assert json.loads(Step.objects.get().result) == step_tasks.returned
    assert json.loads(encode("a", {"@decimal": Decimal("1.10")})) == {"@@decimal": {"@decimal": "1.10"}}


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.times()
    | st.uuids()
)
keys = st.sampled_from(["@decimal", "@@date", "@uuid", "@", "a", '"@date"'])


@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20))
def test_any_value_comes_back(value):
    assert typed(decode(encode("a", value))) == typed(value)


@pytest.mark.parametrize(
    "value", [b"text", bytearray(b"text"), {"a": [b"text"]}, {"a": Decimal(1), "b": b""}]
)
def test_bytes_are_refused(db, monkeypatch, value):
    """The error says that the call was made: the next attempt makes it again."""
    monkeypatch.setattr(step_tasks, "returned", value)
    result = step_tasks.return_and_fail.enqueue()
    run_jobs()
    assert Job.objects.get(id=result.id).state == "failed"
    traceback = Attempt.objects.get(job=result.id).traceback
    assert "TypeError: The call of the step 'value' was made, but its result has byte" in traceback
    assert not Step.objects.exists()
