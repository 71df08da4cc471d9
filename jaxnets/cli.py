"""The command line. Thin: it reads flags, calls the library, prints."""

import ast
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np
from flax import nnx

from jaxnets import interop, recipes, runs
from jaxnets.arrays import InputError
from jaxnets.data.text import TextEncoder
from jaxnets.data_commands import data_group
from jaxnets.losses import LOSSES
from jaxnets.models import MODELS, LanguageModel
from jaxnets.optimizers import OPTIMIZERS
from jaxnets.sampling import sample
from jaxnets.training import NonFiniteLossError, TrainingRun, predict
from jaxnets.training.weights import load_weights, save_weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; a bad argument ends it with one sentence and exit code 2.

    Args:
        arguments: in place of ``sys.argv[1:]``.

    Returns:
        The exit code.
    """
    try:
        result = cli.main(arguments, prog_name="jaxnets", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except InputError as error:
        return _fail(str(error), 2)
    except (NonFiniteLossError, ImportError, OSError) as error:
        return _fail(str(error), 1)
    except click.Abort:
        return _fail("interrupted", 130)


def _fail(message: str, code: int) -> int:
    print(f"jaxnets: {' '.join(message.split())}", file=sys.stderr)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="jaxnets")
def cli() -> None:
    """PyTorch's textbook networks in JAX: the same weights, the same numbers, faster."""


class _Option(click.ParamType):
    """KEY=VALUE, the value a Python literal or else a plain word."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        key, equals, text = value.partition("=")
        if not key or not equals:
            self.fail(f"expected KEY=VALUE, got {value!r}", param, ctx)
        try:
            word = text.capitalize()
            return key, ast.literal_eval(word if word in ("True", "False", "None") else text)
        except (ValueError, SyntaxError):
            return key, text


_FLAGS: tuple[Callable[..., Any], ...] = (
    click.option("--epochs", type=int, help="Times through the training data."),
    click.option("--batch-size", type=int, help="Examples in a step."),
    click.option("--lr", type=float, help="Learning rate."),
    click.option("--momentum", type=float, help="Momentum of sgd or rmsprop."),
    click.option("--weight-decay", type=float, help="Weight decay."),
    click.option(
        "--optimizer",
        type=click.Choice(list(OPTIMIZERS)),
        help="Another optimizer, with its own defaults.",
    ),
    click.option(
        "--optimizer-option", type=_Option(), multiple=True, help="Any argument of the optimizer."
    ),
    click.option(
        "--model", type=click.Choice(list(MODELS)), help="Another network, with its own defaults."
    ),
    click.option(
        "--model-option",
        type=_Option(),
        multiple=True,
        help="Any argument of the network, such as hidden_dim=64 or features=(784,32,10).",
    ),
    click.option("--loss", type=click.Choice(list(LOSSES)), help="Another loss."),
    click.option("--data", help="Another data set, by any name that jaxnets finds."),
    click.option("--data-dir", help="The data set's own folder, or the one that it lies in."),
    click.option(
        "--data-option",
        type=_Option(),
        multiple=True,
        help="Any argument of jaxnets.data.load, such as train=train[:90%].",
    ),
    click.option(
        "--normalize",
        type=(float, float),
        metavar="MEAN STD",
        help="Subtract the mean and divide by the standard deviation; 0 1 leaves pixels in [0, 1].",
    ),
    click.option(
        "--layout",
        type=click.Choice(["images", "rows", "tokens"]),
        help="Images, their rows as steps, or the tokens of texts.",
    ),
    click.option(
        "--augment",
        type=click.Choice(list(recipes.AUGMENTATIONS)),
        multiple=True,
        help="Vary the images in training; repeatable, one after the other.",
    ),
)


def _recipe_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command


def _changed(recipe: recipes.Recipe, flags: dict[str, Any]) -> recipes.Recipe:
    """The recipe with what the flags change."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    optimizer_options = {} if "optimizer" in given else dict(recipe.optimizer_options)
    model_options = {} if "model" in given else dict(recipe.model_options)
    data_options = {} if "data" in given else dict(recipe.data_options)
    for name in ("lr", "momentum", "weight_decay"):
        if name in given:
            optimizer_options[name] = given.pop(name)
    optimizer_options |= dict(given.pop("optimizer_option", ()))
    model_options |= dict(given.pop("model_option", ()))
    if "data_dir" in given:
        data_options["data_dir"] = given.pop("data_dir")
    data_options |= dict(given.pop("data_option", ()))
    return dataclasses.replace(
        recipe,
        **given,
        optimizer_options=optimizer_options,
        model_options=model_options,
        data_options=data_options,
    )


