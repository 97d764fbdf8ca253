"""`deploy(prune=)`: recipes, their errors, what plan and report have of them, and that "auto" is never slower."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import edgekit
from edgekit import _native
from edgekit.cli import app
from edgekit.converters.prune.break_even import read_table
from edgekit.converters.prune.channels import Budget, parse_budget
from edgekit.converters.prune.pattern import Blocks, KeepOfGroup, parse_pattern
from edgekit.converters.prune.sparsity import Zeros
from edgekit.inspection import inspect
from edgekit.pruning.choose import choose_pruning
from edgekit.pruning.recipe import Pruning, parse_pruning, read_pruning
from edgekit.report import read_report
from edgekit.report.pruning import PrunedLayer, PruningAccount
from edgekit.targets.errors import EdgekitError, PromiseError


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("none", Pruning()),
        ("auto", Pruning(auto=True)),
        ({}, Pruning()),
        ({"channels": 0.5}, Pruning(channels=0.5)),
        ({"4x32": 0.5}, Pruning(zeros=Zeros(Blocks(32, 4), 0.5))),
        ({"channels": "60% ms"}, Pruning(channels=Budget(0.6, "ms", {}))),
        ({"channels": "1.5 ms"}, Pruning(channels=Budget(1.0, "ms", {}, amount=1.5))),
        ({"channels": "800kB"}, Pruning(channels=Budget(1.0, "bytes", amount=8e5))),
        ({"channels": "30 MMACs"}, Pruning(channels=Budget(1.0, amount=3e7))),
        ({"2:4": 0.5}, Pruning(zeros=Zeros(KeepOfGroup(2, 4), 0.5))),
        ({"a:b/c": "4x32:0.75"}, Pruning(layers={"a:b/c": Zeros(Blocks(32, 4), 0.75)})),
        ({"conv": "1:4"}, Pruning(layers={"conv": Zeros(KeepOfGroup(1, 4), 0.75)})),
        (
            {"channels": 0.7, "4x16": 0.5, "conv": "2:4x16"},
            Pruning(0.7, Zeros(Blocks(16, 4), 0.5), {"conv": Zeros(KeepOfGroup(2, 4, 16), 0.5)}),
        ),
    ],
)
def test_recipes_are_read(given, wanted):
    assert read_pruning(given) == wanted
    assert bool(wanted) == (given not in ("none", {}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("most", "prune='most' is not supported"),
        (0.5, "prune=0.5 is not supported"),
        (["channels"], "is not supported"),
        ({"channels": 1.5}, "channels is a share above 0 and below 1, not 1.5"),
        ({"channels": True}, "not True"),
        ({"channels": "5 apples"}, "50% ms"),
        ({"4x32": "half"}, "4x32 is a share above 0 and below 1, not 'half'"),
        ({"4x32": 0.99}, r"at most 0\.95"),
        ({"2:4": 0.75}, r"2:4 makes 0\.5 of the weights 0, not 0\.75"),
        ({"4x32": 0.5, "4x16": 0.5}, "two patterns for all layers, 4x32 and 4x16"),
        ({"conv": 0.5}, "'conv' is no pattern, so it names a layer"),
        ({"conv": "4x32"}, "'conv' is no pattern, so it names a layer"),
        ({"conv": "4x32:much"}, "PATTERN:SHARE"),
        ({"conv": "4:0.5"}, "PATTERN:SHARE"),
        ({7: "4x32:0.5"}, "names a layer"),
    ],
)
def test_what_is_no_recipe_is_an_error_that_says_what_one_is(given, said):
    with pytest.raises(EdgekitError, match=said):
        read_pruning(given)


def test_the_command_line_spells_recipes():
    assert parse_pruning([]) == "none"
    assert parse_pruning(["auto"]) == "auto"
    assert parse_pruning(["4x32=0.5"]) == {"4x32": 0.5}
    assert parse_pruning(["a=b=4x32:0.5", "channels=0.5"]) == {"a=b": "4x32:0.5", "channels": 0.5}
    for items in (["auto", "channels=0.5"], ["=0.5"]):
        with pytest.raises(EdgekitError, match="KEY=VALUE"):
            parse_pruning(items)


WIDTH = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Convolutions whose channels have much in common, and samples."""
    random = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("prune") / "net.onnx"
    weights, nodes, source = {}, [], "x"
    for index, (inputs, kernel) in enumerate([(4, 3), (WIDTH, 1), (WIDTH, 1), (WIDTH, 1)]):
        rank = 8 if index else WIDTH
        shape = (WIDTH, inputs, kernel, kernel)
        low = (
            random.normal(size=(WIDTH, rank))
            @ random.normal(size=(rank, inputs * kernel**2))
            / np.sqrt(rank * inputs * kernel**2)
        )
        weights[f"w{index}"] = low.reshape(shape).astype(np.float32)
        weights[f"b{index}"] = random.normal(0, 0.1, WIDTH).astype(np.float32)
        conv = helper.make_node(
            "Conv",
            [source, f"w{index}", f"b{index}"],
            [f"c{index}"],
            f"conv{index}",
            pads=[kernel // 2] * 4,
        )
        nodes += [conv, helper.make_node("Relu", [f"c{index}"], [f"r{index}"], f"relu{index}")]
        source = f"r{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["y"], "pool"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 14, 14])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, WIDTH, 1, 1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    samples = random.normal(size=(20, 1, 4, 14, 14)).astype(np.float32)
    return path, [{"x": sample} for sample in samples]


def find_block(isa):
    blocks = [row.block for row in read_table() if row.isa == isa]
    if not blocks:
        pytest.skip(f"no sparse kernel of {isa} pays")
    return str(blocks[0])


@pytest.mark.slow
def test_a_plan_of_a_pruned_network_has_sparse_kernels_and_the_report_says_what_went(
    network, tmp_path
):
    path, samples = network
    block = find_block(_native.best_isa())
    deployment = edgekit.deploy(
        path,
        calibration=samples,
        output=tmp_path / "out",
        precision="int8",
        rounding="moments",
        recover="none",
        prune={block: 0.75},
    )
    pruning = deployment.report.pruning
    layers = {layer.name: layer for layer in pruning.layers}
    assert layers.keys() == {"conv1", "conv2", "conv3"}
    assert pruning.dense["conv0"] == "it reads an input of the network"
    for layer in layers.values():
        assert layer.pattern == block
        assert layer.macs_before == WIDTH * WIDTH * 14 * 14
        assert layer.macs == round(layer.density * layer.macs_before)
        assert layer.density < layer.break_even
        assert layer.speedup > 1
    zeros = sum(WIDTH * WIDTH * (1 - layer.density) for layer in layers.values())
    assert zeros / (3 * WIDTH * WIDTH) == pytest.approx(0.75, abs=0.05)
    assert any("of the multiplications" in note for note in deployment.report.notes)
    facts = {layer["name"]: layer for layer in inspect(deployment.path / "model.plan")["layers"]}
    for name in layers:
        (fact,) = [fact for key, fact in facts.items() if key.startswith(name)]
        assert "sparse" in fact["kernel"]
        assert fact["block"] == block
        assert float(fact["density"].rstrip("%")) == pytest.approx(
            100 * layers[name].density, abs=0.1
        )
        assert fact["faster"] == f"{layers[name].speedup:.2f} times"
        assert fact["by"].startswith(("measured: ", "instructions: "))
    read = deployment.report.save_json(tmp_path / "report.json")
    assert read_report(read).pruning == pruning
    assert "conv1" in deployment.report.to_html()
    assert "multiplications" in str(deployment.report)
    assert "What was pruned" in deployment.report.to_html()


def test_a_network_that_others_pruned_keeps_its_zeros_and_gets_sparse_kernels(network, tmp_path):
    path, samples = network
    block = parse_pattern(find_block(_native.best_isa()))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            weights = numpy_helper.to_array(tensor).copy()
            for first in range(0, WIDTH, 2 * block.columns):
                weights[:, first : first + block.columns] = 0
            tensor.CopyFrom(numpy_helper.from_array(weights, "w2"))
    onnx.save(model, tmp_path / "theirs.onnx")
    deployment = edgekit.deploy(
        tmp_path / "theirs.onnx",
        calibration=samples,
        output=tmp_path / "out",
        precision="int8",
        rounding="moments",
        recover="none",
    )
    layers = {layer["name"]: layer for layer in inspect(deployment.path / "model.plan")["layers"]}
    assert [name for name, layer in layers.items() if "density" in layer] == ["conv2"]
    assert layers["conv2"]["density"] == "50.0%"


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["8 kB", "60% ms"])
def test_channels_go_until_bytes_or_milliseconds_are_kept(network, tmp_path, budget):
    path, samples = network
    options = {"precision": "int8", "rounding": "moments", "recover": "none"}
    deployment = edgekit.deploy(
        path, calibration=samples, output=tmp_path, prune={"channels": budget}, **options
    )
    pruning = deployment.report.pruning
    assert pruning.recipe == f"channels {parse_budget(budget)}"
    assert pruning.bytes_share < 0.8
    if budget == "8 kB":
        assert pruning.bytes_share * (4 * 9 + 3 * WIDTH) * WIDTH <= 8000


