"""The only place where a job changes its state.

Lanes and the times of hand-overs to engines are changed by ``handing_over`` and ``isolating``.

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
    retry     failed, cancelled -> queued              retrying; fence + 1
              failed, cancelled -> running             retrying: a batch; fence + 1
    correct   failed -> queued                         observed_batches: a guess about an observed task, of which the
                                                       real start or end follows in the same transaction; fence + 1
    reopen    succeeded, failed -> running             observed_batches: a batch that gets another job; fence + 1
"""
