"""Handlers: tasks of the project whose jobs the app inserts in the transaction of an event.

declarations   the tasks in ``NOTIFICATIONS["HANDLERS"]``, imported and checked
endpoints      the endpoints of webhooks that get an event
callbacks      the URLs that requests have sent with their jobs
events         the events, and the jobs that are inserted for them
"""
