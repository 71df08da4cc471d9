"""The floor of the times: the same number of multiplications in large matrix products."""

import turns


def serve(multiplications: int, size: int = 1024) -> None:
    """In a competitor: computes about the requested number of multiplications in each turn."""
    import jax

    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jax.numpy.matmul)
    times = max(1, round(multiplications / size**3))

    def run() -> None:
        for _ in range(times):
            product(matrix, matrix).block_until_ready()

    turns.serve(run)