cli.add_command(data_group)


@cli.command("train")
@click.argument("recipe")
@_recipe_flags
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds everything random.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="A new folder for record, curves and weights."
)
@click.option("--json", "as_json", is_flag=True, help="End with the result as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Print the result alone.")
def train_command(
    recipe: str, seed: int, out: Path | None, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Train the network of RECIPE and test it on every test example."""
    chosen = _changed(recipes.recipe(recipe), flags)
    with nullcontext() if out is None else runs.new_folder(out) as folder:
        data = recipes.load_data(chosen)
        chosen = recipes.sized(chosen, data)
        run = recipes.train(chosen, seed=seed, data=data, progress="none" if quiet else "auto")
        if folder is not None:
            runs.write(folder, chosen, seed, run, data)
    if as_json:
        print(json.dumps(runs.summarize(chosen, seed, run)))
    else:
        print(_result(run))


def _result(run: TrainingRun) -> str:
    if run.test.accuracy is None:
        return f"test loss: {run.test.loss:.6g}"
    if isinstance(run.model, LanguageModel):
        return f"test loss: {run.test.loss:.4f} nats a token, accuracy: {run.test.accuracy:.2%}"
    return f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})"


@cli.command("recipes")
def recipes_command() -> None:
    """List the recipes: what they reproduce and what to expect."""
    for entry in recipes.RECIPES.values():
        click.echo(f"{entry.name}\n  document {entry.document}\n  expect {entry.expect}\n")


@cli.command("summary")
@click.argument("recipe")
@_recipe_flags
def summary_command(recipe: str, **flags: Any) -> None:
    """Show the layers of RECIPE's network with their shapes and parameters."""
    chosen = _changed(recipes.recipe(recipe), flags)
    transform = recipes.build_transform(chosen)
    data = recipes.load_data(chosen)
    model = recipes.build_model(recipes.sized(chosen, data))
    example = transform(data.train.inputs[: chosen.batch_size])
    click.echo(nnx.tabulate(model, example, console_kwargs={"width": 110}))


@cli.command("predict")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="[IMAGE | TEXT]...", nargs=-1)
@click.option("--index", type=int, multiple=True, help="A test example, by number; repeatable.")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes.")
@click.option("--prompt", help="What a language model goes on writing after.")
@click.option("--length", type=int, default=400, show_default=True, help="Tokens to write.")
@click.option(
    "--temperature",
    type=float,
    default=0.8,
    show_default=True,
    help="Lower writes likelier tokens; 0 the likeliest.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws what is written.")
def predict_command(
    run: Path,
    inputs: tuple[str, ...],
    index: tuple[int, ...],
    top: int,
    prompt: str | None,
    **writing: Any,
) -> None:
    """Classify image files, texts or test examples with the network saved in the folder RUN.

    A network on text takes each TEXT as it stands; a language model goes on after --prompt.
    """
    if not inputs and not index and prompt is None:
        expected = "an image file, a text, --index N or --prompt TEXT"
        raise click.UsageError(f"expected {expected}, got none of them")
    recipe, model = runs.read(run)
    text = runs.read_encoder(run)
    if prompt is not None or isinstance(model, LanguageModel):
        click.echo(_written(model, text, prompt, **writing))
        return
    examples, class_names = _examples(recipe, text, inputs, index)
    batch = np.stack([example for _, example in examples])
    outputs = predict(model, batch, transform=recipes.build_transform(recipe))
    for (name, _), row in zip(examples, outputs, strict=True):
        click.echo(f"{name}: {_answer(model, row, class_names, top)}")


_Text = tuple[TextEncoder, tuple[str, ...]]
_Examples = list[tuple[str, np.ndarray]]


def _written(model: Any, text: _Text | None, prompt: str | None, **writing: Any) -> str:
    """The prompt and what the model writes after it."""
    if not isinstance(model, LanguageModel) or text is None:
        raise InputError("prompt", "a run of a language model", f"one of {type(model).__name__}")
    if prompt is None:
        raise InputError("prompt", "a text, as the run is one of a language model", prompt)
    encoder, _ = text
    drawn = sample(model, encoder([prompt])[0], **writing)
    return encoder.tokenizer.join([prompt, encoder.decode(drawn)])


