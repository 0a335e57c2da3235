"""Driver `http`: OpenMessaging's HTTP binding, at this gateway's HTTP door (`oms:http://host:8080/region`).

options      what attributes mean: servers, login, TLS
connection   requests, one pool of connections for an access point
statuses     problem documents as OpenMessaging's errors
names        names of queues
lines        messages as JSON
sending      a producer: what is sent while a request is under way goes together in the next
receiving    a consumer: a long poll for each queue
reading      streams by position
resources    queues
driver       what the API sees
"""

from .driver import HttpDriver

__all__ = ["HttpDriver"]
