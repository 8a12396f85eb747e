"""The README lists all settings, and its links exist."""

import re

from core.config import Config
from dev.servers import PROJECT


def test_settings_table_lists_exactly_the_settings() -> None:
    readme = (PROJECT / "README.md").read_text()
    table = readme.split("## Settings")[1]

    listed = re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)

    assert sorted(listed) == sorted(name.upper() for name in Config.model_fields)


def test_pictures_and_links_of_the_readme_exist() -> None:
    readme = (PROJECT / "README.md").read_text()

    targets = re.findall(r"\]\((?!http)([^)]+)\)", readme)

    assert [target for target in targets if not (PROJECT / target).exists()] == []
