"""What is known between rounds: a loss stands until a round says otherwise, and nothing that moved counts twice."""

from __future__ import annotations

from datetime import UTC, datetime

from danbao_payments.domain.audit import Checked, Counts, Extent, Flows, Look, Position, Rule, Term, Violation
from danbao_payments.domain.audit_rounds import LEAST, MOST, Known, joined, most_next

TOTALS = Rule(3, "totals", "", Term.MISMATCHED)
CHAIN = Rule(18, "chain", "")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def off(minor: int, resource: str = "accounts/1", currency: str = "CNY", rule: Rule = TOTALS) -> Violation:
    return Violation(rule, resource, currency, "", "", minor)


def checked(*violations: Violation, rule: Rule = TOTALS, beyond: int = 0, done: bool = True) -> Checked:
    counts: dict[str, int] = {}
    minors: dict[str, int] = {}
    for each in violations:
        counts[each.currency] = counts.get(each.currency, 0) + 1
        minors[each.currency] = minors.get(each.currency, 0) + each.off_minor + beyond
    return Checked(rule, done, violations, counts, minors)


def look(
    *found: Checked,
    sequence: int = 10,
    since: int = 0,
    settled: int | None = None,
    limbo: int = 0,
    extent: Extent = Extent.WHOLE,
    **others: object,
) -> Look:
    flows = None if settled is None else {"CNY": Flows(settled_minor=settled, limbo_minor=limbo)}
    fields = {"counts": Counts(*[0] * 10), "currencies": ("CNY",), "elapsed_s": 1.0} | others
    return Look(
        NOW,
        fields["elapsed_s"],
        sequence,
        sequence,
        b"",
        fields["counts"],
        found,
        fields["currencies"],
        flows,
        extent,
        Position(since, since),
    )


def lost(known: Known) -> int:
    (yuan,) = known.losses()
    return yuan.total_minor


def test_what_new_rows_lack_stands_when_the_next_look_no_longer_sees_it():
    known = Known()
    known.take_new(look(checked(off(5))), 1.0)
    known.take_new(look(checked()), 2.0)
    assert lost(known) == 5


def test_the_same_thing_found_again_is_one_loss_and_the_last_amount_counts():
    known = Known()
    known.take_new(look(checked(off(5))), 1.0)
    known.take_new(look(checked(off(7))), 2.0)
    assert lost(known) == 7


def test_different_things_add_up():
    known = Known()
    known.take_new(look(checked(off(5))), 1.0)
    known.take_new(look(checked(off(7, "accounts/2"))), 2.0)
    assert lost(known) == 12


def test_a_round_that_does_not_find_it_ends_it():
    known = Known()
    known.take_new(look(checked(off(5))), 1.0)
    known.take_whole(look(checked()), 2.0)
    assert lost(known) == 0


def test_a_round_that_began_before_it_was_found_does_not_end_it():
    known = Known()
    known.take_new(look(checked(off(5))), 2.0)
    known.take_whole(look(checked()), 1.0)
    assert lost(known) == 5


def test_a_round_of_another_rule_does_not_end_it():
    known = Known()
    known.take_new(look(checked(off(5))), 1.0)
    known.take_whole(look(checked(rule=CHAIN)), 2.0)
    assert lost(known) == 5


def test_a_check_that_came_to_no_end_does_not_end_it():
    known = Known()
    known.take_new(look(checked(off(5))), 1.0)
    known.take_whole(look(checked(done=False)), 2.0)
    assert lost(known) == 5


def test_what_a_round_found_too_is_not_counted_twice():
    known = Known()
    known.take_whole(look(checked(off(5))), 1.0)
    known.take_new(look(checked(off(5))), 2.0)
    assert lost(known) == 5
    known.take_new(look(checked(off(2, "accounts/2"))), 3.0)
    assert lost(known) == 7


def test_what_is_off_beyond_what_is_shown_is_lost_too():
    known = Known()
    known.take_new(look(checked(off(5), beyond=100)), 1.0)
    assert lost(known) == 105


def test_a_rule_that_tells_no_loss_tells_none():
    known = Known()
    known.take_new(look(checked(off(5, rule=CHAIN), rule=CHAIN)), 1.0)
    assert lost(known) == 0


def test_what_moved_is_counted_on_from_a_round_and_what_waits_is_the_last_word():
    known = Known()
    known.take_whole(look(settled=100, limbo=9, sequence=10), 1.0)
    known.take_new(look(settled=7, limbo=4, since=10, sequence=12), 2.0)
    known.take_new(look(settled=1, limbo=3, since=12, sequence=13), 3.0)
    (yuan,) = known.losses()
    assert (yuan.flows.settled_minor, yuan.flows.limbo_minor) == (108, 3)


def test_what_a_round_counted_is_not_counted_again():
    known = Known()
    known.take_whole(look(settled=100, sequence=10), 1.0)
    known.take_new(look(settled=40, since=3, sequence=12), 2.0)
    known.take_new(look(settled=2, since=12, sequence=14), 3.0)
    known.take_whole(look(settled=142, sequence=14), 4.0)
    (yuan,) = known.losses()
    assert yuan.flows.settled_minor == 142


def test_a_rounds_looks_are_one_as_old_as_the_first():
    first = look(settled=3, elapsed_s=1.0, sequence=5)
    second = look(checked(off(1)), elapsed_s=2.0, sequence=7, currencies=("USD",))
    third = look(checked(rule=CHAIN), elapsed_s=4.0, sequence=9, currencies=(), counts=Counts(*range(10)))
    whole = joined([first, second, third])
    assert (whole.sequence, whole.elapsed_s, whole.currencies) == (5, 7.0, ("CNY", "USD"))
    assert whole.counts == Counts(*range(10))
    assert [each.rule.name for each in whole.checked] == ["totals", "chain"]
    assert whole.flows == {"CNY": Flows(settled_minor=3)}
    assert whole.is_complete
    assert not joined([first, look(checked(done=False))]).is_complete


def test_how_many_it_may_take_in_follows_what_it_took():
    assert most_next(10_000, 10_000, 1.2, 0.6) == 5_000
    assert most_next(50_000, 10_000, 1.2, 0.6) == 5_000
    assert most_next(10_000, 10_000, 0.5, 0.6) == 10_000
    assert most_next(10_000, 10_000, 0.2, 0.6) == 20_000
    assert most_next(MOST, 10, 0.1, 0.6) == MOST
    assert most_next(2_000, 1_000, 60.0, 0.6) == LEAST
