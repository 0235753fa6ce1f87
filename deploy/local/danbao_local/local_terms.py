"""Which terms a laptop's credit has: those that ship, except that newcomers may join the credible merchants.

Nobody on a laptop has sold for ninety days. Deposits, notices, suspensions and everything else are as they ship.
"""

from importlib import resources
from pathlib import Path

import yaml

from danbao_local.layout import write_atomically

JOIN = {"grade": "C", "days": 0, "completed": 0}
KEEP = {"grade": "D"}


def write_local_terms(directory: Path) -> Path:
    """The file, in that directory."""
    terms = yaml.safe_load((resources.files("danbao_credit.definitions") / "terms.yaml").read_text())
    terms["version"] += "-local"
    terms["membership"]["join"] |= JOIN
    terms["membership"]["keep"] |= KEEP
    path = directory / "terms.yaml"
    write_atomically(path, yaml.safe_dump(terms, sort_keys=False))
    return path
