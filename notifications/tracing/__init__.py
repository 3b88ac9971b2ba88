"""Traces: what is passed on from a request to its jobs and their calls, and spans for OpenTelemetry."""
