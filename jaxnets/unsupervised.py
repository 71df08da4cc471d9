"""k-means clustering and principal component analysis, with scikit-learn's results."""

import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_host_array,
    check_integer,
    check_number,
    check_positive,
    check_seed,
    describe,
    shown,
)

_RESTARTS = 10_000
_HIGHEST = lax.Precision.HIGHEST  # distances are differences of products


class Clusters(NamedTuple):
    """The clusters that ``kmeans`` found.

    Attributes:
        centers: the mean of each cluster, floats [k, D].
        labels: the cluster of each point, int32 [N].
        inertia: the sum of the squared distances of the points to their centers.
        n_iter: number of iterations.
    """

    centers: np.ndarray
    labels: np.ndarray
    inertia: float
    n_iter: int

    def predict(self, x: ArrayLike) -> np.ndarray:
        """Returns the nearest center of each point, int32 [N]; of equally near ones the first.

        Args:
            x: points [N, D].

        Raises:
            InputError: if the points are not finite numbers [N, D].
        """
        points = _points("x", x)
        if points.shape[1] != self.centers.shape[1]:
            raise InputError("x", f"points [N, {self.centers.shape[1]}]", describe(points))
        centers = self.centers.astype(points.dtype)
        middle = centers.mean(axis=0)  # small numbers lose less in the difference of products
        return np.asarray(_nearest(jnp.asarray(points - middle), jnp.asarray(centers - middle)))


def kmeans(
    x: ArrayLike,
    n_clusters: int,
    *,
    init: Literal["k-means++"] | ArrayLike = "k-means++",
    n_init: int = 10,
    max_iter: int = 300,
    tol: float = 1e-4,
    seed: int = 0,
) -> Clusters:
    """Divides points into clusters by Lloyd's algorithm: ``sklearn.cluster.KMeans``.

    It minimizes Σ |x_i - c(x_i)|², where c(x) is the center nearest to x. Each iteration assigns
    every point to the nearest center and moves each center to the mean of its points. All restarts
    run in one compiled program. From the same centers, the result equals scikit-learn's:

    - Of equally near centers, the first one is taken.
    - A center without points moves to the point farthest from its own center, which leaves that
      center's cluster. Several such centers take the farthest points in order. If all points are
      at their centers, a center without points moves to the center with the most points.
    - An iteration is the last one if no label changes, or if the squared moves of all centers add
      up to at most ``tol`` times the mean variance of the columns.

    Args:
        x: points [N, D]; integers are converted to float32.
        n_clusters: number of clusters k, at most N.
        init: ``"k-means++"`` draws the first centers among the points, with a probability
            proportional to the squared distance to the nearest center so far (Arthur and
            Vassilvitskii, 2007); each time the best of 2 + ⌊ln k⌋ draws, as in scikit-learn. Or
            the first centers, [k, D].
        n_init: number of restarts, of which the one with the smallest inertia is returned. With
            given centers there is one run.
        max_iter: largest number of iterations of a run.
        tol: see above.
        seed: seed of the first centers. The numbers drawn are JAX's, not scikit-learn's.

    Returns:
        The centers, labels, inertia and number of iterations of the best run.

    Raises:
        InputError: if the points are not finite numbers [N, D], or an argument is invalid.

    Examples:
        >>> found = kmeans(np.array([[0.0], [1.0], [10.0], [12.0]]), 2)
        >>> print(np.sort(found.centers.ravel()), found.inertia)
        [ 0.5 11. ] 2.5
    """
    points = _points("x", x)
    count = check_integer("n_clusters", n_clusters, least=1, most=len(points))
    restarts = check_integer("n_init", n_init, least=1, most=_RESTARTS)
    most, key = check_positive("max_iter", max_iter), jax.random.key(check_seed("seed", seed))
    share = check_number("tol", tol, least=0)
    mean = points.mean(axis=0)
    centred, bound = points - mean, share * points.var(axis=0).mean()
    if isinstance(init, str):
        if init != "k-means++":
            raise InputError("init", "'k-means++' or centers [n_clusters, D]", shown(init))
        found = _restarted(jnp.asarray(centred), key, bound, most, count, restarts)
    else:
        start = _points("init", init).astype(points.dtype)
        if start.shape != (count, points.shape[1]):
            raise InputError("init", f"centers [{count}, {points.shape[1]}]", describe(start))
        found = _lloyd(jnp.asarray(centred), jnp.asarray(start - mean), bound, most)
    centers, labels, inertia, iterations = jax.device_get(found)
    return Clusters(centers + mean, labels, float(inertia), int(iterations))


