"""`/ps`: publish, values, observations.

targets            what a path and a query say
topics, publishing requests to a topic, and the messages they make
representation     a message as a value
observe, observation, durable   who is told of messages, and how
"""
