"""Keys for doors whose handshake is made of the key itself: DTLS-PSK (RFC 4279) and OSCORE (RFC 8613).

Who knows the key is in: there is no message to check, so what is not found is simply not given.
"""

from __future__ import annotations

from ..api import Authenticator, Principal, SharedKey
from .names import NAME_BYTES_MAX
from .users import Lookup, Secrets

KINDS = ("psk", "oscore")
KEY_BYTES_MIN = 16  # RFC 8613, 3.2 asks for much entropy; 128 bits is what its ciphers have


class SharedKeys(Authenticator):
    """Users with a shared secret: an identity is a user's name."""

    def __init__(self, users: Lookup, secrets: Secrets) -> None:
        self._users = users
        self._secrets = secrets

    def shared_key(self, kind: str, identity: bytes) -> SharedKey | None:
        """Return a user's key; None if there is no such user, or none that may log in so."""
        if kind not in KINDS or len(identity) > NAME_BYTES_MAX:
            return None
        try:
            user = self._users(identity.decode())
        except UnicodeDecodeError:
            return None  # another authenticator may know identities that are no text
        if user is None or user.disabled:
            return None
        key = self._secrets(user)
        if key is None or len(key) < KEY_BYTES_MIN:  # a handshake on a short key can be broken offline
            return None
        groups = frozenset(user.groups)
        return SharedKey(key, Principal(user.name, admin=user.admin, groups=groups, method=kind))