def _points(name: str, x: Any) -> np.ndarray:
    """Checks that a value is finite numbers [N, D], and returns them as floats."""
    expected = "finite numbers [N, D]"
    rows = as_host_array(name, x)
    if rows.ndim != 2 or not rows.size or rows.dtype.kind not in "iuf":
        raise InputError(name, expected, describe(rows))
    rows = rows.astype(jax.dtypes.canonicalize_dtype(np.result_type(rows.dtype, np.float32)))
    if not np.isfinite(rows).all():
        raise InputError(name, expected, f"{describe(rows)} with NaN or infinity")
    return rows


@functools.partial(jax.jit, static_argnums=(4, 5))
def _restarted(
    x: jax.Array, key: jax.Array, tol: Any, most: Any, count: int, restarts: int
) -> tuple[jax.Array, ...]:
    """Runs Lloyd's algorithm from several starts, and returns the best result."""

    def run(key: jax.Array) -> tuple[jax.Array, ...]:
        return _lloyd(x, _plus_plus(x, key, count), tol, most)

    found = lax.map(run, jax.random.split(key, restarts))
    best = jnp.argmin(found[2])
    return jax.tree.map(lambda every: every[best], found)


def _plus_plus(x: jax.Array, key: jax.Array, count: int) -> jax.Array:
    """Draws the first centers by the greedy k-means++, [count, D]."""
    draws = 2 + int(math.log(count))
    squares = jnp.sum(x**2, axis=1)

    def distances(rows: jax.Array) -> jax.Array:
        products = jnp.dot(x[rows], x.T, precision=_HIGHEST)
        return jnp.maximum(squares[rows, None] + squares[None] - 2 * products, 0)

    def add(nearest: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        weights = jnp.where(nearest.sum() > 0, nearest, 1)  # if every point is a center already
        rows = jax.random.choice(key, len(x), (draws,), p=weights / weights.sum())
        closer = jnp.minimum(nearest[None], distances(rows))
        best = jnp.argmin(closer.sum(axis=1))
        return closer[best], rows[best]

    first, rest = jax.random.split(key)
    row = jax.random.randint(first, (1,), 0, len(x))
    _, rows = lax.scan(add, distances(row)[0], jax.random.split(rest, count - 1))
    return x[jnp.concatenate([row, rows])]


class _Progress(NamedTuple):
    """A run of Lloyd's algorithm: the state between two iterations."""

    centers: jax.Array
    labels: jax.Array
    is_same: jax.Array  # whether no label has changed
    is_done: jax.Array
    iterations: jax.Array


@jax.jit
def _lloyd(x: jax.Array, start: jax.Array, tol: Any, most: Any) -> tuple[jax.Array, ...]:
    """Moves centers until they stay; returns centers, labels, inertia and iterations."""

    def iterate(before: _Progress) -> _Progress:
        labels = _nearest(x, before.centers)
        centers = _means(x, labels, before.centers)
        is_same = jnp.all(labels == before.labels)
        is_done = is_same | (jnp.sum((centers - before.centers) ** 2) <= tol)
        return _Progress(centers, labels, is_same, is_done, before.iterations + 1)

    no = jnp.array(False)
    begun = _Progress(start, jnp.full(len(x), -1, jnp.int32), no, no, jnp.int32(0))
    end = lax.while_loop(lambda now: ~now.is_done & (now.iterations < most), iterate, begun)
    labels = jnp.where(end.is_same, end.labels, _nearest(x, end.centers))
    inertia = jnp.sum((x - end.centers[labels]) ** 2)
    return end.centers, labels, inertia, end.iterations


@jax.jit
def _nearest(x: jax.Array, centers: jax.Array) -> jax.Array:
    """The number of the nearest center of each point, int32 [N]."""
    products = jnp.dot(x, centers.T, precision=_HIGHEST)
    squares = jnp.sum(centers**2, axis=1)[None]
    return jnp.argmin(squares - 2 * products, axis=1).astype(jnp.int32)


def _means(x: jax.Array, labels: jax.Array, centers: jax.Array) -> jax.Array:
    """The mean of each cluster, [k, D]; see ``kmeans`` for clusters without points."""
    members = jax.nn.one_hot(labels, len(centers), dtype=x.dtype)
    counts, sums = members.sum(axis=0), jnp.dot(members.T, x, precision=_HIGHEST)

    def move(counts: jax.Array, sums: jax.Array) -> tuple[jax.Array, jax.Array]:
        distances = jnp.sum((x - centers[labels]) ** 2, axis=1)
        farthest = lax.top_k(distances, len(centers))[1]
        moves = (counts == 0) & (distances.max() > 0)
        rows = farthest[jnp.cumsum(moves) - 1]
        moved = jnp.where(moves[:, None], x[rows], 0)
        one = moves.astype(x.dtype)
        left = labels[rows]
        return counts.at[left].add(-one) + one, sums.at[left].add(-moved) + moved

    counts, sums = lax.cond(jnp.all(counts > 0), lambda *same: same, move, counts, sums)
    means = sums / jnp.maximum(counts, 1)[:, None]
    return jnp.where(counts[:, None] > 0, means, means[jnp.argmax(counts)][None])


class PrincipalComponents(NamedTuple):
    """The principal components that ``pca`` found.

    Attributes:
        mean: the mean of the points, float64 [D].
        components: the directions of largest variance, in decreasing order; orthonormal rows,
            float64 [k, D]. The entry of a row with the largest absolute value is positive.
        explained_variance: the variance along each direction, float64 [k].
        explained_variance_ratio: its share of the sum of the variances of the columns, float64 [k].
    """

    mean: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    explained_variance_ratio: np.ndarray

    def transform(self, x: ArrayLike) -> np.ndarray:
        """Returns the coordinates of points along the components, float64 [N, k].

        Args:
            x: points [N, D].

        Raises:
            InputError: if the points are not numbers [N, D].
        """
        return (_rows("x", x, len(self.mean)) - self.mean) @ self.components.T

    def inverse_transform(self, codes: ArrayLike) -> np.ndarray:
        """Returns the points with these coordinates, float64 [N, D].

        Args:
            codes: coordinates [N, k].

        Raises:
            InputError: if the coordinates are not numbers [N, k].
        """
        return _rows("codes", codes, len(self.components)) @ self.components + self.mean


def _rows(name: str, x: Any, width: int) -> np.ndarray:
    rows = as_host_array(name, x)
    if rows.ndim != 2 or rows.shape[1] != width or rows.dtype.kind not in "iuf":
        raise InputError(name, f"numbers [N, {width}]", describe(rows))
    return rows.astype(np.float64)


def pca(x: ArrayLike, n_components: int | None = None) -> PrincipalComponents:
    """Finds the principal components of points: ``sklearn.decomposition.PCA``.

    They are the eigenvectors of the covariance matrix Σ (x_i - m)(x_i - m)ᵀ / (N - 1), computed
    from this matrix if there are at least ten points for each column, as in scikit-learn, and
    else from the singular values of the centred points. Projections on them have the smallest
    squared error of all linear projections to k dimensions.

    Args:
        x: points [N, D], at least two.
        n_components: number of components k, at most min(N, D); None for all.

    Returns:
        The mean, the components and their variances.

    Raises:
        InputError: if the points are not finite numbers [N, D], or there are fewer than two.

    Examples:
        >>> found = pca(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
        >>> print(found.components, found.explained_variance)
        [[0.6 0.8]] [25.]
    """
    rows = as_host_array("x", x)
    expected = "finite numbers [N, D] of at least two points"
    if rows.ndim != 2 or len(rows) < 2 or rows.dtype.kind not in "iuf" or not rows.shape[1]:
        raise InputError("x", expected, describe(rows))
    rows = rows.astype(np.float64)
    if not np.isfinite(rows).all():
        raise InputError("x", expected, f"{describe(rows)} with NaN or infinity")
    most = min(rows.shape)
    count = most if n_components is None else n_components
    check_integer("n_components", count, least=1, most=most)
    mean = rows.mean(axis=0)
    centred = rows - mean
    if len(rows) >= 10 * rows.shape[1]:
        variances, vectors = np.linalg.eigh(centred.T @ centred / (len(rows) - 1))
        variances, components = variances[::-1].clip(0), vectors.T[::-1]
    else:
        _, singular, components = np.linalg.svd(centred, full_matrices=False)
        variances = singular**2 / (len(rows) - 1)
    largest = np.abs(components).argmax(axis=1)
    signs = np.sign(components[np.arange(len(components)), largest])
    total = variances.sum()
    ratios = np.divide(variances, total, out=np.zeros_like(variances), where=total > 0)
    chosen = (components * signs[:, None], variances, ratios)
    return PrincipalComponents(mean, *(each[:count] for each in chosen))
