"""Number formats of compact stores: what they round, and back.

=================  ========================================================================
group deviations   sign and three bits of magnitude: scale · (i/7)^1.5, i = 0 … 7, with the
                   scale the largest deviation of the row in that group
relative errors    one byte on a logarithmic scale, 2^((code − 128)/12); 0 stands for zero
                   and 255 for none
=================  ========================================================================
"""

from __future__ import annotations

import numpy as np

_LEVELS = (np.arange(8) / 7) ** 1.5
_BOUNDARIES = (_LEVELS[1:] + _LEVELS[:-1]) / 2
_SIGNED_LEVELS = np.concatenate([_LEVELS, -_LEVELS]).astype(np.float32)
NO_ERROR = 255
_STEPS, _MIDDLE = 12, 128


def pack_deviations(deviations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [..., ceil(d/2)] uint8 and scales [...] float32 of deviations [..., d]."""
    scale = np.abs(deviations).max(-1, initial=0.0)
    share = np.abs(deviations) / np.where(scale > 0, scale, 1.0)[..., None]
    nibbles = (np.searchsorted(_BOUNDARIES, share) + 8 * (deviations < 0)).astype(np.uint8)
    if nibbles.shape[-1] % 2:
        nibbles = np.concatenate([nibbles, np.zeros_like(nibbles[..., :1])], -1)
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4, scale.astype(np.float32)


def unpack_deviations(codes: np.ndarray, scale: np.ndarray, width: int) -> np.ndarray:
    """Deviations [..., width] float32 from codes [..., ceil(width/2)] and scales [...]."""
    nibbles = np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:-1], -1)[..., :width]
    return _SIGNED_LEVELS[nibbles] * scale[..., None]


def pack_relative_errors(errors: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Codes of |errors / values|, uint8; NaN, and errors of an exact zero, become :data:`NO_ERROR`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.abs(errors / values)
        codes = np.clip(np.rint(np.log2(share) * _STEPS) + _MIDDLE, 1, NO_ERROR - 1)
    codes = np.where(share == 0, 0, codes)
    return np.where(np.isfinite(share), codes, NO_ERROR).astype(np.uint8)


def unpack_relative_error(code: int) -> float:
    if code == NO_ERROR:
        return float("nan")
    return 0.0 if code == 0 else float(2.0 ** ((code - _MIDDLE) / _STEPS))
