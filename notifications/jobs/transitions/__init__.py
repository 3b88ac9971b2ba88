"""Where a job changes its state.

enqueueing              new jobs: their owner and key
queueing                running to queued: retries, releases; scheduled jobs join the queue when they are due
claims                  queued to running
limiting, limit_openings  change no state: queued jobs that wait for the limits of their keys
running                 claimed jobs, their deadlines and progress
recording               to an end, with signals and batches
notify_functions        calls ``notify`` functions before that transaction
waiting                 to waiting, and back to queued
reaping                 running jobs of lost workers
expiring                queued jobs that have not begun in time
manual                  by hand: cancel, reschedule, retry
batch_completion        batches
conditional_updates     the UPDATE that they share

Each change is an UPDATE conditional on the job's id, its fence and the state that it leaves, so that a worker that was
frozen past its lease changes nothing; each raises ``version``. Locks are taken in one order: job rows by id,
notification rows by id, then streams.

``notifications.states.CHANGES`` lists the changes with the module of each.
"""
