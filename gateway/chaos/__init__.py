"""Chaos in the manner of openchaos: clients note what they do and see while a gateway suffers; then that is
judged.

    history     the file: a line for each request, response and fault; openchaos' format
    checkers    what was lost, duplicated, unexpected, out of order; how long it was away, and messages took
    faults      what can be done to a gateway here, and what cannot, and why
    node        the gateway: a process that is started, killed, suspended
    client      what a client does; `mqtt_client`, `oms_client`
    model       the queue: clients that enqueue and dequeue at a rate, and drain it at the end
    control     a run from beginning to verdict

A history can be judged again, and so can one of openchaos' own.
"""
