"""What other apps show to operators: the functions of a module ``operations`` in their packages.

    # sms/operations.py
    def metrics(): ...                                   # of Prometheus
    def overview_sections(model_admin, request): ...     # of the overview in the admin
    def describe_broadcasts(ids): ...                    # to those whom incidents affect
    def send_message(value, sender, current_app): ...

Each may be left out. The module is imported when one of them is needed first, so an app needs no code for a project
without this one. What they raise is logged, and leaves them out.

``metrics()``
    Returns metrics (``prometheus_client.core.Metric``), in one query that reads a bounded number of rows. Called when
    Prometheus reads, outside of any transaction.
``overview_sections(model_admin, request)``
    Returns dicts, each in a bounded number of queries. Their ``"template"`` is included, with the dict as ``section``
    and the context of the page. Called for each request of the page.
``describe_broadcasts(ids)``
    Returns, by the ids of broadcasts, dicts of how many users each was ``sent`` to, and how many have ``read`` it.
``send_message(value, sender, current_app)``
    Sends the message of an audience of ``broadcasts.py``, and returns to how many users.
"""
