"""Downloads: who may, ranges, headers, and what a file that is gone answers."""

import asyncio
import uuid
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission
from django.core.files.storage import Storage
from django.test import AsyncClient, Client
from django.utils import timezone

from notifications.api import batch
from notifications.contrib.files.models import ResultFile
from notifications.models import Job
from notifications.testing import run_jobs
from tests.contrib.files import file_tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]
TEXT = "0,größe 0\r\n1,größe 1\r\n".encode()


@pytest.fixture
def make(user):
    """make(**arguments) runs a job of ada that makes a file, and returns the path of its download."""

    def make(**arguments):
        file_tasks.export.using(owner=user, title="Export of orders").enqueue(**arguments)
        run_jobs()
        return f"/notifications/files/{ResultFile.objects.latest('created_at').pk}/"

    return make


@pytest.fixture(autouse=True)
def close_responses(monkeypatch):
    """Close the responses at the end, as servers do."""
    responses, request = [], Client.request

    def remember(client, **environ):
        responses.append(request(client, **environ))
        return responses[-1]

    monkeypatch.setattr(Client, "request", remember)
    yield
    for response in responses:
        response.close()


def body(response):
    return b"".join(response.streaming_content)


def test_its_owner_downloads_it(make, user_client):
    response = user_client.get(make())
    assert response.status_code == 200 and body(response) == TEXT
    assert response["Content-Type"] == "text/csv" and response["Content-Length"] == str(len(TEXT))
    assert response["Content-Disposition"] == 'attachment; filename="orders.csv"'
    assert response["X-Content-Type-Options"] == "nosniff" and "no-store" in response["Cache-Control"]


def test_others_do_not(make, client, other_user, client_of):
    path = make(permission="auth.view_group")
    assert client.get(path).status_code == 302  # to LOGIN_URL
    assert client_of(other_user).get(path).status_code == 404
    assert client_of(other_user).get(f"/notifications/files/{uuid.uuid4()}/").status_code == 404
    other_user.user_permissions.add(Permission.objects.get(codename="view_group"))
    assert client_of(other_user).get(path).status_code == 200
    other_user.user_permissions.clear()
    assert client_of(other_user).get(path).status_code == 404


def test_without_a_permission_staff_do_not_either(make, admin_client):
    assert admin_client.get(make()).status_code == 404


def test_html_is_never_shown(make, user_client):
    response = user_client.get(make(name="page <b>ü.html"))
    assert response["Content-Disposition"].startswith("attachment; filename*=utf-8''page%20")
    assert response["Content-Security-Policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize(
    ("header", "status", "part", "content_range"),
    [
        ("bytes=0-3", 206, TEXT[:4], f"bytes 0-3/{len(TEXT)}"),
        ("bytes=4-", 206, TEXT[4:], f"bytes 4-{len(TEXT) - 1}/{len(TEXT)}"),
        ("bytes=-5", 206, TEXT[-5:], f"bytes {len(TEXT) - 5}-{len(TEXT) - 1}/{len(TEXT)}"),
        ("bytes=2-999", 206, TEXT[2:], f"bytes 2-{len(TEXT) - 1}/{len(TEXT)}"),
        ("bytes=-999", 206, TEXT, f"bytes 0-{len(TEXT) - 1}/{len(TEXT)}"),
        ("bytes=999-", 416, None, f"bytes */{len(TEXT)}"),
        ("bytes=-0", 416, None, f"bytes */{len(TEXT)}"),
        ("bytes=0-1,3-4", 200, TEXT, None),
        ("bytes=5-2", 200, TEXT, None),
        ("lines=1-2", 200, TEXT, None),
        ("bytes=-", 200, TEXT, None),
    ],
)
def test_ranges(make, user_client, header, status, part, content_range):
    response = user_client.get(make(), headers={"Range": header})
    assert response.status_code == status and response.get("Content-Range") == content_range
    assert part is None or body(response) == part


def test_a_range_of_another_version_is_all(make, user_client):
    path = make()
    etag = user_client.get(path)["ETag"]
    assert user_client.get(path, headers={"Range": "bytes=0-3", "If-Range": etag}).status_code == 206
    assert user_client.get(path, headers={"Range": "bytes=0-3", "If-Range": '"other"'}).status_code == 200


