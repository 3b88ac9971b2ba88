"""What decides about a job when it is enqueued: its owner, its key, and the limits of its owner."""
