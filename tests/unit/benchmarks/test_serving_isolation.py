"""Does the benchmark of versions in processes of their own compare figures of the same round?"""

from types import SimpleNamespace

from benchmarks import serving_isolation


def test_the_difference_is_of_figures_of_one_round():
    one = SimpleNamespace(latencies_ms={"one number": [1.0, 4.0, 2.0]})
    own = SimpleNamespace(latencies_ms={"one number": [1.5, 4.2, 3.0]})
    text = serving_isolation.difference(one, own)
    assert text == "a call costs more: of one number 0.50 (0.20 to 1.00) ms"  # 0.5, 0.2, 1
