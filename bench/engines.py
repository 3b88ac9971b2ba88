"""Compare jobs of this app on Celery's workers with Celery alone, in one run on one machine.

``python -m bench.engines [--rounds 5] [--processes 2] [--only rate pickup] [--scale 0.1] [--out FOLDER]``

Measured are empty jobs per second, with one worker process and with several, and the time from enqueueing to the start
of a job at an idle worker. Those of this app are rows of PostgreSQL with an owner, an outcome and a notification, whose
ids go through Redis; Celery's are messages in Redis, with results in Redis. ``threads`` has 20 threads in each process.
The queues alternate in each round; a figure is the median of the rounds, with the worst of them beside it. Needs
``bench/requirements.txt``, and PostgreSQL and Redis, which it starts.
"""

from bench.jobs import main
from bench.queues import engine_queues

if __name__ == "__main__":
    main(__doc__, engine_queues)
