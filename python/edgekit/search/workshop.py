"""Builds plans, runs them on calibration samples, and times them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from edgekit import _native
from edgekit.benchmark import is_sized, make_plan_inputs
from edgekit.choosing.closest import Candidate, Reference, compare
from edgekit.choosing.held_out import HeldOut
from edgekit.choosing.precision import Contest
from edgekit.converters.calibrate import Calibration, RangeChoice
from edgekit.converters.lower import lower
from edgekit.converters.number_formats import NumberFormat
from edgekit.converters.program import Program
from edgekit.converters.quantize import quantize
from edgekit.converters.sensitivity import Part, leave_depthwise, spell_formats
from edgekit.costs.cost_model import CostModel
from edgekit.costs.layer_costs import open_plan, sum_by_node, time_conversions, time_layers
from edgekit.forms import Recipe, build_forms
from edgekit.open_sizes import bind_shapes
from edgekit.progress import Progress, ignore_progress
from edgekit.search.estimate import PartTimes, sum_parts
from edgekit.search.front import MEASURED, MODELLED, Point
from edgekit.search.part_costs import Timed, find_part_costs
from edgekit.search.space import FLOAT32, Choice, spell
from edgekit.session import NativeSession
from edgekit.targets.errors import ModelError
from edgekit.timing import measure_rounds

_SECONDS = 3.0


@dataclass(frozen=True)
class Bench:
    """What a plan is built with and compared on.

    Attributes:
        calibration: Of the network.
        recipe: What is built.
        reference: What float answers.
    """

    calibration: Calibration
    recipe: Recipe
    reference: Reference


@dataclass
class Workshop:
    """What plans of one network are built with.

    Attributes:
        graph: The float model, simplified.
        calibration: What calibration learned of it.
        recipe: What is built.
        reference: What the float model answers.
        folder: Where forms are built.
        tell: Is told how far the search is.
        held: Samples that took no part in a calibration by the others; None where there are too few.
        trial: What is built with that calibration; None as ``recipe``.
        has_open_ranges: Whether it was left open how ranges are chosen.
    """

    graph: ir.Model
    calibration: Calibration
    recipe: Recipe
    reference: Reference
    folder: Path
    tell: Progress = ignore_progress
    held: HeldOut | None = None
    trial: Recipe | None = None
    has_open_ranges: bool = False
    _count: int = field(default=0, init=False)

    @property
    def latency(self) -> str:
        """Where times of plans come from."""
        if self.recipe.profile.isa != "auto":
            return MODELLED
        return MEASURED

    def time_parts(self, parts: Sequence[Part], ranges: RangeChoice) -> PartTimes:
        """Returns what parts take in each format: timed on this machine, or modelled for a board."""
        graph = bind_shapes(self.graph, self.reference.samples)
        wanted = dict.fromkeys(f for part in parts for f in part.formats)
        programs: dict[tuple[NumberFormat, bool], Program] = {}
        # Depthwise layers take parts from layers that write floats for them, which costs these more than writing codes.
        kinds = [(format, False) for format in (*wanted, FLOAT32)]
        kinds += [(format, True) for format in wanted if format.has_parts]
        for format, codes_between in kinds:
            chosen = {part.name: format for part in parts if format in part.formats}
            formats = spell_formats(graph.graph, parts, chosen)
            if codes_between:
                formats = leave_depthwise(graph.graph, formats)
            try:
                quantized = quantize(graph, self.calibration, method=ranges, formats=formats)
                programs[format, codes_between] = lower(quantized, self.recipe.batch)
            except ModelError:
                # Not all of them at once: its time is not known, and no plan has it.
                continue
        folder = self.folder / "costs"
        folder.mkdir(parents=True)
        if self.latency == MODELLED:
            model = CostModel.of_profile(self.recipe.profile, self.recipe.isa)
            times = {kind: model.time_layers(program) for kind, program in programs.items()}
            rates = model.time_conversions()
        else:
            isa = self.recipe.isa
            sessions = {
                _name(kind): open_plan(p, isa, self.recipe.threads, folder / f"{_name(kind)}.plan")
                for kind, p in programs.items()
            }
            timed = time_layers(sessions)
            times = {kind: timed[_name(kind)] for kind in programs}
            rates = time_conversions(isa, folder)
        layers = {
            format: sum_by_node(graph.graph, program, times[format, codes_between])
            for (format, codes_between), program in programs.items()
            if not codes_between
        }
        whole, but_depthwise = (
            {
                kind[0]: Timed(programs[kind], times[kind])
                for kind in programs
                if kind[1] is codes_between
            }
            for codes_between in (False, True)
        )
        in_parts = find_part_costs(graph.graph, parts, whole, but_depthwise)
        return sum_parts(parts, layers, rates, in_parts)

    @property
    def bench(self) -> Bench:
        """What layers are measured by: samples that took no part in what was learned, where there are any.

        Weights that are rounded by Hessians are closer to float's on samples that these were gathered from: of
        EfficientNet-Lite0's last layers in 12x8 an eighth of the noise is seen there that others have.
        """
        if self.held is None:
            return Bench(self.calibration, self.recipe, self.reference)
        return Bench(self.held.calibration, self.trial or self.recipe, self.held.apart)

    def build(
        self, parts: Sequence[Part], choice: Choice, ranges: RangeChoice, *, apart: bool = False
    ) -> Candidate:
        """Builds the forms of a plan and runs them on calibration samples.

        Args:
            parts: Of the network.
            choice: Their formats.
            ranges: How ranges are chosen.
            apart: Whether it is built and run by `bench`, to be judged, or by all samples, to be shipped.

        Raises:
            ModelError: A form cannot hold it.
        """
        self._count += 1
        spelled = spell(self.graph.graph, parts, choice)
        whole = Bench(self.calibration, self.recipe, self.reference)
        bench = self.bench if apart else whole
        forms = build_forms(
            self.graph,
            bench.calibration,
            ranges,
            bench.recipe,
            self.folder / f"plan-{self._count}",
            spelled.keep_float,
            spelled.dynamic,
            formats=spelled.formats,
        )
        return compare(forms, bench.reference)

    def build_again(self, best: Candidate, contest: Contest | None) -> Candidate:
        """Returns the forms of ``best``, which saw all samples, made and compared by `bench`; biases as they were."""
        if self.held is None:
            return best
        self._count += 1
        bench = self.bench
        forms = build_forms(
            self.graph,
            bench.calibration,
            best.forms.ranges,
            bench.recipe,
            self.folder / f"plan-{self._count}",
            None if contest is None else contest.keep_float,
            () if contest is None else contest.dynamic_layers,
        )
        return compare(forms, bench.reference)

    def describe(self, name: str, choice: Choice | None, candidate: Candidate) -> Point:
        """Returns what is known of a plan before it is timed."""
        forms = candidate.forms
        if forms.plan is None:
            path = forms.onnx or (forms.tflite and forms.tflite.path)
            size = path.stat().st_size if path else 0
            return Point(name, choice, candidate.noise, None, size, size, moved=candidate.moved)
        needs = _native.Plan.open(forms.plan).memory
        memory = needs.plan + needs.arena + self.recipe.threads * needs.scratch + needs.external
        size = forms.plan.stat().st_size
        return Point(name, choice, candidate.noise, None, size, memory, moved=candidate.moved)

    def time(
        self, built: Mapping[str, Candidate], seconds: float = _SECONDS, rounds: int = 31
    ) -> dict[str, list[float]]:
        """Returns the milliseconds of runs of each plan, in turns; of a board one modelled figure; empty if unknown.

        Args:
            built: Plans by their names.
            seconds: About how long to measure in all.
            rounds: In how many rounds, each of which gives a median.
        """
        if self.latency == MODELLED:
            model = CostModel.of_profile(self.recipe.profile, self.recipe.isa)
            return {
                name: [sum(model.time_layers(candidate.forms.program)) / 1000]
                for name, candidate in built.items()
                if candidate.forms.program is not None
            }
        sessions = {name: candidate.forms.session for name, candidate in built.items()}
        if not all(is_sized(session.inputs) for session in sessions.values()):
            return {}
        sample = self.reference.samples[0]
        calls = {
            name: partial(
                session.run,
                make_plan_inputs(session) if isinstance(session, NativeSession) else sample,
            )
            for name, session in sessions.items()
        }
        return measure_rounds(calls, threads=self.recipe.threads, seconds=seconds, rounds=rounds)


def with_time(point: Point, times: Mapping[str, Sequence[float]]) -> Point:
    """Returns ``point`` with the median of its times."""
    own = times.get(point.name)
    return replace(point, milliseconds=statistics.median(own) if own else None)


def _name(kind: tuple[NumberFormat, bool]) -> str:
    """Returns what the plan of a format is called, with or without its depthwise layers."""
    format, codes_between = kind
    return f"{format.value}-but-depthwise" if codes_between else format.value
