"""Push: a durable subscription with a name, whose messages are POSTed to a URL.

What a webhook is: `webhook` (its definition), `store` (how it is kept), `secrets`. One request: `request` (a
message as headers and body), `event` (as a CloudEvent), `verdict` (what an answer means); how it is made is
`gateway.outgoing`'s. One webhook at work: `pusher`, with its `breaker` and its `attempts`, and the `reading`
that feeds it. All of them: `registry`, `admin` (the API), `builtin` (the hooks).
"""
