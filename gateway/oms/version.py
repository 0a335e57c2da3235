"""The version of OpenMessaging that this is, and whether a driver's fits."""

from __future__ import annotations

import re
from typing import Final

from .errors import OMSError, ResponseStatus

SPEC_VERSION: Final = "1.0.0"
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.\d+)?(?:[-.+][0-9A-Za-z.+-]+)?")


def check_version(implemented: object) -> None:
    """Raise OMSError unless major and minor are ours: IMPLEMENTATION_VERSION_ILLEGAL,
    SPECIFICATION_MISMATCH.
    """
    found = _VERSION.fullmatch(implemented) if isinstance(implemented, str) else None
    if found is None:
        raise OMSError(
            f"the driver says it implements version {implemented!r}, which is none",
            ResponseStatus.IMPLEMENTATION_VERSION_ILLEGAL,
        )
    if list(found.groups()) != SPEC_VERSION.split(".")[:2]:
        raise OMSError(
            f"the driver implements OpenMessaging {implemented}, this is {SPEC_VERSION}",
            ResponseStatus.SPECIFICATION_MISMATCH,
        )
