"""The systemd units are valid, and set only existing settings."""

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
    completed = subprocess.run([tool, *arguments], check=False, capture_output=True, text=True)
    return completed.returncode, completed.stdout + completed.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    bin_folder = Path(sys.executable).parent
    installed = unit.read_text().replace("/srv/neon-dashboard/.venv/bin", str(bin_folder))
    (tmp_path / unit.name).write_text(installed.replace("/srv/neon-dashboard", str(PROJECT)))

    assert analyze("verify", str(tmp_path / unit.name)) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_sets_only_existing_settings(unit: Path) -> None:
    [line] = re.findall(r"(?m)^Environment=(.*)$", unit.read_text())
    names = [word.split("=")[0].lower() for word in line.split()]

    assert set(names) <= set(Config.model_fields)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_passes_the_security_analysis(unit: Path) -> None:
    status, output = analyze("security", "--offline=true", "--threshold=20", str(unit))

    assert status == 0, output
