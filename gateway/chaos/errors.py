"""What can be wrong with what chaos is asked to do, or with a history."""

from __future__ import annotations

from ..core.errors import GatewayError


class ChaosError(GatewayError):
    """It cannot be done, or makes no sense."""
