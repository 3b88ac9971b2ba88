"""The command serve: what it prepares, prints and refuses, and how it ends."""

import http.client
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, closing

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from asyncsite.environment import NAMES
from tests.support.network import free_port, is_listening
from tests.support.processes import Process
from tests.support.site import ROOT, make_sqlite_template

pytestmark = pytest.mark.nightly_names("*[daphne]")


@pytest.fixture
def checkout(tmp_path):
    """A copy of the site with its own var/."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for package in ("asyncsite", "notifications"):
        shutil.copytree(
            ROOT / package, folder / package
        )  # with what is compiled, which a start would compile again
    shutil.copy(ROOT / "manage.py", folder)
    return folder


@pytest.fixture
def serve(checkout):
    """Return a function that starts `manage.py serve` as `make run` does, with these variables."""
    started = []

    def start(**variables):
        log = checkout.parent / f"serve-{len(started)}.log"
        command = [sys.executable, "manage.py", "serve"]
        process = Process(command, log=log, cwd=checkout, env=environment(**{"DEBUG": "1"} | variables))
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


def copy_database(checkout, *, users):
    """Give the checkout a migrated database, with or without users, and return its path."""
    (checkout / "var").mkdir(mode=0o755)
    return shutil.copy(make_sqlite_template(users=users), checkout / "var/asyncsite.sqlite3")


def environment(**variables):
    """Return the environment of the process without the variables of the test settings."""
    inherited = {
        key: value for key, value in os.environ.items() if key not in (*NAMES, "DJANGO_SETTINGS_MODULE")
    }
    return inherited | {"PYTHONPATH": "", **variables}


def output_of_failed_start(process):
    """Return the output of a server that exits with an error."""
    assert process.popen.wait(60) not in (0, None)
    return process.output


SERVERS = pytest.mark.parametrize("server", ["daphne", "uvicorn"])


@pytest.mark.nightly_names("*[uvicorn]")
@pytest.mark.parametrize("server", [pytest.param("daphne", marks=pytest.mark.smoke), "uvicorn"])
def test_first_start_prepares_database_and_users(serve, checkout, server):
    """The database is migrated, demo and admin exist, and the address and both sign-ins are printed."""
    port = free_port()
    server = serve(PORT=str(port), SERVER=server)
    server.wait_for_line("Press Ctrl-C to stop.")
    assert f"The site is at http://127.0.0.1:{port}/\n" in server.output
    assert "Sign in as demo (password demo)" in server.output
    assert f"E-mails are stored in {checkout}/var/mail/" in server.output
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/", timeout=30) as response:
        assert response.status == 200
    with closing(sqlite3.connect(checkout / "var/asyncsite.sqlite3")) as database:
        users = database.execute("SELECT username, is_superuser FROM auth_user ORDER BY username").fetchall()
    assert users == [("admin", 1), ("demo", 0)]


@pytest.mark.nightly
@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_two_first_starts_at_the_same_time(serve, request, vendor):
    """One process migrates while the other one waits, and both serve."""
    variables = {"DEBUG": "1"}
    if vendor == "postgresql":
        postgres = request.getfixturevalue("postgres")
        postgres.drop("two_starts")
        postgres.create("two_starts")
        request.addfinalizer(lambda: postgres.drop("two_starts"))
        variables["DATABASE_URL"] = postgres.url("two_starts")
    servers = [serve(PORT=str(free_port()), EMBEDDED_WORKER="0", **variables) for _ in range(2)]
    for server in servers:
        server.wait_for_line("Press Ctrl-C to stop.")
        server.stop()
    assert (
        sum("Waiting for another process that migrates the database." in server.output for server in servers)
        == 1
    )


@pytest.mark.nightly
@SERVERS
def test_many_clients_can_reconnect_at_once(serve, server):
    """While the server is busy, the kernel queues 500 connections. Refused clients would retry a second later."""
    port = free_port()
    server = serve(PORT=str(port), SERVER=server)
    server.wait_for_line("Press Ctrl-C to stop.")
    server.popen.send_signal(signal.SIGSTOP)
    with ExitStack() as clients:
        try:
            for _ in range(500):
                clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        finally:
            server.popen.send_signal(signal.SIGCONT)


@pytest.mark.nightly
def test_commands_beside_the_server_use_its_settings(serve, checkout, tmp_path):
    """They have the same key, port and database without any variable."""
    port = free_port()
    database = tmp_path / "other.sqlite3"
    serve(PORT=str(port), DATABASE_URL=f"sqlite:///{database}").wait_for_line("Press Ctrl-C to stop.")
    code = (
        "from django.conf import settings as s;"
        "print(s.DEBUG, s.PORT, s.DATABASES['default']['NAME'], s.SECRET_KEY)"
    )
    found = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=checkout,
        env=environment(),
        capture_output=True,
        text=True,
    )
    key = (checkout / "var/secret_key").read_text()
    assert found.stdout.split() == ["True", str(port), str(database), key], found.stderr


@pytest.mark.nightly
@SERVERS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_it(serve, server, number):
    """SIGINT, SIGTERM and SIGHUP end it with 0 and without a traceback; its worker ends too, and the port is free."""
    port = free_port()
    server = serve(PORT=str(port), SERVER=server)
    server.wait_for_line("Press Ctrl-C to stop.")
    server.wait_for_line("jobs at a time")
    server.popen.send_signal(number)
    assert server.popen.wait(60) == 0
    assert "Traceback" not in server.output
    assert "has ended; jobs released: 0" in server.output
    assert not is_listening(port)


@pytest.mark.nightly
@SERVERS
def test_ctrl_c_stops_it_in_a_script(checkout, server):
    """A shell without job control ignores SIGINT in the processes that it starts with &."""
    ignoring = ["sh", "-c", "trap '' INT; exec \"$0\" manage.py serve", sys.executable]
    env = environment(DEBUG="1", PORT=str(free_port()), SERVER=server)
    server = Process(ignoring, log=checkout.parent / "serve.log", cwd=checkout, env=env)
    try:
        server.wait_for_line("Press Ctrl-C to stop.")
        server.interrupt()
        assert server.popen.wait(60) == 0
    finally:
        server.stop()


@SERVERS
def test_port_in_use(serve, server):
    """The error is one line with the port and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        output = output_of_failed_start(serve(PORT=str(port), SERVER=server))
    assert output == (
        f"CommandError: Port {port} of 127.0.0.1 is in use: "
        "stop the process that uses it, or set another one like PORT=8765.\n"
    )


