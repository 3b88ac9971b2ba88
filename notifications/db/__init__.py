"""The two databases, SQLite and PostgreSQL.

transactions               the app's own transactions, and callbacks after the commit of a caller's
bulk, insertion, adapters  many rows, one row, values and keys of users in raw SQL
keyset                     pages of long tables
clock                      the database's clock, and stored times that a wrong one has made
pools, async_twins         pools of connections; calls of sync code from async code
threads, supervised        threads with connections, and one that is started again when it is needed
deadlines, unusable        connections that do not answer, and those that answer and are of no use
sqlstates, unavailable     what errors mean, and those that pass
project_code, project_threads, signal_queue  code of the project: how it is called, and on which threads
schema, former_migrations  whether the tables are those of the installed models
"""
