"""`/queues`: receive and settle, observe a queue, and the commands in a publish's answer."""
