import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets.cli import main
from jaxnets.interop import load_torch, save_safetensors, to_numpy, to_torch
from jaxnets.models import MLP
from jaxnets.training.weights import load_weights, save_weights

OPTION = ["--model", "mlp", "--model-option", "features=(3,4,2)"]


def mlp(seed=0):
    return MLP((3, 4, 2), rngs=nnx.Rngs(seed))


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def same(one, other):
    return all(
        a.tobytes() == b.tobytes()
        for a, b in zip(to_numpy(one).values(), to_numpy(other).values(), strict=True)
    )


def test_inspect_lists_the_arrays(capsys, tmp_path):
    state = {f"module.{name}": value for name, value in to_torch(mlp()).items()}
    state["module.fc2.bias"] = state["module.fc2.bias"].half()
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.pt")
    code, out, err = run(capsys, "inspect", tmp_path / "w.pt")
    assert code == 0
    assert err == ""
    assert out.splitlines() == [
        "fc1.weight  [4, 3]  float32",
        "fc1.bias    [4]     float32",
        "fc2.weight  [2, 4]  float32",
        "fc2.bias    [2]     float16",
        "4 arrays, 26 numbers",
        "taken off: state_dict, module.",
        "left aside: epoch",
    ]
    save_safetensors(mlp(), tmp_path / "w.safetensors")
    code, out, _ = run(capsys, "inspect", tmp_path / "w.safetensors")
    assert code == 0
    assert out.splitlines()[-1] == "4 arrays, 26 numbers"


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.bin", "w.safetensors"])
def test_weights_go_to_torch_and_come_back(capsys, tmp_path, name):
    model, other = mlp(0), mlp(1)
    save_weights(model, tmp_path / "weights")
    code, out, err = run(capsys, "convert", tmp_path / "weights", tmp_path / name, *OPTION)
    assert (code, out, err) == (0, f"written to {tmp_path / name}\n", "")
    load_torch(other, tmp_path / name)
    assert same(model, other)

    code, out, err = run(capsys, "convert", tmp_path / name, tmp_path / "again", *OPTION)
    assert (code, err) == (0, "")
    assert out.startswith(f"4 arrays of {tmp_path / name} loaded into MLP\n")
    third = mlp(2)
    load_weights(third, tmp_path / "again")
    assert same(model, third)


def test_to_says_what_the_output_is(capsys, tmp_path):
    model, other = mlp(0), mlp(1)
    torch.save({"state_dict": to_torch(model)}, tmp_path / "checkpoint")
    out = tmp_path / "w.safetensors"
    assert run(capsys, "convert", tmp_path / "checkpoint", out, *OPTION, "--to", "torch")[0] == 0
    load_torch(other, out)
    assert same(model, other)
    folder = tmp_path / "weights.pt"  # a folder all the same
    assert run(capsys, "convert", out, folder, *OPTION, "--to", "jaxnets")[0] == 0
    load_weights(other, folder)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_an_ending_makes_a_file_of_a_file_too(capsys, tmp_path, name):
    model, other = mlp(0), mlp(1)
    torch.save({"epoch": 1, "state_dict": to_torch(model)}, tmp_path / "checkpoint.pt")
    code, _, err = run(capsys, "convert", tmp_path / "checkpoint.pt", tmp_path / name, *OPTION)
    assert (code, err) == (0, "")
    assert (tmp_path / name).is_file()
    assert load_torch(other, tmp_path / name).aside == ()
    assert same(model, other)


@pytest.fixture
def files(tmp_path):
    save_safetensors(mlp(), tmp_path / "w.safetensors")
    save_weights(mlp(), tmp_path / "weights")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("none")
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("inspect none.pt", "source: expected a checkpoint file, got none.pt, which is no file"),
        ("inspect empty", "source: expected a checkpoint file, got empty, which is a folder"),
        ("inspect text.pt", "got text.pt, which begins with"),
        ("inspect a.npz", "a.npz, which is damaged or holds more than plain arrays"),
        ("convert w.safetensors weights MLP", "out: expected a path that does not exist yet, got"),
        ("convert weights w.safetensors MLP", "out: expected a path that does not exist yet, got"),
        ("convert weights w.onnx MLP", "out: expected a file ending in .safetensors, .pt, .pth, ."),
        ("convert w.safetensors w.onnx MLP", "or --to jaxnets for a folder, got w.onnx"),
        ("convert none.pt new MLP", "source: expected a checkpoint file, got none.pt, which is no"),
        ("convert empty new.pt MLP", "directory: expected a folder written by save_weights, got"),
        ("convert text.pt new MLP", "got text.pt, which begins with"),
        ("convert w.safetensors new", "Missing option '--model'"),
        ("convert w.safetensors new --model vgg", "'vgg' is not one of"),
        (
            "convert w.safetensors new --model linear-regression",
            "rename={'fc1': '', 'fc2': None}), got fc1., fc2. of equal fit",
        ),
        ("convert weights new.pt --model mlp", "directory: expected weights of this network, got"),
        ("convert w.safetensors new --model recurrent-classifier", "model option: expected "),
        ("convert w.safetensors new --model mlp --model-option size=3", "model option: expected o"),
        ("convert w.safetensors no/new.pt MLP --to torch", "path: expected a file in a folder tha"),
    ],
)
def test_a_bad_argument_is_one_sentence_and_exit_code_2(
    capsys, files, monkeypatch, arguments, message
):
    monkeypatch.chdir(files)
    before = sorted(path.name for path in files.rglob("*"))
    code, _, err = run(capsys, *arguments.replace("MLP", " ".join(OPTION)).split())
    assert code == 2
    assert err.startswith("jaxnets: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in files.rglob("*")) == before


def test_help_says_which_way(capsys):
    code, out, _ = run(capsys, "convert", "--help")
    assert code == 0
    assert "IN OUT" in out
    assert "--to [torch|jaxnets]" in out
