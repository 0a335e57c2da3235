"""The checker finds what is wrong, and nothing else: a verdict that cannot be bad is worth nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.checker import check
from tests.chaos.history import Event, History, read

PLAN = {"q": "classic", "l": "loose", "s/g": "group", "s/r": "replay", "c/r": "compact", "v": "values"}


class Writer:
    """Writes histories shortly."""

    def __init__(self) -> None:
        self.history = History(PLAN)

    def send(self, n: int, *to: str, stored: bool = True, key: str = "k", by: str = "a") -> Writer:
        name = f"{by}{n}"
        self.history.note("send", id=name, by=by, n=n, to=list(to), key=key, text=f"body {name}")
        self.history.note("stored" if stored else "refused", id=name)
        return self

    def receive(self, name: str, queue: str = "q", **about: object) -> Writer:
        self.history.note("receive", **({"id": name, "queue": queue, "text": f"body {name}"} | about))
        return self

    def acked(self, name: str, queue: str = "q") -> Writer:
        self.history.note("ack", id=name, queue=queue)
        self.history.note("acked", id=name, queue=queue)
        return self

    def crash(self) -> Writer:
        self.history.note("crash", how="kill")
        return self

    def drain(self) -> Writer:
        self.history.note("drain")
        return self

    def unsure(self) -> Writer:
        self.history.note("unsure")
        return self

    def end(self) -> list[Event]:
        self.history.note("end")
        return self.history.events


def _two() -> Writer:
    return Writer().send(0, "q").send(1, "q")


GOOD = {
    "all came, in order": _two().receive("a0").receive("a1"),
    "again, as it was not acknowledged": _two().receive("a0").crash().receive("a0").receive("a1"),
    "refused, and came": Writer().send(0, "q", stored=False).receive("a0"),
    "refused, and did not": Writer().send(0, "q", stored=False),
    "loose ones may be lost": Writer().send(0, "l"),
    "senders are independent": Writer().send(1, "q").send(0, "q", by="b").receive("b0").receive("a1"),
    "a group goes back": Writer().send(0, "s/g").receive("a0", "s/g").acked("a0", "s/g").receive("a0", "s/g"),
    "a letter in place of it": Writer().send(0, "q").drain().receive("a0", letter=7),
    "the same letter again": Writer().send(0, "q").drain().receive("a0", letter=7).receive("a0", letter=7),
    "another letter before the end": _two()
    .receive("a0", letter=7)
    .drain()
    .receive("a0", letter=8)
    .receive("a1"),
    "two, as a sync failed": Writer().send(0, "q").unsure().drain().receive("a0").receive("a0", letter=7),
    "a letter twice": Writer().send(0, "q").receive("a0").acked("a0").receive("a0", letter=True),
    "the last of a key": Writer().send(0, "c/r").send(1, "c/r").receive("a1", "c/r"),
    "or a later one nobody knows of": Writer()
    .send(0, "c/r")
    .send(1, "c/r", stored=False)
    .receive("a1", "c/r"),
    "values in any order": Writer().send(0, "v", key="a").send(1, "v").receive("a1", "v").receive("a0", "v"),
    "or not": Writer().send(0, "c/r").send(1, "c/r", stored=False).receive("a0", "c/r"),
}
BAD = {
    "lost: a1 in q": _two().receive("a0"),
    "lost: a0 in s/g": Writer().send(0, "s/g"),
    "lost: a0 in s/r": Writer().send(0, "s/r"),
    "lost: a1 in c/r: a0 is there": Writer().send(0, "c/r").send(1, "c/r").receive("a0", "c/r"),
    "lost: a1 in v: a0 is there": Writer().send(0, "v").send(1, "v").receive("a0", "v"),
    "lost: a0 in c/r: nothing": Writer().send(0, "c/r"),
    "duplicated: a0 in q: there is more": Writer().send(0, "q").drain().receive("a0").receive("a0", letter=7),
    "duplicated: a0 in q: there is more than": Writer()
    .send(0, "q")
    .drain()
    .receive("a0", letter=7)
    .receive("a0", letter=8),
    "duplicated: a0 in q: after": Writer().send(0, "q").receive("a0").acked("a0").crash().receive("a0"),
    "duplicated: a0 in l": Writer().send(0, "l").receive("a0", "l").acked("a0", "l").receive("a0", "l"),
    "duplicated: a0 in s/r": Writer().send(0, "s/r").receive("a0", "s/r").receive("a0", "s/r"),
    "duplicated: a1 in c/r": (
        Writer().send(0, "c/r").send(1, "c/r").receive("a0", "c/r").receive("a1", "c/r")
    ),
    "reordered: a0 in q": _two().receive("a1").receive("a0"),
    "phantom: a9 in q: was never": _two().receive("a0").receive("a1").receive("a9"),
    "phantom: a0 in l: was never": Writer().send(0, "q").receive("a0").receive("a0", "l"),
    "phantom: a0 in q: its body": Writer().send(0, "q").receive("a0", text="another"),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_right(name: str) -> None:
    assert check(GOOD[name].end()).faults == []


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(name: str) -> None:
    faults = check(BAD[name].end()).faults
    assert any(fault.startswith(name) for fault in faults), faults


def test_a_history_without_an_end_has_no_verdict() -> None:
    with pytest.raises(AssertionError, match="the history has no end"):
        check(_two().history.events)


def test_a_history_is_a_file(tmp_path: Path) -> None:
    writer = _two().receive("a0")
    events = writer.end()
    path = writer.history.write(tmp_path / "history")
    assert read(path) == events
    verdict = check(read(path))
    assert str(verdict) == "lost: a1 in q: was stored and never came\n" + (
        "2 sent, 2 stored, 1 received, 0 of them again, 0 crashes: 1 faults"
    )
