"""The subcommands of ``manage.py notifications``, a module for each."""
