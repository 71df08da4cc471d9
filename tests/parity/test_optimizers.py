"""Optimizers compared with ``torch.optim``; each side computes gradients on its own trajectory."""

import math
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import optimizers
from tests import tier
from tests.parity.oracle import assert_equal, relative_difference

SHAPES = {"matrix": (3, 4), "vector": (5,), "one": (1,)}

TORCH = {
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "asgd": torch.optim.ASGD,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
}

# Every option of every optimizer, with PyTorch's default and another value. Numbers that do not
# change the form of the formula change together; options that change it are combined.
BETAS = {"betas": (0.7, 0.95), "eps": 1e-3}
NUMBERS = {
    "adadelta": {"lr": 0.3, "rho": 0.6, "eps": 1e-3},
    "adafactor": {"lr": 0.02, "beta2_decay": -0.5, "eps": (0.1, 0.5), "d": 1.2},
    "adagrad": {"lr": 0.1, "lr_decay": 0.05, "initial_accumulator_value": 0.5, "eps": 1e-3},
    "adam": {"lr": 0.05, **BETAS},
    "adamax": {"lr": 0.05, **BETAS},
    "adamw": {"lr": 0.05, **BETAS},
    "asgd": {"lr": 0.003, "lambd": 0.05, "alpha": 0.6, "t0": 20.0},
    "nadam": {"lr": 0.05, "momentum_decay": 0.1, **BETAS},
    "radam": {"lr": 0.05, **BETAS},
    "rmsprop": {"lr": 0.003, "alpha": 0.8, "eps": 1e-3},
    "rprop": {"lr": 0.05, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.5)},
    "sgd": {"lr": 0.003},
}
DECAY = {"weight_decay": [None, 0.1], "maximize": [False, True]}
DECOUPLED = DECAY | {"decoupled_weight_decay": [False, True]}
USUAL = ["adam", "adamw", "rmsprop", "sgd"]
FORMS = {
    "adadelta": DECAY,
    "adafactor": DECAY,
    "adagrad": DECAY,
    "adam": DECOUPLED | {"amsgrad": [False, True]},
    "adamax": DECAY,
    "adamw": DECAY | {"amsgrad": [False, True]},
    "asgd": DECAY,
    "nadam": DECOUPLED,
    "radam": DECOUPLED,
    "rmsprop": DECAY | {"momentum": [0, 0.7], "centered": [False, True]},
    "rprop": {"maximize": [False, True]},
    "sgd": DECAY | {"momentum": [0, 0.9], "dampening": [0, 0.4], "nesterov": [False, True]},
}


def combinations(name):
    for numbers, *values in product([{}, NUMBERS[name]], *FORMS[name].values()):
        options = numbers | dict(zip(FORMS[name], values, strict=True))
        if options.get("weight_decay", 0) is None:  # use the default, which is not 0 for AdamW
            del options["weight_decay"]
        if options.get("nesterov") and (not options["momentum"] or options["dampening"]):
            continue
        yield options


def each_alone(name):
    """The defaults, the other numbers, and each option that changes the form."""
    yield from ({}, NUMBERS[name])
    for option, (*_, value) in FORMS[name].items():
        yield {"momentum": 0.9, option: value} if name == "sgd" else {option: value}


@pytest.fixture
def torch_in_float64():
    # NAdam keeps a scalar in the framework's default dtype, which here is float64 in both.
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def problem(dtype):
    """A start, and the center and curvature of a bumpy bowl.

    The center is distant: near it, adaptive steps depend on the sign of the gradient, which
    amplifies rounding errors.
    """
    rng = np.random.default_rng(0)

    def draw(low, high):
        return {name: rng.uniform(low, high, shape).astype(dtype) for name, shape in SHAPES.items()}

    return draw(-2, 2), (draw(20, 40), draw(0.5, 2))


def loss(params, centre, curvature, library):
    total, coupling = 0, 0
    for name, p in params.items():
        total = total + library.sum(curvature[name] * (p - centre[name]) ** 2)
        total = total + library.sum(library.cos(2 * p)) * 3
        coupling = coupling + library.sum(p)
    return total + 0.02 * coupling**2


