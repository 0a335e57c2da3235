"""Wire-level load for any MQTT or HTTP broker, peers side by side: `python -m benchmarks --help`.

Nothing of the gateway is imported here: brokers are processes, and all of them are sent the same bytes.
"""
