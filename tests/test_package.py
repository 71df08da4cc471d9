"""The wheel, installed and used outside the repository."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import jaxnets

ROOT = Path(__file__).parent.parent
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*PIP, *build], check=True)
    (path,) = folder.iterdir()
    return path


def test_the_wheel_holds_data_types_and_licence_and_nothing_of_the_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert wheel.name == f"jaxnets-{jaxnets.__version__}-py3-none-any.whl"
    for bundled in ("mnist.npz", "engel.csv", "elnino.csv"):
        assert {f"jaxnets/data/{bundled}", f"jaxnets/data/{bundled}.license"} <= set(names)
    assert {"jaxnets/py.typed", "jaxnets_command.py"} <= set(names)
    kernels = (ROOT / "jaxnets" / "layers" / "native").glob("*.[ch]*")
    assert {str(path.relative_to(ROOT)) for path in kernels} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "docs", "examples"))]


@pytest.mark.slow
def test_the_installed_wheel_trains_on_mnist(wheel, tmp_path):
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    script = """
import runpy, jaxnets
print(jaxnets.__file__)
runpy.run_module("jaxnets", run_name="__main__")
"""
    train = [sys.executable, "-c", script, "train", "mnist-mlp", "--epochs", "1", "--json"]
    done = subprocess.run(
        train, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert Path(done.stdout.splitlines()[0]).is_relative_to(site)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["test_total"] == 10_000
    assert result["test_accuracy"] > 0.93


def test_the_citation_says_what_the_schema_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"].startswith("jaxnets: ")
    assert citation["authors"] == [{"name": "The jaxnets authors"}]
    assert "version" not in citation  # it is only in jaxnets/__init__.py
