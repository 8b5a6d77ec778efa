"""A head in closed form from noised sums: how many examples each class has, their sum, and the features' products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.federated.closed_head.codec import decode_sums, encode_sums
from spry.federated.closed_head.fits import HeadSolver
from spry.federated.closed_head.solve import Head, solve
from spry.federated.closed_head.sums import HeadSums
from spry.federated.privacy.gaussian import standard_normal


@dataclass(frozen=True, kw_only=True, eq=False)
class RawSums:
    """Plain sums over examples with features x of length D, in float64 on the CPU: an example adds to each.

    Args:
        counts: Of each class, shape (C,).
        sums: ``sum_{y=c} x``, shape (C, D).
        products: ``sum x x'``, shape (D, D), symmetric.
    """

    counts: Tensor
    sums: Tensor
    products: Tensor

    @classmethod
    def empty(cls, classes: int, features: int) -> RawSums:
        shapes = ((classes,), (classes, features), (features, features))
        counts, sums, products = (torch.zeros(shape, dtype=torch.float64) for shape in shapes)
        return cls(counts=counts, sums=sums, products=products)

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, classes: int) -> RawSums:
        """Sum up a batch of features, shape (B, D), with classes, shape (B,)."""
        x = features.detach().cpu().double()
        members = F.one_hot(labels.cpu(), classes).double()
        return cls(counts=members.sum(0), sums=members.T @ x, products=x.T @ x)

    @classmethod
    def from_head(cls, found: HeadSums) -> RawSums:
        sums = found.counts[:, None] * found.means
        return cls(counts=found.counts.double(), sums=sums, products=found.scatter + found.means.T @ sums)

    def to_head(self) -> HeadSums:
        """Take the means out; of noised sums, the nearest that some examples could have."""
        counts = self.counts.round().clamp(min=0)
        means = self.sums / counts.clamp(min=1)[:, None]
        scatter = self.products - means.T @ (counts[:, None] * means)
        values, vectors = torch.linalg.eigh((scatter + scatter.T) / 2)
        return HeadSums(
            counts=counts.long(), means=means, scatter=(vectors * values.clamp(min=0)) @ vectors.T
        )

    @property
    def examples(self) -> int:
        return int(self.counts.sum())

    def add(self, other: RawSums) -> RawSums:
        return RawSums(
            counts=self.counts + other.counts,
            sums=self.sums + other.sums,
            products=self.products + other.products,
        )

    def scaled(self, by: float) -> RawSums:
        return RawSums(counts=by * self.counts, sums=by * self.sums, products=by * self.products)


@dataclass(frozen=True, kw_only=True)
class HeadNoise:
    """The Gaussian mechanism on a head's sums.

    An example whose features are shortened to B adds at most 1, B and B^2, in norm, to the three, so that of a client m
    examples add ``sqrt(3) m`` in the unit of these; more are scaled down together. Products get symmetric noise.

    Args:
        norm: B > 0.
        examples: m >= 1, examples of a client that count in full; 1 where single examples are hidden.
        by_client: Whether what a client adds is bounded, or only what an example does.
        noise: Multiplier z >= 0.
        key: Where the noise comes from.

    Source:
        Dwork et al. 2014, Analyze Gauss, for the symmetric noise; Wang 2018 (arXiv 1803.02596, AdaSSP) for the ridge as
        large as the noise.
    """

    norm: float
    examples: int
    by_client: bool
    noise: float
    key: Key

    def __post_init__(self) -> None:
        if not self.norm > 0:
            raise ConfigError(
                f"privacy.head_clip is {self.norm}; it must be a norm greater than 0, such as 1.0"
            )

    @property
    def bound(self) -> float:
        """The most that one client, or example, changes the sums, in the unit of their parts."""
        return 3**0.5 * self.examples

    def of(self, features: Tensor, labels: Tensor, classes: int) -> RawSums:
        """Sum up a batch of shortened features; an example whose features are not finite adds nothing to them."""
        x = features.detach().cpu().double()
        x = torch.where(x.isfinite().all(1, keepdim=True), x, torch.zeros((), dtype=x.dtype))
        x *= self.norm / x.norm(dim=1, keepdim=True).clamp(min=self.norm)
        return RawSums.of(x, labels, classes)

    def length(self, sums: RawSums) -> float:
        """Measure sums in the unit of their parts."""
        parts = (sums.counts, sums.sums / self.norm, sums.products / self.norm**2)
        return float(sum(part.square().sum() for part in parts)) ** 0.5

    def shorten(self, sums: RawSums) -> RawSums:
        """Scale what a client adds down to the bound; where examples are hidden, they are bounded already."""
        length = self.length(sums)
        return sums if not self.by_client or length <= self.bound else sums.scaled(self.bound / length)

    def noised(self, sums: RawSums) -> RawSums:
        """Add noise of ``z sqrt(3) m`` in the unit of the parts, of half the variance on products of two features."""
        scale = self.noise * self.bound
        drawn = standard_normal(self.key, "products", tuple(sums.products.shape))
        return RawSums(
            counts=sums.counts + scale * standard_normal(self.key, "counts", tuple(sums.counts.shape)),
            sums=sums.sums + scale * self.norm * standard_normal(self.key, "sums", tuple(sums.sums.shape)),
            products=sums.products + scale * self.norm**2 * (drawn + drawn.T) / 2,
        )

    def solve(self, sums: RawSums, bias: bool) -> Head:
        """Fit a head to noised sums, with a ridge of the noise's largest eigenvalue, ``z sqrt(3) m B^2 sqrt(2 D)``.

        A class of which noise leaves nothing counts one example. Without noise this is the head of exact sums.
        """
        head = self.noised(sums).to_head()
        head = HeadSums(counts=head.counts.clamp(min=1), means=head.means, scatter=head.scatter)
        size = self.noise * self.bound * self.norm**2 * (2 * head.features) ** 0.5
        return solve(head, bias=bias, strength=size / head.examples if size else None)


def private_class_head(noise: HeadNoise) -> HeadSolver[RawSums]:
    """The head for classes, from shortened and noised sums; clients' messages are those of exact ones."""

    def decode(data: bytes, client: int, outputs: int, features: int) -> RawSums:
        return noise.shorten(RawSums.from_head(decode_sums(data, client, classes=outputs, features=features)))

    return HeadSolver[RawSums](
        empty=RawSums.empty,
        of=noise.of,
        encode=lambda client, sums: encode_sums(client, sums.to_head()),
        decode=decode,
        solve=noise.solve,
        enough=lambda sums: bool((sums.counts > 0).all()),
    )