def ours(transformations, dtype, steps):
    """The parameters after some steps of several optimizers, computed in one jitted scan."""
    start, bowl = jax.tree.map(jnp.asarray, problem(dtype))
    gradient = jax.vmap(jax.grad(partial(loss, library=jnp)), in_axes=(0, None, None))

    @jax.jit
    def run(start, bowl):
        def step(runs, _):
            stacked = jax.tree.map(lambda *ps: jnp.stack(ps), *(params for params, _ in runs))
            gradients = gradient(stacked, *bowl)
            after = []
            for i, (params, state) in enumerate(runs):
                mine = jax.tree.map(lambda g, i=i: g[i], gradients)
                updates, state = transformations[i].update(mine, state, params)
                after.append((optax.apply_updates(params, updates), state))
            return after, None

        runs = [(start, transformation.init(start)) for transformation in transformations]
        return jax.lax.scan(step, runs, length=steps)[0]

    return [params for params, _ in run(start, bowl)]


def theirs(makers, dtype, steps):
    """The same with torch; each maker gets a list of parameters and returns an optimizer."""
    start, bowl = jax.tree.map(torch.tensor, problem(dtype))
    gradient = torch.func.vmap(torch.func.grad(partial(loss, library=torch)), (0, None, None))
    runs = [{name: value.clone().requires_grad_() for name, value in start.items()} for _ in makers]
    stepping = [make(list(params.values())) for make, params in zip(makers, runs, strict=True)]
    for _ in range(steps):
        stacked = {name: torch.stack([params[name].detach() for params in runs]) for name in start}
        gradients = gradient(stacked, *bowl)
        for i, (params, optimizer) in enumerate(zip(runs, stepping, strict=True)):
            for name, value in params.items():
                value.grad = gradients[name][i].clone()
            optimizer.step()
    return [{name: p.detach().numpy() for name, p in params.items()} for params in runs]


def check(found, expected, tolerance, what):
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert np.isfinite(value).all(), what
    found, expected = (
        np.concatenate([np.ravel(params[name]) for name in SHAPES]) for params in (found, expected)
    )
    assert relative_difference(found, expected) <= tolerance, what


@pytest.mark.usefixtures("torch_in_float64")
@pytest.mark.parametrize("steps", tier.usually([40, 200], [40]))
@pytest.mark.parametrize("name", tier.usually(FORMS, ["adamw", "sgd"]))
def test_every_option_in_float64(name, steps):
    cases = list(combinations(name))
    found = ours([getattr(optimizers, name)(**options) for options in cases], np.float64, steps)
    expected = theirs([partial(TORCH[name], **options) for options in cases], np.float64, steps)
    for i, options in enumerate(cases):
        check(found[i], expected[i], 1e-9, options)


@pytest.mark.slow
@pytest.mark.parametrize("name", tier.usually(FORMS, USUAL))
def test_each_option_in_float32(name):
    cases = list(each_alone(name))
    with jax.enable_x64(False):  # as in users' programs: scalars are float32 as well
        found = ours([getattr(optimizers, name)(**options) for options in cases], np.float32, 50)
    expected = theirs([partial(TORCH[name], **options) for options in cases], np.float32, 50)
    for i, options in enumerate(cases):
        check(found[i], expected[i], 1e-5, options)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "nadam", "radam"])
def test_bias_corrections_in_float32(name):
    """Parameters start at zero, so that no larger value hides the digits of the updates."""
    gradients = np.random.default_rng(0).uniform(1, 2, size=(8, 5)).astype(np.float32)
    options = {"betas": (0.99, 0.9999), "weight_decay": 0}
    parameter = torch.zeros(5, requires_grad=True)
    optimizer = TORCH[name]([parameter], **options)
    transformation = optimizers.OPTIMIZERS[name](**options)
    with jax.enable_x64(False):
        params = jnp.zeros(5)
        state, update = transformation.init(params), jax.jit(transformation.update)
        for gradient in gradients:
            updates, state = update(jnp.asarray(gradient), state, params)
            params = optax.apply_updates(params, updates)
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            np.testing.assert_allclose(params, parameter.detach(), rtol=2e-6)


