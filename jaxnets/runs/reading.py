"""Reads run directories."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_float_dtype,
    check_integer,
    check_number,
    check_path,
    describe,
)
from jaxnets.changes import Change, restructured
from jaxnets.data import AudioFormat, RatingsEncoder, Standardizer, TableEncoder, Transform
from jaxnets.data.text import TextEncoder
from jaxnets.data.transforms.record import make_transform
from jaxnets.json_files import read_object
from jaxnets.models import MODELS
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import Recipe, build_model, build_transform
from jaxnets.runs.record import NETWORK, recipe_of, understood
from jaxnets.runs.saved import SavedRun
from jaxnets.training import EpochRecord
from jaxnets.training.evaluation import check_model
from jaxnets.training.records import RATINGS, RECORD, TEXT, WEIGHTS
from jaxnets.training.weights import check_weights, load_weights, sizes

_MOST, _MOST_LAYERS = 2**31, 1000  # limits if the weights cannot be read


def read(
    directory: Path | str,
    *,
    model: nnx.Module | None = None,
    transform: Transform | None = None,
    run_code: bool = False,
) -> SavedRun:
    """Reads a run directory that ``TrainingRun.save`` or the command line wrote.

    Args:
        directory: the run directory.
        model: for a custom network, an instance of its class; it is not changed. Networks of
            ``jaxnets.models`` are rebuilt from the record.
        run_code: whether to import the source files of a custom network that ``jaxnets train
            --model FILE.py:Class`` stored in the folder, instead of passing ``model``. The code is
            executed, so use this only for folders that you trust.
        transform: for a custom transform, the transform. Transforms of ``jaxnets.data`` are rebuilt
            from the record.

    Returns:
        The trained model with its transform, history and class names.

    Raises:
        InputError: if the folder is not a run directory, is damaged, or belongs to another model.

    Examples:
        ``run.save("runs/mlp")`` writes what this reads:

        >>> saved = jaxnets.load("runs/mlp")  # doctest: +SKIP
        >>> saved.predict(images).argmax(-1)  # doctest: +SKIP
    """
    if model is not None:
        check_model(model)
    check_bool("run_code", run_code)
    folder = check_path("directory", directory, "the folder of a run")
    path, text = folder / RECORD, folder / TEXT
    if not path.is_file():
        raise InputError("run", f"a folder with a {RECORD} in it", repr(str(directory)))
    with understood("run", path):
        record = read_object(path)
        from_python = {"model", "settings"} & {*record} == {"model"}
        recipe = None if from_python else recipe_of(record["settings"], folder / NETWORK)
        build, options = _builder(record, recipe)
        inputs = _inputs(record)
        found: dict[str, Any] = {
            "classifies": _accuracy(record) is not None,
            "class_names": _class_names(record),
            "inputs": inputs,
            "encoder": _encoder(text, inputs, options) if text.exists() else None,
            "labels_scaler": _scaler(record, "labels"),
            "background": _recorded_background(record),
            "table": _table(record),
            "inputs_scaler": _scaler(record, "inputs"),
            "transform": _transform(record, recipe) if transform is None else transform,
            "history": _history(record),
            "restored": _restored(record),
            "audio": _audio(record),
            "changes": tuple(map(Change.of_record, record.get("changes", ()))),
            "ratings": _ratings(folder / RATINGS, options),
        }
    if model is not None:
        model = _load_changed(nnx.clone(model), found["changes"], folder / WEIGHTS)
    elif recipe is not None and isinstance(recipe.model, OwnNetwork):
        model = _load_changed(
            _custom_network(recipe, run_code=run_code), found["changes"], folder / WEIGHTS
        )
    elif build is None:
        expected = f"an instance of {record['model']['class']}, as the folder has only its weights"
        raise InputError("model", expected, None)
    elif found["changes"]:
        model = _load_changed(build(), found["changes"], folder / WEIGHTS)
    else:
        model = _trained(build, options, path, folder / WEIGHTS)
    model.eval()
    return SavedRun(recipe, model, **found)


def _load_changed(model: nnx.Module, changes: Sequence[Change], weights: Path) -> nnx.Module:
    """Applies the changes to a network's structure and loads the weights of a folder."""
    model = restructured(model, changes)
    load_weights(model, weights)
    return model


def _custom_network(recipe: Recipe, *, run_code: bool) -> nnx.Module:
    """Builds a custom network from the source files in the run directory."""
    if not run_code:
        expected = "True to run the code of the network in the folder, or a network as model"
        raise InputError("run_code", expected, run_code)
    return build_model(recipe)


def _builder(
    record: dict[str, Any], recipe: Recipe | None
) -> tuple[Callable[[], nnx.Module] | None, Mapping[str, Any]]:
    """Returns a function that builds the run's network, and its options; None if unknown."""
    if recipe is not None:
        return functools.partial(build_model, recipe), recipe.model_options
    made = record["model"]
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in MODELS.values()}
    if made["class"] not in kinds:
        return None, {}
    options, dtype = dict(made["options"]), check_float_dtype("dtype", made["dtype"])
    kind = kinds[made["class"]]
    return lambda: kind(**options, param_dtype=dtype, rngs=nnx.Rngs(0)), options


