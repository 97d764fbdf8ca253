"""A plugin for pytest: the fixture `edgekit_gate` lets a test pass if a bundle keeps what was promised.

    @pytest.mark.edgekit_gate(max_drop=0.01, max_mb=4)
    def test_bundle(edgekit_gate):
        edgekit_gate("dist", baseline="model.onnx", evaluate=accuracy)

What marker and call leave out is taken from pytest's settings, such as ``edgekit_gate_max_drop`` in pyproject.toml.
``--edgekit-sarif FILE`` writes what all gates found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgekit.targets.errors import EdgekitError

if TYPE_CHECKING:
    from edgekit.pipeline.result import GateResult

_PROPERTY = "edgekit_gate"
# By argument of the gate: how its setting is read, and what it is.
_SETTINGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "bundle": (Path, "the bundle that is to pass, from pytest's root folder"),
    "baseline": (Path, "what it is compared with: a bundle, or the float model"),
    "evaluate": (str, "module:function that takes a session"),
    "samples": (Path, "a folder of pictures or an .npz, in place of evaluate"),
    "labels": (Path, "names of the pictures' classes, or the class of each sample of an .npz"),
    "max_drop": (float, "how much of the figure may be lost"),
    "max_ms": (float, "the most milliseconds a run may take, by the median"),
    "max_mb": (float, "the most memory, in MB, that the native form may hold"),
    "confidence": (float, "that promises have to hold with"),
    "threads": (int, "that each network may use"),
    "seconds": (float, "how long to time both networks, in turns"),
    "record": (Path, "what `edgekit bench BUNDLE --on DEVICE --json` printed"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option and the settings."""
    group = parser.getgroup("edgekit")
    group.addoption("--edgekit-sarif", metavar="FILE", help="write what gates found as SARIF 2.1.0")
    for name, (_, words) in _SETTINGS.items():
        parser.addini(f"edgekit_gate_{name}", f"of edgekit_gate: {words}", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Names the marker, and listens to what gates find."""
    config.pluginmanager.register(_Findings(), "edgekit-gate-findings")
    config.addinivalue_line(
        "markers", "edgekit_gate(**arguments): what the fixture edgekit_gate is given"
    )


@pytest.fixture
def edgekit_gate(request: pytest.FixtureRequest) -> Callable[..., GateResult]:
    """Returns a function that fails the test unless a bundle keeps what was promised.

    It takes the arguments of `edgekit.gate`, besides ``samples`` and ``labels`` as paths and ``evaluate`` as
    ``module:function`` too, and returns what was found.
    """

    def check(bundle: str | Path | None = None, **arguments: Any) -> GateResult:
        marker = request.node.get_closest_marker("edgekit_gate")
        marked = {} if marker is None else marker.kwargs
        given = {**_read_settings(request.config), **marked, **arguments}
        if bundle is not None:
            given["bundle"] = bundle
        try:
            result = _run(given)
        except EdgekitError as error:
            pytest.fail(f"edgekit_gate: {error}", pytrace=False)
        request.node.user_properties.append((_PROPERTY, result.to_dict()))
        if result.exit_code:
            pytest.fail(str(result), pytrace=False)
        return result

    return check


def _read_settings(config: pytest.Config) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, (read, _) in _SETTINGS.items():
        text = str(config.getini(f"edgekit_gate_{name}")).strip()
        if not text:
            continue
        if name == "confidence" and text == "none":
            settings[name] = None
            continue
        try:
            value = read(text)
        except ValueError as error:
            raise pytest.UsageError(f"edgekit_gate_{name} = {text!r}: {error}") from error
        settings[name] = config.rootpath / value if isinstance(value, Path) else value
    return settings


def _run(given: Mapping[str, Any]) -> GateResult:
    from edgekit.pipeline.find_measure import choose_measure
    from edgekit.pipeline.gate import gate

    for name in ("bundle", "baseline"):
        if name not in given:
            raise EdgekitError(
                f"give {name}, in the call, its marker, or as the setting edgekit_gate_{name}"
            )
    arguments = dict(given)
    bundle = Path(arguments.pop("bundle"))
    labels, samples = arguments.pop("labels", None), arguments.get("samples")
    evaluate = arguments.get("evaluate")
    if isinstance(evaluate, str) or isinstance(samples, (str, Path)) or labels is not None:
        if evaluate is not None and not isinstance(evaluate, str):
            raise EdgekitError("evaluate goes in place of samples and labels: give one of the two")
        chosen = choose_measure(
            bundle,
            evaluate=evaluate,
            samples=None if samples is None else Path(samples),
            labels=None if labels is None else Path(labels),
            preprocessing=arguments.get("preprocessing"),
        )
        arguments |= {
            "evaluate": chosen.measure,
            "samples": chosen.samples,
            "preprocessing": chosen.preprocessing,
        }
    return gate(bundle, **arguments)


class _Findings:
    """What the gates of one run of pytest found."""

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes what a gate found, with xdist in another process."""
        if report.when == "call":
            found: list[Any] = [v for name, v in report.user_properties if name == _PROPERTY]
            self._found += found

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Says what gates found, and writes it where it is asked for."""
        if self._found:
            terminalreporter.section("edgekit gates")
        for result in self._found:
            paths = (result[who]["path"] for who in ("bundle", "baseline"))
            terminalreporter.write_line(f"{result['verdict']}: {' against '.join(paths)}")
            for check in result["checks"]:
                terminalreporter.write_line(f"  {check['rule']}: {check['message']}")
        if file := config.getoption("--edgekit-sarif"):
            from edgekit.pipeline.sarif import write_sarif

            write_sarif(Path(file), self._found, config.rootpath)
            terminalreporter.write_line(f"edgekit gates: written to {file}")