def test_head(make, user_client):
    response = user_client.head(make())
    assert response.status_code == 200 and response["Content-Length"] == str(len(TEXT))


def test_under_asgi(make, user):
    """The bytes are read in parts on threads: a sync iterator would be read to its end first."""
    path, client = make(), AsyncClient()
    client.force_login(user)

    async def download():
        response = await client.get(path)
        assert response.is_async
        return b"".join([chunk async for chunk in response.streaming_content])

    assert asyncio.run(download()) == TEXT


@pytest.mark.parametrize("header", ["X-Accel-Redirect", "X-Sendfile"])
def test_the_server_sends_it(make, user_client, configure, storage_path, header):
    path, row = make(), ResultFile.objects.get()
    configure(send_by=header, internal_url="/protected/")
    response = user_client.get(path)
    expected = f"/protected/{row.path}" if header == "X-Accel-Redirect" else str(storage_path / row.path)
    assert response[header] == expected and response.content == b""
    assert response["Content-Disposition"] == 'attachment; filename="orders.csv"'


def test_one_that_has_expired(make, user_client):
    path = make()
    ResultFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    response = user_client.get(path)
    assert response.status_code == 410 and "This file has expired." in response.content.decode()
    page = user_client.get(f"/notifications/jobs/{ResultFile.objects.get().job}/").content.decode()
    assert "Expired" in page and path not in page


def test_one_that_has_expired_links_to_the_page_of_its_job_for_its_owner_only(
    make, user_client, admin_client
):
    path = make(permission="auth.view_group")
    ResultFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert [
        "Show the job" in client.get(path).content.decode() for client in (user_client, admin_client)
    ] == [
        True,
        False,
    ]


def test_one_that_the_storage_has_lost(make, user_client, storage_path):
    path = make()
    (storage_path / ResultFile.objects.get().path).unlink()
    response = user_client.get(path)
    assert response.status_code == 410 and "no longer in the storage" in response.content.decode()


def test_pages_list_it(make, user_client, client_of, other_user):
    path = make()
    job = ResultFile.objects.get().job
    for page in ("/notifications/files/", f"/notifications/jobs/{job}/"):
        assert f'href="{path}"' in user_client.get(page).content.decode()
    assert "/notifications/files/" in user_client.get("/notifications/").content.decode()
    assert path not in client_of(other_user).get("/notifications/files/").content.decode()


def test_pages_say_when_it_expires(make, user_client):
    make(keep_days=3)
    job = ResultFile.objects.get().job
    for page in ("/notifications/files/", f"/notifications/jobs/{job}/"):
        text = user_client.get(page).content.decode()
        assert "Expires in 2 days" in text and f"{len(TEXT)}\xa0bytes" in text


def test_the_links_lead_to_the_page_of_a_file_that_is_gone(make, user_client):
    """With the attribute ``download`` a browser shows nothing of an answer that is an error."""
    make()
    assert " download" not in user_client.get("/notifications/files/").content.decode().partition("<main")[2]


def test_without_files(user_client):
    assert "You have no files." in user_client.get("/notifications/files/").content.decode()


@pytest.mark.parametrize("has_owner", [True, False])
def test_of_a_batch(user, user_client, client_of, other_user, admin_client, has_owner):
    """Only a permission opens those of jobs without an owner."""
    owner = user if has_owner else None
    with batch(title="Exports", owner=owner):
        for name in ("a.csv", "b.csv"):
            file_tasks.export.using(owner=owner).enqueue(name=name)
    file_tasks.export.using(owner=owner).enqueue(name="c.csv", permission="auth.view_group")
    run_jobs()
    paths = {row.name: f"/notifications/files/{row.pk}/" for row in ResultFile.objects.all()}
    assert sorted(paths) == ["a.csv", "b.csv", "c.csv"]
    statuses = {name: user_client.get(path).status_code for name, path in paths.items()}
    assert set(statuses.values()) == {200 if has_owner else 404}
    for client in (client_of(other_user), admin_client):
        assert {client.get(paths[name]).status_code for name in ("a.csv", "b.csv")} == {404}
    assert client_of(other_user).get(paths["c.csv"]).status_code == 404
    assert admin_client.get(paths["c.csv"]).status_code == 200  # a superuser has each permission


