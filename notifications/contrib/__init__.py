"""Adapters for other projects. Each is complete in its folder and registers itself; nothing else imports it."""
