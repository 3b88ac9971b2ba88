"""Which jobs a worker may claim. ``transitions/claims.py`` claims them.

candidates     the jobs to claim, in order: queued, due, not paused, within all limits
claim_queries  the SQL for that; ``sources`` that of the backends and queues of a worker
executors      what must be free in the worker: a slot, a thread, or room for a quarantined job
queues         pause and resume
backlog        how many jobs wait in each queue, and which no live worker takes
waiting_reasons why a job waits
waiting_queues queues in which jobs wait although they may run
"""
