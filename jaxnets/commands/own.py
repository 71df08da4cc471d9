"""A network of the user's own within a command: imported with a notice, or ported from PyTorch."""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click
import jax
import numpy as np
from flax import nnx

from jaxnets import interop, recipes
from jaxnets.arrays import InputError, describe, printable
from jaxnets.data import Dataset
from jaxnets.data.spec import single
from jaxnets.networks import OwnNetwork, why
from jaxnets.recipes import InitialWeights, Recipe
from jaxnets.transfer import load_pretrained

if TYPE_CHECKING:
    from jaxnets.port.check import Proof


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The weights that a run begins with.

    Attributes:
        source: a network, or the file of one's weights.
        name: its file or folder.
        head: what keeps its initial values all the same; see ``load_pretrained``.
    """

    source: nnx.Module | Path
    name: str
    head: tuple[str, ...] = ()

    def __str__(self) -> str:
        but = f" except for {', '.join(self.head)}" if self.head else ""
        return f"the weights in {self.name}{but}"


def imported(recipe: Recipe) -> None:
    """Imports the file of a network of the user's own, and says so.

    Raises:
        InputError: if it cannot be imported, or has no such class.
    """
    if isinstance(recipe.model, OwnNetwork):
        _ = recipe.model.make
        said(f"imported {printable(recipe.model.target, limit=None)}, whose code has run")


def said(text: str) -> None:
    """Says something beside the result, once of several processes."""
    if jax.process_index() == 0:
        click.echo(text, err=True)


def ready(
    recipe: Recipe, data: Dataset, pretrained: Pretrained | None = None
) -> tuple[Recipe, InitialWeights | None]:
    """The recipe with its sizes, and a network in Flax that takes the examples of the data.

    Args:
        recipe: the recipe.
        data: what it is trained on.
        pretrained: the weights that it begins with as far as they fit; None for no such weights.

    Returns:
        The recipe, and its initial weights: the pretrained ones; or those that PyTorch draws, if
        the network was PyTorch's; None for those that ours draws.

    Raises:
        InputError: if the network does not take the examples, or has not these weights.
        Exit: if it cannot be ported, after a message.
    """
    recipe, drawn = _in_flax(recipes.sized(recipe, data), data)
    if pretrained is not None:
        return _noted(recipe, str(pretrained)), _filled(recipe, pretrained, drawn)
    if drawn is not None:
        said("it begins with the weights that PyTorch draws")
        recipe = _noted(recipe, "the weights that PyTorch draws")
    return recipe, drawn


def _noted(recipe: Recipe, begins_with: str) -> Recipe:
    """The recipe with a note of its initial weights, for a run's record."""
    return dataclasses.replace(recipe, document=f"{recipe.document}; begins with {begins_with}")


def _in_flax(recipe: Recipe, data: Dataset) -> tuple[Recipe, InitialWeights | None]:
    network, weights = recipe.model, None
    if not isinstance(network, OwnNetwork):
        return recipe, None
    if network.is_torch:
        from jaxnets.port.for_data import drawn

        recipe = dataclasses.replace(recipe, model=ported(recipe, data))
        weights = functools.partial(drawn, network)
    _check_takes(recipes.build_model(recipe), example(recipe, data), network.argument)
    return recipe, weights


def _check_takes(model: nnx.Module, batch: np.ndarray, argument: str) -> None:
    """Checks that a network takes a batch within a compiled program."""
    model.eval()
    graph, state = nnx.split(model)
    expected = f"a network that takes {describe(batch)}"
    try:
        jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, batch)
    except jax.errors.ConcretizationTypeError as error:
        expected = "a network in which no Python decides by values, as it is compiled"
        raise InputError(argument, expected, why(error)) from error
    except Exception as error:  # whatever the user's code raises
        raise InputError(argument, expected, why(error)) from error


def ported(recipe: Recipe, data: Dataset) -> OwnNetwork:
    """The port of a recipe's PyTorch network, once the two are equal; a line says so.

    Raises:
        Exit: if they are not, or it cannot be ported, after a message.
    """
    # Here, so that no other command waits for the rules of some 500 operations.
    from jaxnets.port.for_data import port_of

    assert isinstance(recipe.model, OwnNetwork)
    port, report = port_of(recipe.model, example(recipe, data))
    if port is None or report.proof is None:
        said(str(report))
        raise click.exceptions.Exit(1)
    for note in (*report.ported.notes, *report.proof.notes):
        said(f"note: {printable(note, limit=None)}")
    said(f"ported {recipe.model.target}: {_verdict(report.proof)}")
    if report.verdict != "exact":
        said("not trained; jaxnets port writes the file and the whole comparison")
        raise click.exceptions.Exit(1)
    return port


def _verdict(proof: "Proof") -> str:
    """What the comparison found, in a line."""
    if proof.verdict != "exact":
        return f"{proof.verdict}: {printable(proof.failure, limit=None)}"
    what = list(dict.fromkeys(measure.what for measure in proof.measures))
    most = max(measure.difference for measure in proof.measures)
    return f"exact; {', '.join(what[:-1])} and {what[-1]} equal PyTorch's within {most:.1e}"


def example(recipe: Recipe, data: Dataset) -> np.ndarray:
    """Two training examples as the network gets them."""
    rows = np.arange(min(2, len(data.train)))
    inputs = single(f"inputs of {data.name}", data.train.gather(rows)[0])
    return np.asarray(recipes.build_transform(recipe)(inputs))


def _filled(recipe: Recipe, pretrained: Pretrained, drawn: InitialWeights | None) -> InitialWeights:
    """Initial weights from each seed: the pretrained ones, and what is new by the seed."""

    def initial(seed: int) -> nnx.Module:
        model = recipes.build_model(recipe, seed)
        if drawn is not None:
            interop.load_torch(model, drawn(seed))
        return model

    def filled(seed: int) -> dict[str, np.ndarray]:
        model = initial(seed)
        load_pretrained(model, pretrained.source, head=pretrained.head)
        return interop.to_numpy(model)

    found = load_pretrained(initial(0), pretrained.source, head=pretrained.head)
    lines = str(found).splitlines()
    said("\n".join([lines[0].replace(found.report.source, pretrained.name, 1), *lines[1:]]))
    return filled
