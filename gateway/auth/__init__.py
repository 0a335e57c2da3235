"""Authenticators and authorizers. Built-in ones come in by the same hooks as anybody's."""
