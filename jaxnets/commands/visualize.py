"""The command ``visualize``: draws weights, activations, embeddings and the graph of a network."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np

from jaxnets import explain, runs
from jaxnets.arrays import InputError
from jaxnets.commands import examples
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import data_of, opened
from jaxnets.data.spec import single
from jaxnets.data.text import PAD
from jaxnets.figures import save
from jaxnets.losses import LOSSES
from jaxnets.models import LANGUAGE_MODELS, TRANSLATORS, Autoencoder
from jaxnets.sampling import translate

_BATCH = 256  # number of examples for the gradient


@click.command("visualize")
@click.argument("run", type=PathArgument())
@click.option(
    "--what",
    type=click.Choice(["kernels", "activations", "histograms", "embedding", "graph", "attention"]),
    multiple=True,
    help="The kind of picture; repeatable.  [default: all that are possible for the run]",
)
@click.option(
    "--index",
    type=int,
    help="The number of the test example for activations or attention.  [default: 0]",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="The layer for kernels.  [default: the first with a weight]",
)
@click.option(
    "--projection",
    type=click.Choice(["pca", "tsne"]),
    help="The projection of embedding to two dimensions; tsne requires scikit-learn.  [default: "
    "pca]",
)
@click.option(
    "--examples",
    "count",
    type=click.IntRange(min=3),
    help="Number of test examples in embedding.  [default: 1000]",
)
@click.option(
    "--out",
    type=PathArgument(),
    default=Path(),
    show_default="the current folder",
    help="The folder for the pictures, or a .png file for one; existing files are replaced.",
)
def visualize_command(run: Path, what: tuple[str, ...], out: Path, **flags: Any) -> None:
    """Draw the network in the run directory RUN; each kind of picture is a PNG file.

    kernels: the weights of the first layer. activations: the outputs of each layer for a test
    example. histograms: the distribution of weights and gradients in each layer. embedding: the
    inputs of the last layer, or the codes of an autoencoder, for many test examples, projected to
    two dimensions. graph: the layers in order, with the shapes of their outputs. attention: the
    attention weight of each source token for each token that a sequence-to-sequence network writes.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    saved = opened(run)
    wanted = what or _possible(saved)
    needs = {"index": ("activations", "attention"), "layer": ("kernels",)}
    for name, value in given.items():
        kinds = needs.get(name, ("embedding",))
        if not set(kinds) & set(wanted):
            expected = f"none without {' or '.join(kinds)}"
            raise InputError("examples" if name == "count" else name, expected, value)
    is_file = out.suffix.lower() == ".png" and not out.is_dir()
    if is_file and len(set(wanted)) > 1:
        raise InputError("out", f"a folder for {len(set(wanted))} pictures", str(out))
    if out.exists() and not out.is_dir() and not is_file:
        raise InputError("out", "a folder, or a .png file for one picture", str(out))
    figures = _drawn(saved, dict.fromkeys(wanted), given, chosen=bool(what))
    (out.parent if is_file else out).mkdir(parents=True, exist_ok=True)
    for kind, figure in figures.items():
        path = out if is_file else out / f"{kind}.png"
        save(figure, path)
        click.echo(f"wrote {path}")


def _drawn(
    saved: runs.SavedRun, kinds: Iterable[str], given: dict[str, Any], *, chosen: bool
) -> dict[str, Any]:
    """Draws figures by kind.

    Args:
        saved: the run.
        kinds: keys of ``_DRAW``.
        given: the flags that were given.
        chosen: whether the user requested the kinds; otherwise impossible ones are skipped.
    """
    figures = {}
    for kind in kinds:
        try:
            figures[kind] = _DRAW[kind](saved, given)
        except InputError as error:
            if chosen or given:
                raise
            click.echo(f"skipped {kind}: {error}", err=True)
    return figures


