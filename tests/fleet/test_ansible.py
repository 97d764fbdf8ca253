"""Ansible's inventories: read as Ansible itself reads them."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit import EdgekitError
from edgekit.delivery.fleet.ansible_files import read_groups
from edgekit.delivery.fleet.host_ranges import expand_ranges, split_port
from edgekit.delivery.fleet.inventory import read_inventory
from edgekit.targets.errors import ToolError

ANSIBLE = shutil.which("ansible-inventory")
needs_ansible = pytest.mark.skipif(
    ANSIBLE is None, reason="no ansible-inventory (Debian: ansible-core)"
)

INI = """
# hosts before the first section are in no group
lonely.lan ansible_user=root
; another comment

[cameras]
pi[01:03].lan:2222 ansible_user=pi site="north wing" count=3   # a comment
hall ansible_host=10.0.0.7 ansible_port=22 ratio=1.5 tags="['a', 'b']" odd=0123 path=C:\\dir
"[fe80::1]:2022" edgekit_board=rpi5

[doors]
door-[a:c]
hall

[cameras:vars]
ansible_ssh_private_key_file = keys/cameras
site = south
edgekit_board=rpi4

[house:children]
cameras   # those with lenses
doors

[house:vars]
site=house
floor = 2
text = "quoted # not a comment"

[doors:vars]
ansible_group_priority=10
site=doors

[all:vars]
site=everywhere
edgekit_root=/srv/edgekit
"""

YAML = """
all:
  vars: {site: everywhere, edgekit_root: /srv/edgekit}
  hosts:
    lonely.lan: {ansible_user: root}
  children:
    house:
      vars: {site: house, floor: 2}
      children:
        cameras:
          hosts:
            "pi[01:03].lan:2222": {ansible_user: pi}
            hall:
              ansible_host: 10.0.0.7
          vars:
            edgekit_board: rpi4
        doors:
          hosts:
            door-a:
            hall: {extra: [1, two]}
