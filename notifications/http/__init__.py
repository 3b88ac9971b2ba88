"""What answers requests, but for the pages of notifications (``inbox/``).

api_views, stream_views, health_views, openapi   the API, and what probes and programs read
page_views                                       what pages show of a job, and its forms
acceptance, idempotency, job_responses           ``accepted()``, and responses that show a job or wait for its end
access, authentication                           who may call a view
negotiation, parsing                             what a request asks for
waiting_requests                                 limits and resources of requests that wait
"""
