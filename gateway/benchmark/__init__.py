"""A runner for the workloads of the OpenMessaging benchmark: the same fields, flow and result keys.

    workload       what a WORKLOAD.yaml says
    driver         what a DRIVER.yaml says, and what a driver must do
    oms_driver     any URL of `gateway.oms`
    mqtt_driver    MQTT 5, by paho; `paho_loop` has its socket in our event loop
    amqp_driver    AMQP 0-9-1, by pika
    limiter        when each message is due; `rate_controller` finds the rate that can be sustained
    payloads       bodies and keys
    stats          counts and HDR histograms of a period, and of all of it
    worker         producers and consumers, and the load
    generator      the flow: topics, consumers, producers, probe, warm-up, backlog, measurement
    result         the result file; `summary` is the CSV of many
    runner         each workload with each driver

All of it is in one event loop: a message's callbacks are plain calls. What that loop cannot do in time shows
as publish delay, and is no latency of the broker's.
"""
