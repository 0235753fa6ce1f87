"""Which way model versions may go, and what keeps one from scoring: without a store."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import product
from typing import Any

import pytest
import yaml

from danbao_credit.application.decide import decide
from danbao_credit.application.model_commands import (
    CreateModelVersion,
    PromoteModelVersion,
    RegisterShipped,
    RollbackModel,
    SetChallenger,
    ValidateModelVersion,
)
from danbao_credit.application.working_set import CreditSet
from danbao_credit.domain.artefact import sha256_of
from danbao_credit.domain.catalogue import SubjectKind
from danbao_credit.domain.drift import DriftCount, Verdict, verdict_of
from danbao_credit.domain.errors import (
    DefinitionInvalid,
    FieldInvalid,
    ModelStateInvalid,
    ModelVersionExists,
    ModelVersionNotFound,
    NoFormerModel,
)
from danbao_credit.domain.evaluation import Judge
from danbao_credit.domain.grades import Grade
from danbao_credit.domain.model_check import ModelCheck, random_profile
from danbao_credit.domain.models import TRANSITIONS, Finding, ModelState, ModelVersion, Step
from danbao_credit.domain.scorecard import model_from
from danbao_credit.rpc.models import read_artefact
from danbao_credit.training_command import artefact_text
from danbao_kit.decision import Moment
from danbao_kit.errors import DanbaoError
from danbao_kit.time_ordered_ids import TimeOrderedIds

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GOOD = (Finding("HASH", True, ""),)
BAD = (*GOOD, Finding("SCORECARD", False, "wrong way"))


def definition(name: str) -> dict[str, Any]:
    return copy.deepcopy(yaml.safe_load((resources.files("danbao_credit.definitions") / name).read_text()))


def sealed(version: str, change: Callable[[dict[str, Any]], object] = lambda _d: None) -> dict[str, Any]:
    """The shipped model with a change and a hash that fits."""
    made = definition("model.yaml")
    made["version"] = version
    change(made)
    made["sha256"] = sha256_of(made)
    return made


class Registry:
    """Model versions as commands leave them."""

    def __init__(self) -> None:
        self.working = CreditSet()
        self._now = NOW
        self.run(RegisterShipped("shipped", "{}", "a"))

    def run(self, command: object) -> ModelVersion:
        self._now += timedelta(seconds=1)
        moment = Moment(now=self._now, ids=TimeOrderedIds(), last_number=0)
        try:
            reply = decide(command, self.working, moment)
        except DanbaoError:
            self.working.discard()
            raise
        self.working.accept()
        assert isinstance(reply, ModelVersion)
        return reply

    def made(self, version: str, *, findings: tuple[Finding, ...] = GOOD) -> ModelVersion:
        self.run(CreateModelVersion(version, "{}", version, "", "ann"))
        return self.run(ValidateModelVersion(version, findings, "ann"))

    def states(self) -> dict[str, ModelState]:
        return {version.version: version.state for version in self.working.models.values()}


def test_the_state_table_allows_what_it_lists_and_nothing_else() -> None:
    for state, step in product(ModelState, Step):
        version = ModelVersion("v", state, "{}", "", "", NOW, NOW)
        allowed = TRANSITIONS.get((state, step))
        if allowed is None:
            with pytest.raises(ModelStateInvalid, match=f"models/v is {state}, which does not allow {step}"):
                version.after(step, NOW)
        else:
            assert version.after(step, NOW).state is allowed
    assert not [key for key in TRANSITIONS if key[0] is ModelState.REJECTED], "what is rejected stays so"


def test_the_first_model_that_ships_is_champion_and_the_next_waits_to_be_promoted() -> None:
    registry = Registry()
    registry.run(RegisterShipped("shipped", "{}", "a"))
    registry.run(RegisterShipped("newer", "{}", "b"))
    assert registry.states() == {"shipped": ModelState.CHAMPION, "newer": ModelState.VALIDATED}
    with pytest.raises(ModelVersionExists):
        registry.run(RegisterShipped("newer", "{}", "other content"))


def test_a_version_is_made_once() -> None:
    registry = Registry()
    registry.made("one")
    with pytest.raises(ModelVersionExists):
        registry.run(CreateModelVersion("one", "{}", "again", "", "ann"))


def test_only_a_validated_version_is_promoted_and_the_former_champion_retires() -> None:
    registry = Registry()
    registry.run(CreateModelVersion("draft", "{}", "d", "", "ann"))
    registry.made("unfit", findings=BAD)
    for version in ("draft", "unfit", "shipped"):
        with pytest.raises(ModelStateInvalid):
            registry.run(PromoteModelVersion(version, "why", "ann"))
    with pytest.raises(ModelVersionNotFound):
        registry.run(PromoteModelVersion("nobody", "why", "ann"))
    registry.made("fit")
    promoted = registry.run(PromoteModelVersion("fit", "better", "ann"))
    assert (promoted.state, promoted.former) == (ModelState.CHAMPION, "shipped")
    assert registry.states() == {
        "shipped": ModelState.RETIRED,
        "draft": ModelState.DRAFT,
        "unfit": ModelState.REJECTED,
        "fit": ModelState.CHAMPION,
    }
    last = registry.working.model_changes.accepted[-2:]
    assert [(c.version, c.step, c.actor, c.reason) for c in last] == [
        ("fit", "PROMOTE", "ann", "better"),
        ("shipped", "RETIRE", "ann", "better"),
    ]


def test_a_version_is_checked_once() -> None:
    registry = Registry()
    registry.made("unfit", findings=BAD)
    with pytest.raises(ModelStateInvalid):
        registry.run(ValidateModelVersion("unfit", GOOD, "ann"))


def test_there_is_one_challenger_and_it_may_be_promoted() -> None:
    registry = Registry()
    registry.made("one")
    registry.made("two")
    registry.run(SetChallenger("one", "ann"))
    registry.run(SetChallenger("two", "ann"))
    assert registry.states() == {
        "shipped": ModelState.CHAMPION,
        "one": ModelState.VALIDATED,
        "two": ModelState.CHALLENGER,
    }
    with pytest.raises(ModelStateInvalid):
        registry.run(SetChallenger("two", "ann"))
    with pytest.raises(ModelStateInvalid):
        registry.run(SetChallenger("shipped", "ann"))
    assert registry.states()["two"] is ModelState.CHALLENGER, "a refusal leaves no trace"
    registry.run(PromoteModelVersion("two", "better", "ann"))
    assert registry.states()["two"] is ModelState.CHAMPION


def test_a_rollback_goes_back_step_by_step_and_no_further_than_there_was_somebody() -> None:
    registry = Registry()
    with pytest.raises(NoFormerModel):
        registry.run(RollbackModel("why", "ann"))
    for version in ("one", "two"):
        registry.made(version)
        registry.run(PromoteModelVersion(version, "better", "ann"))
    assert registry.run(RollbackModel("worse", "ann")).version == "one"
    assert registry.run(RollbackModel("worse", "ann")).version == "shipped"
    assert registry.states() == {
        "shipped": ModelState.CHAMPION,
        "one": ModelState.RETIRED,
        "two": ModelState.RETIRED,
    }
    with pytest.raises(NoFormerModel):
        registry.run(RollbackModel("worse", "ann"))


# --- the check ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def check(judge: Judge) -> ModelCheck:
    return ModelCheck(judge.catalogue, definition("reasons.en.yaml"), Grade.C)


def test_the_model_that_ships_passes_its_check(check: ModelCheck) -> None:
    findings = check.findings(definition("model.yaml"))
    assert [finding for finding in findings if not finding.passed] == []
    assert {finding.check for finding in findings} == {
        "HASH", "SCALE", "SCORECARD", "CATALOGUE", "TEXTS", "NEWCOMER", "ADDITIVITY", "STABILITY",
    }  # fmt: skip


def first_line(made: dict[str, Any], better: str, judge: Judge) -> dict[str, Any]:
    lines = made["scorecards"]["merchant"]["characteristics"]
    return next(
        line
        for line in lines
        if judge.catalogue.by_name[line["indicator"]].better == better and len(set(line["points"])) > 1
    )


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda d, j: first_line(d, "low", j).update(points=first_line(d, "low", j)["points"][::-1]), "SCORECARD"),
        (lambda d, j: first_line(d, "high", j).update(edges=first_line(d, "high", j)["edges"][::-1] * 2), "SCORECARD"),
        (lambda d, j: first_line(d, "high", j).update(indicator="luck_30d"), "SCORECARD"),
        (lambda d, j: first_line(d, "high", j).update(reason="LUCK"), "SCORECARD"),
        (lambda d, j: d["scorecards"]["merchant"].update(base=951), "SCORECARD"),
        (lambda d, j: d["scorecards"].pop("individual"), "SCORECARD"),
        (lambda d, j: d.update(catalogue="0" * 16), "CATALOGUE"),
        (lambda d, j: d["scale"].update(odds=20), "SCALE"),
        (lambda d, j: d["scorecards"]["merchant"].update(base=590), "NEWCOMER"),
    ],
)
def test_a_model_that_is_wrong_somewhere_is_rejected_and_the_place_is_named(
    check: ModelCheck, judge: Judge, change: Callable[[dict[str, Any], Judge], object], failed: str
) -> None:
    findings = check.findings(sealed("changed", lambda made: change(made, judge)))
    assert failed in {finding.check for finding in findings if not finding.passed}, findings


def first_cap(made: dict[str, Any]) -> dict[str, Any]:
    cap: dict[str, Any] = made["scorecards"]["merchant"]["caps"][0]
    return cap


@pytest.mark.parametrize(
    "change",
    [
        lambda d, j: first_line(d, "high", j).update(edges=list(map(str, first_line(d, "high", j)["edges"]))),
        lambda d, j: first_line(d, "high", j).update(points=[10**12 * p for p in first_line(d, "high", j)["points"]]),
        lambda d, j: first_line(d, "high", j).update(missing=0.5),
        lambda d, j: first_line(d, "high", j).update(floor=-1),
        lambda d, j: first_cap(d).update(code=["LUCK"]),
        lambda d, j: first_cap(d).update(volume_below="many"),
        lambda d, j: first_cap(d).update(at_most="649"),
        lambda d, j: d.update(confidence_half=-20),
        lambda d, j: d.update(confidence_half=0),
    ],
)
def test_what_would_fail_at_every_evaluation_is_a_finding_and_never_scores(
    check: ModelCheck, judge: Judge, change: Callable[[dict[str, Any], Judge], object]
) -> None:
    made = sealed("broken", lambda d: change(d, judge))
    assert not all(finding.passed for finding in check.findings(made))
    with pytest.raises(DefinitionInvalid):
        model_from(made, judge.catalogue)


def test_a_few_lines_that_stand_for_more_than_memory_holds_are_refused() -> None:
    lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    bomb = "\n".join(["version: bomb", f"a0: &a0 [{', '.join(['lol'] * 9)}]", *lines])
    with pytest.raises(FieldInvalid, match="artefact"):
        read_artefact(bomb)


def test_what_the_trainer_writes_is_read_though_parts_of_it_are_the_same() -> None:
    shared = [1, 2, 3]
    made = {"version": "twins", "one": shared, "other": shared}
    assert read_artefact(artefact_text(made)) == made


def test_a_model_that_was_edited_after_it_was_made_is_rejected(check: ModelCheck) -> None:
    edited = definition("model.yaml")
    edited["confidence_half"] += 1
    assert [finding.check for finding in check.findings(edited) if not finding.passed] == ["HASH"]


def test_a_model_that_does_much_worse_out_of_time_is_rejected(check: ModelCheck) -> None:
    def worse(made: dict[str, Any]) -> None:
        measured = {"rows": 9, "outcomes": 9, "bads": 3, "since": "", "until": "", "auc": 0.8, "ks": 0.4, "gini": 0.6}
        for scorecard in made["scorecards"].values():
            scorecard["training"] = {
                "source": "", "outcome": "", "anchor_shift": 0, "score_psi": 0.01,
                "in_time": measured, "out_of_time": {**measured, "auc": 0.7},
            }  # fmt: skip

    findings = check.findings(sealed("worse", worse))
    assert {finding.check for finding in findings if not finding.passed} == {"STABILITY"}


# --- drift --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "verdict"),
    [(0, "STABLE"), (0.0999, "STABLE"), (0.1, "WATCH"), (0.2499, "WATCH"), (0.25, "ACT"), (4, "ACT")],
)
def test_a_psi_asks_for_nothing_for_another_look_or_for_a_new_model(index: float, verdict: str) -> None:
    assert verdict_of(index) is Verdict(verdict)


def test_a_population_that_is_its_own_baseline_has_not_moved_and_a_stranger_has(judge: Judge) -> None:
    dice = random.Random(5)
    as_of_s = int(NOW.timestamp())
    profiles = [random_profile(judge.catalogue, dice, as_of_s=as_of_s) for _ in range(60)]

    def counted(by: Judge, challenger: Judge | None = None) -> DriftCount:
        count = DriftCount(by, challenger, SubjectKind.MERCHANT)
        for profile in profiles:
            count.add(profile, as_of_s)
        return count

    seen = counted(judge).found()

    def own_baseline(made: dict[str, Any]) -> None:
        scorecard = made["scorecards"]["merchant"]
        now = {drift.name: [round(share, 6) for share in drift.now] for drift in seen.characteristics}
        for line in scorecard["characteristics"]:
            line["baseline"] = now[line["indicator"]]
        scorecard["grades"] = dict(zip([grade.value for grade in Grade], seen.score.now, strict=True))

    def better_base(made: dict[str, Any]) -> None:
        own_baseline(made)
        made["scorecards"]["merchant"]["base"] += 30

    own = Judge(judge.catalogue, model_from(sealed("own", own_baseline), judge.catalogue), judge.texts)
    other = Judge(judge.catalogue, model_from(sealed("other", better_base), judge.catalogue), judge.texts)
    found = counted(own, other).found()
    assert found.subjects == 60
    assert found.score.psi == pytest.approx(0, abs=1e-6)
    assert {drift.verdict for drift in found.characteristics} == {Verdict.STABLE}
    assert found.comparison is not None
    assert found.comparison.version == "other"
    assert 0 < found.comparison.mean_difference <= 30
    assert 0 < found.comparison.better_grade == found.comparison.other_grade
    strange = DriftCount(own, None, SubjectKind.MERCHANT)
    for _ in range(60):
        strange.add(profiles[0].empty(), as_of_s)
    moved = strange.found()
    assert moved.score.verdict is Verdict.ACT
    assert moved.comparison is None
    assert [drift.psi for drift in moved.characteristics] == sorted(
        (drift.psi for drift in moved.characteristics), reverse=True
    )


def test_nobody_to_look_at_is_no_drift_and_no_fault(judge: Judge) -> None:
    found = DriftCount(judge, None, SubjectKind.INDIVIDUAL).found()
    assert (found.subjects, found.score.verdict, found.comparison) == (0, Verdict.NONE, None)
