"""Where a job changes its state.

Only ``contrib/celery/transitions/`` does so too, for tasks that this app does not execute. ``contrib/engines/``
changes the executors of queued jobs and the times of their dispatches.

Each change is an UPDATE conditional on the job's id, its fence and the state that it leaves, so that a worker that was
frozen past its lease changes nothing; each raises ``version``. Locks are taken in one order: job rows by id,
notification rows by id, then streams.

``notifications.states.CHANGES`` lists the changes with the module of each. Changes that leave the state are in
``running``, such as that of the progress, and in ``executor_moves``.
"""
