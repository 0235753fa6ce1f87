"""Which rows a batch works on, such that a refused command leaves no trace.

The store loads rows; commands put new versions of them. What the command at hand has put is a draft until it is
accepted; a refusal, or a bug, discards the draft and with it everything that command did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Rows(Generic[K, V]):
    """Rows of one table. Values are immutable: a change puts a new one."""

    __slots__ = ("_accepted", "_draft", "_loaded")

    def __init__(self) -> None:
        self._loaded: dict[K, V] = {}
        self._accepted: dict[K, V] = {}
        self._draft: dict[K, V] = {}

    def load(self, key: K, value: V) -> None:
        """A row as it stands in the store. For the store only."""
        self._loaded[key] = value

    def get(self, key: K) -> V | None:
        """The row as the command at hand sees it."""
        draft = self._draft
        if draft and key in draft:
            return draft[key]
        accepted = self._accepted
        if key in accepted:
            return accepted[key]
        return self._loaded.get(key)

    def loaded(self, key: K) -> V:
        """The row as it stands in the store. For the store only; raises KeyError for a row that it does not have."""
        return self._loaded[key]

    @property
    def is_empty(self) -> bool:
        """Whether the command at hand sees no row at all."""
        return not (self._loaded or self._accepted or self._draft)

    def __contains__(self, key: K) -> bool:
        return key in self._draft or key in self._accepted or key in self._loaded

    def put(self, key: K, value: V) -> None:
        """A new version of a row, or a new row."""
        self._draft[key] = value

    def values(self) -> Iterator[V]:
        """Every row as the command at hand sees it."""
        for key in {**self._loaded, **self._accepted, **self._draft}:
            value = self.get(key)
            if value is not None:
                yield value

    def created(self) -> list[tuple[K, V]]:
        """Accepted rows that the store did not have. For the store only."""
        return [(key, value) for key, value in self._accepted.items() if key not in self._loaded]

    def updated(self) -> list[tuple[K, V]]:
        """Accepted rows that the store had in another version. For the store only."""
        return [(key, value) for key, value in self._accepted.items() if key in self._loaded]

    def accept(self) -> None:
        if self._draft:
            self._accepted.update(self._draft)
            self._draft.clear()

    def discard(self) -> None:
        self._draft.clear()


class Log(Generic[V]):
    """Rows that are only ever added."""

    __slots__ = ("_accepted", "_draft")

    def __init__(self) -> None:
        self._accepted: list[V] = []
        self._draft: list[V] = []

    def append(self, value: V) -> None:
        """Adds a row."""
        self._draft.append(value)

    @property
    def accepted(self) -> list[V]:
        """What accepted commands added, in order. For the store only."""
        return self._accepted

    def accept(self) -> None:
        if self._draft:
            self._accepted.extend(self._draft)
            self._draft.clear()

    def discard(self) -> None:
        self._draft.clear()


class WorkingSet:
    """All rows of a batch. A service's working set makes its tables in `__init__` by `self.rows()` and `self.log()`."""

    def __init__(self) -> None:
        self._parts: list[Rows[object, object] | Log[object]] = []

    def rows(self) -> Rows[K, V]:
        part: Rows[K, V] = Rows()
        self._parts.append(part)  # type: ignore[arg-type]
        return part

    def log(self) -> Log[V]:
        part: Log[V] = Log()
        self._parts.append(part)  # type: ignore[arg-type]
        return part

    def accept(self) -> None:
        """Keeps what the command at hand did."""
        for part in self._parts:
            # Most commands touch few tables of many.
            if part._draft:
                part.accept()

    def discard(self) -> None:
        """Drops what the command at hand did."""
        for part in self._parts:
            if part._draft:
                part.discard()
