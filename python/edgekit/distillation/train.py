"""The loop: a teacher's answers, a student that is moved towards them, and a file to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgekit.distillation.adam import Adam
from edgekit.distillation.adapters import Adapters
from edgekit.distillation.answers import Answers
from edgekit.distillation.batches import Batches, SampleSource, hold_out, takes_batches, to_tensors
from edgekit.distillation.checkpoint import load_checkpoint, save_checkpoint
from edgekit.distillation.losses import Compared, compare_by, measure_loss
from edgekit.distillation.memory import keep_memory
from edgekit.distillation.network import GraphNetwork
from edgekit.distillation.settings import SOAP, Settings
from edgekit.distillation.solver import solve_zeros
from edgekit.distillation.sparsity import Growth, Zeros, grow
from edgekit.progress import Progress
from edgekit.targets.errors import EdgekitError

STAGE = "distilling"
_STEPS = 1000
# Batches that masks grow by, and steps that are timed to find how many fit into some minutes.
_MASK_BATCHES, _TIMED = 4, 3
# Seconds between two checkpoints.
_SAVE_EVERY = 30.0
# A rate's least unit, as part of the root mean square of the layer's own weights.
_LEAST_RMS = 1e-3


@dataclass(frozen=True)
class Training:
    """What was done.

    Attributes:
        steps: Steps of the optimizer, of ``planned`` ones.
        planned: Steps without an early end.
        best_step: After which the network was that was taken.
        loss_before: On held-out samples, before the first step, with the zeros and codes that the student came with.
        loss_after: Of the network that was taken.
        held_out: Samples that only were measured on.
        trained: Samples that were trained on.
        zeros: The share of layers' weights that is held at 0.
        history: Step and loss of each measurement.
    """

    steps: int
    planned: int
    best_step: int
    loss_before: float
    loss_after: float
    held_out: int
    trained: int
    zeros: float
    history: tuple[tuple[int, float], ...]


class _Trainer:
    """Everything that a step needs."""

    def __init__(
        self,
        teacher: GraphNetwork,
        student: GraphNetwork,
        samples: SampleSource,
        settings: Settings,
        growth: Growth | None,
    ) -> None:
        self.teacher, self.student, self.settings, self.growth = teacher, student, settings, growth
        self.samples = samples
        together = takes_batches(teacher, samples) and takes_batches(student, samples)
        self.micro = (settings.micro_batch or settings.batch) if together else 1
        train, held = hold_out(len(samples), settings.held_out, settings.seed)
        self.batches = Batches(samples, train, settings.batch, settings.seed)
        self.held = Batches(samples, held, settings.batch if together else 1, settings.seed)
        self.counts = len(train), len(held)
        self.places = train
        self.compared: Compared = compare_by(teacher.model.graph, student.model.graph, settings)
        self.outputs: Compared = replace(self.compared, features=())
        self.together = together
        self.answers = Answers(teacher, self.compared.wanted, together)
        self.zeros = Zeros(student)
        self.adapters = Adapters(student, self.zeros, settings)
        student.change = self.adapters.change
        student.precision = torch.bfloat16 if settings.precision == "bfloat16" else None
        teacher.precision = student.precision
        sizes = _list_parameters(student, self.adapters)
        self.optimizer = Adam(
            [(p, settings.learning_rate * size) for p, size in sizes],
            rotates=settings.optimizer == SOAP,
        )

    def gradients(self, places: Sequence[int]) -> None:
        """Adds the gradients of a step's samples up, some at a time."""
        self.optimizer.forget_gradients()
        for start in range(0, len(places), self.micro):
            part = places[start : start + self.micro]
            loss = self.loss(part, self.batches) * (len(part) / len(places))
            if not bool(torch.isfinite(loss)):
                raise EdgekitError(
                    "training diverged: the loss is not finite; take a smaller learning_rate"
                )
            loss.backward()
        self.zeros.mask_gradients()

    def loss(self, places: Sequence[int], batches: Batches) -> torch.Tensor:
        """Returns how far the student's answers are from the teacher's."""
        inputs = to_tensors(batches.read(places))
        wanted = self.answers.of(places, inputs)
        return measure_loss(
            wanted, self.student(inputs, self.compared.wanted), self.compared, self.settings
        )

    def measure(self) -> float:
        """Returns the loss of the outputs on what is held out, rounded as the network will be."""
        total, count = 0.0, 0
        compared, rounding = self.compared, self.student.rounding
        self.compared, self.student.rounding = self.outputs, True
        with torch.no_grad():
            for places in self.held.in_order():
                total += float(self.loss(places, self.held)) * len(places)
                count += len(places)
        self.compared, self.student.rounding = compared, rounding
        return total / max(count, 1)

    def begin_step(self, step: int, planned: int) -> None:
        """Takes what a step compares, and whether it rounds."""
        self.student.rounding = step >= (self.settings.round_from or 0.0) * planned
        alone = math.ceil(self.settings.features_until * planned)
        if self.compared.features and step >= alone:
            self.compared = self.outputs
            self.answers = Answers(self.teacher, self.outputs.wanted, self.together)
            self.keep_answers(planned - alone)

    def keep_answers(self, steps: int) -> None:
        """Asks the teacher once for each sample, where every one comes up in so many steps."""
        if steps >= self.batches.count:
            self.answers.keep(self.batches)
            self.answers.keep(self.held)

    def step(self, places: Sequence[int], rate: float) -> None:
        """Moves the student, at ``rate`` of its learning rates."""
        self.gradients(places)
        self.optimizer.step(rate)
        self.zeros.apply()

    def merged(self) -> dict[str, Any]:
        """Returns a snapshot of the student with its adapters in its weights."""
        snapshot = self.student.snapshot()
        with torch.no_grad():
            for name, _, _ in self.adapters.pairs():
                change = self.adapters.change(name)
                assert change is not None
                snapshot[name] = snapshot[name] + change
        return snapshot

    def grow(self, share: float) -> None:
        """Makes more weights 0."""
        assert self.growth is not None
        self.adapters.merge(self.student)
        if self.growth.solver:
            solve_zeros(self.student, self.zeros, self.growth, share, self.samples, self.places)
            return
        taken = self.batches.from_step(0)
        batches = [
            self.batches.read(next(taken)) for _ in range(min(_MASK_BATCHES, self.batches.count))
        ]
        if self.micro == 1:
            batches = [[sample] for batch in batches for sample in batch]
        grow(self.student, self.zeros, self.growth, share, batches)

    def count_steps(self) -> int:
        """Returns how many steps there are to be."""
        settings = self.settings
        if settings.epochs is not None:
            return max(round(settings.epochs * self.batches.count), 1)
        if settings.minutes is None:
            return settings.steps or _STEPS
        taken = self.batches.from_step(0)
        self.gradients(next(taken))
        start = time.perf_counter()
        for _ in range(_TIMED):
            self.gradients(next(taken))
        each = (time.perf_counter() - start) / _TIMED
        return max(int(60 * settings.minutes / max(each, 1e-6)), 1)


