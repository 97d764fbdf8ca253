"""What of a device's heat, power and accelerators its dump tells."""

import re
from dataclasses import dataclass
from pathlib import Path

from edgekit.targets.probe.dump import Dump, natural_order
from edgekit.targets.sections import Accelerators, Thermal

SAMPLE_SCRIPT = Path(__file__).parent / "sample.sh"
_HWMON = "/sys/class/hwmon"
_THERMAL = "/sys/class/thermal"
_POWERCAP = "/sys/class/powercap"
# What edgekit calls the libraries that `probe.sh` looks for.
_LIBRARIES = {
    "libnvinfer": "TensorRT",
    "libcudart": "CUDA",
    "libcudnn": "cuDNN",
    "libcublas": "cuBLAS",
    "libedgetpu": "Edge TPU",
    "libvx_delegate": "VX delegate",
    "libethosu_delegate": "Ethos-U delegate",
    "libarmnnDelegate": "Arm NN delegate",
    "librknnrt": "RKNN",
    "libhailort": "HailoRT",
    "libQnnTFLiteDelegate": "QNN delegate",
    "libOpenCL": "OpenCL",
    "libvulkan": "Vulkan",
    "libtensorflowlite": "TensorFlow Lite",
    "libonnxruntime": "ONNX Runtime",
}


@dataclass(frozen=True)
class Rail:
    """A sensor of power or energy.

    Attributes:
        name: As the kernel labels it.
        kind: "energy" (a counter of microjoules), "power" (microwatts), "milliwatts", or "current" (milliamperes, to be
            multiplied by `volts`' millivolts).
        path: The file.
        volts: For "current": the file with its voltage.
        range_uj: For "energy": where the counter begins again.
        readable: Whether whoever probed may read it.
    """

    name: str
    kind: str
    path: str
    volts: str | None = None
    range_uj: int | None = None
    readable: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.path}"


def list_rails(dump: Dump) -> list[Rail]:
    """Returns the sensors from which power can be told: RAPL's counters, and INA and other chips of hwmon."""
    rails = []
    denied = set(dump.denied)
    folders = {path.rsplit("/", 1)[0] for path in [*dump.files, *dump.denied]}
    for folder in sorted(folders, key=natural_order):
        if folder.startswith(_POWERCAP):
            path = f"{folder}/energy_uj"
            if path in dump.files or path in denied:
                name = dump.text(f"{folder}/name") or folder.rsplit("/", 1)[1]
                span = dump.positive(f"{folder}/max_energy_range_uj")
                rails.append(Rail(f"rapl {name}", "energy", path, None, span, path not in denied))
        elif folder.startswith(_HWMON):
            rails += _list_hwmon(dump, folder)
        elif "/ina3221x/" in folder:
            for path in dump.match(f"{folder}/in_power[0-9]*_input"):
                index = path.rsplit("in_power", 1)[1].removesuffix("_input")
                name = dump.text(f"{folder}/rail_name_{index}") or f"rail {index}"
                rails.append(Rail(f"ina3221x {name}", "milliwatts", path))
    return rails


def _list_hwmon(dump: Dump, folder: str) -> list[Rail]:
    """Returns the rails of one chip: its power where it tells that, else current times voltage."""
    chip = dump.text(f"{folder}/name") or folder.rsplit("/", 1)[1]
    rails = []
    for path in dump.match(f"{folder}/power[0-9]*_input") or dump.match(
        f"{folder}/power[0-9]*_average"
    ):
        index = re.sub(r"\D", "", path.rsplit("/", 1)[1])
        label = dump.text(f"{folder}/power{index}_label") or f"power{index}"
        rails.append(Rail(f"{chip} {label}", "power", path))
    if rails:
        return rails
    for path in dump.match(f"{folder}/curr[0-9]*_input"):
        index = re.sub(r"\D", "", path.rsplit("/", 1)[1])
        volts = f"{folder}/in{index}_input"
        # An INA3221 names its three channels by in1 to in3; in4 and on are voltages of its shunts.
        if dump.number(volts) is None or (chip == "ina3221" and index not in ("1", "2", "3")):
            continue
        label = (
            dump.text(f"{folder}/in{index}_label")
            or dump.text(f"{folder}/curr{index}_label")
            or f"curr{index}"
        )
        rails.append(Rail(f"{chip} {label}", "current", path, volts))
    return rails


def read_thermal(dump: Dump) -> Thermal:
    """Returns the thermal zones, and from which temperature on the kernel slows the processor down."""
    zones = []
    throttle: list[tuple[float, str]] = []
    for path in dump.match(f"{_THERMAL}/thermal_zone[0-9]*/type"):
        folder = path.removesuffix("/type")
        kind = dump.text(path)
        zones.append(f"{kind}: {folder}")
        if not kind or not re.search(r"cpu|soc|package|x86_pkg", kind, re.IGNORECASE):
            continue
        for trip in dump.match(f"{folder}/trip_point_[0-9]*_type"):
            degrees = trip.removesuffix("_type") + "_temp"
            value = dump.positive(degrees)
            if dump.text(trip) == "passive" and value:
                throttle.append((value / 1000, degrees))
    if not throttle:
        return Thermal(zones=tuple(zones))
    degrees_c, source = min(throttle)
    return Thermal(zones=tuple(zones), throttle_c=degrees_c, source={"throttle_c": source})


def read_accelerators(dump: Dump) -> Accelerators:
    """Returns engines and delegates, each once with the fullest version that a file's name holds, and device files."""
    found: dict[str, tuple[str, str]] = {}
    devices = []
    for path in dump.present:
        if path.startswith("/dev/"):
            devices.append(path)
            continue
        name, _, version = path.rsplit("/", 1)[1].partition(".so")
        title = _LIBRARIES.get(name)
        if title is None:
            continue
        version = version.strip(".")
        known = found.get(title)
        if known is None or len(version) > len(known[0]):
            found[title] = (version, path)
    libraries = tuple(
        f"{title} {version}: {path}" if version else f"{title}: {path}"
        for title, (version, path) in sorted(found.items())
    )
    return Accelerators(libraries=libraries, devices=tuple(devices))
