import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnets import optimizers
from jaxnets.arrays import InputError
from tests import tier

every_optimizer = pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
# The others evaluate the loss several times, or accept only matrices.
OF_ANY = [name for name in optimizers.OPTIMIZERS if name not in ("lbfgs", "muon")]
of_any_parameters = pytest.mark.parametrize("name", OF_ANY)


def options_of(name):
    return inspect.signature(optimizers.OPTIMIZERS[name]).parameters


def with_decay(name, *arguments):
    options = {"weight_decay": 0.1} if "weight_decay" in options_of(name) else {}
    return optimizers.OPTIMIZERS[name](*arguments, **options)


class Network(nnx.Module):
    def __init__(self, rngs):
        self.fc1 = nnx.Linear(3, 4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 2, rngs=rngs)])


def states():
    state = nnx.state(Network(nnx.Rngs(0)), nnx.Param)
    return {"nnx.State": state, "dict": nnx.to_pure_dict(state), "array": jnp.ones((2, 3))}


@of_any_parameters
@pytest.mark.parametrize("kind", tier.usually(states(), ["nnx.State"]))
def test_any_tree_goes_through_a_scan(name, kind):
    params = states()[kind]
    optimizer = with_decay(name, 0.001)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(params, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=3)[0]

    after, state = run(params)
    assert jax.tree.structure(after) == jax.tree.structure(params)
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.init(params))
    assert state.step == 3
    assert state.step.dtype == jnp.int32
    for before, value in zip(jax.tree.leaves(params), jax.tree.leaves(after), strict=True):
        assert value.dtype == before.dtype
        # the gradient is the parameter, so that every parameter shrinks
        assert jnp.all(jnp.where(before == 0, value == 0, jnp.abs(value) < jnp.abs(before)))


@of_any_parameters
@pytest.mark.parametrize(
    "dtype", tier.usually([jnp.float16, jnp.bfloat16, jnp.float32], [jnp.bfloat16])
)
def test_updates_and_slots_have_the_dtype_of_the_parameter(name, dtype):
    params = {"weight": jnp.ones((2, 2), dtype), "other": jnp.ones(3, jnp.float32)}
    gradients = {"weight": jnp.ones((2, 2), jnp.float32), "other": jnp.ones(3, jnp.float32)}
    optimizer = with_decay(name, optimizers.exponential_lr(0.1, 0.9))
    updates, state = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    assert updates["weight"].dtype == dtype
    assert updates["other"].dtype == jnp.float32
    assert jnp.all(jnp.isfinite(updates["weight"]))
    for slot, values in state.slots.items():
        if values["weight"] is not None:
            assert values["weight"].dtype == dtype or slot in ("mu_product", "eta", "mu")


@of_any_parameters
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.float32])  # ε is 0 in float16
def test_zero_gradients_leave_the_parameters(name, dtype):
    optimizer = optimizers.OPTIMIZERS[name](**({"lambd": 0} if name == "asgd" else {}))
    params = jnp.zeros(4, dtype) if name == "adamw" else jnp.arange(4, dtype=dtype)
    state = optimizer.init(params)
    updates, state = jax.jit(optimizer.update)(jnp.zeros(4, dtype), state, params)
    np.testing.assert_array_equal(updates, np.zeros(4))
    assert state.step == 1


@pytest.mark.parametrize("name", [n for n in OF_ANY if "weight_decay" in options_of(n)])
def test_parameters_are_needed_for_weight_decay(name):
    optimizer = optimizers.OPTIMIZERS[name](weight_decay=0.1)
    state = optimizer.init(jnp.ones(2))
    with pytest.raises(ValueError, match="params: expected the parameters, which (weight|this)"):
        optimizer.update(jnp.ones(2), state)


@pytest.mark.parametrize("name", [n for n in OF_ANY if n not in ("adafactor", "asgd")])
def test_most_rules_need_gradients_alone(name):
    options = {"weight_decay": 0} if name == "adamw" else {}
    optimizer = optimizers.OPTIMIZERS[name](**options)
    jax.eval_shape(optimizer.update, jnp.ones(2), optimizer.init(jnp.ones(2)))


