"""`/pst`: topics as the draft on CoAP pub/sub has them."""