@pytest.mark.slow
def test_a_budget_that_cannot_be_reached_says_how_far_it_goes(network, tmp_path):
    path, samples = network
    with pytest.raises(EdgekitError, match=r"cut down to .* bytes, not to .* as 10 bytes asks"):
        edgekit.deploy(path, calibration=samples, output=tmp_path, prune={"channels": "10 B"})
    with pytest.raises(EdgekitError, match=r"ms cannot be reached|cut down to"):
        edgekit.deploy(path, calibration=samples, output=tmp_path, prune={"channels": "1e-7 ms"})


def test_what_cannot_be_pruned_is_refused_at_once(network, tmp_path):
    path, samples = network
    with pytest.raises(EdgekitError, match="the native form alone faster, not onnx"):
        edgekit.deploy(
            path, calibration=samples, output=tmp_path, format="onnx", prune={"4x32": 0.5}
        )
    with pytest.raises(EdgekitError, match="prune is for one size"):
        edgekit.deploy(
            path,
            calibration=samples,
            output=tmp_path,
            shapes=[{"x": [1, 4, 14, 14]}, {"x": [1, 4, 7, 7]}],
            prune="auto",
        )
    result = CliRunner().invoke(
        app, ["deploy", str(path), "--calibration", str(tmp_path), "--prune", "conv1=0.5"]
    )
    assert result.exit_code != 0


