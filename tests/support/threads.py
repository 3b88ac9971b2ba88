"""Run functions on threads."""

import threading

from django.db import connections


def run_in_threads(*functions):
    """Run functions concurrently, each on its own connection. Raises AssertionError if one of them raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as exc:
            errors.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "A thread did not end within 30 s."
    assert not errors, errors
