"""Start the site: check, migrate, serve. `make run` calls this."""

import errno
import signal
import socket
import tempfile
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from asyncsite.environment import make_private_folder, write_record
from asyncsite.migrating import migration_lock
from notifications.asgi import begin_serving

#: Connections that the kernel keeps until the server accepts them. With the 50 of Twisted, clients that all come back
#: after a restart are refused, and repeat it a second later.
MAX_WAITING_CONNECTIONS = 2048
UVICORN = {
    "backlog": MAX_WAITING_CONNECTIONS,
    "lifespan": "on",
    "log_config": None,  # Django's LOGGING is for all
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,  # Django decides whom to believe, with SECURE_PROXY_SSL_HEADER
    "ws_max_size": 1024 * 1024,  # as Daphne; what the protocol allows is less, and answered by it
    "ws_per_message_deflate": False,  # it would cost more memory than the rest of a socket
    "timeout_graceful_shutdown": 10,
}


class Command(BaseCommand):
    help = "Migrate and start the site on HOST and PORT. In development the users demo and admin are made."

    requires_system_checks = []  # they run in handle(), after what has a clearer line of its own

    def handle(self, **options):
        servers = {"daphne": self.serve_by_daphne, "uvicorn": self.serve_by_uvicorn}
        if settings.SERVER not in servers:
            raise CommandError(f"SERVER is {settings.SERVER!r}: use {' or '.join(servers)}.")
        require_database_folder()
        place = bind(settings.HOST, settings.PORT)
        self.prepare_database()
        if settings.DEBUG:
            write_record(settings.VAR_DIR)
        else:
            refuse_development_passwords()
        servers[settings.SERVER](place)

    def prepare_database(self):
        try:
            with migration_lock(connection, self.say):
                self.check()
                call_command("migrate", verbosity=0, interactive=False)
                if settings.DEBUG:
                    make_people()
        except DatabaseError as error:
            reason = " ".join(str(error).split())
            raise CommandError(f"The database of DATABASE_URL cannot be used: {reason}.") from error

    def serve_by_daphne(self, place):
        # Daphne installs Twisted's asyncio reactor on import, so it comes before everything that uses a loop.
        from daphne.endpoints import build_endpoint_description_strings
        from daphne.server import Server

        from asyncsite.asgi import application

        begin_serving()
        endpoints = build_endpoint_description_strings(host=settings.HOST, port=settings.PORT)
        server = Server(
            application=application,
            endpoints=[f"{endpoint}:backlog={MAX_WAITING_CONNECTIONS}" for endpoint in endpoints],
            ready_callable=self.say_ready,
            server_name=None,
            verbosity=0,
        )
        # A shell lets what a script starts with & ignore SIGINT, and Twisted leaves an ignored one ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        place.close()  # it binds anew
        server.run()
        if server.abort_start:
            raise CommandError(TAKEN_MEANWHILE.format(settings.HOST, settings.PORT))

    def serve_by_uvicorn(self, place):
        import uvicorn

        from asyncsite.asgi import application

        begin_serving()
        server = uvicorn.Server(uvicorn.Config(application, **UVICORN))
        start = server.startup

        async def start_and_say(sockets):
            await start(sockets)
            self.say_ready()

        server.startup = start_and_say
        # uvicorn stops by these signals itself, and then sends them once more to whoever had them before.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        try:
            place.listen(server.config.backlog)
        except OSError as error:
            raise CommandError(TAKEN_MEANWHILE.format(settings.HOST, settings.PORT)) from error
        server.run([place])

    def say(self, line):
        self.stdout.write(line)
        self.stdout.flush()

    def say_ready(self):
        say = self.stdout.write
        say(f"The site is at {settings.SELF_URL}/")
        if settings.DEBUG:
            say(f"Sign in as demo (password demo); at {settings.SELF_URL}/admin/ as admin (password admin).")
            if not is_loopback(settings.HOST):
                say("Whoever reaches this address knows these passwords: only for a trusted network.")
        if not settings.NOTIFICATIONS["EMBEDDED_WORKER"]:
            say("Jobs wait for a worker: make worker")
        say("Ctrl-C stops it.")
        self.stdout.flush()


def require_database_folder():
    """Make var/, for its owner only, and say in one line what a SQLite file that cannot be written says in forty."""
    folders = [settings.VAR_DIR]
    if connection.vendor == "sqlite":
        folders.append(Path(settings.DATABASES["default"]["NAME"]).parent)
    for folder in folders:
        try:
            make_private_folder(settings.VAR_DIR)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise CommandError(f"{folder} cannot be written: {error.strerror}.") from error


def bind(host, port):
    """Return a socket that is bound to the address and does not listen yet."""
    try:
        places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CommandError(f"HOST is {host!r}, which is no address: {error.strerror}.") from error
    family, kind, protocol, _, address = places[0]
    place = socket.socket(family, kind, protocol)
    # What is left of a closed connection does not count as taken.
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind(address)
    except OSError as error:
        place.close()
        raise CommandError(
            PORT_REMEDIES.get(error.errno, OTHER_PORT_REMEDY).format(host, port, error.strerror)
        ) from error
    return place


TAKEN_MEANWHILE = "{0}:{1} was taken by another process meanwhile."
OTHER_PORT_REMEDY = "{0}:{1} cannot be used: {2}."
PORT_REMEDIES = {
    errno.EADDRINUSE: "Port {1} of {0} is taken: stop what listens there, or choose another like PORT=8765.",
    errno.EACCES: "Port {1} needs more rights: choose one from 1024, like PORT=8000.",
    errno.EADDRNOTAVAIL: "HOST is {0}, which is no address of this machine: use 127.0.0.1 or 0.0.0.0.",
}


def make_people():
    """The users that the first page names, where they are missing. Passwords that were changed stay."""
    User = get_user_model()
    if not User.objects.filter(username="demo").exists():
        User.objects.create_user("demo", password="demo")
    if not User.objects.filter(username="admin").exists():
        User.objects.create_superuser("admin", password="admin")


def refuse_development_passwords():
    """Raise CommandError if one of the users that ``make_people`` makes may sign in with the password that it gives."""
    users = get_user_model().objects.filter(username__in=["admin", "demo"], is_active=True)
    names = [
        user.username for user in users.order_by("username") if check_password(user.username, user.password)
    ]
    if names:
        passwords = " and ".join(f"{name} has the password {name}" for name in names)
        commands = " and ".join(f"manage.py changepassword {name}" for name in names)
        raise CommandError(
            f"The database is one of development: {passwords}. Change this with {commands}, then start again."
        )


def is_loopback(host):
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")
