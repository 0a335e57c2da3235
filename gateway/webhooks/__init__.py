"""Push: a durable subscription with a name, whose messages are POSTed to a URL.

What a webhook is: `webhook` (its definition), `store` (how it is kept), `secrets`. Where it may lead:
`target` (URLs), `destinations` (what an operator allows). One request: `request` (a message as headers and
body), `event` (as a CloudEvent), `signing`, `exchange` (one connection), `client` (all of them), `verdict`
(what an answer means). One webhook at work: `pusher`, with its `breaker` and its `attempts`, and the
`reading` that feeds it. All of them: `registry`, `admin` (the API), `builtin` (the hooks).
"""