def train(
    teacher: GraphNetwork,
    student: GraphNetwork,
    samples: SampleSource,
    settings: Settings,
    *,
    growth: Growth | None = None,
    checkpoint: Path | None = None,
    key: str = "",
    progress: Progress,
) -> Training:
    """Trains ``student`` in place until it answers as ``teacher`` does; nothing depends on when it was interrupted.

    Args:
        teacher: Is not changed.
        student: Its zeros stay.
        samples: Inputs; nothing else is known of them.
        settings: How.
        growth: Zeros that it gets while it is trained.
        checkpoint: File to go on from, where it exists, and to save to.
        key: Names networks, samples and settings in the file.
        progress: Is told of each step.

    Raises:
        EdgekitError: The checkpoint is another's or cannot be written, or training diverges.
        ModelError: The networks have nothing that can be compared.
        CalibrationError: There is no sample.
    """
    saved = None if checkpoint is None else load_checkpoint(checkpoint, key)
    trainer = _Trainer(teacher, student, samples, settings, growth)
    if saved is None:
        state = _begin(trainer)
    else:
        state = saved
        _restore(trainer, saved)
    planned = state["planned"]
    events = _find_events(planned, settings, growth)
    settled = -1 if growth is None else max(growth.steps(planned))
    rounded = math.ceil((settings.round_from or 0.0) * planned)
    every = settings.measure_every or max(planned // 10, 1)
    trainer.keep_answers(planned)
    batches = trainer.batches.from_step(state["step"])
    last_saved = time.monotonic()
    progress(STAGE, state["step"], planned)
    with _float_rules(), keep_memory():
        while state["step"] < planned and not state["stopped"]:
            step = state["step"]
            trainer.begin_step(step, planned)
            for share in events.get(step, ()):
                trainer.student.renew() if share is None else trainer.grow(share)
            trainer.step(next(batches), _rate(step, planned, settings))
            state["step"] = step + 1
            if (step + 1) % every == 0 or step + 1 == planned:
                _judge(trainer, state, settled, rounded)
            if checkpoint is not None and (
                time.monotonic() - last_saved > _SAVE_EVERY
                or step + 1 == planned
                or state["stopped"]
            ):
                save_checkpoint(checkpoint, key, _freeze(trainer, state))
                last_saved = time.monotonic()
            progress(STAGE, state["step"], planned)
    best = state["best"]
    student.restore(best["student"])
    trainer.zeros.restore(best["zeros"])
    student.change = student.precision = teacher.precision = None
    student.rounding = True
    return Training(
        steps=state["step"],
        planned=planned,
        best_step=best["step"],
        loss_before=state["before"],
        loss_after=best["loss"],
        held_out=trainer.counts[1],
        trained=trainer.counts[0],
        zeros=trainer.zeros.share,
        history=tuple((int(step), float(loss)) for step, loss in state["history"]),
    )


def _begin(trainer: _Trainer) -> dict[str, Any]:
    before = trainer.measure()
    return {
        "step": 0,
        "planned": trainer.count_steps(),
        "before": before,
        "stopped": False,
        "worse": 0,
        # The least loss that patience is measured by.
        "least": before if trainer.growth is None else math.inf,
        "history": [],
        "best": {
            "loss": before if trainer.growth is None else math.inf,
            "step": 0,
            "student": trainer.student.snapshot(),
            "zeros": trainer.zeros.state(),
        },
    }


def _freeze(trainer: _Trainer, state: dict[str, Any]) -> dict[str, Any]:
    return {
        **state,
        "student": trainer.student.snapshot(),
        "adapters": trainer.adapters.state_dict(),
        "zeros": trainer.zeros.state(),
        "optimizer": trainer.optimizer.state(),
    }


def _restore(trainer: _Trainer, saved: dict[str, Any]) -> None:
    trainer.student.restore(saved.pop("student"))
    trainer.adapters.load_state_dict(saved.pop("adapters"))
    trainer.zeros.restore(saved.pop("zeros"))
    trainer.optimizer.restore(saved.pop("optimizer"))


def _find_events(
    planned: int, settings: Settings, growth: Growth | None
) -> dict[int, list[float | None]]:
    """Returns what happens before a step: zeros grow to a share, or, None, ranges are learned anew."""
    found: dict[int, list[float | None]] = {}
    if growth is not None:
        for step, share in growth.steps(planned).items():
            found.setdefault(step, []).append(share)
    for index in range(settings.calibrate_again):
        step = (index + 1) * (planned // 2) // settings.calibrate_again
        found.setdefault(step, []).append(None)
    if settings.round_from:
        found.setdefault(math.ceil((settings.round_from or 0.0) * planned), []).append(None)
    return found


def _judge(trainer: _Trainer, state: dict[str, Any], settled: int, rounded: int) -> None:
    """Measures, keeps what is better, and ends what becomes no better once zeros grow no more and steps round."""
    loss = trainer.measure()
    state["history"].append([state["step"], loss])
    if state["step"] <= settled:
        # What comes behind has more zeros.
        state["best"]["loss"] = state["least"] = math.inf
        return
    if loss < state["best"]["loss"]:
        state["best"] = {
            "loss": loss,
            "step": state["step"],
            "student": trainer.merged(),
            "zeros": trainer.zeros.state(),
        }
    if state["step"] <= rounded:
        # Steps that round begin anew: they may need some to come near what was better.
        state["least"] = math.inf
        return
    if loss < state["least"]:
        state["least"], state["worse"] = loss, 0
        return
    state["worse"] += 1
    patience = trainer.settings.patience
    state["stopped"] = bool(patience) and state["worse"] >= patience


def _rate(step: int, planned: int, settings: Settings) -> float:
    """Returns the part of the learning rate at a step: a ramp, then half a cosine."""
    ramp = settings.warm_up * planned
    if step < ramp:
        return (step + 1) / (ramp + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(planned - ramp, 1)))


def _list_parameters(
    student: GraphNetwork, adapters: Adapters
) -> list[tuple[torch.nn.Parameter, float]]:
    """Returns what is trained, and how large each is: of what begins at 0, how large its layer's weights are."""
    found: list[tuple[torch.nn.Parameter, float]] = []
    sizes = {name: _rms(parameter) for name, parameter in student.weights()}
    for node in student.nodes:
        names = [str(v.name) for v in node.inputs if v is not None and str(v.name) in sizes]
        peak = max((sizes[name] for name in names), default=_LEAST_RMS)
        for name in names:
            parameter = student.weight(name)
            if name not in adapters and all(parameter is not other for other, _ in found):
                found.append((parameter, max(sizes[name], peak, _LEAST_RMS)))
    for name, a, b in adapters.pairs():
        found += [(a, _rms(a)), (b, max(sizes[name], _LEAST_RMS))]
    found += [(parameter, max(_rms(parameter), 1e-12)) for parameter in student.further()]
    return found


def _rms(parameter: torch.Tensor) -> float:
    kept = parameter.detach()[parameter.detach() != 0]
    return float(kept.double().pow(2).mean().sqrt()) if kept.numel() else 0.0


@contextmanager
def _float_rules() -> Iterator[None]:
    """Lets numbers next to 0 be 0, as training makes many of them and CPUs are slow with them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
