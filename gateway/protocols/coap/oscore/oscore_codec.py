"""OSCORE's messages (RFC 8613): its option, its keys and nonces, what is inside a message and what outside.

Sans-I/O. The cryptography is aiocoap's, which is imported with the first key: most gateways have none.
What is around it, COSE in its compressed form, has but one shape here and is written out: each message
costs an AES-CCM, not the building of objects.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from ..codec import PAYLOAD_MARKER, Malformed, Option, Options, encode_options, options_end
from ..numbers import OBSERVE, OSCORE, PROXY_SCHEME, PROXY_URI, URI_HOST, URI_PORT

ALGORITHM: Final = "AES-CCM-16-64-128"  # the one that everybody must know (RFC 8613, 3.2)
HASH: Final = "sha256"
NONCE_BYTES: Final = 13
TAG_BYTES: Final = 8
PARTIAL_IV_BYTES_MAX: Final = 5
ID_BYTES_MAX: Final = NONCE_BYTES - 6  # of a sender id (RFC 8613, 3.3)
WINDOW: Final = 32  # numbers that may come out of order: RFC 8613, 3.2.2's default
OWN_ID: Final = b"gateway"  # our sender id; it is never sent, so its length costs nothing

#: What aiocoap's OSCORE is made of. Its `oscore` extra brings them all.
LIBRARY: Final = ("aiocoap", "cbor2", "cryptography", "filelock")

# The flags of the option's first byte (RFC 8613, 6.1); what is not named is reserved.
_PIV_BYTES: Final = 0x07
_KID: Final = 0x08
_KID_CONTEXT: Final = 0x10
_RESERVED: Final = 0xE0

#: Options that are outside alone (class U; RFC 8613, 4.1.2). Of those that may be on both sides, and of
#: all others, what is outside was said by nobody knows whom: it does not count.
_OUTSIDE: Final = frozenset({URI_HOST, URI_PORT, PROXY_URI, PROXY_SCHEME})


def library_found() -> bool:
    """Tell whether the library is installed; does not import it."""
    return all(find_spec(name) is not None for name in LIBRARY)


def _library() -> Any:
    """Return aiocoap's module, which has no types. Raise ImportError."""
    return import_module("aiocoap.oscore")


# -- the option -------------------------------------------------------------------------------


class Header:
    """What the OSCORE option of a request says (RFC 8613, 6.1). `kid_context` is None where it says none."""

    __slots__ = ("kid", "kid_context", "partial_iv")

    def __init__(self, partial_iv: bytes, kid_context: bytes | None, kid: bytes) -> None:
        self.partial_iv = partial_iv
        self.kid_context = kid_context
        self.kid = kid


def read_header(value: bytes) -> Header:
    """Return what a request's option says. Raise Malformed; a request has a partial IV and a kid."""
    if not value:
        raise Malformed("an empty option, which is for responses")
    flags, at = value[0], 1
    if flags & _RESERVED:
        raise Malformed(f"reserved flags ({flags:#04x})")
    size = flags & _PIV_BYTES
    if not 0 < size <= PARTIAL_IV_BYTES_MAX:
        raise Malformed(f"a partial IV of {size} bytes")
    partial_iv = value[at : at + size]
    at += size
    kid_context: bytes | None = None
    if flags & _KID_CONTEXT:
        length = value[at] if at < len(value) else 0
        kid_context = value[at + 1 : at + 1 + length]
        if at >= len(value) or len(kid_context) < length:
            raise Malformed("it ends within the kid context")
        at += 1 + length
    if len(partial_iv) < size:
        raise Malformed("it ends within the partial IV")
    if not flags & _KID:
        raise Malformed("no kid")
    return Header(partial_iv, kid_context, value[at:])


def response_header(partial_iv: bytes) -> bytes:
    """Return the option of a response; `partial_iv` is empty where the request's nonce is used again."""
    return bytes((len(partial_iv),)) + partial_iv if partial_iv else b""


def number_bytes(number: int) -> bytes:
    """Return a sequence number as a partial IV: without leading zeros, but never empty (RFC 8613, 5)."""
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")


# -- keys -------------------------------------------------------------------------------------


