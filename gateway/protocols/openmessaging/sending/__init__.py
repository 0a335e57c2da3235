"""Sending: what producers call.

sending       SendMessage: one message or many, of every type
checks        what RocketMQ demands of a message
recall        RecallMessage, and the handles by which a message that waits is known
transactions  messages of type TRANSACTION, EndTransaction, and the question to who has not decided
"""
