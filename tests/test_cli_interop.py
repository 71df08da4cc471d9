import json
import shutil

import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import runs
from jaxnets.cli import main
from jaxnets.interop import load_torch, save_safetensors, to_numpy, to_torch
from jaxnets.models import MLP, LinearRegression
from jaxnets.training import manifest
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
        "unwrapped: state_dict, module.",
        "ignored: epoch",
    ]
    save_safetensors(mlp(), tmp_path / "w.safetensors")
    code, out, _ = run(capsys, "inspect", tmp_path / "w.safetensors")
    assert code == 0
    assert out.splitlines()[-1] == "4 arrays, 26 numbers"


def test_names_in_a_file_do_nothing_to_a_terminal(capsys, tmp_path):
    odd = "fc3\x1b[31m\x07\n\u202e"
    shown = r"fc3\x1b[31m\x07\n\u202e"
    state = to_torch(mlp()) | {odd: torch.ones(2), "n" * 10**6: torch.ones(2)}
    path = tmp_path / "w\x1b[2J.pt"
    torch.save({"model": state, f"{odd}.aside": 3}, path)
    code, out, err = run(capsys, "inspect", path)
    assert (code, err) == (0, "")
    assert f"\n{shown}" in out
    assert f"ignored: {shown}.aside" in out
    texts = [out, run(capsys, "convert", path, tmp_path / "new.pt", *OPTION)[2]]
    assert f"unexpected: {shown} torch.float32[2], nnn" in texts[-1]
    rename = ["--rename", f"{odd}=fc4", "--drop", "nn*", "--drop", "fc4"]
    texts += run(capsys, "convert", path, tmp_path / "new.pt", *OPTION, *rename)[1:]
    command = ["convert", path, tmp_path / "\x1b[3J", *OPTION, "--to", "jaxnets"]
    texts += run(capsys, *command, "--drop", odd, "--drop", "nn*")[1:]
    assert texts[-2].startswith(f"4 arrays of {tmp_path}" + r"/w\x1b[2J.pt loaded")
    assert texts[-2].splitlines()[-1] == rf"wrote {tmp_path}/\x1b[3J"
    texts += run(capsys, "inspect", tmp_path / "none\x1b[2J")[1:]
    for text in texts:
        assert not set(text) & set("\x1b\x07\u202e")
        assert len(text) < 3000


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of one epoch."""
    out = tmp_path_factory.mktemp("runs") / "line"
    flags = ["--epochs", "1", "--out", str(out), "--quiet"]
    assert main(["train", "linear-regression", *flags]) == 0
    return out


def test_inspect_shows_the_weights_of_a_run(capsys, trained):
    code, out, err = run(capsys, "inspect", trained)
    assert (code, err) == (0, "")
    assert out == "weight  [1, 1]  float32\nbias    [1]     float32\n2 arrays, 2 numbers\n"
    code, out, _ = run(capsys, "inspect", trained / "weights")  # by our names
    assert code == 0
    assert out == "bias    [1]     float32\nkernel  [1, 1]  float32\n2 arrays, 2 numbers\n"


def test_inspect_of_a_list_of_weights_that_was_changed(capsys, tmp_path, trained):
    folder = shutil.copytree(trained / "weights", tmp_path / "weights")
    about = json.loads((folder / "arrays.json").read_text())
    (folder / "arrays.json").write_text(json.dumps(about | {"shapes": {"kernel": "f\x1b[2J[1]"}}))
    code, _, err = run(capsys, "inspect", folder)
    assert code == 2
    assert "is damaged or has no weights (arrays.json" in err
    manifest.write_manifest(folder)
    code, _, err = run(capsys, "inspect", folder)
    assert code == 2
    assert (
        r"source: expected a folder of weights whose list has dtypes and shapes, got f\x1b" in err
    )


def test_inspect_as_json(capsys, tmp_path, trained):
    state = {f"module.{name}": value for name, value in to_torch(mlp()).items()}
    state |= {"module.odd\x1b[31m": torch.ones(()), "module.half": torch.ones(2).half()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.pt")
    code, out, err = run(capsys, "inspect", tmp_path / "w.pt", "--json")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert json.loads(out) == {
        "source": str(tmp_path / "w.pt"),
        "arrays": [
            {"name": "fc1.weight", "shape": [4, 3], "dtype": "float32"},
            {"name": "fc1.bias", "shape": [4], "dtype": "float32"},
            {"name": "fc2.weight", "shape": [2, 4], "dtype": "float32"},
            {"name": "fc2.bias", "shape": [2], "dtype": "float32"},
            {"name": "odd\x1b[31m", "shape": [], "dtype": "float32"},
            {"name": "half", "shape": [2], "dtype": "float16"},
        ],
        "taken_off": ["state_dict", "module."],
        "left_aside": ["epoch"],
        "numbers": 29,
    }
    for folder in (trained, trained / "weights"):
        code, out, _ = run(capsys, "inspect", folder, "--json")
        assert code == 0
        assert json.loads(out)["numbers"] == 2


@pytest.mark.parametrize("name", ["new.pt", "new.safetensors", "new"])
def test_convert_takes_the_folder_of_a_run(capsys, tmp_path, trained, name):
    saved = runs.read(trained).model
    code, out, err = run(capsys, "convert", trained, tmp_path / name, "--to", "torch")
    if name == "new":
        assert code == 2
        code, out, err = run(capsys, "convert", trained, tmp_path / name, "--to", "jaxnets")
    assert (code, out, err) == (0, f"wrote {tmp_path / name}\n", "")
    other = LinearRegression(rngs=nnx.Rngs(1))
    (load_weights if name == "new" else load_torch)(other, tmp_path / name)
    assert same(saved, other)
    flags = ["--model", "linear-regression"]
    assert run(capsys, "convert", trained, tmp_path / "again.pt", *flags)[0] == 0


def test_names_are_renamed_and_dropped(capsys, tmp_path):
    state = {f"net.{name.replace('fc', 'layer')}": v for name, v in to_torch(mlp()).items()}
    state |= {"ema.layer1.weight": torch.ones(4, 3), "h.0.mask": torch.ones(2)}
    torch.save(state, tmp_path / "w.pt")
    renames = ["--rename", "net.layer1=fc1", "--rename", "layer2=fc2"]
    drops = ["--drop", "ema", "--drop", "h.*.mask"]
    command = ["convert", tmp_path / "w.pt", tmp_path / "new.safetensors", *OPTION]
    code, out, err = run(capsys, *command, *renames, *drops)
    assert (code, err) == (0, "")
    assert "ignored: ema.layer1.weight, h.0.mask" in out
    model = mlp(3)
    load_torch(model, tmp_path / "new.safetensors")
    for name, value in to_torch(model).items():
        assert torch.equal(value, state[f"net.{name.replace('fc', 'layer')}"])


def test_a_first_part_is_taken_off_by_an_empty_name(capsys, tmp_path):
    torch.save({f"odd.{name}": value for name, value in to_torch(mlp()).items()}, tmp_path / "w.pt")
    command = ["convert", tmp_path / "w.pt", tmp_path / "new.pt", *OPTION]
    assert run(capsys, *command, "--rename", "odd=")[0] == 0


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt", "w.bin", "w.safetensors"])
def test_weights_go_to_torch_and_come_back(capsys, tmp_path, name):
    model, other = mlp(0), mlp(1)
    save_weights(model, tmp_path / "weights")
    code, out, err = run(capsys, "convert", tmp_path / "weights", tmp_path / name, *OPTION)
    assert (code, out, err) == (0, f"wrote {tmp_path / name}\n", "")
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
    folder = tmp_path / "weights.pt"  # a folder despite its extension
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
        ("inspect none.pt", "source: expected a checkpoint file, got none.pt, which does not e"),
        ("inspect empty", "source: expected a checkpoint file, got empty, which is a folder"),
        ("inspect text.pt", "got text.pt, which begins with"),
        ("inspect a.npz", "a.npz, which contains a mapping without tensors, with the keys a (obj"),
        (
            "convert weights new.pt MLP --rename a=b",
            "rename: expected a PyTorch file, as only its ",
        ),
        ("convert w.safetensors new.pt MLP --rename a", "expected OLD=NEW, got 'a'"),
        ("convert w.safetensors new.pt MLP --rename a=b", "rename: expected names in the source"),
        ("convert w.safetensors new.pt MLP --rename fc1=fc2", "a unique name for each array"),
        ("convert w.safetensors new.pt MLP --drop fc3", "rename: expected names in the source"),
        ("convert w.safetensors new.pt MLP --drop fc1", "missing: fc1.weight float32[4, 3], fc1.b"),
        ("convert w.safetensors weights MLP", "out: expected a path that does not exist yet, got"),
        ("convert weights w.safetensors MLP", "out: expected a path that does not exist yet, got"),
        ("convert weights w.onnx MLP", "out: expected a file ending in .safetensors, .pt, .pth, ."),
        ("convert w.safetensors w.onnx MLP", "or --to jaxnets for a folder, got w.onnx"),
        ("convert none.pt new MLP", "source: expected a checkpoint file, got none.pt, which does"),
        ("convert empty new.pt MLP", "directory: expected a folder written by save_weights, got"),
        ("convert text.pt new MLP", "got text.pt, which begins with"),
        ("convert w.safetensors new", "Missing option '--model'"),
        ("convert w.safetensors new --model vgg", "'vgg' is not one of"),
        (
            "convert w.safetensors new --model linear-regression",
            "rename={'fc1': '', 'fc2': None}), got fc1., fc2., which fit equally well",
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
