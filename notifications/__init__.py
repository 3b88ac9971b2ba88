"""Background jobs and durable notifications for Django."""

__version__ = "1.0.0rc1"
