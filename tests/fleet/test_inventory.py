"""fleet.toml: what it says, and what is refused."""

import pytest

from edgekit import EdgekitError
from edgekit.delivery.fleet.devices import FleetDevice
from edgekit.delivery.fleet.inventory import read_inventory

GOOD = """
[groups.cameras]
board = "rpi4"
identity = "keys/cameras"
variables = { site = "north", lens = "wide" }

[groups.rooms]
children = ["cameras"]
variables = { site = "house", floor = 2 }

[devices.hall]
address = "ssh://pi@hall.lan"
groups = ["cameras"]
variables = { lens = "long" }

[devices."cam[08:10]"]
address = "ssh://pi@{name}.lan:2222/srv/edgekit"
groups = ["rooms"]
board = "rpi5"

[devices.here]
address = "dir:///srv/edgekit"
"""


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="fleet.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def test_devices_groups_and_ranges_are_read(write, tmp_path):
    inventory = read_inventory(write(GOOD))
    assert [device.name for device in inventory.devices] == [
        "hall",
        "cam08",
        "cam09",
        "cam10",
        "here",
    ]
    assert inventory.devices[0] == FleetDevice(
        "hall",
        "ssh://pi@hall.lan",
        "rpi4",
        ("cameras", "rooms"),
        ("-i", f"{tmp_path}/keys/cameras"),
        {"site": "north", "floor": 2, "lens": "long"},
    )
    assert inventory.devices[2] == FleetDevice(
        "cam09",
        "ssh://pi@cam09.lan:2222/srv/edgekit",
        "rpi5",
        ("rooms",),
        (),
        {"site": "house", "floor": 2},
    )
    assert inventory.groups == {
        "cameras": ("hall",),
        "rooms": ("hall", "cam08", "cam09", "cam10"),
    }


def test_groups_and_names_choose_devices(write):
    inventory = read_inventory(write(GOOD))

    def names(*words):
        return [device.name for device in inventory.select(*words)]

    assert names() == names(["all"]) == ["hall", "cam08", "cam09", "cam10", "here"]
    assert names(["cameras"], ["here"]) == ["hall", "here"]
    with pytest.raises(EdgekitError, match="no group 'camera'; did you mean 'cameras'"):
        names(["camera"])
    with pytest.raises(EdgekitError, match="no device 'cam99'; did you mean 'cam"):
        names([], ["cam99"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no devices"),
        ("[devices", "not valid TOML"),
        ("device.a.address = 'ssh://a'", "unknown key 'device'"),
        ("devices = 1", "'devices' must be a table of tables"),
        ("devices.a = 1", "'devices.a' must be a table"),
        ("[devices.a]", "the key 'devices.a.address' is missing"),
        (
            "devices.a.boardd = 'ssh://a'",
            "unknown key 'devices.a.boardd'; did you mean 'board'",
        ),
        ("devices.a.address = 1", "'devices.a.address' must be a string"),
        ("devices.a.address = 'http://a'", "'devices.a.address': http://a: no address"),
        ("devices.a.address = 'dir://a'", "looks like dir:///srv/root"),
        (
            "[devices.a]\naddress = 'ssh://a'\ngroups = 'x'",
            "'devices.a.groups' must be an array of strings",
        ),
        (
            "[devices.a]\naddress = 'ssh://a'\ngroups = ['x']",
            r"'devices.a.groups' names 'x', and there is no \[groups.x\]",
        ),
        ("devices.'a[1:2]'.address = 'ssh://a'", r"must have \{name\} in it"),
        ("devices.'a[2:1]'.address = 'ssh://{name}'", "is empty"),
        ("devices.'a b'.address = 'ssh://x'", "'a b' is no name of a device"),
        ("groups.all = {}", "'all' is no name for a group"),
        ("groups.a.children = ['b']", r"names 'b', and there is no \[groups.b\]"),
        (
            "groups.a.children = ['b']\ngroups.b.children = ['a']",
            "lead back to the group itself",
        ),
        (
            "devices.a.address = 'ssh://x'\ndevices.b.address = 'ssh://x'",
            "'a' and 'b' have the same address",
        ),
        (
            "groups.x.board = 'rpi4'\ngroups.y.board = 'rpi5'\n[devices.a]\naddress = 'ssh://a'\ngroups = ['x', 'y']",
            "groups.x.board = 'rpi4' and groups.y.board = 'rpi5': give it a 'board' of its own",
        ),
    ],
)
def test_mistakes_are_named_with_file_and_key(write, text, message):
    path = write(text)
    with pytest.raises(EdgekitError, match=message) as caught:
        read_inventory(path)
    assert str(caught.value).startswith(str(path))
