"""Follows the instructions of CONTRIBUTING.md in copies of the project, and runs their tests."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests import quick_compilation

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

#: The files that each section of CONTRIBUTING.md changes: pairs of an existing line and the text
#: to insert after it. A new file has one pair without a line; "" means the end of the file.
WALKS = {
    "Add a layer": {
        "jaxnets/layers/activation.py": [
            (
                "",
                '''

class Squareplus(nnx.Module):
    """The mean of x and √(x² + b): ``torch.nn.Squareplus`` of this test.

    Args:
        b: the value added under the root, ≥ 0.

    Raises:
        ValueError: if b is negative.
    """

    def __init__(self, b: float = 4.0) -> None:
        self.b = check_number("b", b, least=0)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return (x + jnp.sqrt(x * x + self.b)) / 2
''',
            )
        ],
        "jaxnets/layers/__init__.py": [
            ("    Softsign,", "    Squareplus,"),
            ('    "Softsign",', '    "Squareplus",'),
        ],
        "jaxnets/interop/table.py": [
            (
                '    "Softsign": Layer(layers.Softsign),',
                '    "Squareplus": Layer(layers.Squareplus),',
            )
        ],
        "tests/parity/layer_cases.py": [
            (
                "import torch",
                """

class _Squareplus(torch.nn.Module):
    def __init__(self, b=4.0):
        super().__init__()
        self.b = b

    def forward(self, x):
        return (x + torch.sqrt(x * x + self.b)) / 2


torch.nn.Squareplus = _Squareplus
""",
            ),
            ('    Case("Softsign", (), (KINKS,)),', '    Case("Squareplus", (2.0,), (KINKS,)),'),
        ],
    },
    "Add a network and its recipe": {
        "jaxnets/models/perceptron.py": [
            (
                None,
                '''"""The smallest network."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike
from jaxnets.layers import Linear
from jaxnets.layers.flatten import flatten_to


