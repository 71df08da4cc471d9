"""Each notebook runs from its first cell to its last, and is stored without outputs."""

from pathlib import Path

import matplotlib
import nbformat
import pytest

from jaxnets.interop import trace_difference
from jaxnets.training import Summary

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4) for path in sorted(FOLDER.glob("*.ipynb"))
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a notebook's code on a few examples, and returns its namespace."""
    from matplotlib import pyplot

    backend = matplotlib.get_backend()
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXNETS_QUICK", "1")

    def run(name):
        names = {"__name__": "__main__"}
        for cell in NOTEBOOKS[name].cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, f"{name}.ipynb {cell.id}", "exec"), names)
        return names

    yield run
    pyplot.close("all")
    pyplot.switch_backend(backend)


def test_a_first_network_learns(run):
    names = run("first_network")
    assert names["run"].test.accuracy > 0.5
    assert names["own"].test.accuracy > 0.4
    assert names["answers"].shape == (512,)


def test_a_model_of_pytorch_trains_in_jaxnets_and_returns(run):
    names = run("port_your_pytorch_model")
    assert names["trace"].first is None
    assert names["here"].accuracy == pytest.approx(names["before"], abs=0.005)
    assert names["run"].test.loss < names["here"].loss
    assert names["after"] == pytest.approx(names["run"].test.accuracy, abs=0.005)
    back = trace_difference(
        names["run"].model, names["torch_net"], names["images"], to_ours=lambda x: x.swapaxes(1, 2)
    )
    assert back.first is None


def test_many_seeds_have_a_mean_and_an_interval(run):
    names = run("many_seeds")
    assert names["accuracies"].shape == (3, 2)
    assert names["runs"].accuracy == Summary.of(names["accuracies"][:, -1])
    assert (names["lows"] < names["highs"]).all()
    drawn = names["ax"].lines[-1].get_ydata()
    assert drawn[-1] == pytest.approx(100 * names["runs"].accuracy.mean)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_valid_and_stripped(name):
    notebook = NOTEBOOKS[name]
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.metadata == {}
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_first_cell_of_code_installs_what_is_missing(name, monkeypatch):
    first = next(cell for cell in NOTEBOOKS[name].cells if cell.cell_type == "code")
    calls = []
    monkeypatch.setattr("subprocess.run", lambda command, check: calls.append((command, check)))
    exec(first.source, {})
    assert calls == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec(first.source, {})
    ((command, check),) = calls
    assert command[1:] == ["-m", "pip", "install", "--quiet", "..[torch]"]
    assert check


def test_the_readme_links_every_notebook():
    readme = (FOLDER.parent / "README.md").read_text()
    assert [name for name in NOTEBOOKS if f"(notebooks/{name}.ipynb)" not in readme] == []
    assert list(NOTEBOOKS) == ["first_network", "many_seeds", "port_your_pytorch_model"]
