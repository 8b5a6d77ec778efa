"""Dual numbers from nothing: how a slope travels forwards through a model, in under 100 lines.

Train a model and you need to know: if I nudge the weights along some direction v, how fast does the loss change?
That number is the *slope* <grad L, v>. Backpropagation finds the whole gradient, but has to remember every
intermediate value until the way back. One slope is much cheaper: it can travel along with the values.

Write each number as x + ε t, where t is how fast x moves when the weights move along v, and ε² = 0. Then ordinary
algebra differentiates by itself:

    (x + ε t) + (y + ε u) = (x + y) + ε (t + u)                 sums add their slopes
    (x + ε t) · (y + ε u) = x y     + ε (t y + x u)             products obey the product rule
    f(x + ε t)            = f(x)    + ε f'(x) t                 functions obey the chain rule

Nothing is stored for later: once a layer is done, its input can be forgotten, values and slopes alike.
"""

from __future__ import annotations

import functools

import torch


class Dual:
    """A tensor x and its tangent t, standing for x + ε t."""

    def __init__(self, x, t):
        self.x, self.t = x, t

    def __add__(self, other):
        other = lift(other)
        return Dual(self.x + other.x, self.t + other.t)

    def __mul__(self, other):
        other = lift(other)
        return Dual(self.x * other.x, self.t * other.x + self.x * other.t)

    def __matmul__(self, other):  # a product like any other: linear in both arguments
        other = lift(other)
        return Dual(self.x @ other.x, self.t @ other.x + self.x @ other.t)

    def mean(self):  # linear, so the slope of the mean is the mean of the slopes
        return Dual(self.x.mean(), self.t.mean())


def lift(value):
    """A constant is a dual number that does not move."""
    return value if isinstance(value, Dual) else Dual(value, torch.zeros_like(torch.as_tensor(value)))


def tanh(z):
    y = torch.tanh(z.x)
    return Dual(y, (1 - y * y) * z.t)  # tanh' = 1 - tanh²


def cross_entropy(logits, labels):
    """-log softmax(z)[label], averaged; its derivative by z is softmax(z) - onehot(label)."""
    rows = torch.arange(len(labels))
    p = torch.softmax(logits.x, -1)
    slope = (p * logits.t).sum(-1) - logits.t[rows, labels]
    return Dual(-torch.log(p[rows, labels]), slope).mean()


def loss(w1, w2, x, labels):
    """A two-layer classifier. It does not know whether its weights are dual."""
    return cross_entropy(tanh(lift(x) @ w1) @ w2, labels)


def main():
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, labels = draw(5, 3), torch.tensor([0, 1, 2, 1, 0])
    weights, direction = [draw(3, 4), draw(4, 3)], [draw(3, 4), draw(4, 3)]

    # One forward pass: put the direction in as the weights' tangents, read the slope off the loss.
    slope = loss(*map(Dual, weights, direction), x, labels).t

    # torch agrees, by backpropagation ...
    leaves = [w.clone().requires_grad_() for w in weights]
    gradient = torch.autograd.grad(loss(*map(lift, leaves), x, labels).x, leaves)
    assert torch.allclose(slope, sum((g * v).sum() for g, v in zip(gradient, direction, strict=True)))

    # ... and so does nudging the weights a little to both sides.
    ahead, behind = (
        [lift(w + h * v) for w, v in zip(weights, direction, strict=True)] for h in (1e-6, -1e-6)
    )
    assert torch.allclose(slope, (loss(*ahead, x, labels).x - loss(*behind, x, labels).x) / 2e-6, rtol=1e-6)

    # A slope times its random direction is an unbiased guess of the gradient. One guess is poor; their mean is not.
    guess = torch.zeros_like(weights[0])
    for _ in range(4000):
        v = [draw(3, 4), draw(4, 3)]
        guess += loss(*map(Dual, weights, v), x, labels).t * v[0] / 4000
    cosine = torch.cosine_similarity(guess.flatten(), gradient[0].flatten(), dim=0)
    assert cosine > 0.9
    print(f"slope {slope:.6f}, as torch has it; 4000 guesses point along the gradient: cosine {cosine:.3f}")


if __name__ == "__main__":
    main()