empty:
"""


def ask_ansible(path):
    """Returns all variables of each host, and the hosts of each group, as Ansible sees them."""
    environment = {
        **os.environ,
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "LC_ALL": "C.UTF-8",
    }
    command = [ANSIBLE, "-i", path, "--list"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    below = {
        name: set(body.get("children", ())) for name, body in printed.items() if name != "_meta"
    }
    own = {name: set(body.get("hosts", ())) for name, body in printed.items() if name != "_meta"}

    def hosts(name):
        return own.get(name, set()).union(*(hosts(child) for child in below.get(name, ())))

    return done.stdout, printed["_meta"]["hostvars"], {name: hosts(name) for name in below}


def compare_with_ansible(path):
    printed, variables, members = ask_ansible(path)
    ours = read_groups(path, path.read_text())
    assert {host: found for host, found in ours.merge().items() if found} == variables
    found = ours.members()
    for name, hosts in members.items():
        assert found[name] == hosts, name
    assert not any(hosts for name, hosts in found.items() if name not in members)
    return printed


@pytest.mark.slow
@needs_ansible
@pytest.mark.parametrize(("name", "text"), [("hosts", INI), ("hosts.yml", YAML), ("odd", YAML)])
def test_an_inventory_means_what_ansible_says_that_it_means(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    for kind, owner, content in [
        ("group_vars", "all.yml", "site: from a file\nlast: 1\n"),
        ("group_vars", "doors", "floor: 9\n"),
        ("group_vars", "cameras/b.yml", "floor: 7\nlens: b\n"),
        ("group_vars", "cameras/a.yaml", "lens: a\nmount: wall\n"),
        ("group_vars", "nobody.yml", "site: nowhere\n"),
        ("host_vars", "hall.json", '{"ansible_user": "root", "site": "hall"}'),
    ]:
        file = tmp_path / kind / owner
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    printed = compare_with_ansible(path)
    shutil.rmtree(tmp_path / "group_vars")
    shutil.rmtree(tmp_path / "host_vars")
    direct = read_groups(path, path.read_text())
    compare_with_ansible(path)
    # What ansible-inventory prints is an inventory too.
    listed = tmp_path / "listed.json"
    listed.write_text(printed)
    again = read_groups(listed, printed)
    assert set(again.hosts) == set(direct.hosts)
    assert again.merge()["hall"]["last"] == 1


WORD = st.text("abcxyz", min_size=1, max_size=3)
VALUE = st.one_of(
    WORD,
    st.integers(-99, 99).map(str),
    st.sampled_from(["True", "yes", "1.5", "0x10", "'q'", "None", "[1,2]", "0123", "a=b", "é"]),
)
HOST = st.one_of(
    WORD, st.sampled_from(["h[1:3]", "h[08:12:2]", "k[a:c].lan", "h2:22", "m[1:2]n[x:z]"])
)
LINE = st.one_of(
    st.tuples(HOST, st.lists(st.tuples(WORD, VALUE), max_size=2)).map(
        lambda row: " ".join([row[0], *(f"{key}={value}" for key, value in row[1])])
    ),
    st.just("# comment"),
    st.just(""),
)
GROUPS = [f"g{number}" for number in range(5)]


@st.composite
def inventories(draw):
    lines = draw(st.lists(LINE, max_size=2))
    for name in GROUPS:
        lines += [f"[{name}]", *draw(st.lists(LINE, max_size=3))]
        if draw(st.booleans()):
            settings = draw(st.lists(st.tuples(WORD, VALUE), max_size=3))
            lines += [f"[{name}:vars]", *(f"{key} = {value}" for key, value in settings)]
            if draw(st.booleans()):
                lines.append(f"ansible_group_priority={draw(st.integers(0, 3))}")
    for number, name in enumerate(GROUPS[:-1]):
        children = draw(st.sets(st.sampled_from(GROUPS[number + 1 :]), max_size=2))
        if children:
            lines += [f"[{name}:children]", *sorted(children)]
    return "\n".join(lines) + "\n"


@needs_ansible
@pytest.mark.slow
@settings(
    deadline=None,
    max_examples=8,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(inventories())
def test_any_ini_inventory_means_what_ansible_says_that_it_means(tmp_path, text):
    path = tmp_path / "hosts"
    path.write_text("anchor\n" + text)
    compare_with_ansible(path)


def test_devices_follow_from_ansible_s_variables(tmp_path):
    path = tmp_path / "hosts"
    path.write_text(INI + "\n[near]\nbench ansible_connection=local\n")
    inventory = read_inventory(path)
    found = {device.name: device for device in inventory.devices}
    assert found["lonely.lan"].address == "ssh://root@lonely.lan/srv/edgekit"
    assert found["lonely.lan"].groups == ()
    assert found["lonely.lan"].board is None
    assert found["pi02.lan"].address == "ssh://pi@pi02.lan:2222/srv/edgekit"
    assert found["pi02.lan"].board == "rpi4"
    assert found["pi02.lan"].ssh_options == ("-i", f"{tmp_path}/keys/cameras")
    assert found["hall"].address == "ssh://10.0.0.7:22/srv/edgekit"
    assert set(found["hall"].groups) == {"cameras", "doors", "house"}
    assert found["fe80::1"].address == "ssh://[fe80::1]:2022/srv/edgekit"
    assert found["fe80::1"].board == "rpi5"
    assert found["bench"].address == "dir:///srv/edgekit"
    assert inventory.groups["doors"] == ("hall", "door-a", "door-b", "door-c")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("hosts", "", "no hosts in it"),
        ("hosts", "[a b]\nx", ":1: .* is no section"),
        ("hosts", "[a:b]\nx", "known are hosts, children, vars"),
        ("hosts", "x\n[a:vars]\nb=1", ":2: there is no group 'a'"),
        ("hosts", "x\n[a:children]\nb", ":3: there is no group 'b'"),
        ("hosts", "x\n[a]\n[a:vars]\nb", ":4: 'b' is no KEY=VALUE"),
        ("hosts", "x y", ":1: 'y' is no KEY=VALUE"),
        ("hosts", "x y='", ":1: No closing quotation"),
        ("hosts", "x:", "ends in a colon"),
        ("hosts", "x[1:", "bracket without its other half"),
        ("hosts", "x[5]", "is no range"),
        ("hosts", "x[01:2]", "equally long"),
        ("hosts", "x[a:3]", "is no range"),
        ("hosts", "x[0:999999999]", "more than 100000 hosts"),
        ("hosts", "[a:children]\nb\n[b:children]\na", "hold each other"),
        ("hosts", "x ansible_host='{{ y }}'", "host 'x': ansible_host is a template"),
        ("hosts", "x ansible_port=[]", "neither text nor a number"),
        ("hosts", "x ansible_port=99999", "is no port"),
        ("hosts", "x ansible_user=-oProxyCommand=x", "no address"),
        ("hosts", "#!/usr/bin/python3\n", "this is a program"),
        ("hosts", "$ANSIBLE_VAULT;1.1;AES256\n33", "locked by ansible-vault"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[]", "no inventory"),
        ("a.json", '{"a": {"hosts": [1]}}', "'a.hosts' must be a list of names"),
        ("a.yml", "a: [", "not valid YAML"),
        ("a.yml", "plugin: aws_ec2", "ansible-inventory -i a.yml --list"),
        ("a.yml", "a: {host: {}}", "unknown key 'a.host'"),
        ("a.yml", "a: {hosts: 3}", "'a.hosts' must be a table"),
        ("a.yml", "a: {hosts: {x: {ansible_host: !vault |\n  1}}}", "not valid YAML"),
        ("a.yml", "a:\n  hosts:\n    x: {ansible_host: !vault secret}", "is a template"),
    ],
)
def test_mistakes_are_named_with_file_and_place(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(EdgekitError, match=message) as caught:
        read_inventory(path)
    assert str(path) in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_inventory_or_refused(text):
    from pathlib import Path

    for ending in ("", ".json", ".yml"):
        try:
            read_groups(Path(f"/nowhere/hosts{ending}"), text)
        except EdgekitError:
            continue


def test_without_pyyaml_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "a.yml"
    path.write_text(YAML)
    with pytest.raises(ToolError, match=r"edgekit\[fleet\].*ansible-inventory --list"):
        read_inventory(path)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 50), st.integers(1, 7), st.booleans())
def test_ranges_count_as_numbers_do(first, count, step, padded):
    width = len(str(first + count)) if padded else 0
    words = f"{str(first).zfill(width)}:{str(first + count).zfill(width)}:{step}"
    numbers = [int(name[1:-1]) for name in expand_ranges(f"x[{words}]y")]
    assert numbers == list(range(first, first + count + 1, step))


def test_ports_stand_behind_hosts():
    assert split_port("a[1:2]:22") == ("a[1:2]", 22)
    assert split_port("2001:db8::1") == ("2001:db8::1", None)
    assert split_port("[2001:db8::1]:22") == ("2001:db8::1", 22)
    assert split_port("[2001:db8::1]") == ("2001:db8::1", None)