def _possible(saved: runs.SavedRun) -> tuple[str, ...]:
    """Returns the possible kinds: fewer without data, and fewer for networks that write text."""
    if isinstance(saved.model, TRANSLATORS):
        return ("attention",)
    every = tuple(kind for kind in _DRAW if kind != "attention")
    here = ("kernels", "graph") if saved.recipe is None else every
    left_out = {"embedding"} if isinstance(saved.model, LANGUAGE_MODELS) else set()
    return tuple(kind for kind in here if kind not in left_out)


def _shape(saved: runs.SavedRun) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of a batch of one example."""
    spec = single("run", saved.inputs or data_of(saved, "run").spec.inputs)
    return jax.ShapeDtypeStruct((1, *spec.shape), spec.dtype)


def _kernels(saved: runs.SavedRun, given: dict[str, Any]) -> Any:
    return explain.draw_kernels(
        saved.model, _shape(saved), layer=given.get("layer"), transform=saved.transform
    )


def _graph(saved: runs.SavedRun, given: dict[str, Any]) -> Any:
    title = type(saved.model).__name__
    return explain.draw_graph(saved.model, _shape(saved), transform=saved.transform, title=title)


def _activations(saved: runs.SavedRun, given: dict[str, Any]) -> Any:
    number = given.get("index", 0)
    ((name, example),) = examples.read(saved, index=(number,))
    return explain.draw_activations(
        saved.model, example[None], transform=saved.transform, title=name
    )


def _histograms(saved: runs.SavedRun, given: dict[str, Any]) -> Any:
    options: dict[str, Any] = {"transform": saved.transform, "title": type(saved.model).__name__}
    if saved.recipe is None:
        return explain.draw_histograms(saved.model, **options)
    inputs, labels = examples.of_test(data_of(saved, "run"), _BATCH)
    options["title"] += f"; gradient of the loss of {len(inputs)} test examples"
    return explain.draw_histograms(
        saved.model, inputs, labels, loss=LOSSES[saved.recipe.loss], **options
    )


def _embedding(saved: runs.SavedRun, given: dict[str, Any]) -> Any:
    data = data_of(saved, "run")
    inputs, labels = examples.of_test(data, given.get("count", 1000))
    if labels[0].size != 1:
        raise InputError("run", "data with one label for each example", f"{labels[0].size}")
    layer, what = (
        ("decoder.0", "the codes")
        if isinstance(saved.model, Autoencoder)
        else (None, "the inputs of the last layer")
    )
    found = explain.features(saved.model, inputs, layer=layer, transform=saved.transform)
    method = given.get("projection", "pca")
    names = saved.class_names or data.class_names
    names = names if saved.classifies or isinstance(saved.model, Autoencoder) else None
    size, how = found.shape[1], {"pca": "PCA", "tsne": "t-SNE"}[method]
    title = f"{how} of {what} ({size} units), {len(inputs)} test examples"
    points = explain.project(found, method=method)
    return explain.draw_embedding(points, labels, names, title=title)


def _attention(saved: runs.SavedRun, given: dict[str, Any]) -> Any:
    if not isinstance(saved.model, TRANSLATORS) or saved.encoder is None:
        raise InputError("run", "a sequence-to-sequence network", type(saved.model).__name__)
    data, number = data_of(saved, "run"), given.get("index", 0)
    if not 0 <= number < len(data.test):
        raise InputError("index", f"a number from 0 to {len(data.test) - 1}", number)
    source, _ = data.test.gather(np.array([number], np.int32))
    written = translate(saved.model, source, 2 * source.shape[1]).tokens
    weights = explain.attention(saved.model, source, written)[0]
    tokens = saved.encoder.vocabulary.decode
    names = [tokens(row[row != PAD]) for row in (source[0], written[0])]
    return explain.draw_attention(weights, *names, title=f"test example {number}")


_DRAW: dict[str, Callable[[runs.SavedRun, dict[str, Any]], Any]] = {
    "kernels": _kernels,
    "activations": _activations,
    "histograms": _histograms,
    "embedding": _embedding,
    "graph": _graph,
    "attention": _attention,
}
