"""Whatever answers a request: views of the API and pages, and what they share.

acceptance, idempotency, idempotent_enqueue, job_responses, prefer_wait   accepted() and the responses of a job
api_views, stream_views, page_views, openapi                              the views
access, parsing, negotiation, decorators, csrf                            before a view: is it allowed, what is asked
request_resources, server_task, wait_slots                                requests that wait
client_strings                                                            texts of the browser client
"""