@pytest.mark.parametrize("name", FORMS)
def test_extreme_gradients(name):
    """Zero, tiny and huge gradients: results are finite, infinite or NaN where torch's are."""
    gradients = np.array([0, 0, 1e-30, 1e-10, -1, 0, 1e10, 1e30, -1e30, 0, 1], np.float32)
    parameter = torch.ones(1, requires_grad=True)
    # Large steps back and forth reveal every digit of powers, which PyTorch computes in float64.
    options = {"asgd": {"lambd": 0.0}}.get(name, {})
    optimizer = TORCH[name]([parameter], **options)
    expected = []
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        expected.append(parameter.item())

    transformation = optimizers.OPTIMIZERS[name](**options)

    @jax.jit
    def run(params, gradients):
        def step(carry, gradient):
            params, state = carry
            updates, state = transformation.update(gradient[None], state, params)
            params = optax.apply_updates(params, updates)
            return (params, state), params[0]

        return jax.lax.scan(step, (params, transformation.init(params)), gradients)[1]

    with jax.enable_x64(False):
        found = run(jnp.ones(1), jnp.asarray(gradients))
    for step, (value, reference) in enumerate(zip(found, expected, strict=True)):
        assert relative_difference(value, np.float32(reference)) <= 1e-5, step


@pytest.mark.parametrize("name", tier.one_in(2, FORMS))
def test_bfloat16(name):
    rng = np.random.default_rng(0)
    start, *gradients = rng.normal(size=(6, 40)).astype(np.float32)
    parameter = torch.tensor(start, dtype=torch.bfloat16, requires_grad=True)
    options = {"weight_decay": 0.1} if "weight_decay" in FORMS[name] else {}
    optimizer = TORCH[name]([parameter], lr=0.05, **options)
    params = jnp.asarray(start, jnp.bfloat16)
    transformation = optimizers.OPTIMIZERS[name](0.05, **options)
    state = transformation.init(params)
    update = jax.jit(transformation.update)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.bfloat16)
        optimizer.step()
        updates, state = update(jnp.asarray(gradient, jnp.bfloat16), state, params)
        assert updates.dtype == jnp.bfloat16
        params = optax.apply_updates(params, updates)
    for slot in jax.tree.leaves(state.slots):
        assert slot.dtype == jnp.bfloat16 or slot.shape == ()  # the scalars of NAdam and ASGD
    expected = parameter.detach().float().numpy()
    assert relative_difference(params.astype(jnp.float32), expected) <= 2**-7


@pytest.mark.parametrize("name", FORMS)
def test_slots_are_those_of_the_state_dict(name):
    for options in combinations(name):
        parameter = torch.ones(2, 3, requires_grad=True)
        optimizer = TORCH[name]([parameter], **options)
        parameter.grad = torch.ones(2, 3)
        optimizer.step()
        expected = {
            key: tuple(value.shape)
            for key, value in optimizer.state_dict()["state"].get(0, {}).items()
            if key != "step" and value is not None
        }
        state = optimizers.OPTIMIZERS[name](**options).init(jnp.ones((2, 3)))
        kept = {key: value for key, value in state.slots.items() if value is not None}
        assert {key: value.shape for key, value in kept.items()} == expected


SCHEDULES = {
    "step": (
        optimizers.step_lr(0.05, 15, 0.5),
        lambda o: torch.optim.lr_scheduler.StepLR(o, 15, 0.5),
    ),
    "cosine": (
        optimizers.cosine_annealing_lr(0.05, 20, 0.01),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, 0.01),
    ),
}


def scheduled(optimizer, make_scheduler):
    scheduler = make_scheduler(optimizer)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())
    return optimizer


@pytest.mark.slow
@pytest.mark.usefixtures("torch_in_float64")
@pytest.mark.parametrize("schedule", tier.usually(SCHEDULES, ["step"]))
def test_learning_rate_by_schedule_in_float64(schedule):
    lr, make = SCHEDULES[schedule]
    cases = [{"weight_decay": 0.01}, {"weight_decay": 0.01, "maximize": True}]
    decayed = [name for name in FORMS if "weight_decay" in FORMS[name]]
    named = [(name, options) for name in decayed for options in cases]
    found = ours([getattr(optimizers, name)(lr, **options) for name, options in named], float, 50)
    expected = theirs(
        [
            lambda ps, n=name, o=options: scheduled(TORCH[n](ps, lr=0.05, **o), make)
            for name, options in named
        ],
        float,
        50,
    )
    for i, case in enumerate(named):
        check(found[i], expected[i], 1e-9, case)


