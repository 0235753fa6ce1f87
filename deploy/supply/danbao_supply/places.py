"""Where in the checkout do the lock, the policies and the images' descriptions lie?"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "requirements.lock"
WORKSPACE = ROOT / "pyproject.toml"
REQUIREMENTS = ROOT / "requirements.in"
NPM_LOCK = ROOT / "tests" / "e2e" / "node" / "package-lock.json"
LICENCES = ROOT / "deploy" / "supply" / "licences.toml"
VULNERABILITIES = ROOT / "deploy" / "supply" / "vulnerabilities.toml"
BILLS = ROOT / ".danbao" / "sbom"


def dockerfile(deployable: str) -> Path:
    """The description of a deployable's image."""
    return ROOT / "services" / deployable / "Dockerfile"
