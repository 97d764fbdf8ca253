"""The bill of materials of a bundle, `sbom.cdx.json`: CycloneDX 1.6 in JSON (ECMA-424, cyclonedx.org).

It names the programs with what is linked into them, the network with a model card, and what made them.
It has no time stamp, and its serial number follows from its content: the same bundle has the same bill.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.building.linked_parts import LinkedPart, read_linked_parts
from edgekit.bundles.manifest import describe_file, format_json

SBOM = "sbom.cdx.json"
_LICENCE = "Apache-2.0"
LIBRARIES = (".so", ".a")
# What CycloneDX takes as a licence's id; everything else is a name. SPDX has some 700: these are what models come with.
_SPDX_IDS = frozenset(
    (
        *(
            "AFL-3.0",
            "AGPL-3.0-only",
            "AGPL-3.0-or-later",
            "Apache-2.0",
            "BSD-2-Clause",
            "BSD-3-Clause",
        ),
        *(
            "BSL-1.0",
            "CC-BY-4.0",
            "CC-BY-NC-4.0",
            "CC-BY-NC-ND-4.0",
            "CC-BY-NC-SA-4.0",
            "CC-BY-SA-4.0",
            "CC0-1.0",
        ),
        *(
            "ECL-2.0",
            "EPL-2.0",
            "EUPL-1.2",
            "GPL-2.0-only",
            "GPL-2.0-or-later",
            "GPL-3.0-only",
            "GPL-3.0-or-later",
        ),
        *(
            "ISC",
            "LGPL-2.1-or-later",
            "LGPL-3.0-only",
            "LGPL-3.0-or-later",
            "MIT",
            "MPL-2.0",
            "NCSA",
            "ODbL-1.0",
        ),
        *("PDDL-1.0", "Unlicense", "WTFPL", "Zlib"),
    )
)


@dataclass(frozen=True)
class Tensor:
    """An input or output of the network.

    Attributes:
        name: Its name.
        dtype: Name of numpy's type.
        shape: Its sizes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Software:
    """A program or library of edgekit's.

    Attributes:
        file: Where it lies.
        toolchain: Stem of the toolchain file, "native", or "installed".
        compiler: What the compiler says of itself, "" for what came with edgekit.
    """

    file: Path
    toolchain: str
    compiler: str

    @property
    def parts(self) -> list[LinkedPart]:
        """What is linked into it."""
        return read_linked_parts(
            self.file, self.compiler if self.toolchain.startswith("zig") else ""
        )


@dataclass(frozen=True)
class Ingredients:
    """What a bill is written of.

    Attributes:
        title: Of the bundle.
        software: Programs and libraries, by their path in the bundle.
        networks: The forms of the network, likewise.
        model: Name of the source model.
        model_digest: Its SHA-256.
        model_license: SPDX id or name, "" where nobody said.
        inputs, outputs: Of the network.
        certificate: As `make_certificate` returns it.
        versions: Of edgekit and of the Python packages that took part.
    """

    title: str
    software: Mapping[str, Software]
    networks: Mapping[str, Path]
    model: str
    model_digest: str
    model_license: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    certificate: Mapping[str, Any]
    versions: Mapping[str, str]


def make_sbom(of: Ingredients) -> dict[str, Any]:
    """Returns the bill of materials."""
    linked = {name: software.parts for name, software in of.software.items()}
    parts = {_refer(part): part for found in linked.values() for part in found}
    bill: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [_describe_package("edgekit", of.versions["edgekit"])]},
            "component": {"bom-ref": "bundle", "type": "application", "name": of.title},
        },
        "components": [
            *(_describe_network(of, name) for name in sorted(of.networks)),
            *(_describe_software(of, name) for name in sorted(of.software)),
            *(_describe_part(parts[ref]) for ref in sorted(parts)),
        ],
        "dependencies": [
            {"ref": "bundle", "dependsOn": sorted([*of.networks, *of.software])},
            *(
                {"ref": name, "dependsOn": sorted(_refer(part) for part in linked[name])}
                for name in sorted(of.software)
            ),
        ],
        "formulation": [_describe_making(of)],
    }
    digest = hashlib.sha256(format_json(bill)).hexdigest()
    return bill | {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}"}


