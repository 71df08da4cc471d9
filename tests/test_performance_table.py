import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "performance_table.py"))
PAGE = (ROOT / "docs" / "performance.md").read_text()
ABOUT = {"date": "2000-01-01", "versions": {"jax": "1", "keras": None}, "device": "cpu"}
ABOUT |= {"processor": "some", "cores": 2}


def record(folder, name, rows):
    (folder / f"{name}.json").write_text(json.dumps({**ABOUT, "rows": rows}))


def test_the_page_is_that_of_the_recorded_results():
    assert SCRIPT["filled"](PAGE, ROOT / "benchmarks" / "results") == PAGE


def test_a_training_step_is_the_rounds_median_over_its_steps(tmp_path):
    both = {"jaxnets": {"seconds": [1e-3, 2e-3, 9e-3]}, "torch": {"seconds": [4e-3, 5e-3, 6e-3]}}
    row = {"network": "mlp", "batch": 1024, "steps": 10, "competitors": both}
    record(tmp_path, "train_step", [row])
    page = SCRIPT["filled"](PAGE, tmp_path)
    assert "Measured on 2000-01-01: some, 2 cores; jax 1.\n" in page
    assert "| network | batch | jaxnets, µs | torch |" in page
    assert "| mlp | 1,024 | 200 | 2.50 |" in page


def test_a_target_that_a_run_missed(tmp_path):
    one = {"reached": 2.0, "printed": 3.0, "accuracy": 97.6}
    both = {"jaxnets warm": [one], "torch": [one | {"reached": None, "printed": 6.0}]}
    rows = [{"model": "mlp", "target": 97.5, "competitors": both}]
    record(tmp_path, "time_to_accuracy", rows)
    page = SCRIPT["filled"](PAGE, tmp_path)
    assert "| mlp | jaxnets warm | 97.5 % | 2.0 | 3.0 | 1.00 | 97.60 % |" in page
    assert "| mlp | torch | 97.5 % | not in all runs | 6.0 | 2.00 | 97.60 % |" in page


def test_ordinary_networks_are_compared_in_a_row(tmp_path):
    found = {
        "jaxnets": {"seconds": [2e-3, 2e-3]},
        "torch eager": {"seconds": [3e-3, 5e-3]},
        "Keras": {"failed": "ValueError: no"},
    }
    row = {"what": "train", "dtype": "float32", "network": "cnn", "batch": 64, "steps": 2}
    other = {**row, "network": "gpt", "competitors": {"jaxnets": {"failed": "no"}}}
    record(tmp_path, "own_networks", [{**row, "competitors": found}, other])
    page = SCRIPT["filled"](PAGE, tmp_path)
    assert "| network | batch | jaxnets, µs | torch eager | Keras |" in page
    assert "| cnn | 64 | 1,000 | 2.00 | failed |\n| gpt | 64 | failed |  |  |" in page
    assert "bfloat16**" not in page


def test_a_page_without_a_place():
    with pytest.raises(SystemExit, match="the page has 0 places for train_step, expected one"):
        SCRIPT["filled"]("", ROOT)


def test_times_per_example_have_a_row_for_each_network(tmp_path):
    rows = [
        {
            "network": "cnn", "batch": batch, "steps": 2,
            "competitors": {"jaxnets": {"seconds": [seconds]}},
        }
        for batch, seconds in ((16, 0.0032), (1024, 1.024))
    ]  # fmt: skip
    record(tmp_path, "batch_sizes", rows)
    page = SCRIPT["filled"](PAGE, tmp_path)
    assert "| network | 16 | 1,024 |\n|---|---:|---:|\n| cnn | 100 | 500 |\n" in page
