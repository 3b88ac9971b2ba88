"""Which jobs a worker may claim. ``transitions/claims.py`` claims them.

candidates     the jobs to claim, in order: queued, due, not paused, within all limits
claim_queries  the SQL for that; ``sources`` that of the backends and queues of a worker
executors      what must be free in the worker: a slot, a thread, or room for a quarantined job
queues         pause and resume
backlog        how many jobs wait in each queue
unserved       queues in which jobs wait although they may run
waiting_reasons why jobs wait: the one place that says so
"""
