"""What RocketMQ 5 clients and servers say to each other, for whoever speaks it: no I/O, no rules.

numbers      codes and enumerations, by name
tables       the messages and procedures, in a notation of our own
schema       classes made of them, in a descriptor pool of their own (needs protobuf, an extra)
names        RocketMQ's names of topics and groups, and ours: a bijection
signature    the `authorization` header that clients send
properties   names of user properties that have a meaning
payload      digests, encodings, times
"""
