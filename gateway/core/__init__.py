"""The broker core: messages, topics, routing, queues and sessions.

Synchronous and self-contained: nothing here waits, reads a clock, opens a socket or a file,
or imports anything of the gateway outside this package (`tests/test_layers.py`).
"""
