"""Each pair of the phrasebook has equal results, or is marked as different."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.pages import blocks
from tests.phrases import check, difference, pairs, sections

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parent.parent / "docs" / "phrasebook.md").read_text()
SECTIONS = sections(PAGE)

#: Names of PyTorch in the documents 003 and 004.
NAMED = [
    "torch.tensor", "torch.from_numpy", "numpy()", "torch.rand(", "torch.randn(", "torch.zeros",
    "torch.ones", "torch.empty", "torch.full(", "torch.arange", "torch.eye", "torch.cat",
    "torch.stack", "torch.matmul", "torch.sigmoid", "torch.transpose", "torch.add", "torch.inverse",
    "torch.max(", "torch.randint", "torch.no_grad", "Variable(", ".view(", ".repeat(",
    ".max(dim=1)",
    ".float()", ".mean()", ".pow(", ".size()", ".size(0)", ".sum()", ".item()", ".data", "type(",
    ".backward()", ".grad", "requires_grad=True", "o[0]", "o[0][0]", ":-1]", ">=", "==", "@", "**",
    "nn.Module", "super().__init__()", "nn.Conv2d", "nn.Linear", "F.max_pool2d", "F.relu",
    "nn.CrossEntropyLoss", "optim.SGD", "momentum=", ".parameters()", ".zero_grad()", ".step()",
    "DataLoader", "batch_size=", "shuffle=True", "enumerate(", "print(",
]  # fmt: skip
#: Names that need not be in code: torchvision, which the tests do not install, and 000 to 002.
IN_WORDS = [
    "torchvision.datasets.MNIST", "transforms.Compose", "ToTensor()", "Normalize(", "CIFAR10",
    "torch.flatten", "torch.relu", "torch.softmax", "F.sigmoid", "nn.LSTM", "out[:, -1, :]",
    "nn.MaxPool2d", "nn.ReLU", "nn.init.normal_", "nn.MSELoss", "nn.L1Loss", "nn.Parameter",
    "DataParallel", "DistributedDataParallel", ".cuda", "torch.jit.script", "torch.onnx", "prune",
    "quantize_dynamic", "tensorboard", "adagrad", "rmsprop", "optim.Adam", "weight_visualizer",
    "model_summary", "Augmentation", "residual", "MultiheadAttention", "fine-tuning",
]  # fmt: skip


@pytest.mark.parametrize("title", SECTIONS)
def test_pairs_agree(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert check(SECTIONS[title])


def test_what_the_documents_name_has_an_entry():
    code = "\n".join(pair.torch for section in SECTIONS.values() for pair in section)
    assert [name for name in NAMED if name not in code] == []
    assert [name for name in IN_WORDS if name not in PAGE] == []


def test_the_contents_list_every_section():
    listed = re.findall(r"^- \[(.*)\]\(#(.*)\)$", PAGE, flags=re.MULTILINE)
    anchors = {
        title: re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in SECTIONS
    }
    assert listed == list(anchors.items())


def test_code_is_narrow():
    lines = "\n".join(blocks(PAGE, "python") + blocks(PAGE, "sh")).splitlines()
    assert [line for line in lines if len(line) > 56] == []


def page(theirs, ours, head="# JAX"):
    code = f"```python\n# PyTorch\n{theirs}\n```\n```python\n{head}\n{ours}\n```\n"
    return sections(f"# Title\n## One\n{code}")["One"]


@pytest.mark.parametrize(
    ("theirs", "ours", "head", "message"),
    [
        ("a = 1", "a = 2", "# JAX", "a: 1, 2"),
        ("a = [1.0]; b = 1", "a = [1.1]; b = 1", "# JAX", "a: "),
        ("a = 1", "b = 1", "# JAX", "a is compared with nothing"),
        ("a = 1; b = 2", "a = 1", "# JAX", "b is compared with nothing"),
        ("print()", "a = 1", "# JAX", "no result"),
        ("f = print", "f = print", "# JAX", "no result"),
        ("def f():\n    a = 1", "a = 1", "# JAX", "no result"),
        ("a = 1", "a = 1", "# JAX differs", "a does not differ"),
        ("a = 1; b = 2", "a = 5; b = 3", "# JAX, other numbers", "b: 2, 3"),
        ("a = 1", "a = 1", "# Keras", "no pair"),
    ],
)
def test_a_pair_that_does_not_hold_is_found(theirs, ours, head, message):
    with pytest.raises(AssertionError, match=re.escape(message)):
        check(page(theirs, ours, head))


def test_a_block_without_its_counterpart_is_found():
    with pytest.raises(AssertionError, match="without a counterpart"):
        pairs("```python\n# PyTorch\na = 1\n```\n")


def test_names_are_kept_apart_unless_lent():
    with pytest.raises(NameError, match="lent"):
        check(page("lent = 1; a = 1", "a = lent"))
    assert check(page("torch_lent = 1; a = 1", "a = torch_lent")) == 1


@pytest.mark.parametrize(
    ("theirs", "ours", "alike"),
    [
        (torch.tensor([1, 2]), jnp.array([1, 2]), True),
        (torch.tensor([1, 2], dtype=torch.int32), np.array([1, 2]), False),
        (torch.tensor([1, 2]), jnp.array([1.0, 2.0]), False),
        (torch.tensor([1, 0]), jnp.array([True, False]), False),
        (torch.ones(2), jnp.ones(2) + 1e-7, True),
        (torch.ones(2), jnp.ones(2) + 1e-4, False),
        (torch.ones(2, dtype=torch.float64), np.ones(2) + 1e-9, False),
        (torch.ones(1, 2), jnp.ones(2), False),
        (torch.ones(2).sum().item(), jnp.ones(2).sum(), True),
        (torch.tensor(torch.nan), jnp.array(jnp.nan), True),
        ([1, 2], (1, 2), True),
        ([1, 2], (1, 2, 3), False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        ("a", 1, False),
    ],
)
def test_differences(theirs, ours, alike):
    assert (difference(theirs, ours) == "") is alike
