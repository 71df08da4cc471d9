"""Pictures of what is inside a network: kernels, activations, histograms, features."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_host_array,
    called,
    describe,
    printable,
)
from jaxnets.data.transforms import Transform
from jaxnets.explain.inside import activations, by_path, parameter_gradients
from jaxnets.explain.layers import layer_calls, layer_named
from jaxnets.explain.questions import after, spec_of
from jaxnets.figures import new_figure, save, writable
from jaxnets.interop.entries import nodes
from jaxnets.training.evaluation import for_prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS = 8  # kernels or channels in a row
_MOST = 64  # kernels on a sheet
_ROWS = 40  # layers or parameters in a picture
_MATRIX = 256  # rows and columns of a matrix that are drawn


def draw_kernels(
    model: nnx.Module,
    inputs: ArrayLike | jax.ShapeDtypeStruct,
    *,
    layer: str | None = None,
    transform: Transform | None = None,
    title: str = "",
    path: Path | str | None = None,
) -> "Figure":
    """Draws the kernels of a layer, one picture for each of its outputs.

    Those of a convolution have its window; with three input channels they are colours, with other
    numbers of channels each picture is their mean. Those of a linear layer that reads an image have
    the image's size. Of any other layer the weight is drawn as a matrix.

    Args:
        model: any ``nnx.Module``.
        inputs: [batch, …], or their ``jax.ShapeDtypeStruct``; they say which layer is called first.
        layer: its name; None for the first that has a weight.
        transform: what the inputs go through before the model.
        title: what is written above.
        path: where to save the figure too, replacing what is there; None saves nothing.

    Returns:
        Matplotlib's figure.

    Raises:
        InputError: if there is no such layer, or it has no weight.
    """
    place = _place(title, path)
    name, kernel, shape = _kernel(model, inputs, layer, transform)
    title = title or f"{name}: {_times(kernel.shape)}"
    image = _image_shape(kernel, shape)
    if kernel.ndim == 4:
        pictures = np.moveaxis(kernel, -1, 0)
    elif kernel.ndim == 2 and image is not None:
        pictures = kernel.T.reshape(-1, *image)
    else:
        return _matrix(kernel, title, place)
    return _sheet(pictures[:_MOST], len(pictures), title, place)


def _kernel(
    model: nnx.Module, inputs: Any, layer: str | None, transform: Transform | None
) -> tuple[str, np.ndarray, tuple[int, ...]]:
    """The name of a layer, its weight, and the shape of what the network is given."""
    state, _ = for_prediction(model, transform)
    x = after(transform, spec_of(inputs))
    calls = called("inputs", "what the model takes", layer_calls, state, x, got=describe(x))
    if layer is not None:
        calls = [layer_named(model, calls, layer)]
    modules = {name.rstrip("."): node for _, name, node in nodes(model)}
    for call in calls:
        for value in vars(modules[call.name]).values():
            if isinstance(value, nnx.Param) and np.ndim(value.get_value()) >= 2:
                return call.name, np.asarray(value.get_value(), np.float64), x.shape[1:]
    raise InputError("layer", "one with a weight of at least two axes", layer or "none")


def _image_shape(kernel: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The size of the images that a linear layer reads; None if it reads no image."""
    if kernel.ndim != 2 or len(shape) not in (2, 3) or kernel.shape[0] != math.prod(shape):
        return None
    return shape if len(shape) == 2 or shape[2] in (1, 3) else None


