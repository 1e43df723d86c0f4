"""Kernel ridge regression on one-hot labels, with every example's score as if it had been left out of training.

Closed form throughout: nothing to tune by hand while it runs, and the left-out scores (Rasmussen and Williams 2006,
"Gaussian Processes for Machine Learning", section 5.4.2) come out of the inverse that the fit needs anyway, so calibration
costs no second training. Far from all examples every score falls to zero, which is what makes out-of-scope queries stand
out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from fedge.errors import FedgeError

MAX_EXAMPLES = 8192  # the kernel matrix of so many takes 256 MiB; time grows with the cube


@dataclass(frozen=True, slots=True, eq=False)
class KernelRidge:
    """Gaussian kernel exp(-width |x - y|^2) over ``examples`` float32 [n, D]; ``weights`` float32 [n, K]."""

    examples: NDArray[np.float32]
    squares: NDArray[np.float32]  # [n]: squared lengths of the examples
    weights: NDArray[np.float32]
    width: float

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float32 [m, K] for ``vectors`` [m, D]: about 1 for the right label, about 0 for the others."""
        return np.asarray(_kernel(vectors, self.examples, self.squares, self.width) @ self.weights, dtype=np.float32)


def fit_kernel_ridge(
    examples: NDArray[np.float32], targets: NDArray[np.float32], *, width: float, penalty: float
) -> tuple[KernelRidge, NDArray[np.float32]]:
    """The regression of ``targets`` float32 [n, K] on ``examples``, and the examples' left-out scores float32 [n, K]."""
    # Fortran order, so that LAPACK works in place: one matrix of n x n is all the memory it takes (the kernel is symmetric).
    squares = np.einsum("nd,nd->n", examples, examples)
    matrix = _kernel(examples, examples, squares, width).T
    matrix[np.diag_indices_from(matrix)] += np.float32(penalty)
    matrix, failed = lapack.spotrf(matrix, lower=1, overwrite_a=1)
    if not failed:
        matrix, failed = lapack.spotri(matrix, lower=1, overwrite_c=1)
    if failed:
        raise FedgeError(f"the kernel matrix of {len(examples)} examples has no inverse at penalty {penalty}: raise it")
    weights = np.ascontiguousarray(blas.ssymm(1.0, matrix, targets, lower=1))  # the inverse's lower triangle is all there is
    left_out = targets - weights / matrix.diagonal()[:, None]
    return KernelRidge(examples, squares, weights, width), left_out


def _kernel(
    left: NDArray[np.float32], right: NDArray[np.float32], squares: NDArray[np.float32], width: float
) -> NDArray[np.float32]:
    """Float32 [m, n] for ``left`` [m, D] and ``right`` [n, D], whose squared lengths are ``squares``."""
    squared = left @ right.T
    squared *= np.float32(-2.0)
    squared += np.einsum("md,md->m", left, left)[:, None]
    squared += squares
    np.maximum(squared, 0.0, out=squared)
    squared *= np.float32(-width)
    return np.asarray(np.exp(squared, out=squared))
