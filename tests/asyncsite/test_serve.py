"""The launcher: what it prepares, what it says, how it ends."""

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

from asyncsite.environment import NAMES
from tests.support.network import free_port, is_listening
from tests.support.processes import Process
from tests.support.site import ROOT


@pytest.fixture
def checkout(tmp_path):
    """A copy of the site with a var/ of its own."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for package in ("asyncsite", "notifications"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "manage.py", folder)
    return folder


@pytest.fixture
def serve(checkout):
    """Starts `manage.py serve` as `make run` does, on a free port unless told."""
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


def environment(**variables):
    """The process's environment without the variables of the tests' own settings."""
    inherited = {
        key: value for key, value in os.environ.items() if key not in (*NAMES, "DJANGO_SETTINGS_MODULE")
    }
    return inherited | {"PYTHONPATH": "", **variables}


def refusal(process):
    """What a server that did not start wrote; it ends with an error and without a traceback."""
    assert process.popen.wait(60) not in (0, None)
    return process.output


SERVERS = pytest.mark.parametrize("server", ["daphne", "uvicorn"])


@SERVERS
def test_first_start_prepares_everything(serve, checkout, server):
    """The database is migrated, demo and admin exist, and the address and both sign-ins are printed."""
    port = free_port()
    server = serve(PORT=str(port), SERVER=server)
    server.wait_for_line("Ctrl-C stops it.")
    assert f"The site is at http://127.0.0.1:{port}/\n" in server.output
    assert "Sign in as demo (password demo)" in server.output
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/", timeout=30) as response:
        assert response.status == 200
    with closing(sqlite3.connect(checkout / "var/asyncsite.sqlite3")) as database:
        people = database.execute("SELECT username, is_superuser FROM auth_user ORDER BY username").fetchall()
    assert people == [("admin", 1), ("demo", 0)]


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"])
def test_two_first_starts_at_the_same_time(serve, request, vendor):
    """One migrates, the other one waits, and both serve."""
    variables = {"DEBUG": "1"}
    if vendor == "postgresql":
        postgres = request.getfixturevalue("postgres")
        postgres.drop("two_starts")
        postgres.create("two_starts")
        request.addfinalizer(lambda: postgres.drop("two_starts"))
        variables["DATABASE_URL"] = postgres.url("two_starts")
    servers = [serve(PORT=str(free_port()), EMBEDDED_WORKER="0", **variables) for _ in range(2)]
    for server in servers:
        server.wait_for_line("Ctrl-C stops it.")
        server.stop()
    assert sum("Another process migrates the database." in server.output for server in servers) == 1


@SERVERS
def test_many_clients_may_come_back_at_once(serve, server):
    """While the server is busy, the kernel takes 500 connections for it, which clients would repeat seconds later."""
    port = free_port()
    server = serve(PORT=str(port), SERVER=server)
    server.wait_for_line("Ctrl-C stops it.")
    server.popen.send_signal(signal.SIGSTOP)
    with ExitStack() as clients:
        try:
            for _ in range(500):
                clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        finally:
            server.popen.send_signal(signal.SIGCONT)


def test_commands_beside_the_server_find_its_settings(serve, checkout, tmp_path):
    """The same key, port and database, with no variable at all."""
    port = free_port()
    database = tmp_path / "other.sqlite3"
    serve(PORT=str(port), DATABASE_URL=f"sqlite:///{database}").wait_for_line("Ctrl-C stops it.")
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


@SERVERS
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly(serve, server, how):
    """Ctrl-C and a stop end it with 0, without a traceback, its worker leaves, and nobody is_listening any more."""
    port = free_port()
    server = serve(PORT=str(port), SERVER=server)
    server.wait_for_line("Ctrl-C stops it.")
    server.wait_for_line("jobs at a time")
    server.popen.send_signal(how)
    assert server.popen.wait(60) == 0
    assert "Traceback" not in server.output
    assert "has ended; jobs released: 0" in server.output
    assert not is_listening(port)


@SERVERS
def test_ends_by_ctrl_c_where_a_script_started_it(checkout, server):
    """A shell without job control starts what stands before & with SIGINT ignored; it ends all the same."""
    ignoring = ["sh", "-c", "trap '' INT; exec \"$0\" manage.py serve", sys.executable]
    env = environment(DEBUG="1", PORT=str(free_port()), SERVER=server)
    server = Process(ignoring, log=checkout.parent / "serve.log", cwd=checkout, env=env)
    try:
        server.wait_for_line("Ctrl-C stops it.")
        server.interrupt()
        assert server.popen.wait(60) == 0
    finally:
        server.stop()


@SERVERS
def test_port_that_is_taken(serve, server):
    """One line that names the port and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refusal(serve(PORT=str(port), SERVER=server))
    assert said == (
        f"CommandError: Port {port} of 127.0.0.1 is taken: "
        "stop what is_listening there, or choose another like PORT=8765.\n"
    )


