"""The commands, and what they share.

commands/           ``run_jobs``, ``notify``, and ``notifications`` with its subcommands
subcommands/        those of ``manage.py notifications``
diagnosis/          the checks of its subcommand ``doctor``
management_command  the base class of all: errors, exit codes, subcommands of extensions
worker_processes    ``run_jobs --processes``
output              what commands print
"""
