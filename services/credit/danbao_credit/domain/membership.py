"""The state table of memberships: who may ask for what when, and what time, scores and money make of it.

TABLE is the whole of it: what is not in it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    """Where a membership stands."""

    AWAITING_DEPOSIT = "AWAITING_DEPOSIT"
    ACTIVE = "ACTIVE"
    NOTICE = "NOTICE"
    SUSPENDED = "SUSPENDED"
    LEAVING = "LEAVING"
    LEFT = "LEFT"


# A credible merchant now: the badge is shown, and buyers are compensated.
MEMBERS = frozenset({State.ACTIVE, State.NOTICE})


class Command(StrEnum):
    """What is asked of a membership that exists. LOOK: what time, score, marks, claims and deposit make of it."""

    FUND = "FundDeposit"
    SUSPEND = "SuspendMembership"
    REINSTATE = "ReinstateMembership"
    LEAVE = "LeaveMembership"
    LOOK = "look"


class Role(StrEnum):
    """On whose behalf."""

    MEMBER = "member"
    OPERATOR = "operator"
    SYSTEM = "system"


class StepKind(StrEnum):
    """How money moves."""

    FUND = "fund"
    RETURN = "return"


class CauseCode(StrEnum):
    """Why a membership is suspended, or will be."""

    FRAUD = "FRAUD"
    PROMISE_UNPAID = "PROMISE_UNPAID"
    DEPOSIT_TOO_LOW = "DEPOSIT_TOO_LOW"
    DEFECTS = "DEFECTS"
    GRADE = "GRADE"
    OPERATOR = "OPERATOR"


@dataclass(frozen=True, slots=True)
class Cause:
    """A rule of suspension that holds, in words with its figure."""

    code: CauseCode
    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a membership's merchant looks like at one moment: all that guards may ask."""

    # Conditions of joining that are not met, in words.
    unmet: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    deposit_whole: bool = False
    deposit_empty: bool = True
    open_claims: int = 0
    notice_over: bool = False
    return_due: bool = False

    @property
    def fraud(self) -> bool:
        return any(cause.code is CauseCode.FRAUD for cause in self.causes)


class Obstacle(StrEnum):
    """What a legal command can still fail by."""

    NOT_ELIGIBLE = "NOT_ELIGIBLE"
    DEPOSIT_TOO_LOW = "DEPOSIT_TOO_LOW"
    OPEN_CLAIMS = "OPEN_CLAIMS"

    def stands(self, look: Look) -> bool:
        """Whether it is in the way."""
        if self is Obstacle.NOT_ELIGIBLE:
            return bool(look.unmet)
        if self is Obstacle.DEPOSIT_TOO_LOW:
            return not look.deposit_whole
        return look.open_claims > 0


def always(look: Look) -> bool:
    return True


def fraud(look: Look) -> bool:
    return look.fraud


def a_cause_holds(look: Look) -> bool:
    return bool(look.causes)


def no_cause_holds(look: Look) -> bool:
    return not look.causes


def deposit_whole(look: Look) -> bool:
    return look.deposit_whole and not look.causes


def nothing_deposited(look: Look) -> bool:
    return look.deposit_empty


def notice_over(look: Look) -> bool:
    return look.notice_over


def due_and_empty(look: Look) -> bool:
    return look.return_due and look.deposit_empty


def due(look: Look) -> bool:
    return look.return_due


@dataclass(frozen=True, slots=True)
class Way:
    """Where a command leads; with a step, money moves before anything else changes."""

    to: State
    guard: Callable[[Look], bool] = always
    step: StepKind | None = None
    # In the order in which they are told.
    unless: tuple[Obstacle, ...] = ()


S, C, R = State, Command, Role
_LEAVE = (Way(S.LEAVING, unless=(Obstacle.OPEN_CLAIMS,)),)
_LEAVE_BEFORE = (
    Way(S.LEFT, nothing_deposited, unless=(Obstacle.OPEN_CLAIMS,)),
    Way(S.LEAVING, unless=(Obstacle.OPEN_CLAIMS,)),
)
_SUSPEND = (Way(S.SUSPENDED),)


def _fund(state: State) -> tuple[Way, ...]:
    return (Way(state, step=StepKind.FUND),)


