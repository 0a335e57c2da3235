"""`gateway init` and `gateway check`: a configuration, and whether it is one."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sys
from pathlib import Path

from ..config import ConfigError, load, render_default, unknown_doors
from .faults import EXIT_FAULT

GENERATED_PASSWORD_BYTES = 18  # 144 bits: nobody guesses it, and it still fits on a line


def init(path: Path, admin: str, password_stdin: bool, as_json: bool) -> int:
    """Write the configuration; ask for the admin's password, or make one where nobody can be asked."""
    from ..auth.hashes import hash_password

    password, generated = _password(admin, password_stdin)
    if not password:
        print("gateway init: the password must not be empty", file=sys.stderr)
        return EXIT_FAULT
    text = render_default(admin, hash_password(password))
    try:
        # The file holds a password hash: readable by its owner only, and never overwritten.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"gateway init: {path} exists; remove it or name another file", file=sys.stderr)
        return EXIT_FAULT
    except OSError as error:
        print(f"gateway init: {path}: {error.strerror}", file=sys.stderr)
        return EXIT_FAULT
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    if as_json:
        print(json.dumps({"config": str(path), "admin": admin, "password": password if generated else None}))
        return 0
    print(f"wrote {path} with the admin user {admin!r}")
    if generated:
        print(f"its password, shown only now: {password}")
    print(f"next: gateway serve --config {path}")
    return 0


def _password(admin: str, from_stdin: bool) -> tuple[str, bool]:
    """Return (password, whether it was generated)."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n"), False
    if sys.stdin.isatty():
        password = getpass.getpass(f"password for {admin} (empty: generate one): ")
        if password:
            return password, False
    return secrets.token_urlsafe(GENERATED_PASSWORD_BYTES), True


def check(config_file: Path | None, sets: list[str], as_json: bool) -> int:
    """Validate; print one line per fault."""
    from ..plugins import PluginError, collect, named, plugin_manager

    path = config_file or Path("gateway.toml")
    try:
        config = load(path, sets, False, None)
        manager = plugin_manager(config.plugins.disabled)
        protocols = named(collect(manager, "gateway_protocols", config=config), "protocol")
        faults = unknown_doors(config, protocols)
        if faults:
            raise ConfigError(faults)
    except PluginError as error:
        print(error, file=sys.stderr)
        return EXIT_FAULT
    except ConfigError as error:
        if as_json:
            print(json.dumps({"ok": False, "faults": error.faults}))
        else:
            for fault in error.faults:
                print(fault, file=sys.stderr)
        return EXIT_FAULT
    print(json.dumps({"ok": True, "faults": []}) if as_json else f"{path}: ok")
    return 0
