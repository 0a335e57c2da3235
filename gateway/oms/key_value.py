"""`KeyValue`: OpenMessaging's map from names to strings, bytes and numbers, a mutable mapping.

Values stay of the type they were put as. The typed getters convert, because some transports carry
text only; a missing key gives the default, which is false, 0 or None as in the Java API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Self

from .errors import OMSMessageFormatError, ResponseStatus

Value = str | bytes | bool | int | float

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off", ""})


class KeyValue(MutableMapping[str, Value]):
    """Names and values in the order in which they were put."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Value] | None = None, /, **more: Value) -> None:
        self._values: dict[str, Value] = {}
        if values:
            self.update(values)
        if more:
            self.update(more)

    def put(self, name: str, value: Value) -> Self:
        """Set and return this, to be chained."""
        self[name] = value
        return self

    def __setitem__(self, name: str, value: Value) -> None:
        if not isinstance(name, str) or not isinstance(value, str | bytes | int | float):
            raise OMSMessageFormatError(
                f"{name!r} cannot be {type(value).__name__}: a value is text, bytes, a boolean or a number",
                ResponseStatus.BAD_PARAMETER,
            )
        self._values[name] = value

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __repr__(self) -> str:
        return f"KeyValue({self._values!r})"

    def copy(self) -> KeyValue:
        """Return another with the same values."""
        return KeyValue(self._values)

    def get_string(self, name: str, default: str | None = None) -> str | None:
        """Return the value as text."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        return str(value).lower() if isinstance(value, bool) else str(value)

    def get_bytes(self, name: str, default: bytes | None = None) -> bytes | None:
        """Return the value as bytes; text as UTF-8."""
        value = self._values.get(name)
        if value is None or isinstance(value, bytes):
            return default if value is None else value
        return (self.get_string(name) or "").encode()

    def get_int(self, name: str, default: int = 0) -> int:
        """Return the value as a whole number. Raise OMSMessageFormatError if it is none."""
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return int(value)
        except (ValueError, OverflowError):
            raise _no(name, value, "a whole number") from None

    get_short = get_int
    get_long = get_int

    def get_double(self, name: str, default: float = 0.0) -> float:
        """Return the value as a number. Raise OMSMessageFormatError if it is none."""
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return float(value)
        except ValueError:
            raise _no(name, value, "a number") from None

    def get_boolean(self, name: str, default: bool = False) -> bool:
        """Return the value as a truth. Raise OMSMessageFormatError if it is none."""
        value = self._values.get(name)
        if value is None:
            return default
        text = (self.get_string(name) or "").lower()
        if text in TRUE or text in FALSE:
            return text in TRUE
        raise _no(name, value, "true or false")


def _no(name: str, value: Value, what: str) -> OMSMessageFormatError:
    return OMSMessageFormatError(f"{name} is {value!r} and not {what}", ResponseStatus.BAD_PARAMETER)


def attributes_of(*layers: Mapping[str, Value] | None) -> KeyValue:
    """Return attributes, later ones over earlier ones, their names in upper case."""
    merged = KeyValue()
    for layer in layers:
        for name, value in (layer or {}).items():
            merged[name.upper()] = value
    return merged