# fmt: off
TABLE: Mapping[tuple[State, Command, Role], tuple[Way, ...]] = MappingProxyType(
    {
        (S.AWAITING_DEPOSIT, C.FUND, R.MEMBER): _fund(S.AWAITING_DEPOSIT),
        (S.AWAITING_DEPOSIT, C.FUND, R.OPERATOR): _fund(S.AWAITING_DEPOSIT),
        (S.AWAITING_DEPOSIT, C.SUSPEND, R.OPERATOR): _SUSPEND,
        (S.AWAITING_DEPOSIT, C.LEAVE, R.MEMBER): _LEAVE_BEFORE,
        (S.AWAITING_DEPOSIT, C.LEAVE, R.OPERATOR): _LEAVE_BEFORE,
        (S.AWAITING_DEPOSIT, C.LOOK, R.SYSTEM): (Way(S.SUSPENDED, fraud), Way(S.ACTIVE, deposit_whole)),
        (S.ACTIVE, C.FUND, R.MEMBER): _fund(S.ACTIVE),
        (S.ACTIVE, C.FUND, R.OPERATOR): _fund(S.ACTIVE),
        (S.ACTIVE, C.SUSPEND, R.OPERATOR): _SUSPEND,
        (S.ACTIVE, C.LEAVE, R.MEMBER): _LEAVE,
        (S.ACTIVE, C.LEAVE, R.OPERATOR): _LEAVE,
        (S.ACTIVE, C.LOOK, R.SYSTEM): (Way(S.SUSPENDED, fraud), Way(S.NOTICE, a_cause_holds)),
        (S.NOTICE, C.FUND, R.MEMBER): _fund(S.NOTICE),
        (S.NOTICE, C.FUND, R.OPERATOR): _fund(S.NOTICE),
        (S.NOTICE, C.SUSPEND, R.OPERATOR): _SUSPEND,
        (S.NOTICE, C.LEAVE, R.MEMBER): _LEAVE,
        (S.NOTICE, C.LEAVE, R.OPERATOR): _LEAVE,
        (S.NOTICE, C.LOOK, R.SYSTEM): (
            Way(S.SUSPENDED, fraud), Way(S.ACTIVE, no_cause_holds), Way(S.SUSPENDED, notice_over),
        ),
        (S.SUSPENDED, C.FUND, R.MEMBER): _fund(S.SUSPENDED),
        (S.SUSPENDED, C.FUND, R.OPERATOR): _fund(S.SUSPENDED),
        (S.SUSPENDED, C.REINSTATE, R.OPERATOR): (
            Way(S.ACTIVE, unless=(Obstacle.NOT_ELIGIBLE, Obstacle.DEPOSIT_TOO_LOW)),
        ),
        (S.SUSPENDED, C.LEAVE, R.MEMBER): _LEAVE,
        (S.SUSPENDED, C.LEAVE, R.OPERATOR): _LEAVE,
        (S.LEAVING, C.LOOK, R.SYSTEM): (Way(S.LEFT, due_and_empty), Way(S.LEAVING, due, StepKind.RETURN)),
    }
)
# fmt: on


def way_of(state: State, command: Command, role: Role, look: Look) -> Way | Obstacle | None:
    """Where the command leads, the first obstacle in its way, or None: it is not legal in this state."""
    for way in TABLE.get((state, command, role), ()):
        if way.guard(look):
            return next((obstacle for obstacle in way.unless if obstacle.stands(look)), way)
    return None


def roles_for(command: Command) -> frozenset[Role]:
    """Who may give the command, in some state."""
    return frozenset(role for _, name, role in TABLE if name is command)


def legal_commands(state: State) -> tuple[Command, ...]:
    """What somebody may ask in this state."""
    found = {command for known, command, role in TABLE if known is state and role is not Role.SYSTEM}
    return tuple(sorted(found))


def diagram() -> str:
    """The table as a Mermaid drawing, for the README: made from it, so that it cannot say otherwise."""
    labels: dict[tuple[str, str], list[str]] = {}
    who: dict[tuple[str, str, str], list[Role]] = {}
    labels[("[*]", State.AWAITING_DEPOSIT)] = ["ApplyMembership (member, operator)"]
    for (state, command, role), ways in TABLE.items():
        for way in ways:
            words = "" if way.guard is always else way.guard.__name__.replace("_", " ")
            text = ", ".join(filter(None, (words, f"step {way.step}" if way.step else "")))
            labels.setdefault((state, way.to), [])
            who.setdefault((state, way.to, f"{command}|{text}"), []).append(role)
    for (begin, to, key), roles in who.items():
        command_name, _, condition = key.partition("|")
        label = condition if command_name == Command.LOOK else f"{command_name} ({', '.join(roles)}) {condition}"
        labels[(begin, to)].append(label.strip())
    lines = ["stateDiagram-v2"]
    lines += [f"    {begin} --> {to} : {'<br>'.join(found)}" for (begin, to), found in labels.items()]
    return "\n".join([*lines, f"    {State.LEFT} --> [*]", ""])
