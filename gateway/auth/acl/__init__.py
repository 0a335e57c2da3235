"""Rules: who may do what, where from. One model for all doors."""