def _sheet(pictures: np.ndarray, count: int, title: str, place: Path | None) -> Any:
    """Pictures [N, H, W] or [N, H, W, C] in rows, in one scale of colours."""
    colour = pictures.ndim == 4 and pictures.shape[3] == 3
    if pictures.ndim == 4 and not colour:
        pictures = pictures.mean(axis=3)
    end = float(np.abs(pictures).max()) or 1.0
    across = min(_ACROSS, len(pictures))
    down = -(-len(pictures) // across)
    figure = new_figure(1.0 + 0.95 * across, 0.8 + 0.95 * down)
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    shown = None
    for axes, picture in zip(grid.flat, pictures, strict=False):
        if colour:
            axes.imshow(0.5 + picture / (2 * end))
        else:
            shown = axes.imshow(picture, cmap="RdBu_r", vmin=-end, vmax=end)
    if shown is not None:
        figure.colorbar(shown, ax=grid, shrink=0.9, label="weight")
    more = f" (the first {len(pictures)} of {count})" if count > len(pictures) else ""
    return _finished(figure, f"{title}{more}", place)


def _matrix(matrix: np.ndarray, title: str, place: Path | None) -> Any:
    """A weight as a matrix, of which a large one loses its end."""
    whole = matrix.reshape(-1, matrix.shape[-1])
    rows = whole[:_MATRIX, :_MATRIX]
    end = float(np.abs(rows).max()) or 1.0
    height = 1.0 + min(5.0, max(1.2, 6.0 * rows.shape[0] / rows.shape[1]))
    figure = new_figure(7.0, height)
    axes = figure.subplots()
    shown = axes.imshow(rows, cmap="RdBu_r", vmin=-end, vmax=end, aspect="auto")
    axes.set(xlabel="column", ylabel="row")
    figure.colorbar(shown, ax=axes, label="weight")
    more = (
        "" if rows.shape == whole.shape else f" (the first {describe(rows).partition('[')[2][:-1]})"
    )
    return _finished(figure, f"{title}{more}", place)


def draw_activations(
    model: nnx.Module,
    inputs: ArrayLike,
    *,
    transform: Transform | None = None,
    title: str = "",
    path: Path | str | None = None,
) -> "Figure":
    """Draws the outputs of a model's layers for one example, a row for each layer.

    Of an output [height, width, channels] the first eight channels; of a sequence a matrix of steps
    and features; of a vector a bar for each number. Each layer has its own range, which is written
    beside its name.

    Args:
        model: see ``activations``.
        inputs: [1, …], one example.
        transform: see ``activations``.
        title: what is written above.
        path: where to save the figure too, replacing what is there; None saves nothing.

    Returns:
        Matplotlib's figure.

    Raises:
        InputError: if the model does not take the inputs, or there is not one example.
    """
    place = _place(title, path)
    given = as_host_array("inputs", inputs)
    if not given.ndim or len(given) != 1:
        raise InputError("inputs", "one example [1, …]", describe(given))
    found = activations(model, given, transform=transform)
    rows = _different(found)[:_ROWS]
    figure = new_figure(9.6, 0.6 + 0.95 * len(rows))
    grid = figure.subplots(len(rows), _ACROSS + 1, squeeze=False)
    for (name, array), line in zip(rows, grid, strict=True):
        for axes in line:
            axes.axis("off")
        low, high = float(array.min()), float(array.max())
        label = f"{_short(name)}\n{_times(array.shape[1:])}\n{low:.3g} to {high:.3g}"
        line[0].text(0, 0.5, label, va="center", fontsize=8, transform=line[0].transAxes)
        _draw_activation(figure, line[1:], array[0] if len(array) == 1 else array)
    return _finished(figure, title, place)


def _different(found: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """The outputs without those that a module hands on from the layer within it."""
    rows: list[tuple[str, np.ndarray]] = []
    for name, array in found.items():
        if not rows or not np.array_equal(rows[-1][1], array):
            rows.append((name, array))
    return rows


def _draw_activation(figure: Any, line: Sequence[Any], array: np.ndarray) -> None:
    """One layer's output within its row."""
    if array.ndim == 3 and array.shape[2] > 1 and min(array.shape[:2]) > 1:
        end = {"vmin": array.min(), "vmax": array.max()}
        for axes, channel in zip(line, np.moveaxis(array, -1, 0), strict=False):
            axes.imshow(channel, cmap="viridis", **end)
        return
    grid = line[0].get_gridspec()
    row = line[0].get_subplotspec().rowspan.start
    axes = figure.add_subplot(grid[row, 1:])
    flat = array.reshape(-1) if array.ndim != 2 else array
    if flat.ndim == 1:
        axes.bar(range(len(flat)), flat, width=1.0, color="#3f51b5")
        axes.axhline(0, color="#424242", linewidth=0.6)
        axes.set_xlim(-0.5, max(len(flat), _ACROSS) - 0.5)
    else:
        axes.imshow(flat.T, cmap="viridis", aspect="auto")
        axes.set_ylabel("feature", fontsize=6)
    axes.tick_params(labelsize=6)


def draw_histograms(
    model: nnx.Module,
    inputs: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    *,
    loss: Callable[[Any, Any], Any] | None = None,
    transform: Transform | None = None,
    title: str = "",
    path: Path | str | None = None,
) -> "Figure":
    """Draws how the numbers of each parameter lie, and beside them those of its gradient.

    Args:
        model: any ``nnx.Module``.
        inputs: [batch, …], of whose loss the gradient is taken in evaluation mode; None draws the
            parameters alone.
        labels: of the examples; None without inputs.
        loss: (outputs, labels) → a scalar; None without inputs.
        transform: what the inputs go through before the model.
        title: what is written above.
        path: where to save the figure too, replacing what is there; None saves nothing.

    Returns:
        Matplotlib's figure.

    Raises:
        InputError: if the examples do not fit the model or the loss, or one of them is missing.
    """
    place = _place(title, path)
    state, _ = for_prediction(model, transform)
    sides: dict[str, Mapping[str, np.ndarray]] = {"values": by_path(state.parameters)}
    given = [part is not None for part in (inputs, labels, loss)]
    if all(given):
        batch: Any = (inputs, labels, loss)
        sides["gradient"] = parameter_gradients(model, *batch, transform=transform)
    elif any(given):
        raise InputError(
            "loss", "inputs, labels and loss, or none of them", f"{sum(given)} of them"
        )
    names = [name for name, array in sides["values"].items() if array.dtype.kind == "f"][:_ROWS]
    figure = new_figure(2.2 + 3.4 * len(sides), 0.7 + 0.85 * len(names))
    grid = figure.subplots(len(names), len(sides), squeeze=False)
    for name, line in zip(names, grid, strict=True):
        for side, axes in zip(sides, line, strict=True):
            _draw_histogram(axes, sides[side][name], side)
        label = f"{_short(name)}\n{_times(sides['values'][name].shape)}"
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    for side, axes in zip(sides, grid[0], strict=True):
        axes.set_title(side, fontsize=10)
    return _finished(figure, title, place)


def _draw_histogram(axes: Any, array: np.ndarray, side: str) -> None:
    """The numbers of one array; those that are not finite are counted beside it."""
    flat = array.astype(np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    axes.hist(finite, bins=60, color="#3f51b5" if side == "values" else "#ef6c00")
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the note
    axes.axvline(0, color="#424242", linewidth=0.6)
    note = f"std {finite.std():.2g}" if len(finite) else "none finite"
    if len(finite) < len(flat):
        note += f", {len(flat) - len(finite)} not finite"
    axes.text(0.985, 0.95, note, transform=axes.transAxes, ha="right", va="top", fontsize=7)


def draw_embedding(
    points: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str] | None = None,
    *,
    title: str = "",
    path: Path | str | None = None,
) -> "Figure":
    """Draws examples as points, in the colour of their class.

    Args:
        points: [examples, 2], as ``project`` gives them.
        labels: a class for each example, or a number, which is a shade.
        class_names: what the legend says; None for the numbers.
        title: what is written above.
        path: where to save the figure too, replacing what is there; None saves nothing.

    Returns:
        Matplotlib's figure.

    Raises:
        InputError: if there are not two numbers and one label for each example.
    """
    place = _place(title, path)
    xy, classes = as_host_array("points", points), np.squeeze(as_host_array("labels", labels))
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise InputError("points", "[examples, 2]", describe(xy))
    if classes.shape != (len(xy),):
        raise InputError("labels", f"one for each of {len(xy)} examples", describe(classes))
    from matplotlib import colormaps

    figure = new_figure(7.0, 5.2)
    axes = figure.subplots()
    dots = {"s": 9, "alpha": 0.75, "linewidths": 0}
    if classes.dtype.kind == "f" and not class_names:
        shown = axes.scatter(*xy.T, c=classes, cmap="viridis", **dots)
        figure.colorbar(shown, ax=axes, label="label")
    else:
        kinds = np.unique(classes)
        colours = colormaps["tab10" if len(kinds) <= 10 else "turbo"]
        for number, kind in enumerate(kinds):
            place_of_kind = number if len(kinds) <= 10 else number / (len(kinds) - 1)
            whole = int(kind)
            named = class_names is not None and 0 <= whole < len(class_names)
            label = printable(class_names[whole]) if named and class_names else str(kind)
            mine = xy[classes == kind]
            axes.scatter(*mine.T, color=colours(place_of_kind), label=label, **dots)
        columns = -(-len(kinds) // 20)
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), markerscale=2, fontsize=8, ncols=columns
        )
    axes.set(xticks=[], yticks=[])
    return _finished(figure, title, place)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "number"


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 24 else f"…{name[-23:]}"


def _place(title: Any, path: Any) -> Path | None:
    if not isinstance(title, str):
        raise InputError("title", "a string", title)
    return None if path is None else writable(path)


def _finished(figure: Any, title: str, place: Path | None) -> Any:
    figure.suptitle(printable(title, limit=None, lines=True), fontsize=11)
    if place is not None:
        save(figure, place)
    return figure
