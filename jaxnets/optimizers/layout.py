"""The axes of a parameter in PyTorch's order, for optimizers that depend on rows and columns."""


def torch_axes(path: str, ndim: int) -> tuple[int, ...]:
    """Returns, for each axis of a parameter in PyTorch, the index of the same axis here.

    A kernel [..., I, O] is PyTorch's weight [O, I, ...]. Other parameters have the same axes as in
    PyTorch.

    Args:
        path: the dotted path of the parameter, such as ``fc1.kernel``. Kernels are recognized by
            their names.
        ndim: the number of axes.
    """
    is_kernel = "kernel" in path.rpartition(".")[2]
    axes = tuple(range(ndim))
    return (axes[-1], axes[-2], *axes[:-2]) if is_kernel and ndim > 1 else axes