@every_optimizer
@pytest.mark.parametrize("leaf", [jnp.arange(3), jnp.ones(2, jnp.complex64), 1.0])
def test_only_floating_point_arrays_are_trained(name, leaf):
    with pytest.raises(ValueError, match="params: expected floating-point arrays, got an array of"):
        optimizers.OPTIMIZERS[name]().init({"weight": leaf})


def test_trains_an_nnx_model():
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optimizers.adam(0.01), wrt=nnx.Param)
    x = jnp.ones((2, 3))

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return jnp.mean(model.layers[0](model.fc1(x)) ** 2)

        value, gradients = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradients)
        return value

    losses = [step(model, optimizer) for _ in range(10)]
    assert losses[-1] < losses[0]


NOT_NUMBERS = [-0.1, math.nan, math.inf, 10**400, "0.1", None, True, np.ones(1)]


@every_optimizer
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_bad_learning_rate(name, value):
    with pytest.raises(InputError, match=r"lr: expected a finite number >= 0 or a schedule, got"):
        optimizers.OPTIMIZERS[name](value)


@pytest.mark.parametrize("lr", [np.float32(0.25), np.array(0.25), jnp.float32(0.25)])
def test_scalars_of_numpy_and_jax_are_numbers(lr):
    updates, _ = optimizers.sgd(lr).update(jnp.ones(1), optimizers.sgd(lr).init(jnp.ones(1)))
    assert updates[0] == -0.25


@pytest.mark.parametrize(
    ("schedule", "got"),
    [
        (lambda count: jnp.ones(3), r"float32\[3\]"),
        (lambda count: 1j, r"complex64\[\]"),
        (lambda count: True, r"bool\[\]"),
    ],
)
def test_a_schedule_gives_one_number(schedule, got):
    expected = "schedule: expected a function from the number of steps to one number, got "
    with pytest.raises(InputError, match=expected + got):
        optimizers.sgd(schedule).init(jnp.ones(1))
    with pytest.raises(InputError, match="schedule: expected an array, got fast"):
        optimizers.sgd(lambda count: "fast").init(jnp.ones(1))


SWITCHES = [
    *((name, "maximize") for name in OF_ANY),
    *((name, "decoupled_weight_decay") for name in ("adam", "nadam", "radam")),
    *((name, "amsgrad") for name in ("adam", "adamw")),
    ("rmsprop", "centered"),
    ("sgd", "nesterov"),
    ("muon", "nesterov"),
]


@pytest.mark.parametrize(("name", "option"), SWITCHES)
@pytest.mark.parametrize("value", ["no", None, 0])
def test_a_switch_is_true_or_false(name, option, value):
    with pytest.raises(InputError, match=f"{option}: expected True or False, got"):
        optimizers.OPTIMIZERS[name](**{option: value})


@pytest.mark.parametrize(
    "name", [name for name in optimizers.OPTIMIZERS if "weight_decay" in options_of(name)]
)
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_bad_weight_decay(name, value):
    with pytest.raises(InputError, match=r"weight_decay: expected a finite number >= 0, got"):
        optimizers.OPTIMIZERS[name](weight_decay=value)


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize(
    ("name", "option"),
    [
        *((name, "eps") for name in OF_ANY if "eps" in options_of(name) and name != "adafactor"),
        ("sgd", "momentum"),
        ("muon", "momentum"),
        ("asgd", "lambd"),
        ("lbfgs", "tolerance_grad"),
        ("lbfgs", "tolerance_change"),
        ("rmsprop", "momentum"),
        ("nadam", "momentum_decay"),
        ("adagrad", "lr_decay"),
        ("adagrad", "initial_accumulator_value"),
    ],
)
def test_bad_number(name, option, value):
    with pytest.raises(InputError, match=f"{option}: expected a finite number >= 0.*, got"):
        optimizers.OPTIMIZERS[name](**{option: value})


