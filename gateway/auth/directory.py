"""Everything that is known of users, rules, keys and quotas, and what a change of it brings about."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from ..api import AuthenticationFailed, Gateway, InvalidValue
from ..sealing import KEY_BYTES, KEY_FILE, Sealer, load_key
from .acl.authorizer import Acl, Shadow
from .acl.files import read_rules, short_rules
from .acl.rule import Rule
from .acl.ruleset import RuleSet
from .keys import ApiKey
from .quotas import QUOTA_KEY, QUOTAS_MAX, Quota, QuotaLimiter, quota_from
from .scram import parse_verifier
from .store import CONFIGURATION, Table, by_id, rules_table, users_table
from .users import User, secret_of

KEY_KEY: Final = "auth/key/"
KEYS_MAX: Final = 1_000_000  # about 300 bytes each


class Directory:
    """One for each gateway. Configured before recovery, opened after it."""

    def __init__(self) -> None:
        self.acl = Acl()
        self.limiter = QuotaLimiter()
        self.users: Table = users_table()
        self.rules: Table = rules_table()
        self.quotas = Table(
            "quota",
            QUOTA_KEY,
            QUOTAS_MAX,
            msgspec.json.encode,
            lambda value: quota_from(msgspec.json.decode(value)),
        )
        self.keys = Table("API key", KEY_KEY, KEYS_MAX, msgspec.json.encode, _decode_key)
        self.rules_file: Path | None = None
        self._data: Path | None = None
        self._key = b""
        self._gateway: Gateway | None = None

    # -- where it comes from -------------------------------------------------------------------

    def configure(self, config: Any) -> None:
        """Take what the configuration says, and the file of rules. Raise InvalidValue or Conflict."""
        if config.storage.engine != "memory":
            self._data = config.data_directory
        users = {name: _user(name, user) for name, user in config.users.items()}
        _check_users(users.values())
        self.users.give(users, CONFIGURATION)
        short: list[Rule] = []
        for name, user in config.users.items():
            lists = {"publish": user.publish, "subscribe": user.subscribe}
            short += short_rules(f"users.{name}", f"user:{name}", lists, [])
        known = config.anonymous
        lists = {"publish": known.publish, "subscribe": known.subscribe}
        short += short_rules("anonymous", "anonymous", lists, known.networks)
        self.rules.give(by_id(short, CONFIGURATION), CONFIGURATION)
        quotas = {name: quota_from({"id": name, **_fields(q)}) for name, q in config.quotas.items()}
        self.quotas.give(quotas, CONFIGURATION)
        if config.auth.rules:
            self.rules_file = Path(config.auth.rules)
            self._read(self.rules_file)
        self._apply()

    def reload(self) -> None:
        """Read the file of rules again. Raise InvalidValue or Conflict, and leave all as it was."""
        if self.rules_file is not None:
            self._read(self.rules_file)
            self.rules_changed()

    def _read(self, path: Path) -> None:
        where = str(path)
        self.rules.give(by_id(read_rules(path), where), where)

    def open(self, gateway: Gateway) -> None:
        """Read what is kept. Raise StorageError."""
        self._gateway = gateway
        if self._data is not None and (self._data / KEY_FILE).exists():
            self._own_key()  # what is wrong with it is not to be found by a client that logs in
        for table in (self.users, self.rules, self.quotas, self.keys):
            table.load(gateway.broker.engine)
        self._apply()

    # -- asked -----------------------------------------------------------------------------------

    def user(self, name: str) -> User | None:
        """Return a user, None if there is none."""
        found: User | None = self.users.get(name)
        return found

    def key(self, name: str) -> ApiKey | None:
        """Return an API key, None if there is none."""
        found: ApiKey | None = self.keys.get(name)
        return found

    def secret(self, user: User) -> bytes | None:
        """Return a user's shared secret, None if there is none."""
        return secret_of(self.sealer(), user) if user.secret else None

    def sealer(self) -> Sealer:
        """Return what seals shared secrets. Raise StorageError."""
        return Sealer(self._own_key())

    def derived(self) -> bytes:
        """Return a secret that is the same after a restart. Raise StorageError."""
        return hmac.digest(self._own_key(), b"made-up salts", "sha256")

    def _own_key(self) -> bytes:
        """Return the gateway's own key, which is made when it is first needed."""
        if not self._key:
            self._key = load_key(self._data) if self._data is not None else os.urandom(KEY_BYTES)
        return self._key

    # -- changed -----------------------------------------------------------------------------------

    def put_users(self, users: Iterable[User]) -> int:
        """Keep users, new or changed; return how many are new. Raise Conflict before any is kept.

        Who was logged in has to log in again.
        """
        users = list(users)
        self.users.check_all(user.name for user in users)
        created = 0
        for user in users:
            new = self.users.put(user.name, user)
            created += new
            if not new:
                self._end(user.name, "your login has been changed; log in again")
        return created

    def delete_user(self, name: str) -> None:
        """Forget a user and its keys; its sessions end. Raise NotFound or Conflict."""
        self.users.delete(name)
        for key in [key for key in self.keys.all() if key.user == name]:
            self.keys.delete(key.id)
        self._end(name, "your login has been removed")

    def rehashed(self, user: User, password: str) -> None:
        """Keep a better hash of the same password."""
        if self.users.kept.get(user.name) == user:
            self.users.put(user.name, msgspec.structs.replace(user, password=password))

    def put_rules(self, rules: Iterable[Rule]) -> int:
        """Keep rules, new or changed; return how many are new. Raise Conflict before any is kept."""
        rules = list(rules)
        self.rules.check_all(rule.id for rule in rules)
        created = sum(self.rules.put(rule.id, rule) for rule in rules)
        self.rules_changed()
        return created

    def delete_rule(self, rule_id: str) -> None:
        """Forget a rule. Raise NotFound or Conflict."""
        self.rules.delete(rule_id)
        self.rules_changed()

    def put_quota(self, quota: Quota) -> bool:
        """Keep a quota, new or changed; tell whether it is new. Raise Conflict."""
        created = self.quotas.put(quota.id, quota)
        self.rules_changed()
        return created

    def delete_quota(self, name: str) -> None:
        """Forget a quota. Raise NotFound or Conflict."""
        self.quotas.delete(name)
        self.rules_changed()

    def delete_key(self, name: str) -> None:
        """Forget an API key; sessions of its user end, as nobody knows which came by it. Raise NotFound."""
        key: ApiKey = self.keys.delete(name)
        self._end(key.user, "an API key of this user has been removed; log in again")

    def rules_changed(self) -> None:
        """Have all sessions ask again."""
        self._apply()
        if self._gateway is not None:
            self._gateway.rules_changed()

    def set_shadow(self, shadow: Shadow | None) -> None:
        """Run a candidate beside the rules, or none; every session asks again, so that it is compared."""
        self.acl.shadow = shadow
        if self._gateway is not None:
            self._gateway.rules_changed()

    def _apply(self) -> None:
        self.acl.rules = RuleSet(self.rules.all())
        self.limiter.set(self.quotas.all())

    def _end(self, name: str, why: str) -> None:
        if self._gateway is not None:
            self._gateway.authority.end_all(name, AuthenticationFailed(why))


def _user(name: str, user: Any) -> User:
    return User(name, user.password, user.scram, "", user.admin, user.disabled, tuple(user.groups))


def _check_users(users: Iterable[User]) -> None:
    """Raise InvalidValue for a user of the configuration who could never log in: that is a mistake."""
    for user in users:
        from .hashes import known  # argon2 takes 10 ms to import

        if not known(user.password):
            advice = "`gateway users hash` prints one"
            raise InvalidValue(f"users.{user.name}.password: no hash of a kind that is known; {advice}")
        try:
            if user.scram:
                parse_verifier(user.scram)
        except ValueError as error:
            raise InvalidValue(f"users.{user.name}.scram: {error}") from error


def _fields(quota: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.structs.asdict(quota)
    return fields


def _decode_key(value: bytes) -> ApiKey:
    return msgspec.json.decode(value, type=ApiKey)
