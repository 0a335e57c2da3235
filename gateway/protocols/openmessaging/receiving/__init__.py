"""ReceiveMessage (POP), and how what was received is settled.

receiving   the procedures
sources     what a group's consumers of a topic get, and which filter they want
letters     the dead letters of a group: several queues, that come and go
waiting     a request that waits for messages
poll        one ReceiveMessage under way, from waiting to the last byte
consuming   what the door knows of the clients that receive
settling    AckMessage, ChangeInvisibleDuration, ForwardMessageToDeadLetterQueue
"""
