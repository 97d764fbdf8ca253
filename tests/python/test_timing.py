from edgekit.timing import describe_machine, measure_interleaved


def test_calls_take_turns():
    order = []
    timings = measure_interleaved(
        {name: lambda name=name: order.append(name) for name in "ab"},
        threads=1,
        seconds=0.0,
        least_runs=10,
    )
    assert order == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * 10
    assert {timing.runs for timing in timings.values()} == {10}
    for timing in timings.values():
        assert 0 <= timing.low_ms <= timing.median_ms <= timing.high_ms


def test_calls_of_several_threads_warm_up_in_each_turn():
    order = []
    measure_interleaved(
        {name: lambda name=name: order.append(name) for name in "ab"},
        threads=2,
        seconds=0.0,
        least_runs=4,
    )
    assert order == ["a"] * 3 + ["b"] * 3 + ["a", "a", "b", "b"] * 4


def test_machine_says_what_it_is():
    machine = describe_machine()
    assert machine.cpu
    assert machine.cores >= 1
