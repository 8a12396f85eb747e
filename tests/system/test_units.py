"""The systemd units are accepted by systemd, and set what the program knows."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import Config
from dev.servers import PROJECT

UNITS = sorted((PROJECT / "ops" / "systemd").glob("*.service"))


def analyze(*arguments: str) -> tuple[int, str]:
    tool = shutil.which("systemd-analyze")
    assert tool, "python3 scripts/system_packages.py installs it"
    told = subprocess.run([tool, *arguments], check=False, capture_output=True, text=True)
    return told.returncode, told.stdout + told.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_is_accepted(unit: Path, tmp_path: Path) -> None:
    here = Path(sys.executable).parent
    installed = unit.read_text().replace("/srv/neon-dashboard/.venv/bin", str(here))
    (tmp_path / unit.name).write_text(installed.replace("/srv/neon-dashboard", str(PROJECT)))

    assert analyze("verify", str(tmp_path / unit.name)) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_sets_what_the_program_knows(unit: Path) -> None:
    [line] = re.findall(r"(?m)^Environment=(.*)$", unit.read_text())
    names = [word.split("=")[0].lower() for word in line.split()]

    assert set(names) <= set(Config.model_fields)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_exposes_little(unit: Path) -> None:
    status, told = analyze("security", "--offline=true", "--threshold=20", str(unit))

    assert status == 0, told
