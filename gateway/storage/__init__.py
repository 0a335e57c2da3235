"""Storage engines: where messages, queues and metadata live. The interface is in `base`."""
