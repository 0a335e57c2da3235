"""What can be done to a gateway here, by openchaos' names; and why the rest cannot.

There is one node, a process of this machine, so all faults of several nodes and of their network are refused.
"""

from __future__ import annotations

from .errors import ChaosError
from .node import Node

NOOP, KILL, SUSPEND = "noop", "kill", "suspend"

#: openchaos' names that mean something with one node.
FAULTS = {
    NOOP: NOOP,
    **dict.fromkeys(("kill", "random-kill", "major-kill", "fixed-kill"), KILL),
    **dict.fromkeys(("suspend", "random-suspend", "major-suspend", "fixed-suspend"), SUSPEND),
}

_NETWORK = "it needs several nodes with a network between them, and there is one gateway"
_MINORITY = "a minority of one node is nobody"
_LEADER = "a single gateway has no leader to choose"
_MACHINE = "it is done to a whole machine, by root; put the gateway on one of its own and do it there"

#: Names, or their endings, and why not.
REFUSED = {
    "partition": _NETWORK,
    "partition-majorities-ring": _NETWORK,
    "bridge": _NETWORK,
    "loss": _NETWORK,
    "delay": _NETWORK,
    "cpu-high": _MACHINE,
    "mem-high": _MACHINE,
    "disk-error": _MACHINE,
    "io-hang": _MACHINE,
}
PREFIXES = ("minor", "major", "random", "fixed", "leader")


def resolve(name: str) -> str:
    """Return what a fault's name means here. Raise ChaosError saying why it cannot be done."""
    if name in FAULTS:
        return FAULTS[name]
    prefix, _, kind = name.partition("-")
    reason = REFUSED.get(name) or (REFUSED.get(kind) if prefix in PREFIXES else None)
    if reason is None and kind in (KILL, SUSPEND):
        reason = {"minor": _MINORITY, "leader": _LEADER}.get(prefix)
    if reason is None:
        raise ChaosError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    raise ChaosError(f"the fault {name!r} cannot be injected: {reason}")


async def inject(kind: str, node: Node) -> None:
    """Begin a fault."""
    if kind == KILL:
        await node.kill()
    elif kind == SUSPEND:
        node.suspend()


async def recover(kind: str, node: Node) -> None:
    """End it: the node answers again when this returns, if it was killed. Raise ChaosError if it does not."""
    if kind == KILL:
        await node.start()
    elif kind == SUSPEND:
        node.resume()