def _trained(
    build: Callable[[], nnx.Module], options: Mapping[str, Any], path: Path, weights: Path
) -> nnx.Module:
    """Builds the network of a record and loads its weights.

    The shapes of the weights are compared with the record first, without allocating the network.
    """
    with understood("run", path):
        _check_sizes(options, weights)
        outline = nnx.eval_shape(build)
    check_weights(outline, weights)
    model = build()
    load_weights(model, weights)
    return model


def _history(record: dict[str, Any]) -> tuple[EpochRecord, ...]:
    rows = enumerate(record.get("history", ()), start=1)
    return tuple(EpochRecord.of_row(row, place) for place, row in rows)


def _restored(record: dict[str, Any]) -> int | None:
    found = record.get("restored")
    epochs = len(record.get("history", ()))
    return None if found is None else check_integer("restored", found, least=1, most=epochs)


def _transform(record: dict[str, Any], recipe: Recipe | None) -> Transform | None:
    return make_transform(record["transform"]) if recipe is None else build_transform(recipe)


def _check_sizes(options: Mapping[str, Any], weights: Path) -> None:
    """Checks that the options in a record are not larger than the weights allow.

    A damaged record could otherwise make a network that is too large to trace.
    """
    try:
        arrays = sizes(weights)
        total, layers = sum(arrays), len(arrays)
    except InputError:  # load_weights reports it later
        total, layers = _MOST, _MOST_LAYERS
    for name, value in options.items():
        most = layers if name == "n_layers" else total
        for size in value if isinstance(value, list) else [value]:
            if isinstance(size, int) and size > most and name != "remat":
                raise InputError(name, f"at most {most}, which the weights allow", size)


def _accuracy(record: dict[str, Any]) -> float | None:
    """Returns the test accuracy, or without a test the last training accuracy; None if neither."""
    tested = "test_loss" in record
    found = record["test_accuracy"] if tested else record["history"][-1]["train_accuracy"]
    return None if found is None else check_number("test_accuracy", found, least=0, most=1)


def _encoder(
    path: Path, inputs: jax.ShapeDtypeStruct | None, options: Mapping[str, Any]
) -> TextEncoder:
    encoder = TextEncoder.load(path)
    length, tokens = encoder.length, options.get("vocab_size")
    if "vocab_size" in options and tokens != len(encoder.vocabulary):
        expected = f"the {len(encoder.vocabulary)} tokens of {path}"
        raise InputError("vocab_size", expected, tokens)
    if inputs is not None and length is not None and inputs.shape != (length,):
        expected = f"rows of {length} tokens, the length in {path}"
        raise InputError("inputs", expected, describe(inputs))
    return encoder


def _ratings(path: Path, options: Mapping[str, Any]) -> RatingsEncoder | None:
    """The ids of users and items; None if the run is not on ratings."""
    if not path.exists():
        return None
    encoder = RatingsEncoder.load(path)
    for name, ids in (("num_users", encoder.users), ("num_items", encoder.items)):
        if options.get(name, len(ids)) != len(ids):
            raise InputError(name, f"the {len(ids)} ids of {path}", options[name])
    return encoder


def _class_names(record: dict[str, Any]) -> tuple[str, ...] | None:
    names = record.get("class_names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("class_names", "a list of names", names)
    return tuple(names)


def _inputs(record: dict[str, Any]) -> Any:
    """Returns the shape and dtype of an example, or None for a record of an older version."""
    spec = record.get("inputs")
    return None if spec is None else _spec(spec)


def _spec(spec: Any) -> Any:
    """Converts a recorded shape and dtype, or a nested structure of them."""
    if isinstance(spec, list):
        return tuple(_spec(part) for part in spec)
    if not isinstance(spec, dict):
        raise InputError("inputs", "a shape and dtype, or those of several arrays", spec)
    if isinstance(spec.get("shape", {}), dict):
        return {name: _spec(part) for name, part in spec.items()}
    shape = [check_integer("shape", size, least=0) for size in spec["shape"]]
    dtype = np.dtype(spec["dtype"])
    if dtype.kind not in "buif":
        raise InputError("dtype", "a numeric dtype", str(dtype))
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


def _table(record: dict[str, Any]) -> TableEncoder | None:
    columns = record.get("table")
    return None if columns is None else TableEncoder.from_json(columns)


def _scaler(record: dict[str, Any], of: str) -> Standardizer | None:
    standardized = record.get("standardized")
    found = None if standardized is None else standardized[of]
    return None if found is None else Standardizer(tuple(found["mean"]), tuple(found["std"]))


def _audio(record: dict[str, Any]) -> AudioFormat | None:
    found = record.get("audio")
    return None if found is None else AudioFormat(**found)


def _recorded_background(record: dict[str, Any]) -> float | None:
    found = record.get("background")
    return None if found is None else check_number("background", found, least=0, most=1)
