"""Users and rights of other brokers, taken over: text in, users and rules out, nothing read or written.

What cannot be said in our rules is left out and named in a remark, so that nobody may do more here
than there. `docs/migrating-access.md` has the mappings.
"""
