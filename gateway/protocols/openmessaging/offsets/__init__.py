"""PullMessage, UpdateOffset, GetOffset, QueryOffset: reading by offset, from the stream of a topic.

The stream has the topic's own name and gets what is published to it from when it was first asked for; other
doors know it as the queue of that name. A group's offset is that group's position in it, for all doors.

offsets     the procedures
streams     which stream a topic's is, and who may read it
pull        one PullMessage under way
"""
