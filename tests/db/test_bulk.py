"""Many rows at once: as the ORM would read and write them."""

import enum
import uuid
from datetime import UTC, datetime

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext, isolate_apps

from notifications.db import adapters, bulk
from notifications.models import Job, Notification, uuid7

NOW = datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def job(**fields):
    always = {
        "task_path": "a.b",
        "backend": "default",
        "queue_name": "q",
        "created_at": NOW,
        "queued_at": NOW,
    }
    return Job(**always, **{"title": "T", **fields})


def values(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def rows():
    """One with every kind of value, one with as many NULLs as there may be."""
    full = job(
        user_id=7, worker=uuid7(), run_after=NOW, deadline=NOW, result="{}", batch=uuid7(), fence=2**40
    )
    return [full, job(cancelled_by_other=True, title="ünï % %s ' \\")]


def test_inserted_rows_are_those_that_the_orm_reads():
    made = rows()
    bulk.insert_rows(made)
    stored = {row.pk: row for row in Job.objects.all()}
    assert [values(stored[row.pk]) for row in made] == [values(row) for row in made]
    assert not any(row._state.adding for row in made)


class Kind(str, enum.Enum):  # noqa: UP042 (whose text is "Kind.GOOD")
    GOOD = "good"


class Key(uuid.UUID):
    def __str__(self):
        return f"key_{self.hex}"


@pytest.mark.parametrize(
    "fields",
    [{"title": Kind.GOOD}, {"title": Job.State.FAILED}, {"worker": Key(int=7)}, {"cancelled_by_other": True}],
    ids=["enumeration", "choice", "uuid", "bool"],
)
def test_a_value_is_stored_as_it_is_and_not_as_it_shows_itself(fields):
    made = [job(**fields), job(title="other", worker=uuid7())]
    bulk.insert_rows(made)
    assert Job.objects.filter(**fields).get() == made[0]


@pytest.mark.parametrize(
    "text",
    ["", "NULL", "{}", '"', "\\", '\\"', "\\N", "'", " a, b ", "%s %%", "; ", "\n\t", "𝄞", "x" * 50_000],
)
def test_any_text_is_stored_as_it_is(text):
    made = [job(result=text), job(result=text * 2 or None)]
    bulk.insert_rows(made)
    stored = dict(Job.objects.values_list("pk", "result"))
    assert [stored[row.pk] for row in made] == [row.result for row in made]


def test_new_ones_have_what_the_orm_gives_them():
    made, told = bulk.new_row(Job, task_path="a.b", user_id=7), Job(task_path="a.b", user_id=7)
    assert values(made) | {"id": None} == values(told) | {"id": None}
    assert made.pk.version == 7
    assert made._state.adding
    assert bulk.new_row(Job, id=told.pk).pk == told.pk


def test_rows_are_read_as_the_orm_reads_them():
    Job.objects.bulk_create(rows())
    expected = [values(row) for row in Job.objects.order_by("id")]
    assert [values(row) for row in bulk.read(Job.objects.order_by("id"))] == expected
    assert [values(row) for row in bulk.select_rows(Job, "WHERE fence >= %s ORDER BY id", [0])] == expected


def test_what_is_read_can_be_saved():
    bulk.insert_rows(rows())
    row = bulk.select_rows(Job, "ORDER BY id")[0]
    row.title = "other"
    row.save()
    assert Job.objects.count() == 2
    assert Job.objects.get(title="other").pk == row.pk


def test_only_rows_that_meet_all_conditions_are_changed():
    """Each gets the values of its own; one with another fence, or in another state, stays."""
    made = [
        job(fence=fence, state=state)
        for fence, state in ((1, "running"), (1, "running"), (2, "running"), (1, "failed"))
    ]
    bulk.insert_rows(made)
    prepare = Job._meta.pk.get_db_prep_value
    changes = [
        (f"r{n}", None, prepare(row.pk, transaction.get_connection()), 1) for n, row in enumerate(made)
    ]
    bulk.update_rows(
        Job,
        ("result", "error"),
        ("id", "fence"),
        changes,
        assignments=("version = version + 1",),
        condition="state = 'running'",
    )
    found = {row.pk: (row.result, row.version) for row in Job.objects.all()}
    assert [found[row.pk] for row in made] == [("r0", 2), ("r1", 2), (None, 1), (None, 1)]


def test_rows_with_the_same_values_are_one_statement():
    """As those of a claim are. Those that do not meet the conditions stay."""
    made = [job(fence=3), job(fence=3), job(fence=5), job(fence=3, state="failed")]
    bulk.insert_rows(made)
    prepare = Job._meta.pk.get_db_prep_value
    changes = [
        ("running", prepare(row.pk, connection), fence) for row, fence in zip(made, (3, 4, 5, 3), strict=True)
    ]
    with CaptureQueriesContext(connection) as queries:
        bulk.update_rows(Job, ("state",), ("id", "fence"), changes, condition="state = 'queued'")
    [update] = queries
    assert connection.vendor == "postgresql" or update["sql"].startswith("3 times: ")
    found = {row.pk: row.state for row in Job.objects.all()}
    assert [found[row.pk] for row in made] == ["running", "queued", "running", "failed"]


def test_nothing_to_do_is_no_query(django_assert_num_queries):
    with django_assert_num_queries(0):
        bulk.insert_rows([])
        bulk.update_rows(Notification, ("seq",), ("id",), [])


@pytest.fixture
def forget():
    """What is remembered of the models' types is forgotten, now and after the test."""
    remembered = (adapters.type_of, bulk._insertion_of_many)
    for known in remembered:
        known.cache_clear()
    yield
    for known in remembered:
        known.cache_clear()


def test_a_column_of_a_fixed_length(forget, monkeypatch):
    """As a host's keys may have. Without its length PostgreSQL's "char" is one character."""
    monkeypatch.setattr(Job._meta.get_field("title"), "db_type", lambda connection: "char(9)")
    made = [job(title="abc"), job(title="abd")]
    bulk.insert_rows(made)
    condition, params = bulk.where_in(Job, "title", ["abc"])
    assert bulk.select_rows(Job, f"WHERE {condition}", params) == made[:1]


@isolate_apps("asyncsite")
@pytest.mark.django_db(transaction=True)
def test_rows_of_other_packages(user):
    """They have what Django gives them: times, keys and values of the database, and names that are words of SQL."""

    class Letter(models.Model):  # noqa: DJ008
        user = models.ForeignKey(get_user_model(), models.CASCADE)
        order = models.JSONField(default=dict)
        weight = models.IntegerField(db_default=20)
        sent_at = models.DateTimeField(auto_now_add=True)

        class Meta:
            app_label, db_table = "asyncsite", "Group"

    with connection.schema_editor() as editor:
        editor.create_model(Letter)
    try:
        rows = [Letter(user=user, order={"number": number}) for number in (1, 2)]
        bulk.insert_rows(rows)
        stored = list(Letter.objects.order_by("id").values_list("id", "order", "weight"))
        assert stored == [(row.pk, row.order, 20) for row in rows]
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Letter)
