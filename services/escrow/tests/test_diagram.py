"""The drawings in the README are those of the tables."""

from pathlib import Path

import pytest

from danbao_escrow.domain import claim, dispute, refund_case
from danbao_escrow.domain.diagram import diagrams, with_diagrams
from danbao_escrow.domain.trade import TABLE

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_shows_the_tables_as_they_are():
    document = README.read_text()
    assert with_diagrams(document) == document, "stale: python -m danbao_escrow diagram services/escrow/README.md"


def test_every_machine_is_drawn_in_the_readme():
    document = README.read_text()
    for name in diagrams():
        assert document.count(f"<!-- diagram {name} -->") == 1, name


def test_every_way_of_every_machine_is_drawn():
    drawings = diagrams()
    for (state, command, role), transition in TABLE.items():
        assert arrow(drawings["line"], state, transition.to, command, role)
    for name, machine in (("refund_case", refund_case.TABLE), ("dispute", dispute.TABLE), ("claim", claim.TABLE)):
        for (state, command, role), ways in machine.table.items():
            for way in ways:
                to = "[*]" if way.ends else way.meanwhile or way.to
                assert arrow(drawings[name], state, to, command, role), (name, state, command, role)


def arrow(drawing, state, to, command, role):
    begin = f"    {state} --> {to} : "
    (label,) = [line.removeprefix(begin) for line in drawing.splitlines() if line.startswith(begin)]
    if role == "SYSTEM" and command == "TimePasses":
        return "time" in label
    return any(part.startswith(f"{command} (") and role in part for part in label.split("<br>"))


def test_a_stale_drawing_is_replaced_and_the_rest_stays():
    stale = "before\n<!-- diagram claim -->\nold\n<!-- end of diagram -->\nafter\n"
    fresh = with_diagrams(stale)
    assert fresh.startswith("before\n<!-- diagram claim -->\n```mermaid\nstateDiagram-v2\n")
    assert fresh.endswith("```\n<!-- end of diagram -->\nafter\n")
    assert with_diagrams(fresh) == fresh


def test_a_machine_that_nobody_knows_is_not_drawn():
    with pytest.raises(KeyError):
        with_diagrams("<!-- diagram nonsense -->\n<!-- end of diagram -->")
