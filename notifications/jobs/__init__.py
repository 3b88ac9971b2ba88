"""Background jobs on Django's Tasks API: the life of a job, and what is notified of it.

declaring/, backend, enqueueing/      tasks and their policies; ``enqueue()``; owner, key and limits of a new job
claiming/                             which jobs a worker may claim; ``worker/`` runs them
transitions/                          where a job changes its state
outcomes                              how an attempt has ended, and the notification of a finished job
insertion                             what is inserted with a notification or an outcome
notifying                             ``notify()``
batches                               jobs that are enqueued together
pauses, durable_calls                 what a task waits for, and names that are unique in a job
job_context, results, info, job_ends  a job as its task sees it, as Django's result, as a copy, and its end
announcing                            notifies readers of what is wrong, and of its end
users, permissions, senders           who users are, and what tasks of the app that call servers share
step_list, redaction, pace, locations, last_errors, searching  what pages, commands and lists show of jobs
probe                                 the task by which ``doctor`` tests workers
ports                                 the functions of the doorbell, which stands above and sets them
"""
