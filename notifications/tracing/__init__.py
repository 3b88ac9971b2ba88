"""Traces, from a request to its jobs and their calls.

trace_context  what is passed on: headers of W3C Trace Context
error_trackers what Sentry learns of failed jobs
spans, checks  spans of jobs and notifications for OpenTelemetry, and what they need
"""
