"""Rows that another program has damaged, for example by SQL: other rows and other users are still served."""

import json
import logging

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils.module_loading import import_string

from notifications.api import notify
from notifications.models import Job, Notification
from tests.realtime import rows
from tests.realtime.conftest import in_thread, until
from tests.realtime.test_following import READ_MISSED


@pytest.fixture(autouse=True, scope="module")
def application():
    """Import the ASGI application, which sets up logging: doctor would do that in the middle of a test."""
    if path := getattr(settings, "ASGI_APPLICATION", None):
        import_string(path)


#: Texts in the column `data` that are not a JSON object or exceed its limits.
DATA = {
    "NaN": '{"x":NaN}',
    "infinity": '{"x":-Infinity}',
    "no JSON": '{"x":',
    "no object": "[1]",
    "a surrogate": r'{"x":"\ud800"}',
    "too large": json.dumps({"x": "y" * 200_000}),
    "too deep": '{"x":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a long number": '{"x":' + "9" * 5_000 + "}",
}


def damage(model, pk, column, value):
    """Set a column to a SQL expression, which bypasses the app's validation."""
    with connection.cursor() as cursor:
        id = model._meta.pk.get_db_prep_value(pk, connection)
        cursor.execute(f"UPDATE {model._meta.db_table} SET {column} = {value} WHERE id = %s", [id])


def create_damaged(user, column, value):
    """Create a notification that is damaged before it is committed, and one after it. Returns the damaged one's id."""
    from django.db import transaction

    with transaction.atomic():
        (pk,) = rows.notices(user, 1)
        damage(Notification, pk, column, value)
        notify(user, "after it")
    return pk


def literal(text):
    return "'" + text.replace("'", "''") + "'"


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
async def test_damaged_data_does_not_block_others(connect, user, other_user, caplog, data):
    """The row is sent with empty data in its place, other rows and users are unaffected, and one log line names it."""
    user_socket, other_socket = await connect(user), await connect(other_user)
    start = (await user_socket.start())["seq"]
    await other_socket.start()
    with caplog.at_level(logging.WARNING):
        pk = await in_thread(create_damaged, user, "data", literal(data))
        await in_thread(notify, other_user, "unharmed")
        assert [item["title"] for item in (await other_socket.receive("change"))["items"]] == ["unharmed"]
        change = await user_socket.receive("change")
    assert (change["prev"], change["seq"]) == (start, start + 2)
    damaged_item, after = change["items"]
    assert (damaged_item["id"], damaged_item["seq"], damaged_item["data"]) == (str(pk), start + 1, {})
    assert (damaged_item["title"], after["title"]) == ("note 0", "after it")
    second_socket = await connect(user)
    snapshot = await second_socket.start()
    assert [item["title"] for item in snapshot["items"]] == ["note 0", "after it"]
    assert sum(str(pk) in record.getMessage() for record in caplog.records) == 1


async def test_damaged_data_over_http(send_request, user):
    """Lists, sync, events and long polls respond with the same item."""
    pk = await in_thread(create_damaged, user, "data", literal(DATA["NaN"]))
    for path in ("notifications/", "sync/", "sync/?epoch=x&seq=0"):
        request = await (await send_request(path, user)).wait_for_response()
        assert request.status == 200
        items = {item["id"]: item for item in (await request.json())["items"]}
        assert items[str(pk)]["data"] == {}
    request = await (await send_request("sync/", user, headers={"Prefer": "wait=5"})).wait_for_response()
    assert request.status == 200
    assert len((await request.json())["items"]) == 2
    request = await (await send_request("events/", user)).wait_for_response()
    assert await request.receive() == {"retry": "3000"}
    event = await request.receive("sync")
    assert [item["title"] for item in event["data"]["items"]] == ["note 0", "after it"]


@pytest.mark.parametrize("error", ["{", '{"detail":NaN}', "[]", '"x"'])
async def test_damaged_job_error(connect, send_request, user, error):
    """A job whose error is damaged has a general error in frames, in lists, in its resource and on its page."""
    socket = await connect(user)
    await socket.start()
    row = await in_thread(rows.job, user)
    await socket.receive("jobs")
    await in_thread(rows.finish, row, "failed", error=error)
    (item,) = (await socket.receive("change"))["items"]
    assert (item["id"], item["state"]) == (str(row.pk), "failed")
    assert item["error"]["title"] == "The error cannot be read"
    for path in (f"jobs/{row.pk}/", "jobs/"):
        request = await (await send_request(path, user)).wait_for_response()
        assert request.status == 200
        body = await request.json()
        assert body.get("items", [body])[0]["error"] == item["error"]
    page = await in_thread(open_page, user, f"/notifications/jobs/{row.pk}/")
    assert page.status_code == 200


@pytest.mark.parametrize("result", ["{", '{"x":NaN}', "nonsense"])
def test_damaged_job_result(transactional_db, user, client_of, result):
    """The API responds 409 to a damaged result; the job's page still opens."""
    row = rows.job(user)
    rows.finish(row, result=result)
    client = client_of(user, raise_request_exception=False)
    response = client.get(f"/notifications/api/jobs/{row.pk}/result/")
    assert response.status_code == 409
    assert "damaged" in response.json()["detail"]
    assert client.get(f"/notifications/jobs/{row.pk}/").status_code == 200


def test_damaged_rows_in_pages_and_the_admin(transactional_db, admin_user, client_of):
    """The inbox and the lists and forms of the admin open although a row is damaged."""
    pk = create_damaged(admin_user, "data", literal(DATA["NaN"]))
    row = rows.job(admin_user)
    rows.finish(row, "failed", error="{", args="{", kwargs="[")
    client = client_of(admin_user, raise_request_exception=False)
    for path in (
        "/notifications/",
        "/admin/notifications/notification/",
        f"/admin/notifications/notification/{pk}/change/",
        "/admin/notifications/job/",
        f"/admin/notifications/job/{row.pk}/change/",
    ):
        assert client.get(path).status_code == 200, path


SQLITE_VALUES = {
    "title": "CAST(x'41ff' AS TEXT)",
    "body": "CAST(x'eda080' AS TEXT)",
    "created_at": "'2026-99-99 00:00:00'",
}
POSTGRES_VALUES = {"created_at": "'infinity'", "read_at": "'-infinity'"}
CORRECT_VALUES = {
    "title": "'Corrected'",
    "body": "''",
    "created_at": "'2026-11-28 00:00:00'",
    "read_at": "NULL",
}


async def test_unreadable_columns(connect, user, other_user, caplog, short_ticks):
    """Other users are served. The log names the row, and once it is corrected its user gets all that followed."""
    values = SQLITE_VALUES if connection.vendor == "sqlite" else POSTGRES_VALUES
    user_socket, other_socket = await connect(user), await connect(other_user)
    start = (await user_socket.start())["seq"]
    await other_socket.start()
    for number, (column, value) in enumerate(values.items()):
        with caplog.at_level(logging.WARNING):
            pk = await in_thread(create_damaged, user, column, value)
            await in_thread(notify, other_user, f"unharmed {number}")
            assert [item["title"] for item in (await other_socket.receive("change"))["items"]] == [
                f"unharmed {number}"
            ]
            await until(lambda pk=pk: f"Damaged row: notification {pk}: " in caplog.text)
        caplog.clear()
        await in_thread(damage, Notification, pk, column, CORRECT_VALUES[column])
        titles, seq = {}, start + 2 * (number + 1)
        while (change := await user_socket.receive("change"))["seq"] < seq:
            titles |= {item["id"]: item["title"] for item in change["items"]}
        titles |= {item["id"]: item["title"] for item in change["items"]}
        assert change["seq"] == seq and str(pk) in titles and "after it" in titles.values()
    snapshot = await (await connect(user)).start()
    assert len(snapshot["items"]) == 2 * len(values)


async def test_unreadable_stream_does_not_block_others(
    wrap_statements, connect, user, other_user, short_ticks
):
    """If reading one stream fails, others are read one by one; the failed one is read once it is repaired."""
    is_broken, failures = False, []

    def fail(execute, sql, params, *args):
        if is_broken and READ_MISSED in sql and user.pk in params[:-1:2]:
            failures.append(params)
            raise TypeError("'<=' not supported between instances of 'int' and 'str'")
        return execute(sql, params, *args)

    wrap_statements(fail)
    user_socket, other_socket = await connect(user), await connect(other_user)
    await user_socket.start()
    await other_socket.start()
    is_broken = True
    await in_thread(notify, [user, other_user], "for both")
    assert [item["title"] for item in (await other_socket.receive("change"))["items"]] == ["for both"]
    await in_thread(notify, other_user, "another")
    assert [item["title"] for item in (await other_socket.receive("change"))["items"]] == ["another"]
    await user_socket.receive_beat_only()
    third = await connect(user)
    third.send_frame("hello", epoch=await in_thread(rows.read_epoch), seq=0)
    await third.receive("welcome")
    await until(lambda: len(failures) > 3)
    is_broken = False
    assert [item["title"] for item in (await third.receive("sync"))["items"]] == ["for both"]
    assert [item["title"] for item in (await user_socket.receive("change"))["items"]] == ["for both"]


def test_damaged_job_does_not_block_claims(transactional_db):
    """A job with damaged arguments fails when a worker starts it, and the other jobs succeed."""
    from tests.jobs import tasks
    from tests.jobs.conftest import LocalWorker, until_done
    from tests.support.django_tasks import task_started

    def record_state(**_):
        pass

    task_started.connect(record_state)
    try:
        damaged, others = tasks.add.enqueue(1, 2), [tasks.add.enqueue(1, number) for number in range(3)]
        damage(Job, damaged.id, "args", "'{'")
        worker = LocalWorker()
        try:
            states = [job.state for job in until_done(damaged, *others, timeout=30)]
        finally:
            worker.stop()
    finally:
        task_started.disconnect(record_state)
    assert states == ["failed", *["succeeded"] * 3]


def open_page(user, path):
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client.get(path)
