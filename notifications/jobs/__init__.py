"""Background jobs on Django's Tasks API: the life of a job, and what is notified of it.

declaring/, backend, limits           tasks and their policies; ``enqueue()``; how many jobs a user may have
turns                                 the fair order of those that wait
claiming/                             which jobs a worker may claim; ``worker/`` runs them
transitions/                          where a job changes its state
outcomes, outcome_texts, tracebacks   how an attempt has ended, and the notification of a finished job
notifying                             ``notify()``, and what is inserted with a notification or an outcome
batches                               jobs that are enqueued together
durable_calls                         pauses, and names of steps and waits that are unique in a job
job_context, results, info, job_ends  a job as its task sees it, as Django's result, as a copy, and its end
notification_info                     reads and marks notifications for the public API
announcing                            notifies readers of what is wrong, and of its end
users, reader_languages               who users are, and in which languages they read
group_texts                           what lists and e-mails show of a group of notifications
selection, changing                   the jobs that ids or a filter name, and the verbs that change them
step_list, listing                    what pages, commands and lists show of jobs
arguments, redaction                  arguments and results as people are shown them
probe                                 the task by which ``doctor`` tests workers
"""
