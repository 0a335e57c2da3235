"""`gateway init` and `gateway check`: a configuration, and whether it is one."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sys
from pathlib import Path

from ..config import ConfigError, load
from .certificates import DOORS, CertificateError, make_all, section
from .faults import EXIT_FAULT
from .show import show_secret
from .template import render_default

GENERATED_PASSWORD_BYTES = 18  # 144 bits: nobody guesses it, and it still fits on a line


def init(path: Path, admin: str, password_stdin: bool, as_json: bool, with_tls: bool = False) -> int:
    """Write the configuration; ask for the admin's password, or make one where nobody can be asked."""
    from ..auth.hashes import hash_password

    password, generated = _password(admin, password_stdin)
    if not password:
        print("gateway init: the password must not be empty", file=sys.stderr)
        return EXIT_FAULT
    tls = path.parent / "tls" if with_tls else None
    more = () if tls is None else (DOORS, section(tls))
    text = render_default(admin, hash_password(password), *more)
    fault = _write(path, text, tls)
    if fault:
        print(f"gateway init: {fault}", file=sys.stderr)
        return EXIT_FAULT
    if as_json:
        print(json.dumps({"config": str(path), "admin": admin, "generated": generated}))
        return show_secret("its password", password, as_json) if generated else 0
    print(f"wrote {path} with the admin user {admin!r}")
    if tls is not None:
        print(f"wrote {tls}/ with a CA for development; clients trust {tls / 'ca.pem'}")
    if generated:
        show_secret("its password", password, as_json)
    print(f"next: gateway serve --config {path}")
    return 0


def _write(path: Path, text: str, tls: Path | None) -> str:
    """Write the configuration and what it needs; return why that is not possible."""
    try:
        # The file holds a password hash: readable by its owner only, and never overwritten.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return f"{path} exists; remove it or name another file"
    except OSError as error:
        return f"{path}: {error.strerror}"
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        try:
            if tls is not None:
                make_all(tls)
        except (CertificateError, OSError) as error:
            path.unlink()  # nothing is left of a command that failed
            return str(error)
        file.write(text)
    return ""


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
    from ..doors import check_doors
    from ..plugins import PluginError, call_hook, collect, named, plugin_manager

    path = config_file or Path("gateway.toml")
    try:
        config = load(path, sets, False, None)
        manager = plugin_manager(config.plugins.disabled)
        protocols = named(collect(manager, "gateway_protocols", config=config), "protocol")
        remarks = check_doors(config, protocols).remarks()
        call_hook(manager, "gateway_configured", config=config)
        for hook in ("gateway_authorizers", "gateway_authenticators"):  # files of rules and keys
            collect(manager, hook, config=config)
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
    for remark in remarks:
        print(f"{path}: {remark}", file=sys.stderr)
    print(json.dumps({"ok": True, "faults": []}) if as_json else f"{path}: ok")
    return 0