@pytest.mark.parametrize(("name", "option"), [("adadelta", "rho"), ("rmsprop", "alpha")])
@pytest.mark.parametrize("value", [1.1, *NOT_NUMBERS])
def test_bad_fraction(name, option, value):
    with pytest.raises(InputError, match=rf"{option}: expected a number in \[0, 1\], got"):
        optimizers.OPTIMIZERS[name](**{option: value})


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "nadam", "radam"])
@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ((1.0, 0.9), r"betas\[0\]: expected a number in \[0, 1\), got 1.0"),
        ((0.9, -0.1), r"betas\[1\]: expected a number in \[0, 1\), got -0.1"),
        ((0.9, math.nan), r"betas\[1\]: expected a number in \[0, 1\), got nan"),
        ((0.9, lambda count: 0.9), r"betas\[1\]: expected a number in \[0, 1\), got"),
        (0.9, r"betas: expected two numbers in \[0, 1\), got 0.9"),
        ((0.9, 0.99, 0.999), r"betas: expected two numbers in \[0, 1\), got"),
    ],
)
def test_bad_betas(name, betas, message):
    with pytest.raises(InputError, match=message):
        optimizers.OPTIMIZERS[name](betas=betas)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adafactor", {"beta2_decay": 0.1}, "beta2_decay: expected a finite number <= 0, got 0.1"),
        ("adafactor", {"d": 0.5}, "d: expected a finite number >= 1, got 0.5"),
        ("adafactor", {"eps": 1e-3}, "eps: expected a number or None, and a number, got 0.001"),
        ("adafactor", {"eps": (-1, 1)}, r"eps\[0\]: expected a finite number >= 0, got -1"),
        ("adafactor", {"eps": (None, None)}, r"eps\[1\]: expected a finite number >= 0, got None"),
        ("asgd", {"alpha": math.nan}, "alpha: expected a finite number, got nan"),
        ("asgd", {"t0": "late"}, "t0: expected a finite number, got late"),
        ("rprop", {"etas": (0.5,)}, r"etas: expected numbers η₋ in \(0, 1\) and η₊ > 1, got"),
        ("rprop", {"etas": (1.2, 0.5)}, r"etas: expected numbers η₋ in \(0, 1\) and η₊ > 1, got"),
        ("rprop", {"etas": (0.5, "a")}, r"etas\[1\]: expected a finite number, got a"),
        ("rprop", {"step_sizes": (2, 1)}, "step_sizes: expected the smallest and the larges"),
        ("muon", {"ns_coefficients": (1, 2)}, "ns_coefficients: expected three numbers, got"),
        ("muon", {"ns_steps": 100}, "ns_steps: expected an integer from 0 to 99, got 100"),
        ("muon", {"adjust_lr_fn": "own"}, "adjust_lr_fn: expected one of original, match_rms_a"),
        ("lbfgs", {"max_iter": 0}, "max_iter: expected a positive integer, got 0"),
        ("lbfgs", {"max_eval": 0}, "max_eval: expected a positive integer, got 0"),
        ("lbfgs", {"history_size": 0}, "history_size: expected a positive integer, got 0"),
        ("lbfgs", {"line_search_fn": "wolfe"}, "line_search_fn: expected one of strong_wolfe"),
    ],
)
def test_bad_option(name, options, message):
    with pytest.raises(InputError, match=message):
        optimizers.OPTIMIZERS[name](**options)


def test_muon_takes_matrices():
    expected = r"params: expected matrices only, with other parameters in another group .*, got "
    with pytest.raises(InputError, match=expected + r"float32\[4\] for fc1.bias"):
        optimizers.muon().init(states()["nnx.State"])
    optimizer = optimizers.param_groups(optimizers.adamw(), [("*.kernel", optimizers.muon())])
    for kind in ("nnx.State", "dict"):
        params = states()[kind]
        updates, _ = jax.jit(optimizer.update)(params, optimizer.init(params), params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)


