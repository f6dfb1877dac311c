"""Every example in the guide to the tenant profile is a good profile."""

import re
from pathlib import Path

import pytest
import yaml

from estarsync_core.mapping.mapper import Mapper
from estarsync_core.profile import load_profile
from estarsync_core.profile_reading import Part

GUIDE = Path(__file__).parents[2] / "docs" / "tenant-profile.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("example", EXAMPLES[1:], ids=lambda text: text.partition(":")[0])
def test_an_example_added_to_the_first_is_a_whole_profile(example: str) -> None:
    text = EXAMPLES[0] + example
    profile = load_profile(text, "guide")
    Mapper(profile)
    for name, given in yaml.safe_load(example).items():
        part = getattr(profile, name)
        if isinstance(part, Part):
            assert given.keys() <= type(part).model_fields.keys()