class Forms:
    """Stands for forms: something that takes a time to run."""

    class Session:
        def __init__(self, seconds):
            self.seconds, self.clock = seconds, None

        def run(self, _sample):
            self.clock.advance(self.seconds)

    def __init__(self, seconds, snr_db, clock):
        self.session = Forms.Session(seconds)
        self.session.clock = clock
        self.forms, self.best, self.snr_db = self, self, snr_db


class Clock:
    def __init__(self):
        self.now = 0.0

    def advance(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(
    ("plans", "wanted"),
    [
        # Milliseconds and decibels of the recipes, in the order in which they are tried; the dense one takes 10.
        ([(8, 30), (6, 25), (9, 30), (7, 25)], 6),
        ([(8, 30), (6, 5), (9, 30), (7, 25)], 7),
        ([(8, 5), (6, 30), (9, 5), (7, 30)], None),
        ([(12, 30), (11, 30), (10, 30), (9.9, 30)], None),
    ],
)
def test_auto_takes_the_fastest_whose_milder_ones_answer_well_and_never_a_slower_one(
    plans, wanted, monkeypatch
):
    from edgekit.pruning import choose

    clock = Clock()
    monkeypatch.setattr("edgekit.timing.time.perf_counter", lambda: clock.now)
    recipes = [Pruning(channels=0.9 - 0.1 * index) for index in range(4)]
    monkeypatch.setattr(choose, "list_recipes", lambda _: [recipes[:2], recipes[2:]])
    dense = Forms(0.010, 30, clock)
    made = {
        str(recipe): Forms(ms / 1000, db, clock)
        for recipe, (ms, db) in zip(recipes, plans, strict=True)
    }
    layer = PrunedLayer("a", "channels", 0.5, 1, 2, 1, 2)

    class Recipe:
        formats, runs_here, threads, isa = ("native",), True, 1, "generic"

    asked = []

    def make(pruning):
        asked.append(str(pruning))
        return made[str(pruning)], PruningAccount(str(pruning), 0.5, 0.5, [layer])

    chosen = choose_pruning(
        dense, Recipe(), {}, lambda forms: forms.snr_db >= 20, make, lambda *_: None
    )
    if wanted is None:
        assert chosen.made is dense
        assert chosen.account.recipe == "none"
        assert not chosen.account.layers
    else:
        assert chosen.account.pruned_ms == pytest.approx(wanted)
        assert chosen.account.dense_ms == pytest.approx(10)
        assert chosen.made is made[chosen.account.recipe]
    assert len(chosen.account.tried) >= len(asked)


def test_where_promises_need_pruning_the_mildest_recipe_is_taken_that_keeps_them(monkeypatch):
    from edgekit.pruning import choose

    recipes = [Pruning(channels=0.9 - 0.1 * index) for index in range(3)]
    monkeypatch.setattr(choose, "list_recipes", lambda _: [recipes])
    broken = PromiseError("7 ms is the least")

    def make(pruning):
        if pruning.channels > 0.75:
            raise PromiseError("6 ms is the least")
        return str(pruning), PruningAccount(str(pruning), 0.5, 0.5)

    made, account = choose.find_promised(broken, None, make)
    assert made == "channels 0.7"
    assert account.tried == [
        "without pruning: 7 ms is the least",
        "channels 0.9: 6 ms is the least",
        "channels 0.8: 6 ms is the least",
    ]
    with pytest.raises(PromiseError, match="7 ms"):
        choose.find_promised(broken, None, lambda _: make(recipes[0]))


@pytest.mark.slow
def test_auto_says_what_it_tried(network, tmp_path):
    path, samples = network
    deployment = edgekit.deploy(
        path,
        calibration=samples,
        output=tmp_path / "out",
        precision="int8",
        rounding="moments",
        recover="none",
        prune="auto",
    )
    pruning = deployment.report.pruning
    assert pruning.tried
    if pruning.layers:
        assert pruning.pruned_ms < pruning.dense_ms
    else:
        assert pruning.recipe == "none"
    json.dumps(deployment.report.to_dict())


def test_why_nothing_was_pruned_is_told_by_how_many_layers_it_holds_for():
    reasons = {"a": "it reads an input of the network", "b": "no kernel", "c": "no kernel"}
    account = PruningAccount("3x7 0.5", 1.0, 1.0, [], reasons)
    told = "it reads an input of the network (1 of 3); no kernel (2 of 3)"
    assert account.describe() == f"nothing was pruned: {told}"
    assert PruningAccount("none", 1.0, 1.0).describe() == "nothing was pruned"
