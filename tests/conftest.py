"""Orders the tests, reports those skipped for want of a cross compiler or an emulator, and fails where it must."""

import os

import pytest

_REQUIRED = os.environ.get("EDGEKIT_REQUIRE_CROSS") == "1"
_left_out: list[str] = []


def pytest_addoption(parser):
    parser.addoption(
        "--vm-cuts",
        type=int,
        default=3,
        help="how often tests/vm/test_power_cuts.py cuts an emulated board's power (default: %(default)s)",
    )


def pytest_runtest_logreport(report):
    if report.skipped and "cross" in report.keywords:
        reason = report.longrepr[2] if isinstance(report.longrepr, (tuple, list)) else ""
        _left_out.append(f"{report.nodeid} ({reason.removeprefix('Skipped: ')})")


def pytest_terminal_summary(terminalreporter):
    if _left_out:
        verdict = "required, so this run fails" if _REQUIRED else "not required"
        terminalreporter.section(f"LEFT OUT: cross-built or emulated parts ({verdict})")
        for line in _left_out:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items):
    """Puts files with slow tests first, so that no worker begins one when the others are done."""
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if _left_out and _REQUIRED:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
