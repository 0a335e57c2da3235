"""The part of the HTTP door for users, rules, quotas, explanations and candidates."""

from __future__ import annotations

from .api import AccessApi

__all__ = ["AccessApi"]
