"""The configuration that `gateway init` writes."""

from __future__ import annotations

from ..config import toml_key


def render_default(admin: str, password_hash: str, doors: str = "", sections: str = "") -> str:
    """Return the configuration that `gateway init` writes, with further lines of TOML."""
    return f'''# Written by `gateway init`. Every key and its default: docs/configuration.md.

[server]
data = "./gateway-data"            # the log, its index and the lock

[listeners]                        # one address a door; "" closes it
mqtt = "127.0.0.1:1883"
amqp = "127.0.0.1:5672"
http = "127.0.0.1:8080"
{doors}
{sections}
[users.{toml_key(admin)}]
password = "{password_hash}"
admin = true

# [users.sensor]
# password = "$argon2id$..."       # `gateway init other.toml --admin sensor` makes one to copy
# publish = ["sensors/#"]
# subscribe = ["commands/+"]
'''