def test_the_admin_links_to_what_this_user_may_download(make, admin_client):
    for permission, is_linked in (("", False), ("auth.view_group", True)):
        path = make(permission=permission)
        job = ResultFile.objects.latest("created_at").job
        text = admin_client.get(f"/admin/notifications/job/{job}/change/").content.decode()
        assert "orders.csv" in text and "Expires in" in text
        assert (f'href="{path}"' in text) is is_linked


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.csv", 'attachment; filename="a b.csv"'),
        ('a;"b".csv', r'attachment; filename="a;\"b\".csv"'),
        ("größe.csv", "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.csv"),
        ("a;é\"'.csv", "attachment; filename*=utf-8''a%3B%C3%A9%22%27.csv"),
    ],
)
def test_names_in_the_header(make, user_client, name, header):
    assert user_client.get(make(name=name))["Content-Disposition"] == header


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_ranges_of_an_empty_file(make, user_client, header):
    response = user_client.get(make(rows=0), headers={"Range": header})
    assert response.status_code == 200 and response["Content-Length"] == "0" and body(response) == b""


def test_a_part_is_not_compressed(make, user_client, settings):
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    headers = {"Range": "bytes=500-999", "Accept-Encoding": "gzip"}
    response = user_client.get(make(rows=200), headers=headers)
    assert response.status_code == 206 and response["Content-Length"] == "500"
    assert len(body(response)) == 500


def test_a_download_goes_on_while_the_file_is_removed(make, user_client, remove):
    response = user_client.get(path := make(rows=100_000))
    chunks = iter(response.streaming_content)
    first = next(chunks)
    ResultFile.objects.all().delete()
    Job.objects.all().delete()
    remove()
    assert len(first) + sum(map(len, chunks)) == int(response["Content-Length"]) > 5 * len(first)
    assert user_client.get(path).status_code == 404


def test_a_download_that_nobody_reads_is_closed(make, user):
    path, client = make(), AsyncClient()
    client.force_login(user)

    async def download():
        response = await client.get(path)
        await sync_to_async(response.close)()
        with pytest.raises(ValueError, match="closed file"):
            [chunk async for chunk in response.streaming_content]

    asyncio.run(download())


class TestOtherServers:
    def use_storage(self, settings, kind, **options):
        backend = {"BACKEND": f"{__name__}.{kind.__name__}", "OPTIONS": options}
        settings.STORAGES = {**settings.STORAGES, "notifications_files": backend}

    def test_paths_are_quoted(self, make, user_client, configure):
        """All of these servers decode them."""
        path = make()
        ResultFile.objects.update(path="100% größe/a b?.csv")
        configure(send_by="X-Accel-Redirect", internal_url="/protected/")
        expected = "/protected/100%25%20gr%C3%B6%C3%9Fe/a%20b%3F.csv"
        assert user_client.get(path)["X-Accel-Redirect"] == expected
        configure(send_by="X-Sendfile")
        assert user_client.get(path)["X-Sendfile"].endswith(expected.removeprefix("/protected"))

    def test_the_storage_sends_it(self, make, user_client, client_of, other_user, configure, settings):
        path = make()
        self.use_storage(settings, Signing)
        configure(send_by="redirect")
        response = user_client.get(path)
        assert response.status_code == 302 and "no-store" in response["Cache-Control"]
        assert response["Location"] == f"https://bucket.example/{ResultFile.objects.get().path}?signature=1"
        assert client_of(other_user).get(path).status_code == 404

    def test_s3_signs_name_and_content_type(self, make, user_client, configure, settings):
        path = make(name="größe.csv")
        self.use_storage(settings, S3Storage)
        configure(send_by="redirect")
        query = parse_qs(urlsplit(user_client.get(path)["Location"]).query)
        assert query == {
            "ResponseContentDisposition": ["attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.csv"],
            "ResponseContentType": ["text/csv"],
        }


class Signing(Storage):
    def url(self, name):
        return f"https://bucket.example/{name}?signature=1"


class S3Storage(Storage):
    """As that of django-storages."""

    __module__ = "storages.backends.s3"

    def url(self, name, parameters=None):
        return f"https://bucket.example/{name}?{urlencode(parameters)}"
