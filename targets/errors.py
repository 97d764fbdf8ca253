"""Errors that edgekit raises for a user's mistake or a machine's lack: each says what, where and what to do."""

from collections.abc import Mapping


class EdgekitError(Exception):
    """Base class of every error that edgekit raises on purpose."""


class TargetError(EdgekitError):
    """A board or profile is unknown, invalid or cannot do what was asked."""


class ToolError(EdgekitError):
    """A compiler, emulator or other program is missing or failed."""


class ModelError(EdgekitError):
    """A model file cannot be read, or holds what a form cannot express; names the node."""


class CalibrationError(EdgekitError):
    """Calibration data is missing, has the wrong shape or holds values that are not finite."""


class PlanError(EdgekitError):
    """A plan or bundle is damaged, or was made for a CPU that this is not."""


class SignatureError(EdgekitError):
    """A key or signature cannot be read, or the signature is not that key's or not of this."""


class DeviceError(EdgekitError):
    """A device refused a bundle or a command; the message holds its reason."""


class AccuracyError(EdgekitError):
    """Compression costs more accuracy than the caller is ready to lose."""


class PromiseError(AccuracyError):
    """No plan keeps all that was to be promised; the message tells the nearest one.

    Attributes:
        nearest: It and its figures, in a form that JSON can hold.
    """

    def __init__(self, message: str, nearest: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.nearest = dict(nearest or {})


class RemoteError(EdgekitError):
    """A server cannot be reached, does not answer in time, refuses, or serves something else than it should."""
