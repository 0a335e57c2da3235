"""What a checker says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Verdict:
    """`fields` are openchaos' and some more; `faults` is what is wrong, a line each."""

    name: str
    fields: dict[str, Any]
    faults: list[str] = field(default_factory=list)

    def about(self) -> dict[str, Any]:
        """Return what its result file holds."""
        return {"name": self.name, "isValid": True, **self.fields}
