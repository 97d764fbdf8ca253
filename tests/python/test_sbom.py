"""The bill of materials, judged by CycloneDX's own schema, and compared with what is in the bundle."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from signed_bundles import KEY

import edgekit
from edgekit import Classification, EdgekitError
from edgekit.building.linked_parts import read_linked_parts
from edgekit.building.programs import PROGRAMS, build_programs, find_installed
from edgekit.bundles.bundle import read_bundle
from edgekit.bundles.bundle_file import pack_bundle
from edgekit.bundles.sbom import _SPDX_IDS
from edgekit.targets.profile import load_profile
from edgekit.targets.toolchain import list_toolchains

QUICK: dict[str, Any] = {"ranges": "minmax", "precision": "int8"}
VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)


def read(folder: Path) -> Any:
    return json.loads((folder / "sbom.cdx.json").read_text())


def find_refs(value: Any) -> Iterator[str]:
    """Yields every bom-ref below ``value``."""
    if isinstance(value, dict):
        if "bom-ref" in value:
            yield value["bom-ref"]
        for item in value.values():
            yield from find_refs(item)
    elif isinstance(value, list):
        for item in value:
            yield from find_refs(item)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cnn: Path, images: Any) -> Path:
    output = tmp_path_factory.mktemp("sbom") / "dist"
    edgekit.deploy(
        cnn,
        calibration=images,
        format=["native", "onnx"],
        evaluate=Classification(images, [0] * len(images)),
        model_license="CC-BY-4.0",
        output=output,
        **QUICK,
    )
    return output


def test_cyclonedx_takes_it(folder: Path, deployment: Any) -> None:
    for path in (folder, deployment.path):
        assert VALIDATOR.validate_str((path / "sbom.cdx.json").read_text()) is None


def test_the_validator_would_tell(folder: Path) -> None:
    bill = read(folder)
    bill["components"][0]["type"] = "network"
    assert VALIDATOR.validate_str(json.dumps(bill)) is not None


def test_references_are_unique_and_lead_somewhere(folder: Path) -> None:
    bill = read(folder)
    refs = list(find_refs(bill))
    assert len(refs) == len(set(refs))
    for row in bill["dependencies"]:
        assert {row["ref"], *row["dependsOn"]} <= set(refs)


def test_digests_are_those_of_the_files(folder: Path) -> None:
    bundle = read_bundle(folder)
    named = {
        component["name"]: component["hashes"][0]["content"]
        for component in read(folder)["components"]
        if "hashes" in component
    }
    assert set(named) == {"model.plan", "model.onnx", *PROGRAMS}
    assert named == {name: bundle.files[name] for name in named}


def test_the_model_s_origin_and_licence(folder: Path, deployment: Any, cnn: Path) -> None:
    network = next(item for item in read(folder)["components"] if item["name"] == "model.plan")
    (source,) = network["pedigree"]["ancestors"]
    assert source["hashes"][0]["content"] == hashlib.sha256(cnn.read_bytes()).hexdigest()
    assert source["licenses"] == network["licenses"] == [{"license": {"id": "CC-BY-4.0"}}]
    assert "licenses" not in read(deployment.path)["components"][0]
    metrics = network["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    certificate = json.loads((folder / "certificate.json").read_text())
    wanted = [certificate["agreement"]["same_answer"]]
    wanted += [certificate["evaluation"][name] for name in ("float", "deployed")]
    assert [metric["value"] for metric in metrics] == [str(found["share"]) for found in wanted]


def test_what_is_linked_is_what_the_programs_were_built_with(folder: Path) -> None:
    source = find_installed("_source")
    assert source is not None
    header = (source / "include/flatbuffers/base.h").read_text()
    words = ("MAJOR", "MINOR", "REVISION")
    numbers = [re.search(rf"FLATBUFFERS_VERSION_{word} (\d+)", header)[1] for word in words]  # type: ignore[index]
    for program in PROGRAMS:
        parts = {part.name: part for part in read_linked_parts(folder / program)}
        assert parts["flatbuffers"].version == ".".join(numbers)
        assert {"glibc", "musl"} & parts.keys()
        assert {"libstdc++", "libc++"} & parts.keys()
        assert all(part.licence for part in parts.values())
        row = next(row for row in read(folder)["dependencies"] if row["ref"] == program)
        assert [ref.partition("@")[0] for ref in row["dependsOn"]] == [f"linked:{n}" for n in parts]
        compiler = re.search(rb"GCC: \([^)]*\) ([0-9.]+)\0", (folder / program).read_bytes())
        if compiler is not None:
            assert parts["libgcc"].version == compiler[1].decode()


@pytest.mark.cross
@pytest.mark.parametrize(
    ("toolchain", "wanted"),
    [
        ("aarch64-linux-gnu", ["flatbuffers", "glibc", "libgcc", "libstdc++"]),
        pytest.param(
            "zig-aarch64-linux-musl",
            ["flatbuffers", "libc++", "libc++abi", "libunwind", "musl", "zig-compiler-rt"],
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.timeout(900)
def test_programs_of_boards_say_what_is_linked(toolchain: str, wanted: list[str]) -> None:
    profile = load_profile("rpi4")
    there = {each.name: each for each in list_toolchains(profile)}
    if toolchain not in there:
        pytest.skip(f"no {toolchain}")
    programs = build_programs(profile, toolchain=there[toolchain])
    for program in (programs.runner, programs.board):
        parts = read_linked_parts(program, "9.9" if toolchain.startswith("zig") else "")
        assert [part.name for part in parts] == wanted
        assert all(part.licence for part in parts)
        unknown = [part.name for part in parts if not part.version]
        assert unknown == [name for name in wanted if name == "musl"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_libraries_say_what_is_linked_too(cnn: Path, images: Any, tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    edgekit.deploy(cnn, calibration=images, output=folder, library=True, **QUICK)
    text = (folder / "sbom.cdx.json").read_text()
    assert VALIDATOR.validate_str(text) is None
    rows = {row["ref"]: row["dependsOn"] for row in json.loads(text)["dependencies"]}
    static, shared = (
        [ref.partition("@")[0].removeprefix("linked:") for ref in rows[f"lib/libedgekit{ending}"]]
        for ending in (".a", ".so")
    )
    assert static == ["flatbuffers"]
    assert {"libstdc++", "libc++"} & set(shared)
    assert not {"glibc", "musl"} & set(shared)
    # What the dynamic linker is asked for is the C library alone, so all else is in the file.
    needed = re.findall(
        rb"\0(lib[a-z+]+)\.so\.[0-9]+(?=\0)", (folder / "lib/libedgekit.so").read_bytes()
    )
    assert set(needed) <= {b"libm", b"libc"}


@pytest.mark.cross
@pytest.mark.timeout(900)
def test_a_board_s_bundle_has_the_same_bytes_each_time(
    cnn: Path, images: Any, tmp_path: Path
) -> None:
    if not list_toolchains(load_profile("rpi4")):
        pytest.skip("no compiler for it")
    packed = []
    for name in ("a", "b"):
        output = tmp_path / name
        edgekit.deploy(
            cnn,
            calibration=images,
            target="rpi4",
            labels=[f"class {index}" for index in range(10)],
            evaluate=Classification(images, [0] * len(images)),
            model_license="MIT",
            sign_with=KEY,
            output=output,
        )
        packed.append(pack_bundle(output, tmp_path / f"{name}.edgekit").read_bytes())
    assert packed[0] == packed[1]
    assert VALIDATOR.validate_str((tmp_path / "a/sbom.cdx.json").read_text()) is None


def test_a_program_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\x7fELF edgekit links \0")
    assert read_linked_parts(tmp_path / "x") == []


@pytest.mark.slow
def test_the_same_bundle_has_the_same_bill(
    folder: Path, cnn: Path, images: Any, tmp_path: Path
) -> None:
    bills = []
    for name, license_ in (("a", "MIT"), ("b", "MIT"), ("c", "My own terms, version 2")):
        edgekit.deploy(
            cnn, calibration=images, model_license=license_, output=tmp_path / name, **QUICK
        )
        bills.append((tmp_path / name / "sbom.cdx.json").read_text())
    assert bills[0] == bills[1]
    assert VALIDATOR.validate_str(bills[2]) is None
    serials = {json.loads(bill)["serialNumber"] for bill in bills}
    assert len(serials) == 2
    assert "timestamp" not in "".join(bills)


def test_every_licence_that_is_taken_for_an_id_is_one(folder: Path) -> None:
    bill = read(folder)
    bill["components"][0]["licenses"] = [{"license": {"id": name}} for name in sorted(_SPDX_IDS)]
    assert VALIDATOR.validate_str(json.dumps(bill)) is None


@pytest.mark.parametrize("license_", ["", " ", "a\nb", 3])
def test_what_is_no_licence(cnn: Path, images: Any, tmp_path: Path, license_: Any) -> None:
    with pytest.raises(EdgekitError, match="model_license must be a licence's id or name"):
        edgekit.deploy(cnn, calibration=images, model_license=license_, output=tmp_path / "d")
