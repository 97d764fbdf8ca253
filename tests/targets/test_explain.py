import dataclasses

import pytest

from edgekit.targets import sections
from edgekit.targets.explain import explain, list_keys
from edgekit.targets.profile import Profile, list_profiles, load_profile


def test_every_key_of_a_profile_has_words() -> None:
    """A key that is added must be explained."""
    keys = set()
    for item in dataclasses.fields(Profile):
        section = getattr(sections, item.name.capitalize(), None)
        if section is not None:
            keys |= {f"{item.name}.{field.name}" for field in dataclasses.fields(section)}
    assert list_keys() == {key for key in keys if not key.endswith(".source")}


@pytest.mark.parametrize("name", list_profiles())
def test_every_figure_is_said_with_its_source(name) -> None:
    profile = load_profile(name)
    said = {statement.key: statement for statement in explain(profile)}
    for section in ("cpu", "memory", "speed", "power", "thermal"):
        for key, source in getattr(profile, section).source.items():
            statement = said[f"{section}.{key}"]
            assert statement.source == source
            value = getattr(getattr(profile, section), key)
            assert f"{value:g}" in statement.text