def test_lbfgs_takes_the_loss_and_all_parameters():
    optimizer, params = optimizers.lbfgs(), jnp.ones(2)
    state = optimizer.init(params)
    expected = "value_fn: expected the loss as a function of the parameters, and params, got "
    with pytest.raises(InputError, match=expected + "None"):
        optimizer.update(params, state, params)
    with pytest.raises(InputError, match=expected + "no params"):
        optimizer.update(params, state, value_fn=jnp.sum)
    with pytest.raises(InputError, match="params: expected all parameters, as lbfgs has no groups"):
        grouped(("fc1.*", optimizer)).init(states()["dict"])


def test_lbfgs_of_several_dtypes_keeps_them():
    params = {"a": jnp.full(3, 2.0, jnp.bfloat16), "b": jnp.ones((2, 2), jnp.float32)}
    optimizer = optimizers.lbfgs(max_iter=3, history_size=2, line_search_fn="strong_wolfe")

    def loss(params):
        return jnp.sum(params["a"].astype(jnp.float32) ** 2) + jnp.sum(params["b"] ** 4)

    @jax.jit
    def step(params, state):  # evaluates the loss itself if it gets no value
        updates, state = optimizer.update(params, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state

    before = optimizer.init(params)
    after, state = step(params, before)
    assert loss(after) < 0.5 * loss(params)
    kinds = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x)] for x in (before, state)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("value", [math.nan, math.inf, "0"])
def test_bad_dampening(value):
    with pytest.raises(InputError, match="dampening: expected a finite number, got"):
        optimizers.sgd(momentum=0.9, dampening=value)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_needs_momentum_without_dampening(options):
    with pytest.raises(InputError, match="nesterov: expected False without momentum or with"):
        optimizers.sgd(nesterov=True, **options)


def test_a_new_learning_rate_does_not_compile_again():
    optimizer, traced = optimizers.sgd(0.5), []

    @jax.jit
    def update(gradient, state):
        traced.append(True)
        return optimizer.update(gradient, state)

    _, state = update(jnp.ones(1), optimizer.init(jnp.ones(1)))
    state = optimizers.set_learning_rate(state, 0.25)
    updates, state = update(jnp.ones(1), state)
    assert updates == -0.25
    assert len(traced) == 1
    assert optimizers.learning_rates(state) == [0.25]


def test_a_schedule_counts_the_steps_taken_and_is_shown_in_the_state():
    optimizer = optimizers.sgd(lambda count: 1 / (1 + count.astype(jnp.float32)))
    state = optimizer.init(jnp.ones(1))
    assert optimizers.learning_rates(state) == [1.0]
    for step in range(3):
        updates, state = optimizer.update(jnp.ones(1), state)
        np.testing.assert_allclose(updates, [-1 / (1 + step)], rtol=1e-6)
        np.testing.assert_allclose(optimizers.learning_rates(state), [1 / (1 + step)], rtol=1e-6)


@pytest.mark.parametrize("state", [optax.sgd(0.1, momentum=0.9).init(jnp.ones(1)), (), None])
def test_learning_rate_of_another_state(state):
    for change in (
        optimizers.learning_rates,
        lambda state: optimizers.set_learning_rate(state, 0.1),
    ):
        with pytest.raises(InputError, match="state: expected the state of an optimizer of jax"):
            change(state)


def grouped(*groups):
    return optimizers.param_groups(optimizers.sgd(1.0), groups)


@pytest.mark.parametrize("kind", ["nnx.State", "dict"])
def test_groups_by_glob_and_by_function(kind):
    params = states()[kind]
    optimizer = grouped(
        ("*.bias", optimizers.sgd(2.0)), (lambda path: path == "fc1.kernel", optimizers.sgd(3.0))
    )
    state = optimizer.init(params)
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
    if kind == "nnx.State":
        updates = nnx.to_pure_dict(updates)
    assert jnp.all(updates["layers"][0]["kernel"] == -1)
    assert jnp.all(updates["fc1"]["bias"] == -2)
    assert jnp.all(updates["layers"][0]["bias"] == -2)
    assert jnp.all(updates["fc1"]["kernel"] == -3)
    assert optimizers.learning_rates(state) == [1, 2, 3]
    assert optimizers.learning_rates(optimizers.set_learning_rate(state, 0.5)) == [0.5] * 3