def _examples(
    recipe: recipes.Recipe, text: _Text | None, inputs: tuple[str, ...], index: tuple[int, ...]
) -> tuple[_Examples, tuple[str, ...] | None]:
    """What is to be classified, each with its name; and the names of the classes."""
    examples: _Examples = []
    if text is not None:
        encoder, class_names = text
        if inputs:
            examples += zip(inputs, encoder(inputs), strict=True)
        if not index:
            return examples, class_names
    data = recipes.load_data(recipe)
    if text is None:
        shape = data.test.inputs.shape[1:]
        examples += [(path, runs.read_image(path, shape)) for path in inputs]
    for number in index:
        if not 0 <= number < len(data.test):
            raise InputError("index", f"a number from 0 to {len(data.test) - 1}", number)
        label = data.test.labels[number]
        examples.append((f"test example {number} (label {label})", data.test.inputs[number]))
    return examples, data.class_names


def _answer(model: Any, row: np.ndarray, class_names: Sequence[str] | None, top: int) -> str:
    """The most likely classes of one row of outputs; the numbers themselves without classes."""
    if class_names is None:
        return " ".join(f"{value:.6g}" for value in np.ravel(row))
    output = getattr(model, "output", "logits")
    if len(row) == 1:  # one output tells two classes apart
        second = row[0] if output == "sigmoid" else 1 / (1 + np.exp(-row[0]))
        row = np.array([1 - second, second])
    elif output == "logits":
        exponentials = np.exp(row - row.max())
        row = exponentials / exponentials.sum()
    best = np.argsort(-row, kind="stable")[:top]
    names = [class_names[k] if k < len(class_names) else str(k) for k in best]
    return "  ".join(f"{name} {row[k]:.2%}" for name, k in zip(names, best, strict=True))


@cli.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
def inspect_command(file: Path) -> None:
    """Show the arrays in FILE, one of torch.save, of safetensors or of numpy.savez."""
    found = interop.read_torch(file)
    rows = [
        (name, str(list(array.shape)), str(array.dtype).removeprefix("torch."))
        for name, array in found.arrays.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
    count = sum(math.prod(array.shape) for array in found.arrays.values())
    click.echo(f"{len(rows)} arrays, {count:,} numbers")
    for what, names in (("taken off", found.wrapping), ("left aside", found.aside)):
        if names:
            click.echo(f"{what}: {', '.join(names)}")


@cli.command("convert")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", type=click.Choice(list(MODELS)), required=True, help="The network.")
@click.option(
    "--model-option",
    type=_Option(),
    multiple=True,
    help="Any argument of the network, such as hidden_dim=64 or features=(784,32,10).",
)
@click.option(
    "--to",
    type=click.Choice(["torch", "jaxnets"]),
    help="What OUT is to be, where its name does not say.",
)
def convert_command(
    source: Path, out: Path, model: str, model_option: tuple[tuple[str, Any], ...], to: str | None
) -> None:
    """Convert the weights IN to OUT: from PyTorch or to it.

    OUT's name says what it becomes. One that ends in .safetensors, .pt, .pth or .bin is a file with
    PyTorch's names and layouts; a name without an ending is a folder of weights, as training leaves
    it under RUN/weights. IN is either, known by its content, so that a .pt can also be rewritten as
    a .safetensors with its wrapping taken off. --to jaxnets makes a folder of any name.
    """
    if out.exists():
        raise InputError("out", "a path that does not exist yet", str(out))
    to = to or ("torch" if source.is_dir() or out.suffix else "jaxnets")
    if to == "torch" and out.suffix not in _WRITERS:
        raise InputError(
            "out", f"a file ending in {', '.join(_WRITERS)}, or --to jaxnets for a folder", str(out)
        )
    network = _network(model, dict(model_option))
    if source.is_dir():
        _read_folder(network, source)
    else:
        click.echo(interop.load_torch(network, source))
    write = _WRITERS[out.suffix] if to == "torch" else save_weights
    write(network, out)
    click.echo(f"written to {out}")


_WRITERS: dict[str, Callable[[nnx.Module, Path], None]] = {
    ".safetensors": interop.save_safetensors,
    ".pt": interop.save_torch,
    ".pth": interop.save_torch,
    ".bin": interop.save_torch,
}


def _network(name: str, options: dict[str, Any]) -> nnx.Module:
    recipe = recipes.Recipe(
        name=name, document="", expect="", data="", model=name, model_options=options, epochs=1
    )
    try:
        return recipes.build_model(recipe)
    except TypeError as error:
        raise InputError("model option", f"all that {name} needs", str(error)) from error


def _read_folder(model: nnx.Module, folder: Path) -> None:
    try:
        load_weights(model, folder)
    except InputError:
        raise
    except ValueError as error:  # Orbax's own, of a folder that it can make nothing of
        raise InputError("directory", "a folder written by save_weights", str(folder)) from error
