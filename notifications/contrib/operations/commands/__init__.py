"""Subcommands of ``manage.py notifications``."""
