"""The report of benchmarks/gpu.py, on tiny models and whatever device there is."""

import sys

import pytest
from documents import ROOT


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    known = set(sys.modules)
    import gpu  # noqa: PLC0415 - a script, not a package

    yield gpu
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(ROOT / "benchmarks")):
            del sys.modules[name]


@pytest.mark.slow
def test_every_row_has_a_time_and_products_a_fraction_of_what_the_device_can_do(gpu, capsys):
    assert gpu.main(["--quick"]) == 0
    table = capsys.readouterr().out.split("### Models")[1]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if "|" in line][2:]
    assert {row[0] for row in rows} == gpu.MODELS.keys()
    assert {row[2] for row in rows} == {"training step", "encoded row", "decoder step"}
    assert {row[1] for row in rows if row[0] == "BERT-base"} == gpu.QUICK
    for _, _, _, ms, products, _, _ in rows:
        assert float(ms) > 0
        assert 0 < float(products.removesuffix("%")) < 100
    # Of one model's rows, all have the same products, so the fraction is in proportion to 1 / time.
    (first, second) = [row for row in rows if row[0].startswith("Llama") and row[2] == "training step"]
    times, fractions = [float(row[3]) for row in (first, second)], [float(row[4][:-1]) for row in (first, second)]
    assert times[0] * fractions[0] == pytest.approx(times[1] * fractions[1], rel=0.3)
