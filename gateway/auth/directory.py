"""Everything that is known of users, rules, keys and quotas, and what a change of it brings about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from ..api import AuthenticationFailed, Gateway, InvalidValue
from .acl.authorizer import Acl, Shadow
from .acl.files import read_rules, short_rules
from .acl.rule import Rule
from .acl.ruleset import RuleSet
from .quotas import QUOTA_KEY, QUOTAS_MAX, Quota, QuotaLimiter, quota_from
from .store import CONFIGURATION, Table, by_id, rules_table, users_table
from .users import User

KEPT_FIELDS: Final = ("password", "scram", "secret")  # of a user: never shown


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
        self.rules_file: Path | None = None
        self._gateway: Gateway | None = None

    # -- where it comes from -------------------------------------------------------------------

    def configure(self, config: Any) -> None:
        """Take what the configuration says, and the file of rules. Raise InvalidValue or Conflict."""
        users = {name: _user(name, user) for name, user in config.users.items()}
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
            self.reload()
        self._apply()

    def reload(self) -> None:
        """Read the file of rules. Raise InvalidValue or Conflict, and leave all as it was."""
        if self.rules_file is None:
            return
        where = str(self.rules_file)
        self.rules.give(by_id(read_rules(self.rules_file), where), where)
        self.rules_changed()

    def open(self, gateway: Gateway) -> None:
        """Read what is kept. Raise StorageError."""
        self._gateway = gateway
        for table in (self.users, self.rules, self.quotas):
            table.load(gateway.broker.engine)
        self._apply()

    # -- asked -----------------------------------------------------------------------------------

    def user(self, name: str) -> User | None:
        """Return a user, None if there is none."""
        found: User | None = self.users.get(name)
        return found

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
        """Forget a user, whose sessions end. Raise NotFound or Conflict."""
        self.users.delete(name)
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


def _fields(quota: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.structs.asdict(quota)
    return fields


def check_password(password: str) -> None:
    """Raise InvalidValue for a password that is none."""
    if len(password) < PASSWORD_MIN or len(password.encode()) > PASSWORD_BYTES_MAX:
        raise InvalidValue(
            f"a password has {PASSWORD_MIN} characters at least, and {PASSWORD_BYTES_MAX} bytes at most"
        )


PASSWORD_MIN: Final = 8  # NIST SP 800-63B, 5.1.1.2
PASSWORD_BYTES_MAX: Final = 1024
