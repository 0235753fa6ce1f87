"""What a machine's table is: (state, command, role) → the ways it can go, the first of them whose guard holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from danbao_escrow.domain.case_commands import CaseCommandName
from danbao_escrow.domain.model import Role
from danbao_escrow.domain.step_model import StepKind


class _Stateful(Protocol):
    @property
    def state(self) -> object: ...

    @property
    def is_over(self) -> bool: ...


S = TypeVar("S")
T = TypeVar("T", bound=_Stateful)


@dataclass(frozen=True)
class Way(Generic[S, T]):
    """Where a command leads. With a step, only once payments has executed it."""

    to: S
    guard: Callable[[T, datetime], bool] = lambda thing, now: True
    step: StepKind | None = None
    # Where it stands while payments is asked; None: where it stood.
    meanwhile: S | None = None
    # It is over then, though its state alone does not say so.
    ends: bool = False


class Machine(Generic[S, T]):
    """A table and what follows from it. What is not in it is refused; of what is over, everything is."""

    def __init__(
        self, table: Mapping[tuple[S, CaseCommandName, Role], Way[S, T] | tuple[Way[S, T], ...]], *, ends: frozenset[S]
    ) -> None:
        self.table: Mapping[tuple[S, CaseCommandName, Role], tuple[Way[S, T], ...]] = MappingProxyType(
            {key: (ways,) if isinstance(ways, Way) else ways for key, ways in table.items()}
        )
        self.ends = ends

    def way(self, thing: T, command: CaseCommandName, role: Role, now: datetime) -> Way[S, T] | None:
        """What the command does to it now; None: it is refused."""
        if thing.is_over:
            return None
        ways = self.table.get((thing.state, command, role), ())  # type: ignore[arg-type]
        return next((way for way in ways if way.guard(thing, now)), None)

    def roles_for(self, command: CaseCommandName) -> frozenset[Role]:
        """Who may give a command from outside, in some state."""
        return frozenset(role for _, name, role in self.table if name is command and role is not Role.SYSTEM)

    def legal_commands(self, thing: T, now: datetime) -> frozenset[CaseCommandName]:
        """What somebody may ask of it now, from outside."""
        return frozenset(
            command
            for state, command, role in self.table
            if state is thing.state and role is not Role.SYSTEM and self.way(thing, command, role, now) is not None
        )

    def is_end(self, way: Way[S, T]) -> bool:
        """Whether it is over when it has gone this way."""
        return way.ends or way.to in self.ends
