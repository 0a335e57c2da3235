"""Where a topic is: here, always.

routing    QueryRoute, QueryAssignment
addresses  where clients are told to find the gateway
"""
