"""The systemd units are valid; the file of settings and its reader work."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.servers import PROJECT, child_environment
from core.config import REQUIRED_IN_PRODUCTION, Config

EXAMPLE = PROJECT / "ops" / "neon-dashboard.env.example"
UNITS = sorted((PROJECT / "ops" / "systemd").glob("*.service"))


def analyze(*arguments: str) -> tuple[int, str]:
    tool = shutil.which("systemd-analyze")
    assert tool, "python3 scripts/system_packages.py installs it"
    completed = subprocess.run([tool, *arguments], check=False, capture_output=True, text=True)
    return completed.returncode, completed.stdout + completed.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    # Links, because a unit quotes the spaces of a folder's name.
    bin_folder, folder = tmp_path / "bin", tmp_path / "app"
    bin_folder.symlink_to(Path(sys.executable).parent)
    folder.symlink_to(PROJECT)
    installed = unit.read_text().replace("/srv/neon-dashboard/.venv/bin", str(bin_folder))
    (tmp_path / unit.name).write_text(installed.replace("/srv/neon-dashboard", str(folder)))

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


NEON_URL = (
    "postgresql://bia:pw%26%24@ep-x-pooler.sa-east-1.aws.neon.tech/neondb"
    "?sslmode=require&channel_binding=require"
)


def test_example_file_names_only_existing_settings() -> None:
    lines = EXAMPLE.read_text().splitlines()
    names = {found[1].lower() for line in lines if (found := re.match(r"#?([A-Z_]+)=", line))}

    assert names <= set(Config.model_fields)
    assert {name.lower() for name in REQUIRED_IN_PRODUCTION} <= names


def test_settings_pasted_into_the_example_file_reach_a_command(tmp_path: Path) -> None:
    file = tmp_path / "neon dashboard & co.env"
    values = {
        "DATABASE_URL": NEON_URL,
        "SECRET_KEY": "a#b;c'd\\e",
        "CLERK_PUBLISHABLE_KEY": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
        "CLERK_SECRET_KEY": "sk_live_x",
        "INSTANCE_PATH": str(tmp_path),
    }
    content = EXAMPLE.read_text()
    for name, value in values.items():
        content = re.sub(f"(?m)^{name}=.*$", lambda _: f"{name}={value}", content)  # noqa: B023
    file.write_text(content)

    environment = child_environment({"NEON_ENV_FILE": file.name})
    command = [str(PROJECT / "ops" / "neon-flask"), "config"]
    completed = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )

    url = NEON_URL.replace("bia:pw%26%24@", "").replace("postgresql", "postgresql+psycopg2")
    assert re.search(rf"(?m)^DATABASE_URL +{re.escape(url)} +set$", completed.stdout)
    assert re.search(r"(?m)^APP_ENV +production +set$", completed.stdout)


@pytest.mark.parametrize("line", ["export SECRET_KEY=hush", "SECRET_KEY = hush"])
def test_line_that_systemd_skips_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "neon.env"
    file.write_text(f"# Settings\nAPP_ENV=production\n{line}\n")

    completed = subprocess.run(
        [str(PROJECT / "ops" / "neon-flask"), "config"],
        env=child_environment({"NEON_ENV_FILE": str(file)}),
        check=False,
        capture_output=True,
        text=True,
    )

    assert completed.returncode == 1
    assert completed.stderr.endswith("without export and spaces, in line 3\n")
    assert "hush" not in completed.stderr
