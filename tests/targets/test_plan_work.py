"""What layers have to do, read from a plan, is what the program says that was lowered."""

from pathlib import Path

import pytest

from edgekit import PlanError, _native
from edgekit.converters.program import Program
from edgekit.converters.write_plan import write_plan
from edgekit.costs.cost_model import count_products
from edgekit.costs.plan_work import count_work


@pytest.mark.parametrize("isa", ["generic", "arm_neondot", "x86_avx512vnni"])
def test_products_are_those_of_the_program(
    tmp_path: Path, small_program: Program, isa: str
) -> None:
    plan = tmp_path / "small.plan"
    write_plan(small_program, plan, isa=isa, target="host", source_digest="5" * 64)
    work = count_work(plan)
    assert [item.op for item in work] == [op.name for op in _native.Plan.open(plan).ops]
    wanted = {op.name: count_products(small_program, op) for op in small_program.ops}
    assert {item.op: item.products for item in work} == {item.op: wanted[item.op] for item in work}
    assert sum(wanted.values()) > 0
    values = {op.name: small_program.tensors[op.output].size for op in small_program.ops}
    for item in work:
        assert item.values == values[item.op]
        assert item.bytes >= item.values


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.plan").write_bytes(b"EDGEKIT\n" + bytes(100))
    with pytest.raises(PlanError):
        count_work(tmp_path / "x.plan")