def test_host_of_another_machine(serve):
    """One line that names the address."""
    said = refusal(serve(HOST="192.0.2.1", PORT=str(free_port())))
    assert said == (
        "CommandError: HOST is 192.0.2.1, which is no address of this machine: use 127.0.0.1 or 0.0.0.0.\n"
    )


def test_unknown_scheme(serve):
    """One line that names the schemes there are."""
    said = refusal(serve(DATABASE_URL="mysql://root@localhost/site"))
    assert said == (
        "error: DATABASE_URL has an unknown scheme 'mysql': "
        "use sqlite:///path/to/file or postgres://user:password@host:5432/name.\n"
    )


def test_unknown_broker(serve):
    """One line that names the schemes there are."""
    said = refusal(serve(REDIS_URL="localhost:6379"))
    assert said.startswith("error: REDIS_URL names no Redis (localhost): use redis://host:6379/0, ")
    assert said.count("\n") == 1


def test_unknown_server(serve):
    """One line that names the servers there are."""
    assert refusal(serve(SERVER="gunicorn")) == "CommandError: SERVER is 'gunicorn': use daphne or uvicorn.\n"


def test_var_that_cannot_be_written(serve, checkout):
    """One line that names the place and the reason, with and without a key of its own."""
    var = checkout / "var"
    var.write_text("in the way")
    assert refusal(serve()) == f"error: {var / 'secret_key'} cannot be read or written: File exists.\n"
    said = refusal(serve(SECRET_KEY="k", PORT=str(free_port())))
    assert said == f"CommandError: {var} cannot be written: File exists.\n"


def test_database_folder_that_is_not_there(serve, tmp_path):
    """One line, rather than forty that end in "unable to open database file"."""
    url = f"sqlite:///{tmp_path / 'missing' / 'site.sqlite3'}"
    said = refusal(serve(DATABASE_URL=url, PORT=str(free_port())))
    assert said == f"CommandError: {tmp_path / 'missing'} cannot be written: No such file or directory.\n"


def test_database_that_does_not_answer(serve):
    """PostgreSQL on a port where nobody is_listening is one line, with PostgreSQL's reason."""
    url = f"postgres://nobody@127.0.0.1:{free_port()}/site"
    said = refusal(serve(DATABASE_URL=url, PORT=str(free_port())))
    assert said.startswith("CommandError: The database of DATABASE_URL cannot be used: ")
    assert "refused" in said
    assert said.count("\n") == 1


def test_file_that_is_no_database(serve, tmp_path):
    """A wrong path is one line, with SQLite's reason."""
    path = tmp_path / "notes.txt"
    path.write_text(
        "This is a text of more than a hundred bytes, which is what a database's header is long. " * 3
    )
    said = refusal(serve(DATABASE_URL=f"sqlite:///{path}", PORT=str(free_port())))
    assert said == "CommandError: The database of DATABASE_URL cannot be used: file is not a database.\n"


@SERVERS
def test_postgres_and_redis(serve, postgres, redis, server):
    """DATABASE_URL and REDIS_URL are all it needs: a page is served, and the doorbell said at the start."""
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
    server.wait_for_line("Ctrl-C stops it.")
    assert "Doorbell: channel layer channels_redis.pubsub.RedisPubSubChannelLayer" in server.output
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/accounts/login/", timeout=30) as response:
        assert response.status == 200
    assert "Traceback" not in server.output
    assert server.stop() == 0
    postgres.drop(name)