def _describe_network(of: Ingredients, name: str) -> dict[str, Any]:
    """Returns the component of a form of the network, with its model card and where it came from."""
    source: dict[str, Any] = {
        "type": "machine-learning-model",
        "name": of.model,
        "hashes": [_hash(of.model_digest)],
    }
    component = {
        "bom-ref": name,
        "type": "machine-learning-model",
        "name": name,
        "hashes": [_hash(describe_file(of.networks[name])["sha256"])],
        "modelCard": _make_model_card(of),
    }
    if of.model_license:
        source["licenses"] = component["licenses"] = [_describe_license(of.model_license)]
    return component | {
        "pedigree": {
            "ancestors": [source],
            "notes": "quantized, packed and written anew by edgekit; its weights are derived from the ancestor's",
        }
    }


def _make_model_card(of: Ingredients) -> dict[str, Any]:
    """Returns what is known of the network; what nobody measured is left out, as the certificate says."""
    calibration, quantization = of.certificate["calibration"], of.certificate["quantization"]
    samples = {
        "type": "dataset",
        "name": "calibration samples",
        "contents": {
            "properties": _list_properties(
                {
                    "samples": calibration["samples"],
                    "kind": calibration["kind"],
                    "sha256": calibration["sha256"],
                }
            )
        },
    }
    card: dict[str, Any] = {
        "modelParameters": {
            "datasets": [samples],
            "inputs": [{"format": str(tensor)} for tensor in of.inputs],
            "outputs": [{"format": str(tensor)} for tensor in of.outputs],
        },
        "properties": _list_properties({f"quantization:{k}": v for k, v in quantization.items()}),
    }
    if metrics := _list_metrics(of.certificate):
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    return card


def _list_metrics(certificate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns what was measured of the answers."""
    metrics = []
    agreement, evaluation = certificate["agreement"], certificate["evaluation"]
    if isinstance(agreement, dict):
        same = agreement["same_answer"]
        metrics.append(_measure("same answer as the float model", same, "calibration samples"))
    if isinstance(evaluation, dict):
        for name in ("float", "deployed"):
            found = evaluation[name]
            what = f"{evaluation['measure']}, {name}"
            if isinstance(found, dict):
                metrics.append(_measure(what, found, "evaluation samples"))
            else:
                metrics.append({"type": what, "value": str(found)})
    return metrics


def _measure(what: str, found: Mapping[str, Any], samples: str) -> dict[str, Any]:
    low, high = found["interval_95"]
    return {
        "type": what,
        "value": str(found["share"]),
        "slice": f"{found['total']} {samples}",
        "confidenceInterval": {"lowerBound": str(low), "upperBound": str(high)},
    }


def _describe_software(of: Ingredients, name: str) -> dict[str, Any]:
    return {
        "bom-ref": name,
        "type": "library" if name.endswith(LIBRARIES) else "application",
        "name": name,
        "version": of.versions["edgekit"],
        "hashes": [_hash(describe_file(of.software[name].file)["sha256"])],
        "licenses": [_describe_license(_LICENCE)],
    }


def _describe_part(part: LinkedPart) -> dict[str, Any]:
    component: dict[str, Any] = {"bom-ref": _refer(part), "type": "library", "name": part.name}
    if part.version:
        component["version"] = part.version
    if part.licence:
        component["licenses"] = [{"expression": part.licence}]
    return component


def _describe_making(of: Ingredients) -> dict[str, Any]:
    """Returns what took part and is not in the bundle."""
    components = [
        _describe_package(name, version)
        for name, version in sorted(of.versions.items())
        if name not in ("compiler", "edgekit")  # The latter is the tool, and named there.
    ]
    components += [
        {
            "bom-ref": f"made-by:{toolchain}",
            "type": "application",
            "name": toolchain,
            "version": compiler,
        }
        for toolchain, compiler in sorted(
            {(each.toolchain, each.compiler) for each in of.software.values() if each.compiler}
        )
    ]
    properties = {
        f"toolchain:{name}": software.toolchain for name, software in sorted(of.software.items())
    }
    return {
        "bom-ref": "making",
        "components": components,
        "properties": _list_properties(properties),
    }


def _describe_package(name: str, version: str) -> dict[str, Any]:
    return {
        "bom-ref": f"made-by:{name}",
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
    }


def _describe_license(license: str) -> dict[str, Any]:
    return {"license": {"id" if license in _SPDX_IDS else "name": license}}


def _list_properties(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"edgekit:{name}", "value": str(value)} for name, value in values.items()]


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest}


def _refer(part: LinkedPart) -> str:
    return f"linked:{part.name}@{part.version}"
