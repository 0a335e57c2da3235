"""What every transport checks of a request before anybody serves it: are its options understood?"""

from __future__ import annotations

from .answers import fault_of, refusal
from .codec import Malformed, Options, OptionsCache
from .exchange import Response
from .numbers import BAD_REQUEST


def understand(cache: OptionsCache, block: bytes) -> Options | Response:
    """Return the options of a request; or what to answer to one that is not to be served.

    That is 4.02 to a critical option that is unknown, has a wrong length, or is repeated (RFC 7252, 5.4.1),
    4.00 to a text that is no UTF-8 and to a Hop-Limit of 0, 5.05 to who takes us for a proxy.
    """
    try:
        options = cache.read(block)
    except Malformed as error:
        return refusal(BAD_REQUEST, str(error))
    if options.critical or options.proxy or options.hop_limit == 0:
        return fault_of(options)
    return options
