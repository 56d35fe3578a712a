"""Hyperbolic space as the upper sheet of a hyperboloid: the Lorentz model, of curvature -c.

A point is given by its space part x alone; its time part is t(x) = sqrt(1 / c + |x|^2). Distances and angles come from the
inner product <x, y> = x . y - t(x) t(y), which is -1 / c of a point with itself. Source: spec/methods 2.12.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

# Arguments of arcsine and arccosine stay so far from their ends, where gradients are infinite.
MARGIN = 1e-6
# The aperture of a cone falls with its point's distance from the origin; this near to it, all is inside.
APERTURE = 0.1


def time(x: Float[Tensor, "*N D"], c: Float[Tensor, ""] | float) -> Float[Tensor, "*N 1"]:
    """The time part of points."""
    return (1 / c + x.square().sum(-1, keepdim=True)).sqrt()


def inner(x: Float[Tensor, "*N D"], y: Float[Tensor, "*N D"], c: Float[Tensor, ""] | float) -> Float[Tensor, "*N"]:
    """The Lorentzian inner product of points, one with one."""
    return (x * y).sum(-1) - (time(x, c) * time(y, c))[..., 0]


def inners(x: Float[Tensor, "*N M D"], y: Float[Tensor, "*N L D"], c: Float[Tensor, ""] | float) -> Float[Tensor, "*N M L"]:
    """The Lorentzian inner products of all points of one side with all of the other."""
    return x @ y.transpose(-1, -2) - time(x, c) @ time(y, c).transpose(-1, -2)


def centroid(
    shares: Float[Tensor, "*N M L"], points: Float[Tensor, "*N L D"], c: Float[Tensor, ""] | float
) -> Float[Tensor, "*N M D"]:
    """The Lorentzian mean: sum_l a_l p_l, time part and all, scaled back onto the hyperboloid."""
    space, ahead = shares @ points, shares @ time(points, c)
    # Inside the light cone its square is negative; c times it is at most -1 where shares add up to 1.
    length = (ahead.square() - space.square().sum(-1, keepdim=True)).clamp(min=MARGIN / c).sqrt()
    return space / (length * c**0.5)


def exponential(v: Float[Tensor, "*N D"], c: Float[Tensor, ""]) -> Float[Tensor, "*N D"]:
    """The point that lies from the origin in the direction of v, as far as v is long: sinh(sqrt(c) |v|) / (sqrt(c) |v|) v."""
    length = c.sqrt() * v.norm(dim=-1, keepdim=True).clamp(min=MARGIN)
    return length.sinh() / length * v


def outside_cone(apex: Float[Tensor, "*N D"], point: Float[Tensor, "*N D"], c: Float[Tensor, ""]) -> Float[Tensor, "*N"]:
    """By what angle a point lies outside the cone that opens at another away from the origin; 0 inside it.

    [angle - aperture]_+, angle = arccos((t(p) + c <a, p> t(a)) / (|a| sqrt((c <a, p>)^2 - 1))), the exterior angle at a of
    the triangle of origin, a and p; aperture = arcsin(2 * 0.1 / (sqrt(c) |a|)).
    """
    length = apex.norm(dim=-1).clamp(min=MARGIN)
    product = c * inner(apex, point, c)
    ahead = time(point, c)[..., 0] + product * time(apex, c)[..., 0]
    across = length * (product.square() - 1).clamp(min=MARGIN).sqrt()
    angle = (ahead / across).clamp(-1 + MARGIN, 1 - MARGIN).acos()
    aperture = (2 * APERTURE / (c.sqrt() * length)).clamp(max=1 - MARGIN).asin()
    return (angle - aperture).relu()
