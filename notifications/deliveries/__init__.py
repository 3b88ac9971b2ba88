"""What is still open after its time goes by e-mail: see ``NOTIFICATIONS["DELIVERY"]``.

Rows are inserted with their notifications by ``streams/deliveries.py``.
"""
