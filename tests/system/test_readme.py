"""The README tells the truth about the settings."""

import re

from core.config import Config
from dev.servers import PROJECT


def test_every_setting_is_in_the_table_and_no_other() -> None:
    readme = (PROJECT / "README.md").read_text()
    table = readme.split("## Settings")[1]

    told = re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)

    assert sorted(told) == sorted(name.upper() for name in Config.model_fields)


def test_pictures_and_links_of_the_readme_exist() -> None:
    readme = (PROJECT / "README.md").read_text()

    targets = re.findall(r"\]\((?!http)([^)]+)\)", readme)

    assert [target for target in targets if not (PROJECT / target).exists()] == []
