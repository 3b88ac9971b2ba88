"""Threads on which periodic work calls code of the project."""

from notifications.db.project_threads import ProjectThreads


def test_a_start_after_the_threads_ended(caplog):
    """The last duty of a worker may run while it ends. It logs no traceback then."""
    threads, calls = ProjectThreads(), []
    threads.end(seconds=0)
    threads.start(lambda: calls.append(1), "Could not call")
    assert (calls, caplog.messages) == ([], [])
