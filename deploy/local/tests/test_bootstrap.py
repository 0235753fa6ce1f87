"""The installer says in one sentence what is wrong."""

import subprocess
import sys
from pathlib import Path

BOOTSTRAP = Path(__file__).parent.parent / "bootstrap.py"


def test_a_too_old_python_is_told_so_in_one_sentence() -> None:
    program = (
        f"import sys, runpy; sys.version_info = (3, 9, 2); runpy.run_path({str(BOOTSTRAP)!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.strip().startswith("Danbao needs Python 3.11 or newer, and this is Python 3.9")
    assert len(result.stderr.strip().splitlines()) == 1