class Keys:
    """The keys of one security context, from the gateway's side, and the two things to do with them."""

    __slots__ = ("_algorithm", "_invalid", "_kid", "_own_iv", "_peer_iv", "_recipient_key", "_sender_key")

    def __init__(
        self, secret: bytes, kid: bytes, id_context: bytes | None, salt: bytes = b"", own_id: bytes = OWN_ID
    ) -> None:
        """Derive them (RFC 8613, 3.2.1). Raise ImportError if the library is not there."""
        assert kid != own_id
        assert max(len(kid), len(own_id)) <= ID_BYTES_MAX
        oscore = _library()
        derived: Any = oscore.SecurityContextUtils()
        derived.alg_aead = self._algorithm = oscore.algorithms[ALGORITHM]
        derived.hashfun = oscore.hashfunctions[HASH]
        derived.id_context = id_context
        derived.sender_id, derived.recipient_id = own_id, kid
        derived.derive_keys(salt, secret)
        self._sender_key: bytes = derived.sender_key
        self._recipient_key: bytes = derived.recipient_key
        self._invalid: type[Exception] = oscore.ProtectionInvalid
        self._kid = kid
        common = int.from_bytes(derived.common_iv, "big")
        self._peer_iv = common ^ _nonce_id(kid)
        self._own_iv = common ^ _nonce_id(own_id)

    def open(self, partial_iv: bytes, ciphertext: bytes) -> bytes | None:
        """Return what a request says, None if it was not made with these keys, or changed since."""
        if len(ciphertext) <= TAG_BYTES:  # at least a code is in it
            return None
        nonce = _nonce(self._peer_iv, partial_iv)
        aad = _associated(self._kid, partial_iv)
        try:
            plain: bytes = self._algorithm.decrypt(ciphertext, aad, self._recipient_key, nonce)
        except self._invalid:
            return None
        return plain

    def seal(self, plaintext: bytes, request_iv: bytes, own_iv: bytes = b"") -> bytes:
        """Return a response to the request with a partial IV, or a notification for it.

        Without a partial IV of our own the request's nonce is used: once, and only if the request was
        none that may have come before (RFC 8613, 5.2).
        """
        nonce = _nonce(self._own_iv, own_iv) if own_iv else _nonce(self._peer_iv, request_iv)
        aad = _associated(self._kid, request_iv)
        sealed: bytes = self._algorithm.encrypt(plaintext, aad, self._sender_key, nonce)
        return sealed


def _nonce_id(sender: bytes) -> int:
    """Return the part of a nonce that is whose number it is: its length, itself (RFC 8613, 5.2)."""
    return len(sender) << 8 * (NONCE_BYTES - 1) | int.from_bytes(sender, "big") << 8 * PARTIAL_IV_BYTES_MAX


def _nonce(base: int, partial_iv: bytes) -> bytes:
    return (base ^ int.from_bytes(partial_iv, "big")).to_bytes(NONCE_BYTES, "big")


def _associated(kid: bytes, partial_iv: bytes) -> bytes:
    """Return what is authenticated besides (RFC 8613, 5.4), in CBOR.

    ["Encrypt0", h'', h'external_aad'], which is [1, [algorithm 10], kid, partial IV, h'']. Nothing of it
    is longer than 23 bytes, so every head is one byte.
    """
    external = b"\x85\x01\x81\x0a%c%b%c%b\x40" % (0x40 | len(kid), kid, 0x40 | len(partial_iv), partial_iv)
    return b"\x83\x68Encrypt0\x40%c%b" % (0x40 | len(external), external)


def new_window() -> Any:
    """Return a replay window that knows nothing yet (RFC 8613, 7.4)."""
    return _library().ReplayWindow(WINDOW, _nothing)


def _nothing() -> None:
    """A window is in memory alone: after a start it is found again by Echo."""


# -- inside and outside -----------------------------------------------------------------------


def read_inside(plaintext: bytes) -> tuple[int, bytes, bytes]:
    """Return (code, run of options, payload) of what was inside (RFC 8613, 5.3). Raise Malformed."""
    end = options_end(plaintext, 1)
    if end < 0:
        raise Malformed("options that do not end with the message")
    if end + 1 == len(plaintext):
        raise Malformed("a payload marker without payload")
    return plaintext[0], plaintext[1:end], plaintext[end + 1 :]


def write_inside(code: int, options: list[Option], payload: bytes) -> bytes:
    """Return what is to be inside."""
    block = encode_options(options)
    if payload:
        return b"%c%b%c%b" % (code, block, PAYLOAD_MARKER, payload)
    return b"%c%b" % (code, block)


def request_options(inner: Options, outer: Options) -> list[Option] | None:
    """Return the options of a request as it was meant, None if that is what was inside: what may be outside
    is added.

    An Observe counts if it is on both sides: without the one outside, somebody on the way has taken it
    off, and would not pass on what we tell later (RFC 8613, 4.1.3.5.1).
    """
    numbers = {number for number, _ in inner.all}
    outside = [option for option in outer.all if option[0] in _OUTSIDE and option[0] not in numbers]
    if not outside and (inner.observe < 0 or outer.observe >= 0):
        return None
    return outside + [option for option in inner.all if option[0] != OBSERVE or outer.observe >= 0]


def response_options(options: tuple[Option, ...], header: bytes) -> tuple[list[Option], list[Option]]:
    """Return a response's options as (inside, outside), with the OSCORE option `header`.

    Observe is outside, for whoever is on the way, and inside without a value: the client goes by the
    partial IV (RFC 8613, 4.1.3.5.2).
    """
    outside: list[Option] = [(OSCORE, header)]
    inside: list[Option] = []
    for option in options:
        if option[0] == OBSERVE:
            outside.append(option)
            inside.append((OBSERVE, b""))
        else:
            inside.append(option)
    return inside, outside
