"""Background jobs and durable notifications for Django."""

__version__ = "0.9.0"
