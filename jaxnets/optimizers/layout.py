"""The axes of a parameter in PyTorch's order, for optimizers that tell rows from columns."""


def torch_axes(path: str, ndim: int) -> tuple[int, ...]:
    """Which of our axes each axis of PyTorch's parameter is.

    A kernel [..., I, O] is PyTorch's weight [O, I, ...]; any other parameter has its axes.

    Args:
        path: the parameter's place, such as ``fc1.kernel``; a kernel is known by its name.
        ndim: how many axes it has.
    """
    is_kernel = "kernel" in path.rpartition(".")[2]
    axes = tuple(range(ndim))
    return (axes[-1], axes[-2], *axes[:-2]) if is_kernel and ndim > 1 else axes
