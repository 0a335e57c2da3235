"""`/.well-known/core` and the link format (RFC 6690): what there is."""
