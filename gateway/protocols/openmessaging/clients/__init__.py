"""Who is there: logins, sessions, what each client has said of itself.

client        one client
logins        whose an RPC is, and who is still there
certificates  client certificates
telemetry     what client and gateway tell each other: the Telemetry stream, Heartbeat
line          a Telemetry stream's way to its client
settings      how a client is told to behave
groups        what is known of consumer groups, kept over restarts
"""
