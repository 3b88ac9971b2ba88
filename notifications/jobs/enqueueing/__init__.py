"""What decides about a job when it is enqueued.

owners                    the user who may see it and is notified of its end
unique                    its key, by which an equal job is found
active_limit, rate_limit  how many jobs of a user may be active, and may be enqueued in a minute
"""
