"""What is revoked, and by which process."""

import multiprocessing

from notifications.contrib.celery import results


def test_a_process_that_was_forked_after_a_revocation(broker, monkeypatch):
    """It has no thread of its parent's, and starts one."""
    fork = multiprocessing.get_context("fork")
    sent = fork.SimpleQueue()
    monkeypatch.setattr(results, "send_revoke", lambda app, ids: sent.put(ids))

    def revoke():
        results.revoke_tasks([])
        assert results._executor.submit(lambda: True).result(10)

    revoke()
    child = fork.Process(target=revoke)
    child.start()
    child.join(20)
    assert (child.exitcode, sent.get(), sent.get()) == (0, [], [])
