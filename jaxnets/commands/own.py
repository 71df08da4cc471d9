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

if TYPE_CHECKING:
    from jaxnets.port.check import Proof


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
    recipe: Recipe, data: Dataset, weights: Path | None = None
) -> tuple[Recipe, InitialWeights | None]:
    """The recipe with its sizes, and a network in Flax that takes the examples of the data.

    Args:
        recipe: the recipe.
        data: what it is trained on.
        weights: a file of initial weights with PyTorch's names, or None.

    Returns:
        The recipe, and its initial weights: those of the file; or those that PyTorch draws, if the
        network was PyTorch's; None for those that ours draws.

    Raises:
        InputError: if the network does not take the examples, or has not these weights.
        Exit: if it cannot be ported, after a message.
    """
    recipe, drawn = _in_flax(recipes.sized(recipe, data), data)
    if weights is not None:
        return _noted(recipe, f"the weights in {weights}"), _from_file(recipe, weights)
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


def _from_file(recipe: Recipe, path: Path) -> InitialWeights:
    """Initial weights that are the same for every seed."""
    model = recipes.build_model(recipe)
    said(str(interop.load_torch(model, path)))
    arrays = interop.to_numpy(model)
    return lambda seed: arrays