@pytest.mark.slow
@pytest.mark.usefixtures("torch_in_float64")
def test_one_cycle_of_learning_rate_and_momentum_in_float64():
    names = ["sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "radam"]
    has_momentum = {"sgd", "rmsprop"}
    lr, momentum = optimizers.one_cycle_lr(0.02, 50), optimizers.one_cycle_momentum(50)
    found = ours(
        [
            getattr(optimizers, name)(
                lr,
                **({"momentum": momentum} if name in has_momentum else {"betas": (momentum, 0.99)}),
            )
            for name in names
        ],
        float,
        50,
    )

    def make(name, params):
        options = {"momentum": 0.9} if name in has_momentum else {"betas": (0.9, 0.99)}
        optimizer = TORCH[name](params, **options)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, 50)
        optimizer.register_step_post_hook(lambda *_: scheduler.step())
        return optimizer

    expected = theirs([partial(make, name) for name in names], float, 50)
    for i, name in enumerate(names):
        check(found[i], expected[i], 1e-9, name)


def test_learning_rate_set_during_the_run_in_float64():
    transformation = optax.chain(
        optimizers.clip_grad_value(1e9),
        optimizers.param_groups(optimizers.adam(0.1), [("one", optimizers.sgd(0.2, momentum=0.9))]),
    )
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    tensors = {name: torch.ones(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    adam = torch.optim.Adam([tensors["matrix"], tensors["vector"]], lr=0.1)
    sgd = torch.optim.SGD([tensors["one"]], lr=0.2, momentum=0.9)
    state, update = transformation.init(params), jax.jit(transformation.update)
    for step in range(6):
        if step == 3:
            state = optimizers.set_learning_rate(state, lambda lr: lr / 4)
            adam.param_groups[0]["lr"] /= 4
            sgd.param_groups[0]["lr"] /= 4
        for value in tensors.values():
            value.grad = torch.cos(value * (step + 1))
        updates, state = update(
            {name: jnp.cos(value * (step + 1)) for name, value in params.items()}, state, params
        )
        params = optax.apply_updates(params, updates)
        adam.step()
        sgd.step()
    check(params, {name: value.numpy() for name, value in tensors.items()}, 1e-12, "after")


@pytest.mark.usefixtures("torch_in_float64")
def test_param_groups_in_float64():
    found = ours(
        [
            optimizers.param_groups(
                optimizers.sgd(0.001, momentum=0.9, weight_decay=0.1),
                [
                    ("v*r", optimizers.sgd(0.0005, momentum=0.9, nesterov=True)),
                    (lambda path: path == "one", optimizers.sgd(0.002)),
                ],
            )
        ],
        float,
        100,
    )[0]

    def make(params):
        matrix, one, vector = params  # in the order of JAX
        groups = [
            {"params": [matrix], "weight_decay": 0.1},
            {"params": [vector], "lr": 0.0005, "nesterov": True},
            {"params": [one], "lr": 0.002, "momentum": 0},
        ]
        return torch.optim.SGD(groups, lr=0.001, momentum=0.9)

    check(found, theirs([make], float, 100)[0], 1e-9, "groups")


@pytest.mark.usefixtures("torch_in_float64")
def test_clipping_in_a_chain_in_float64():
    clips = {
        "norm 2": (optimizers.clip_grad_norm(1.0), (1.0, 2.0)),
        "norm 1": (optimizers.clip_grad_norm(1.0, 1), (1.0, 1)),
        "norm 3": (optimizers.clip_grad_norm(0.5, 3.0), (0.5, 3.0)),
        "norm inf": (optimizers.clip_grad_norm(0.3, math.inf), (0.3, math.inf)),
        "not reached": (optimizers.clip_grad_norm(1e6), (1e6, 2.0)),
        "value": (optimizers.clip_grad_value(0.2), None),
    }
    found = ours([optax.chain(clip, optimizers.sgd(0.1)) for clip, _ in clips.values()], float, 100)

    def make(arguments, params):
        def clip(*_):
            if arguments is None:
                torch.nn.utils.clip_grad_value_(params, 0.2)
            else:
                torch.nn.utils.clip_grad_norm_(params, *arguments)

        optimizer = torch.optim.SGD(params, lr=0.1)
        optimizer.register_step_pre_hook(clip)
        return optimizer

    expected = theirs([partial(make, arguments) for _, arguments in clips.values()], float, 100)
    for i, name in enumerate(clips):
        check(found[i], expected[i], 1e-9, name)


@pytest.mark.slow
@given(
    scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e10, 1e30, math.inf, math.nan]),
    max_norm=st.sampled_from([0.0, 1e-8, 1.0, 50.0, math.inf]),
    norm_type=st.sampled_from([0.5, 1.0, 2.0, 4.5, math.inf]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_clip_grad_norm(scale, max_norm, norm_type, dtype):
    rng = np.random.default_rng(0)
    with np.errstate(invalid="ignore"):
        gradients = [(scale * rng.normal(size=shape)).astype(dtype) for shape in SHAPES.values()]
    tensors = [torch.zeros(shape, requires_grad=True) for shape in SHAPES.values()]
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.data = tensor.data.to(torch.tensor(gradient).dtype)
        tensor.grad = torch.tensor(gradient)
    torch.nn.utils.clip_grad_norm_(tensors, max_norm, norm_type)
    clip = optimizers.clip_grad_norm(max_norm, norm_type)
    found, _ = jax.jit(clip.update)(jax.tree.map(jnp.asarray, gradients), clip.init(None))
    for value, tensor in zip(found, tensors, strict=True):
        assert value.dtype == dtype
        assert_equal(value, tensor.grad, "clipped")


MUON = [
    {},
    {"lr": 0.05, "weight_decay": 0.0, "momentum": 0.3, "nesterov": False},
    {"lr": 0.05, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3, "eps": 1.0},
    {"lr": 0.05, "adjust_lr_fn": "original", "ns_coefficients": (2.0, -1.5, 0.5)},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", MUON)
def test_muon(options):
    """Wide, tall and square weights [O, I], and an embedding, which is not transposed here."""
    draw = np.random.default_rng(0)
    shapes = {"wide.kernel": (3, 8), "tall.kernel": (8, 3), "square.kernel": (6, 6)}
    starts = {name: draw.normal(size=shape) for name, shape in shapes.items()}
    starts["rows.embedding"] = draw.normal(size=(5, 2))
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in starts.items()}
    optimizer = torch.optim.Muon(tensors.values(), **options)
    transformation = optimizers.muon(**options)
    params = {name: jnp.asarray(v if "rows" in name else v.T) for name, v in starts.items()}
    state, update = transformation.init(params), jax.jit(transformation.update)
    for step in range(8):
        for value in tensors.values():
            value.grad = torch.sin(value.detach() * (step + 1))
        gradients = {name: jnp.sin(value * (step + 1)) for name, value in params.items()}
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        optimizer.step()
        for name, value in tensors.items():
            found = params[name] if "rows" in name else params[name].T
            assert relative_difference(found, value.detach().numpy()) <= 1e-12, (name, step)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("kernel", (5, 2, 4)),
        ("kernel", (3, 5, 2, 4)),
        ("kernel", (2, 3, 3, 2, 4)),
        ("bias", (3, 4)),
    ],
)
def test_the_rows_and_columns_of_adafactor_equal_torch(name, shape):
    draw = np.random.default_rng(0)
    start = draw.normal(size=shape)

    def there(array):
        return np.moveaxis(array, (-1, -2), (0, 1)) if name == "kernel" else array

    parameter = torch.tensor(there(start).copy(), requires_grad=True)
    optimizer = torch.optim.Adafactor([parameter], lr=0.1)
    transformation = optimizers.adafactor(0.1)
    params = {name: jnp.asarray(start)}
    state, update = transformation.init(params), jax.jit(transformation.update)
    for _ in range(3):
        gradient = draw.normal(size=shape)
        parameter.grad = torch.tensor(there(gradient).copy())
        optimizer.step()
        updates, state = update({name: jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    assert relative_difference(there(params[name]), parameter.detach().numpy()) <= 1e-12
    for slot in ("row_var", "col_var"):
        expected = optimizer.state[parameter][slot].numpy()
        assert relative_difference(there(state.slots[slot][name]), expected) <= 1e-12