def test_address_of_another_machine(serve):
    """The error is one line with the address."""
    output = output_of_failed_start(serve(HOST="192.0.2.1", PORT=str(free_port())))
    assert output == (
        "CommandError: HOST is 192.0.2.1, which is not an address of this machine: use 127.0.0.1 or 0.0.0.0.\n"
    )


def test_unknown_database_scheme(serve):
    """The error is one line with the supported schemes."""
    output = output_of_failed_start(serve(DATABASE_URL="mysql://root@localhost/site"))
    assert output == (
        "error: DATABASE_URL has an unknown scheme 'mysql': "
        "use sqlite:///path/to/file or postgres://user:password@host:5432/name.\n"
    )


def test_unknown_server(serve):
    """The error is one line with the supported servers."""
    assert (
        output_of_failed_start(serve(SERVER="gunicorn"))
        == "CommandError: SERVER is 'gunicorn': use daphne or uvicorn.\n"
    )


def test_unwritable_var(serve, checkout):
    """The error is one line with the path and the reason, with and without SECRET_KEY."""
    var = checkout / "var"
    var.write_text("in the way")
    assert (
        output_of_failed_start(serve())
        == f"error: {var / 'secret_key'} cannot be read or written: File exists.\n"
    )
    output = output_of_failed_start(serve(SECRET_KEY="k", PORT=str(free_port())))
    assert output == f"CommandError: {var} cannot be written: File exists.\n"


def test_missing_database_folder(serve, tmp_path):
    """The error is one line, not a traceback that ends with "unable to open database file"."""
    url = f"sqlite:///{tmp_path / 'missing' / 'site.sqlite3'}"
    output = output_of_failed_start(serve(DATABASE_URL=url, PORT=str(free_port())))
    assert output == f"CommandError: {tmp_path / 'missing'} cannot be written: No such file or directory.\n"


def test_unreachable_database(serve):
    """The error is one line with PostgreSQL's reason."""
    url = f"postgres://nobody@127.0.0.1:{free_port()}/site"
    output = output_of_failed_start(serve(DATABASE_URL=url, PORT=str(free_port())))
    assert output.startswith("CommandError: The database of DATABASE_URL cannot be used: ")
    assert "refused" in output
    assert output.count("\n") == 1


def test_file_that_is_not_a_database(serve, tmp_path):
    """The error is one line with SQLite's reason."""
    path = tmp_path / "notes.txt"
    path.write_text(
        "This is a text of more than a hundred bytes, which is what a database's header is long. " * 3
    )
    output = output_of_failed_start(serve(DATABASE_URL=f"sqlite:///{path}", PORT=str(free_port())))
    assert output == "CommandError: The database of DATABASE_URL cannot be used: file is not a database.\n"


