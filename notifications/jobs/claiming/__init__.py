"""Which jobs a worker may claim. ``transitions/claims.py`` claims them.

candidates     the jobs to claim, in order: queued, due, not paused, within all limits
claim_queries  the SQL for that
executors      what must be free in the worker: a slot, a thread, or room for a quarantined job
concurrency    the limits of a queue and of a concurrency key
queues         pause and resume
claimed_job    a claimed row, and what its worker knows beyond it
depths         how many jobs wait and run in each queue
unserved_queues  queued jobs that no live worker takes
"""
