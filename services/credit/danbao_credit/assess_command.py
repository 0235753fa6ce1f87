"""danbao-credit assess: how a model's grades come out on orders that it never saw, and what the indicators tell apart.

Trains nothing and writes nothing but what it finds. Every subject is scored at cuts 30 days apart by what happened
before, and the orders of the 60 days after it are counted: by grade with 95 % intervals, then the best two grades
against the worst two, of grades with 100 outcomes or more where there are two such. Reports of other teams are in no
stream; --reports FILE has what was told, as its teller kept it.

--stack DIR                                 a local stack's state directory (its local.json), or
--payments-address H:P --escrow-address H:P --tls-cert F --tls-key F --tls-ca F
                                            services, with a certificate that may read their streams, or
--events DIR                                streams that `train --keep DIR` kept
[--reports FILE] [--model FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from danbao_credit.app import read_definition
from danbao_credit.clients.recorded_reports import recorded_reports
from danbao_credit.domain.catalogue import Catalogue, SubjectKind, catalogue_from
from danbao_credit.domain.errors import EventMalformed, FieldInvalid, TrainingImpossible
from danbao_credit.domain.events import Source
from danbao_credit.domain.facts import facts_of
from danbao_credit.domain.scorecard import model_from
from danbao_credit.domain.training.assessment import ENOUGH_OUTCOMES, Assessment, Counted, assess
from danbao_credit.domain.training.coverage import Coverage, coverage_of
from danbao_credit.domain.training.histories import Histories
from danbao_credit.domain.training.plan import plan_from
from danbao_credit.training_command import add_source_arguments, read, say

_SHOWN_GROUPS = 40


def assess_main(words: list[str]) -> None:
    """Runs the command. Raises DefinitionInvalid and TrainingImpossible."""
    parser = argparse.ArgumentParser(
        prog="danbao-credit assess", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_source_arguments(parser)
    parser.add_argument("--reports", type=Path, help="what was told by RecordEvents, a JSON object a line")
    parser.add_argument("--model", type=Path, help="another model than the one that ships")
    parser.add_argument("--json", type=Path, help="write what is found there as well")
    arguments = parser.parse_args(words)
    catalogue = catalogue_from(read_definition(None, "catalogue.yaml"))
    histories = read(arguments)
    if arguments.reports is not None:
        _add_reports(arguments.reports, catalogue, histories)
    found = assessment(histories, catalogue, arguments.model)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    for line in lines_of(found):
        print(line)


def assessment(histories: Histories, catalogue: Catalogue, model_file: Path | None) -> dict[str, Any]:
    """Everything there is to tell, as plain values. Raises DefinitionInvalid."""
    model = model_from(read_definition(model_file, "model.yaml"), catalogue)
    plan = plan_from(read_definition(None, "training.yaml"), catalogue)
    grades: dict[str, Any] = {}
    for kind in SubjectKind:
        say(f"{kind}: scoring at every cut")
        try:
            scorecard, own = model.scorecards[kind], plan.kinds[kind]
            made = assess(histories, catalogue, scorecard, own, step_days=plan.step_days)
            grades[kind.value] = {"outcome": own.outcome_words, **_of_grades(made)}
        except TrainingImpossible as error:
            grades[kind.value] = {"impossible": str(error)}
    say("looking at every indicator of every subject")
    coverage, moments = coverage_of(histories, catalogue, step_days=plan.step_days)
    say(f"{moments} moments of {len(histories.by_subject)} subjects")
    return {
        "model": model.version,
        "subjects": len(histories.by_subject),
        "moments": moments,
        "grades": grades,
        "indicators": {kind.value: _of_indicators(item) for kind, item in coverage.items()},
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"model {found['model']}, {found['subjects']} subjects"]
    for kind, item in found["grades"].items():
        lines += ["", f"{kind}s: defects out of time by grade"]
        if "impossible" in item:
            lines.append(f"  {item['impossible']}")
            continue
        lines.append(f"  {item['outcome']}; {item['rows']} scores at {item['cuts']} cuts")
        lines.append(f"  {'grade':10}{'subjects':>9}{'outcomes':>9}{'defects':>9}{'rate':>9}   95 % interval")
        lines += [_line(entry) for entry in item["by_grade"]]
        lines += [f"{_line(item[name])}   {name}" for name in ("best", "worst") if item[name]]
        ratio = "" if item["ratio"] is None else f", ratio {item['ratio']:.2f}"
        lines.append(f"  worst against best: {item['verdict']}{ratio}")
        if item["aside"]:
            lines.append(f"  not compared, with fewer than {ENOUGH_OUTCOMES} outcomes: {' '.join(item['aside'])}")
    for kind, item in found["indicators"].items():
        known, share = item["known"], item["share"]
        lines += ["", f"{kind}s: {known} of {item['indicators']} indicators have a value for somebody ({share:.1%})"]
        lines.append(f"  {len(item['missing'])} missing for everybody: {_few(item['missing'])}")
        lines.append(f"  {len(item['constant'])} never another value than one: {_few(item['constant'])}")
        lines.append(f"  {len(item['equal'])} groups that are equal for everybody")
        lines += [f"    {' = '.join(group)}" for group in item["equal"][:_SHOWN_GROUPS]]
    return lines


def _few(names: list[str], most: int = 12) -> str:
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])]) or "none"


def _line(entry: dict[str, Any]) -> str:
    rate = "–" if entry["rate"] is None else f"{entry['rate']:.2%}"
    low, high = entry["interval"]
    grades = " ".join(entry["grades"])
    return (
        f"  {grades:10}{entry['subjects']:>9}{entry['outcomes']:>9}{entry['defects']:>9}{rate:>9}   "
        f"{low:.2%} to {high:.2%}"
    )


def _of_grades(made: Assessment) -> dict[str, Any]:
    return {
        "cuts": made.cuts,
        "rows": made.rows,
        "by_grade": [_counted(item) for item in made.by_grade],
        "best": _counted(made.best) if made.best else None,
        "worst": _counted(made.worst) if made.worst else None,
        "ratio": None if made.ratio is None else round(made.ratio, 4),
        "verdict": made.verdict,
        "aside": [grade.value for grade in made.aside],
    }


def _counted(item: Counted) -> dict[str, Any]:
    return {
        "grades": [grade.value for grade in item.grades],
        "subjects": item.subjects,
        "outcomes": item.outcomes,
        "defects": item.bads,
        "rate": None if item.rate is None else round(item.rate, 6),
        "interval": [round(bound, 6) for bound in item.interval],
    }


def _of_indicators(item: Coverage) -> dict[str, Any]:
    return {
        "indicators": item.indicators,
        "known": item.known,
        "share": round(item.share, 4),
        "missing": list(item.missing),
        "constant": list(item.constant),
        "equal": [list(group) for group in item.equal],
    }


def _add_reports(file: Path, catalogue: Catalogue, histories: Histories) -> None:
    count = 0
    try:
        for event in recorded_reports(file, catalogue.reports):
            facts = facts_of(event, Source.REPORTS, catalogue)
            histories.add(facts.at_us, facts.changes)
            count += 1
    except (OSError, EventMalformed, FieldInvalid) as error:
        raise TrainingImpossible(f"the reports cannot be read: {error}") from error
    histories.sort()
    say(f"reports: {count} events")
