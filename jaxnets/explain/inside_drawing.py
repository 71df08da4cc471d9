"""Draws kernels, activations, histograms and features of a network."""

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
from jaxnets.explain.targets import after, spec_of
from jaxnets.figures import new_figure, save, writable
from jaxnets.interop.entries import nodes
from jaxnets.training.evaluation import for_prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACROSS = 8  # number of kernels or channels in a row
_MOST = 64  # largest number of kernels in a figure
_ROWS = 40  # largest number of layers or parameters in a figure
_MATRIX = 256  # largest number of rows and columns of a matrix


def draw_kernels(
    model: nnx.Module,
    inputs: ArrayLike | jax.ShapeDtypeStruct,
    *,
    layer: str | None = None,
    transform: Transform | None = None,
    title: str = "",
    path: Path | str | None = None,
) -> "Figure":
    """Draws the kernels of a layer, one picture for each output channel.

    A kernel of a convolution is drawn in color if it has three input channels, otherwise as the
    mean over them. A row of a linear layer whose inputs are the pixels of an image is drawn as an
    image. The weight of any other layer is drawn as one matrix.

    Args:
        model: any ``nnx.Module``.
        inputs: the inputs [batch, …], or their ``jax.ShapeDtypeStruct``, to trace the model with.
        layer: the name of the layer; None for the first that has a weight.
        transform: the preprocessing of the inputs; None for no preprocessing.
        title: the title of the figure; by default the name of the layer and the shape.
        path: a file to save the figure to, which is replaced if it exists; None saves nothing.

    Returns:
        The Matplotlib figure.

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
    """Returns the name of a layer, its weight, and the shape of an input example."""
    state, _ = for_prediction(model, transform)
    x = after(transform, spec_of(inputs))
    calls = called(
        "inputs", "an array that the model accepts", layer_calls, state, x, got=describe(x)
    )
    if layer is not None:
        calls = [layer_named(model, calls, layer)]
    modules = {name.rstrip("."): node for _, name, node in nodes(model)}
    for call in calls:
        for value in vars(modules[call.name]).values():
            if isinstance(value, nnx.Param) and np.ndim(value.get_value()) >= 2:
                return call.name, np.asarray(value.get_value(), np.float64), x.shape[1:]
    raise InputError("layer", "a layer with a weight of at least two axes", layer or "none")


def _image_shape(kernel: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Returns the shape of the images that a linear layer reads; None if it reads no images."""
    if kernel.ndim != 2 or len(shape) not in (2, 3) or kernel.shape[0] != math.prod(shape):
        return None
    return shape if len(shape) == 2 or shape[2] in (1, 3) else None


def _sheet(pictures: np.ndarray, count: int, title: str, place: Path | None) -> Any:
    """Draws pictures [N, H, W] or [N, H, W, C] in a grid, with a common color scale."""
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
    """Draws a weight as a matrix, up to ``_MATRIX`` rows and columns."""
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

    Of an output [height, width, channels], the first eight channels are drawn; a sequence is drawn
    as a matrix of steps and features, a vector as bars. The color scale of each layer is its range,
    which is given next to its name.

    Args:
        model: see ``activations``.
        inputs: one example, [1, …].
        transform: see ``activations``.
        title: the title of the figure.
        path: a file to save the figure to, which is replaced if it exists; None saves nothing.

    Returns:
        The Matplotlib figure.

    Raises:
        InputError: if the model does not accept the inputs, or there is not exactly one example.
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
    """Removes outputs that equal the one before, as of a module that returns its last layer's."""
    rows: list[tuple[str, np.ndarray]] = []
    for name, array in found.items():
        if not rows or not np.array_equal(rows[-1][1], array):
            rows.append((name, array))
    return rows


def _draw_activation(figure: Any, line: Sequence[Any], array: np.ndarray) -> None:
    """Draws one layer's output in its row."""
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
    """Draws a histogram of each parameter, and one of its gradient.

    Args:
        model: any ``nnx.Module``.
        inputs: the inputs [batch, …] for the gradient, which is computed in evaluation mode; None
            for histograms of the parameters only.
        labels: the labels of the examples; None without inputs.
        loss: a function (outputs, labels) → scalar; None without inputs.
        transform: the preprocessing of the inputs; None for no preprocessing.
        title: the title of the figure.
        path: a file to save the figure to, which is replaced if it exists; None saves nothing.

    Returns:
        The Matplotlib figure.

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
        raise InputError("loss", "all of inputs, labels and loss, or none", f"{sum(given)} of them")
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
    """Draws a histogram of one array, with the number of values that are not finite."""
    flat = array.astype(np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    axes.hist(finite, bins=60, color="#3f51b5" if side == "values" else "#ef6c00")
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=5)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # space for the note
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
    """Draws examples as points, in the color of their class.

    Args:
        points: the points, [examples, 2], such as from ``project``.
        labels: the class of each example, or a float for a continuous color scale.
        class_names: the names of the classes for the legend; None for their numbers.
        title: the title of the figure.
        path: a file to save the figure to, which is replaced if it exists; None saves nothing.

    Returns:
        The Matplotlib figure.

    Raises:
        InputError: if there are not two coordinates and one label for each example.
    """
    place = _place(title, path)
    xy, classes = as_host_array("points", points), np.squeeze(as_host_array("labels", labels))
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise InputError("points", "[examples, 2]", describe(xy))
    if classes.shape != (len(xy),):
        raise InputError("labels", f"one label for each of {len(xy)} examples", describe(classes))
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