def test_a_selector_that_picks_nothing():
    optimizer = grouped(("fc1.*", optimizers.sgd()), ("fc2.*", optimizers.sgd()))
    expected = r"groups\[1\]: expected a selector that matches one of fc1.bias.*, got fc2"
    with pytest.raises(InputError, match=expected):
        optimizer.init(states()["dict"])


def test_a_parameter_in_two_groups():
    optimizer = grouped(("fc1.*", optimizers.sgd()), ("*.bias", optimizers.sgd()))
    expected = r"groups: expected at most one group for fc1.bias, got fc1\.\* and \*\.bias"
    with pytest.raises(InputError, match=expected):
        optimizer.init(states()["dict"])


def test_a_selector_of_another_kind():
    with pytest.raises(InputError, match=r"groups\[0\]: expected a glob or a function of the path"):
        grouped((3, optimizers.sgd()))


@pytest.mark.parametrize(
    ("default", "groups", "message"),
    [
        ("sgd", [], "default: expected an optimizer, got sgd"),
        (optimizers.sgd(), "fc1", "groups: expected pairs of a selector and an optimizer, got fc1"),
        (optimizers.sgd(), ["*.bias"], r"groups\[0\]: expected a selector and an optimizer, got"),
        (optimizers.sgd(), [("*.bias", 0.1)], r"groups\[0\]: expected an optimizer, got 0.1"),
    ],
)
def test_bad_groups(default, groups, message):
    with pytest.raises(InputError, match=message):
        optimizers.param_groups(default, groups)


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_bad_new_learning_rate(value):
    state = optimizers.sgd(0.1).init(jnp.ones(1))
    with pytest.raises(InputError, match="lr: expected a finite number >= 0, got"):
        optimizers.set_learning_rate(state, value)


def test_a_new_learning_rate_may_be_traced():
    state = optimizers.sgd(0.1).init(jnp.ones(1))
    assert jax.jit(optimizers.set_learning_rate)(state, 0.5).lr == 0.5


def test_clipping_keeps_dtypes_and_bears_an_empty_tree():
    gradients = {"a": jnp.full(3, 300.0, jnp.bfloat16), "b": jnp.full((2, 2), 4.0, jnp.float32)}
    for clip in (optimizers.clip_grad_norm(1.0), optimizers.clip_grad_value(1.0)):
        clipped, _ = jax.jit(clip.update)(gradients, clip.init(gradients))
        assert jax.tree.map(lambda g: g.dtype, clipped) == jax.tree.map(
            lambda g: g.dtype, gradients
        )
        assert all(jnp.all(jnp.abs(g) <= 1) for g in clipped.values())
        assert clip.update({}, clip.init({}))[0] == {}


@pytest.mark.parametrize("value", [-1, math.nan, 10**400, "1", None, True])
def test_bad_clipping(value):
    with pytest.raises(InputError, match="max_norm: expected a number >= 0, got"):
        optimizers.clip_grad_norm(value)
    with pytest.raises(InputError, match="norm_type: expected a number > 0, got"):
        optimizers.clip_grad_norm(1.0, value)
    with pytest.raises(InputError, match="clip_value: expected a number >= 0, got"):
        optimizers.clip_grad_value(value)


def test_the_norm_of_order_zero_is_refused():
    with pytest.raises(InputError, match=r"norm_type: expected a number > 0, got 0"):
        optimizers.clip_grad_norm(1.0, 0)


def test_the_tables_hold_what_is_exported():
    assert all(getattr(optimizers, name) is make for name, make in optimizers.OPTIMIZERS.items())
    assert all(getattr(optimizers, name) is make for name, make in optimizers.SCHEDULES.items())
    not_of_lr = {"reduce_lr_on_plateau"}
    exported = {name for name in optimizers.__all__ if "_lr" in name or name.startswith("cosine")}
    exported |= {"chained_scheduler", "swalr"}
    assert set(optimizers.SCHEDULES) == exported - not_of_lr
