"""TCP, TLS and WebSocket (RFC 8323): frames, signalling, and no more written than a client reads."""
