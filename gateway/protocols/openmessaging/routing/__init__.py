"""QueryRoute, QueryAssignment: where a topic is. It is here, always."""
