"""Requests that the gateway makes, to URLs that somebody names: for webhooks, and for questions to producers.

Where they may lead: `target` (URLs), `destinations` (what an operator allows). What is sent: `signing`,
`exchange` (one connection), `client` (all of them).
"""
