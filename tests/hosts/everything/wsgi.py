"""A WSGI server of the standard library, behind what a proxy would do: python -m tests.hosts.everything.wsgi PORT"""

import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from django.core.wsgi import get_wsgi_application

SCRIPT_NAME = "/app"


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def mounted(application):
    """Serve it below the script name, which a WSGI application is not sent as a part of the path."""

    def serve(environ, start_response):
        environ["SCRIPT_NAME"] = SCRIPT_NAME
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(SCRIPT_NAME)
        return application(environ, start_response)

    return serve


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.hosts.everything.settings")
    application = mounted(get_wsgi_application())
    make_server("127.0.0.1", int(sys.argv[1]), application, Server).serve_forever()
