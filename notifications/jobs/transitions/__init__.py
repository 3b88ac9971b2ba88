"""The only place where a job changes its state.

Each change is an UPDATE guarded by the job's id, its fence and the state that it leaves, so that a worker that was
frozen past its lease changes nothing; each raises ``version``. Locks are taken in one order: job rows by id,
notification rows by id, then streams.

    enqueue   (nothing) -> queued                      queueing
              (nothing) -> running                     batch_completion: a batch, which no worker claims
    claim     queued -> running                        claims; fence + 1, attempt + 1
    progress  running -> running                       running
    finish    running -> succeeded, failed, cancelled  recording, with the notification and its number
    retry     running -> queued                        recording and queueing: an attempt failed, another one follows
    release   running -> queued                        queueing; attempt - 1
    reap      running -> queued, failed, cancelled     reaping: the lease or the deadline is over
    cancel    queued -> cancelled                      manual; a running job only gets cancel_requested_at
    retry     failed, cancelled -> queued              manual; fence + 1
              failed, cancelled -> running             manual: a batch; fence + 1
    reopen    succeeded, failed -> running             observed_batches: a batch that gets another job; fence + 1
"""