@SERVERS
def test_postgres_and_redis(serve, postgres, redis, server):
    """With DATABASE_URL and REDIS_URL a page is served, and the log names the doorbell."""
    name = f"serve_{server}"
    postgres.create(name)
    port = free_port()
    server = serve(
        PORT=str(port),
        SERVER=server,
        DATABASE_URL=postgres.url(name),
        REDIS_URL=redis.url,
        EMBEDDED_WORKER="0",
    )
    server.wait_for_line("Press Ctrl-C to stop.")
    assert "Doorbell: channel layer channels_redis.pubsub.RedisPubSubChannelLayer" in server.output
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/", timeout=30) as response:
        assert response.status == 200
    assert "Traceback" not in server.output
    assert server.stop() == 0
    postgres.drop(name)


def test_production_has_no_development_features(serve, checkout):
    """With DEBUG=0 there are no users, no sample upstream, no record and no key file, and HTTP redirects to HTTPS."""
    port, var = free_port(), checkout / "var"
    copy_database(checkout, users=False)
    server = serve(PORT=str(port), DEBUG="0", SECRET_KEY="k" * 60, ALLOWED_HOSTS="site.example")
    server.wait_for_line("Press Ctrl-C to stop.")
    assert var.stat().st_mode & 0o777 == 0o700, "An existing var/ becomes private too."
    assert "demo" not in server.output
    with closing(sqlite3.connect(checkout / "var/asyncsite.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM auth_user").fetchone() == (0,)
    assert not {"development.json", "secret_key"} & {path.name for path in (checkout / "var").iterdir()}

    assert request(port, "/upstream/ok", https=True) == (404, None)
    assert request(port, "/accounts/login/", https=True) == (200, None)
    assert request(port, "/accounts/login/", https=False) == (301, "https://site.example/accounts/login/")


def test_production_refuses_development_passwords(serve, checkout):
    """The error names each user with a public password, before the migration changes the database."""
    path, encode = copy_database(checkout, users=True), PBKDF2PasswordHasher().encode
    production = {"DEBUG": "0", "SECRET_KEY": "k" * 60, "ALLOWED_HOSTS": "site.example"}
    with closing(sqlite3.connect(path)) as database:
        for name in ("admin", "demo"):
            password = encode(name, "salt", iterations=1)
            database.execute("UPDATE auth_user SET password = ? WHERE username = ?", [password, name])
        database.execute("DELETE FROM django_migrations WHERE app = 'asyncsite'")
        database.commit()
    assert output_of_failed_start(serve(PORT=str(free_port()), **production)) == (
        "CommandError: The database is one of development: admin has the password admin and demo has the password "
        "demo. Change that with manage.py changepassword admin and manage.py changepassword demo, then start again.\n"
    )
    with closing(sqlite3.connect(path)) as database:
        migrated = "SELECT count(*) FROM django_migrations WHERE app = 'asyncsite'"
        assert database.execute(migrated).fetchone() == (0,)
        database.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('asyncsite', '0001_reports', 0)"
        )
        database.commit()
    password = encode("another", "salt", iterations=1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE auth_user SET password = ? WHERE username = 'admin'", [password])
        database.commit()
    assert "manage.py changepassword demo, then" in output_of_failed_start(
        serve(PORT=str(free_port()), **production)
    )
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE auth_user SET is_active = 0 WHERE username = 'demo'")
        database.commit()
    serve(PORT=str(free_port()), **production).wait_for_line("Press Ctrl-C to stop.")


def request(port, path, *, https):
    """Return status and Location of a page that is requested through a proxy."""
    headers = {"Host": "site.example"} | ({"X-Forwarded-Proto": "https"} if https else {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Location"]


@pytest.mark.parametrize("target", ["run", "worker"])
def test_make_does_not_start_with_an_empty_key(checkout, target):
    """A missing secret must not be replaced by a development key."""
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "tools").mkdir()
    (checkout / "tools/venv").symlink_to("/bin/true")
    (checkout / ".venv").symlink_to(sys.prefix)
    env = environment(SECRET_KEY="", PORT=str(free_port()))
    process = Process(["make", "-s", target], log=checkout.parent / "make.log", cwd=checkout, env=env)
    try:
        assert "error: SECRET_KEY is set but empty." in output_of_failed_start(process)
        assert not (checkout / "var").exists()
    finally:
        process.stop()


def test_production_needs_a_key(checkout):
    """Without DEBUG, SECRET_KEY or a record no command runs, and the error names both remedies."""
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=checkout,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: SECRET_KEY is not set. For development run `make run` once")
    assert done.stderr.count("\n") == 1
