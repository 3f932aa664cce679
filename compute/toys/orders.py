"""Orders of components in which a matrix of importances shows its pattern, and how far it is from one.

Matrices are [features, components]: the importances of all components to each single feature. The
patterns and their errors are those of the public parameter-decomposition code, so that numbers can be
compared: an entry is wrong where it is off by more than a tolerance.
"""

from __future__ import annotations

import numpy as np


def assign(gains: np.ndarray) -> np.ndarray:
    """A different column for each row so that the sum of ``gains`` is largest; rows ≤ columns.

    Shortest augmenting paths with potentials (Jonker and Volgenant 1987), row by row. Returns the
    columns [rows].
    """
    rows, columns = gains.shape
    if rows > columns:
        raise ValueError(f"{rows} rows cannot each have one of {columns} columns")
    costs = -np.asarray(gains, np.float64)
    of_row, of_column = np.zeros(rows), np.zeros(columns)
    taken = np.full(columns, -1)
    for row in range(rows):
        distance, before = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, bool)
        here, reached, column = row, 0.0, -1
        visited: list[int] = []
        while True:
            visited.append(here)
            through = reached + costs[here] - of_row[here] - of_column
            better = ~done & (through < distance)
            distance[better], before[better] = through[better], column
            column = int(np.argmin(np.where(done, np.inf, distance)))
            reached, done[column] = distance[column], True
            if taken[column] < 0:
                break
            here = int(taken[column])
        # Potentials keep every later reduced cost at least zero, and that of assigned pairs zero.
        of_row[row] += reached
        for other in visited[1:]:
            of_row[other] += reached - distance[np.flatnonzero(taken == other)[0]]
        of_column[done] -= reached - distance[done]
        while column >= 0:
            previous = int(before[column])
            taken[column] = row if previous < 0 else taken[previous]
            column = previous
    found = np.empty(rows, np.int64)
    found[taken[taken >= 0]] = np.flatnonzero(taken >= 0)
    return found


def identity_order(importance: np.ndarray) -> np.ndarray:
    """All components, [C]: the i-th is feature i's own by the best assignment; the others follow in order.

    With fewer components than features the first C features get one.
    """
    features, components = importance.shape
    own = assign(importance[: min(features, components)])
    rest = np.setdiff1d(np.arange(components), own)
    return np.concatenate([own, rest])


def dense_order(importance: np.ndarray) -> np.ndarray:
    """All components, [C], by their sum of importances, largest first."""
    return np.argsort(-importance.sum(0), kind="stable")


def identity_errors(importance: np.ndarray, tolerance: float) -> int:
    """Entries that are wrong for an identity: on its diagonal below 1 − tolerance, elsewhere above it.

    The importances are permuted to be as near to the identity as they can. A feature beyond the
    number of components has no place on the diagonal.
    """
    permuted = importance[:, identity_order(importance)]
    size = min(permuted.shape)
    diagonal = np.zeros(permuted.shape, bool)
    diagonal[np.arange(size), np.arange(size)] = True
    return int((permuted[diagonal] < 1 - tolerance).sum() + (permuted[~diagonal] > tolerance).sum())


def dense_errors(importance: np.ndarray, k: int, tolerance: float) -> int:
    """Wrong entries where ``k`` components should act and all others be off.

    One error for each of the k strongest components that no feature brings within ``tolerance`` of 1,
    and one for each entry of the others above ``tolerance``.
    """
    permuted = importance[:, dense_order(importance)]
    missing = ~(permuted[:, :k] >= 1 - tolerance).any(0)
    return int(missing.sum() + (permuted[:, k:] > tolerance).sum())
