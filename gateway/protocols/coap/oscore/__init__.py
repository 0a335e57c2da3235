"""What is protected end to end, whatever it is carried by (RFC 8613)."""
