"""The user's own networks in commands: imports them with a notice, or ports them from PyTorch."""

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
    from jaxnets.port.proof import Proof


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """The pretrained weights that a run starts from.

    Attributes:
        source: a network, or a file of weights.
        name: the file or the run directory, for messages.
        head: layers that are not loaded and keep their initial values; see ``load_pretrained``.
    """

    source: nnx.Module | Path
    name: str
    head: tuple[str, ...] = ()

    def __str__(self) -> str:
        omitted = f" except for {', '.join(self.head)}" if self.head else ""
        return f"the weights in {self.name}{omitted}"


def imported(recipe: Recipe) -> None:
    """Imports the file of a user's network, and prints a notice.

    Raises:
        InputError: if the file cannot be imported, or has no such class.
    """
    if isinstance(recipe.model, OwnNetwork):
        _ = recipe.model.make
        notice(f"imported {printable(recipe.model.target, limit=None)}, whose code has run")


def notice(text: str) -> None:
    """Prints a notice to standard error, in process 0 only."""
    if jax.process_index() == 0:
        click.echo(text, err=True)


def ready(
    recipe: Recipe, data: Dataset, pretrained: Pretrained | None = None
) -> tuple[Recipe, InitialWeights | None]:
    """Completes a recipe with the sizes of the data, and ports a PyTorch network to Flax.

    Args:
        recipe: the recipe.
        data: the data set to train on.
        pretrained: weights to start from, as far as they fit; None for random ones.

    Returns:
        The recipe, and a function from a seed to initial weights: the pretrained weights, or those
        that PyTorch draws for a ported network; None if the Flax network draws them.

    Raises:
        InputError: if the network does not accept the examples, or none of the weights fit.
        Exit: if the network cannot be ported; the reasons have been printed.
    """
    recipe, drawn = _in_flax(recipes.sized(recipe, data), data)
    if pretrained is not None:
        return _noted(recipe, str(pretrained)), _filled(recipe, pretrained, drawn)
    if drawn is not None:
        notice("the initial weights are those that PyTorch draws")
        recipe = _noted(recipe, "the weights that PyTorch draws")
    return recipe, drawn


def _noted(recipe: Recipe, begins_with: str) -> Recipe:
    """Adds a note on the initial weights to the recipe, for the record of the run."""
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
    """Checks that a network accepts a batch and can be compiled."""
    model.eval()
    graph, state = nnx.split(model)
    expected = f"a network that accepts {describe(batch)}"
    try:
        jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, batch)
    except jax.errors.ConcretizationTypeError as error:
        expected = "a network without Python control flow on array values, as it is compiled"
        raise InputError(argument, expected, why(error)) from error
    except Exception as error:  # whatever the user's code raises
        raise InputError(argument, expected, why(error)) from error


def ported(recipe: Recipe, data: Dataset) -> OwnNetwork:
    """Ports a recipe's PyTorch network, and prints the result of the comparison.

    Returns:
        The port, whose outputs, gradients and buffers equal those of the original.

    Raises:
        Exit: if the network cannot be ported, or the port differs; the reasons have been printed.
    """
    # Imported here because the rules of some 500 operations are slow to import.
    from jaxnets.port.for_data import port_of

    assert isinstance(recipe.model, OwnNetwork)
    port, report = port_of(recipe.model, example(recipe, data))
    if port is None or report.proof is None:
        notice(str(report))
        raise click.exceptions.Exit(1)
    for note in (*report.ported.notes, *report.proof.notes):
        notice(f"note: {printable(note, limit=None)}")
    notice(f"ported {recipe.model.target}: {_verdict(report.proof)}")
    if report.verdict != "exact":
        notice("not trained; use jaxnets port for the file and the whole comparison")
        raise click.exceptions.Exit(1)
    return port


def _verdict(proof: "Proof") -> str:
    """Returns a line with the result of the comparison."""
    if proof.verdict != "exact":
        return f"{proof.verdict}: {printable(proof.failure, limit=None)}"
    what = list(dict.fromkeys(measure.what for measure in proof.measures))
    most = max(measure.difference for measure in proof.measures)
    return f"exact; {', '.join(what[:-1])} and {what[-1]} equal PyTorch's within {most:.1e}"


def example(recipe: Recipe, data: Dataset) -> np.ndarray:
    """Returns two training examples after the transform, as inputs of the network."""
    rows = np.arange(min(2, len(data.train)))
    inputs = single(f"inputs of {data.name}", data.train.gather(rows)[0])
    return np.asarray(recipes.build_transform(recipe)(inputs))


def _filled(recipe: Recipe, pretrained: Pretrained, drawn: InitialWeights | None) -> InitialWeights:
    """Returns a function from a seed to initial weights.

    They are the pretrained weights; parameters without one are drawn from the seed.
    """

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
    notice("\n".join([lines[0].replace(found.report.source, pretrained.name, 1), *lines[1:]]))
    return filled
