"""The two databases, SQLite and PostgreSQL: transactions, threads with connections, and rows in bulk."""