def test_production_has_nothing_of_development(serve, checkout):
    """DEBUG=0: no user with a known password, no sample upstream, no record, no key in a file, HTTPS only."""
    port = free_port()
    server = serve(PORT=str(port), DEBUG="0", SECRET_KEY="k" * 60, ALLOWED_HOSTS="site.example")
    server.wait_for_line("Ctrl-C stops it.")
    assert "demo" not in server.output
    with closing(sqlite3.connect(checkout / "var/asyncsite.sqlite3")) as database:
        assert database.execute("SELECT count(*) FROM auth_user").fetchone() == (0,)
    assert not {"development.json", "secret_key"} & {path.name for path in (checkout / "var").iterdir()}

    assert answer(port, "/upstream/ok", https=True) == (404, None)
    assert answer(port, "/accounts/login/", https=True) == (200, None)
    assert answer(port, "/accounts/login/", https=False) == (301, "https://site.example/accounts/login/")


def test_production_refuses_the_passwords_of_development(serve, checkout):
    """A database that was tried out in development: each user is named whose password everybody knows."""
    development = serve(PORT=str(free_port()))
    development.wait_for_line("Ctrl-C stops it.")
    development.stop()
    production = {"DEBUG": "0", "SECRET_KEY": "k" * 60, "ALLOWED_HOSTS": "site.example"}
    assert refusal(serve(PORT=str(free_port()), **production)) == (
        "CommandError: The database is one of development: admin has the password admin and demo has the password "
        "demo. Change this with manage.py changepassword admin and manage.py changepassword demo, then start again.\n"
    )
    change = (
        "from django.contrib.auth.models import User;"
        "admin = User.objects.get(username='admin'); admin.set_password('another'); admin.save()"
    )
    shell = [sys.executable, "manage.py", "shell", "--no-imports", "-c"]
    subprocess.run([*shell, change], cwd=checkout, env=environment(**production), check=True, timeout=60)
    assert "manage.py changepassword demo, then" in refusal(serve(PORT=str(free_port()), **production))
    change = "from django.contrib.auth.models import User; User.objects.filter(username='demo').update(is_active=False)"
    subprocess.run([*shell, change], cwd=checkout, env=environment(**production), check=True, timeout=60)
    serve(PORT=str(free_port()), **production).wait_for_line("Ctrl-C stops it.")


def test_var_is_private(serve, checkout):
    """Also one that is there, and was made by an earlier version."""
    var = checkout / "var"
    var.mkdir(mode=0o755)
    serve(PORT=str(free_port()), DEBUG="0", SECRET_KEY="k" * 60).wait_for_line("Ctrl-C stops it.")
    assert var.stat().st_mode & 0o777 == 0o700


def answer(port, path, *, https):
    """Status and Location of a page, asked for as the proxy before the site would."""
    headers = {"Host": "site.example"} | ({"X-Forwarded-Proto": "https"} if https else {})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["Location"]


@pytest.mark.parametrize("target", ["run", "worker"])
def test_make_with_an_empty_key_is_not_development(checkout, target):
    """A secret that was not injected: neither command falls back to a key of its own."""
    shutil.copy(ROOT / "Makefile", checkout)
    (checkout / "tools").mkdir()
    (checkout / "tools/venv").symlink_to("/bin/true")
    (checkout / ".venv").symlink_to(sys.prefix)
    env = environment(SECRET_KEY="", PORT=str(free_port()))
    process = Process(["make", "-s", target], log=checkout.parent / "make.log", cwd=checkout, env=env)
    try:
        assert "error: SECRET_KEY is set but empty." in refusal(process)
        assert not (checkout / "var").exists()
    finally:
        process.stop()


def test_production_needs_a_key(checkout):
    """Without DEBUG, a key or a record no command runs, and the line says both ways out."""
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
