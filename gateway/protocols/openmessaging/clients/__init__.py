"""Who is there: logins, sessions, what each client has said of itself.

client      one client
logins      whose an RPC is
liveness    who is still there
settings    what client and gateway tell each other: the Telemetry stream, Heartbeat
groups      what is known of consumer groups, kept over restarts
"""
