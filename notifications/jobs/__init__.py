"""Background jobs on Django's Tasks API.

The way of a job: ``declaring/`` and ``backend`` take ``enqueue()``, ``enqueueing/`` decides owner, key and limits,
``claiming/`` finds what a worker may run, ``worker/`` runs it, and ``transitions/``, where a job changes its state,
records the outcome. ``joining`` and ``job_ends`` wait for results, ``batches`` joins jobs into one. ``ports`` is what
the rooms above give to it.
"""
