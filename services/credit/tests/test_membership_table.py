"""Every state, command and role of a membership, and what becomes of each; and the README's drawing of it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from danbao_credit.domain.membership import (
    TABLE,
    Cause,
    CauseCode,
    Command,
    Look,
    Obstacle,
    Role,
    State,
    StepKind,
    Way,
    diagram,
    legal_commands,
    roles_for,
    way_of,
)

FINE = Look(deposit_whole=True, deposit_empty=False)
FRAUD = Look(causes=(Cause(CauseCode.FRAUD, ""),), deposit_whole=True, deposit_empty=False)
LOW = Look(causes=(Cause(CauseCode.DEPOSIT_TOO_LOW, ""),), deposit_empty=False)
EMPTY = Look()
DUE = Look(return_due=True, deposit_empty=False)
DUE_EMPTY = Look(return_due=True)
OVER = Look(causes=LOW.causes, deposit_empty=False, notice_over=True)
CLAIMED = Look(deposit_whole=True, deposit_empty=False, open_claims=1)
UNMET = Look(unmet=("57 of 100 completed trades",), deposit_whole=True, deposit_empty=False)
LOOKS = {
    "fine": FINE,
    "fraud": FRAUD,
    "low": LOW,
    "empty": EMPTY,
    "due": DUE,
    "due_empty": DUE_EMPTY,
    "over": OVER,
    "claimed": CLAIMED,
    "unmet": UNMET,
}

# What each look leads to; "-": nothing legal. In the order of LOOKS.
EXPECTED = """
                               fine      fraud     low       empty     due       due_empty over      claimed     unmet
AWAITING_DEPOSIT Fund M O      fund      fund      fund      fund      fund      fund      fund      fund        fund
AWAITING_DEPOSIT Suspend O     SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED   SUSPENDED
AWAITING_DEPOSIT Leave M O     LEAVING   LEAVING   LEAVING   LEFT      LEAVING   LEFT      LEAVING   OPEN_CLAIMS LEAVING
AWAITING_DEPOSIT look S        ACTIVE    SUSPENDED -         -         -         -         -         ACTIVE      ACTIVE
ACTIVE           Fund M O      fund      fund      fund      fund      fund      fund      fund      fund        fund
ACTIVE           Suspend O     SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED   SUSPENDED
ACTIVE           Leave M O     LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   OPEN_CLAIMS LEAVING
ACTIVE           look S        -         SUSPENDED NOTICE    -         -         -         NOTICE    -           -
NOTICE           Fund M O      fund      fund      fund      fund      fund      fund      fund      fund        fund
NOTICE           Suspend O     SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED SUSPENDED   SUSPENDED
NOTICE           Leave M O     LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   OPEN_CLAIMS LEAVING
NOTICE           look S        ACTIVE    SUSPENDED -         ACTIVE    ACTIVE    ACTIVE    SUSPENDED ACTIVE      ACTIVE
SUSPENDED        Fund M O      fund      fund      fund      fund      fund      fund      fund      fund        fund
SUSPENDED        Reinstate O   ACTIVE    ACTIVE    DEPOSIT_TOO_LOW DEPOSIT_TOO_LOW DEPOSIT_TOO_LOW DEPOSIT_TOO_LOW DEPOSIT_TOO_LOW ACTIVE NOT_ELIGIBLE
SUSPENDED        Leave M O     LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   LEAVING   OPEN_CLAIMS LEAVING
LEAVING          look S        -         -         -         -         return    LEFT      -         -           -
"""  # noqa: E501 - a table
_ROLES = {"M": Role.MEMBER, "O": Role.OPERATOR, "S": Role.SYSTEM}
_COMMANDS = {
    "Fund": Command.FUND,
    "Suspend": Command.SUSPEND,
    "Reinstate": Command.REINSTATE,
    "Leave": Command.LEAVE,
    "look": Command.LOOK,
}


def _expected() -> dict[tuple[State, Command, Role, str], str]:
    found = {}
    header, *lines = EXPECTED.strip().splitlines()
    assert header.split() == list(LOOKS)
    for line in lines:
        words = line.split()
        state, command = State(words[0]), _COMMANDS[words[1]]
        roles = [word for word in words[2:] if word in _ROLES]
        for role in roles:
            for name, effect in zip(LOOKS, words[2 + len(roles) :], strict=True):
                found[state, command, _ROLES[role], name] = effect
    return found


@pytest.mark.parametrize("command", list(Command))
@pytest.mark.parametrize("state", list(State))
def test_every_state_command_and_role_has_the_effect_or_the_refusal_that_is_written_down(
    state: State, command: Command
) -> None:
    expected = _expected()
    for role, (name, look) in product(Role, LOOKS.items()):
        wanted = expected.get((state, command, role, name), "-")
        found = way_of(state, command, role, look)
        if isinstance(found, Way):
            given = found.step.value if found.step else found.to.value
        else:
            given = found.value if isinstance(found, Obstacle) else "-"
        assert given == wanted, (state, command, role, name)


def test_money_that_moves_in_leaves_the_state_and_money_that_goes_back_only_while_leaving() -> None:
    for (state, command, _), ways in TABLE.items():
        for way in ways:
            if way.step is not None:
                assert way.to is state
                assert (way.step is StepKind.RETURN) == (state is State.LEAVING)
                assert (way.step is StepKind.FUND) == (command is Command.FUND)


def test_nothing_leads_out_of_left_and_only_operators_suspend_and_reinstate() -> None:
    assert not legal_commands(State.LEFT)
    assert roles_for(Command.SUSPEND) == roles_for(Command.REINSTATE) == {Role.OPERATOR}
    assert legal_commands(State.LEAVING) == ()
    assert legal_commands(State.SUSPENDED) == (Command.FUND, Command.LEAVE, Command.REINSTATE)


def test_the_readme_draws_the_table_as_it_is() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert f"<!-- diagram membership -->\n```mermaid\n{diagram()}```\n<!-- end of diagram -->" in readme