class Perceptron(nnx.Module):
    """One linear layer, ``fc``.

    Args:
        in_features: number of values in an example.
        out_features: number of classes.
        rngs: source of the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer.
    """

    def __init__(
        self,
        in_features: int = 784,
        out_features: int = 10,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        self.fc = Linear(in_features, out_features, rngs=rngs, param_dtype=param_dtype)

    @property
    def options(self) -> dict[str, int]:
        """The arguments that make a network of these sizes, except for ``rngs``."""
        return {"in_features": self.fc.in_features, "out_features": self.fc.out_features}

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Returns logits [batch, out_features].

        Args:
            inputs: [batch, ...] with in_features values an example.
        """
        return self.fc(flatten_to(self.fc.in_features, inputs))
''',
            )
        ],
        "jaxnets/models/__init__.py": [
            (
                "from jaxnets.models.mlp import MLP",
                "from jaxnets.models.perceptron import Perceptron",
            ),
            ('    "mlp": MLP,', '    "perceptron": Perceptron,'),
            ('    "LinearRegression",', '    "Perceptron",'),
        ],
        "jaxnets/recipes/images.py": [
            (
                "RECIPES = (",
                """    Recipe(
        name="mnist-perceptron",
        document="a network of this test",
        expect="92 % in a few seconds",
        data="mnist",
        model="perceptron",
        model_options={"in_features": 784, "out_features": 10},
        optimizer_options={"lr": 0.01},
        epochs=2,
    ),""",
            )
        ],
        "tests/networks.py": [
            ("    LinearRegression,", "    Perceptron,"),
            (
                "CASES = {",
                '    "perceptron": Case(lambda rngs: Perceptron(8, 10, rngs=rngs), (8,), 10),',
            ),
        ],
    },
    "Add an optimizer": {
        "jaxnets/optimizers/signum.py": [
            (
                None,
                '''"""Signum."""

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers.scalars import Hyperparameter
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, zeros


def signum(
    lr: Hyperparameter = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.Signum`` of this test: p ← p - lr sign(m), m ← μ m + g.

    Slots: ``momentum_buffer`` (m).

    Args:
        lr: the learning rate, a number or a schedule.
        momentum: μ.
        weight_decay: λ; λ p is added to the gradient g.
        maximize: whether to maximize the objective.

    Raises:
        InputError: if a value is out of its range.
    """
    momentum = check_number("momentum", momentum, least=0)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        return {"lr": lr}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        mean = momentum * kept["momentum_buffer"] + g
        return -k["lr"] * jnp.sign(mean), {"momentum_buffer": mean}

    return from_rule(
        rule,
        coefficients,
        {"momentum_buffer": zeros},
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
    )
''',
            )
        ],
        "jaxnets/optimizers/__init__.py": [
            (
                "from jaxnets.optimizers.sgd import sgd",
                "from jaxnets.optimizers.signum import signum",
            ),
            ('    "sgd": sgd,', '    "signum": signum,'),
            ('    "sgd",', '    "signum",'),
        ],
        "tests/parity/test_optimizers.py": [
            (
                'SHAPES = {"matrix": (3, 4), "vector": (5,), "one": (1,)}',
                """

class Signum(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, momentum=0.9, weight_decay=0, *, maximize=False):
        options = {"momentum": momentum, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, {"lr": lr, **options})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                g = -p.grad if group["maximize"] else p.grad
                g = g + group["weight_decay"] * p
                m = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                m.mul_(group["momentum"]).add_(g)
                p.sub_(group["lr"] * m.sign())

""",
            ),
            ('    "sgd": torch.optim.SGD,', '    "signum": Signum,'),
            ('    "sgd": {"lr": 0.003},', '    "signum": {"lr": 0.003, "momentum": 0.7},'),
            ("FORMS = {", '    "signum": DECAY,'),
        ],
    },
    "Add a command": {
        "jaxnets/commands/hello.py": [
            (
                None,
                '''"""``jaxnets hello``: a command of this test."""

import click


@click.command()
@click.option("--name", default="you", show_default=True, help="Whom to greet.")
def hello_command(name: str) -> None:
    """Print a greeting."""
    click.echo(f"hello {name!r}")
''',
            )
        ],
        "jaxnets/cli.py": [
            (
                "COMMANDS = {",
                '    "hello": Entry(_USE, "hello:hello_command", "Print a greeting."),',
            )
        ],
        "tests/test_arguments.py": [("WORDS = {", '    "hello": [],')],
    },
}
MOST = {
    "Add a layer": 4,
    "Add a network and its recipe": 4,
    "Add an optimizer": 3,
    "Add a command": 3,
}
#: The tests to run in the copy: files, and words in the names of their tests.
BATTERIES = (
    *("tests/parity/test_layer_cases.py", "tests/parity/test_optimizers.py"),
    *("tests/test_models.py", "tests/test_networks.py", "tests/test_recipes.py"),
    *("tests/test_optimizers.py", "tests/test_arguments.py", "tests/test_api_reference.py"),
    *("tests/test_cli.py", "tests/test_architecture.py"),
)
NAMES = "Squareplus or erceptron or signum or hello or reference or summar or rooms"


def add(copy: Path, changes: dict) -> None:
    for name, pairs in changes.items():
        path = copy / name
        for anchor, text in pairs:
            if anchor is None:
                assert not path.exists()
                path.write_text(text)
                continue
            old = path.read_text()
            if anchor == "":
                path.write_text(old.rstrip("\n") + "\n" + text)
                continue
            assert f"\n{anchor}\n" in old, f"{name} has no line {anchor!r}"
            path.write_text(old.replace(f"\n{anchor}\n", f"\n{anchor}\n{text}\n", 1))


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_names_the_files_that_it_changes(walk):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition(f"### {walk}\n")[2].partition("\n#")[0]
    named = re.findall(r"^\d\. `([^`]+)`", section, re.M)
    assert 0 < len(named) <= MOST[walk]
    patterns = [re.escape(name).replace("…", "[a-z_]+") for name in named]
    for changed in WALKS[walk]:
        assert any(re.fullmatch(pattern, changed) for pattern in patterns), changed


def test_what_the_walks_add_passes_the_tests(tmp_path):
    for name in ("jaxnets", "tests", "docs/api", "scripts", "examples"):
        leave = shutil.ignore_patterns("__pycache__", "*.so", "port_zoo")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=leave)
    for name in ("pyproject.toml", "jaxnets_command.py", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    for changes in WALKS.values():
        add(tmp_path, changes)
    pytest_ = [sys.executable, "-m", "pytest", "-q", "--numprocesses=0", "-p", "no:cacheprovider"]
    pytest_ += ["-m", ""]  # the slow ones too
    environment = quick_compilation.environment() | {"PYTHONPATH": str(tmp_path)}
    environment["JAXNETS_TEST_CACHE"] = jax.config.jax_compilation_cache_dir
    done = subprocess.run(
        [*pytest_, *BATTERIES, "-k", NAMES],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 40
