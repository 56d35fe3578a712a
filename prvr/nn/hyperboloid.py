"""Hyperbolic space as the upper sheet of a hyperboloid: the Lorentz model.

Attention (`lift`, `inners`, `centroid`, `logarithm`) works with points of curvature -1 that hold their time part as the first
column; time^2 = 1 + |space|^2. Cones (`exponential`, `cone`) work with the space part alone and a curvature of -c:
time(x) = sqrt(1 / c + |x|^2). The limits are those of HLFormer's released code.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

# Arguments of roots, arcsine and arccosine stay so far from their ends, where gradients are infinite.
MARGIN = 1e-8
LEAST_ROOT = 1e-6
# A vector is shortened to this before it becomes a point of the unit hyperboloid.
LONGEST = 10.0
# The aperture of a cone falls with the distance of its apex from the origin. Nearer than about this, all is inside.
APERTURE = 0.1


def lift(vectors: Float[Tensor, "*N D"]) -> Float[Tensor, "*N E"]:
    """The point at the vector's length from the origin, in its direction; one column more, for time."""
    length = vectors.square().sum(-1, keepdim=True).clamp(min=1e-9).sqrt()
    space = length.clamp(max=LONGEST).sinh() * vectors / length
    return torch.cat([(1 + space.square().sum(-1, keepdim=True)).sqrt(), space], -1)


def logarithm(points: Float[Tensor, "*N E"]) -> Float[Tensor, "*N D"]:
    """The inverse of `lift`: arcosh(t) / sqrt(t^2 - 1) times the space part of a point, t its time."""
    time, space = points[..., :1].clamp(min=1 + LEAST_ROOT), points[..., 1:]
    root = (time.square() - 1).sqrt()
    return (time + root).log() / root * space


def inners(x: Float[Tensor, "*N M E"], y: Float[Tensor, "*N L E"]) -> Float[Tensor, "*N M L"]:
    """The Lorentzian inner products -x_0 y_0 + sum_i x_i y_i of all points of one side with all of the other."""
    return (x * _signs(x)) @ y.mT


def centroid(shares: Float[Tensor, "*N M L"], points: Float[Tensor, "*N L E"]) -> Float[Tensor, "*N M E"]:
    """The Lorentzian mean: sum_l a_l p_l, scaled back onto the hyperboloid."""
    mean = shares @ points
    square = (mean.square() * _signs(mean)).sum(-1, keepdim=True)
    return mean / square.abs().clamp(min=MARGIN).sqrt()


def exponential(v: Float[Tensor, "*N D"], c: Float[Tensor, ""]) -> Float[Tensor, "*N D"]:
    """The point that lies from the origin in the direction of v, as far as v is long: sinh(sqrt(c) |v|) / (sqrt(c) |v|) v."""
    length = c.sqrt() * v.norm(dim=-1, keepdim=True)
    return length.clamp(MARGIN, math.asinh(2**15)).sinh() / length.clamp(min=MARGIN) * v


def cone(
    apex: Float[Tensor, "*N D"], point: Float[Tensor, "*N D"], c: Float[Tensor, ""]
) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """The angle at which a point lies from the axis of the cone that opens at an apex, and the cone's half aperture.

    angle = arccos((t(p) + g t(a)) / (|a| sqrt(g^2 - 1))), g = c <a, p>: the exterior angle at a of the triangle of the origin,
    a and p. aperture = arcsin(2 * 0.1 / (sqrt(c) |a|)).
    """
    at_apex, at_point = ((1 / c + x.square().sum(-1)).sqrt() for x in (apex, point))
    product = c * ((apex * point).sum(-1) - at_apex * at_point)
    length = apex.norm(dim=-1)
    across = length * (product.square() - 1).clamp(min=MARGIN).sqrt() + MARGIN
    # In float32 the released margin is nothing, and a gradient of 0 times infinity is not a number.
    most = 1 - max(MARGIN, torch.finfo(length.dtype).eps)
    angle = ((at_point + product * at_apex) / across).clamp(-most, most).acos()
    aperture = (2 * APERTURE / (c.sqrt() * length + MARGIN)).clamp(-most, most).asin()
    return angle, aperture


def _signs(points: Float[Tensor, "*N E"]) -> Float[Tensor, "E"]:
    signs = points.new_ones(points.shape[-1])
    signs[0] = -1
    return signs
