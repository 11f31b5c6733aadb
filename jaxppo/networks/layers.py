"""Layers: dense ones, convolutions without padding, and recurrent cells that run over whole segments."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.initializers import zeros

from jaxppo import backend, columns
from jaxppo.networks.product import precision, product

__all__ = ["Conv", "Dense", "NarrowDense", "Recurrent", "dense_abreast"]

Initializer = Callable[..., jax.Array]

RUN = 32  # of so many products at most XLA makes a sum on a CPU without writing them to memory first


class Dense(nn.Module):
    """A dense layer [M, F] -> [M, features], whose product is `jaxppo.networks.product.product`."""

    features: int
    kernel_init: Initializer
    dtype: Any = jnp.float32

    @nn.compact
    def weights(self, num_inputs: int) -> tuple[jax.Array, jax.Array]:
        """The kernel [num_inputs, features] and the bias [features]."""
        kernel = self.param("kernel", self.kernel_init, (num_inputs, self.features), jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        return kernel.astype(self.dtype), bias.astype(self.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.weights(x.shape[-1])
        return product(x.astype(self.dtype), kernel) + bias[None]


def dense_abreast(layers: Sequence[Dense], inputs: Sequence[jax.Array]) -> list[jax.Array]:
    """Each layer of its own inputs [M, F], all of one size, as one batched product."""
    weights = [layer.weights(x.shape[-1]) for layer, x in zip(layers, inputs, strict=True)]
    kernel, bias = (jnp.stack(each) for each in zip(*weights, strict=True))
    stacked = jnp.stack(inputs).astype(kernel.dtype)
    return list(jnp.matmul(stacked, kernel, precision=precision(kernel.shape[1])) + bias[:, None])


class NarrowDense(nn.Module):
    """A dense layer with few outputs as sums of products, row by row, instead of a matrix product.

    Its gradient is elementwise, where that of the matrix product is another with a tiny inner dimension, which costs
    as much as a hidden layer. And on a CPU with JAX 0.9 it rounds alike for every batch size, so that the first ratios
    are exactly 1.
    """

    features: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", zeros, (self.features,), jnp.float32)
        rows, weights = x[:, None], kernel.T[None]
        if backend.launches_count() or x.shape[-1] % RUN:
            outputs = jnp.sum(rows * weights, axis=-1)
        else:
            runs = [each.reshape(*each.shape[:-1], -1, RUN) for each in (rows, weights)]
            outputs = jnp.sum(jnp.sum(runs[0] * runs[1], axis=-1), axis=-1)
        return outputs + columns.repeat(bias, len(x))


class Conv(nn.Module):
    """A square convolution [B, H, W, C] -> [B, H', W', features], as patches times a matrix.

    Agents trained side by side have a kernel each, and a convolution with a kernel per sample is far slower on a CPU
    than a batched matrix product.
    """

    features: int
    kernel_size: int
    stride: int
    kernel_init: Initializer
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, stride = self.kernel_size, self.stride
        height, width = ((x.shape[axis] - size) // stride + 1 for axis in (1, 2))
        rows, columns = (stride * (count - 1) + 1 for count in (height, width))
        patches = jnp.concatenate(
            [x[:, i : i + rows : stride, j : j + columns : stride] for i in range(size) for j in range(size)], axis=-1
        )
        layer = Dense(self.features, self.kernel_init, self.dtype, name="patches")
        return layer(patches.reshape(-1, patches.shape[-1])).reshape(*patches.shape[:-1], self.features)


class Recurrent(nn.Module):
    """A GRU (Cho et al. 2014; the reset gate after the product, as in cuDNN) or LSTM layer (Gers et al. 2000).

    `(carry [N, …], x [T, N, F], reset bool [T, N]) -> (carry, h [T, N, size])`; the carry is zeros where an episode
    begins. What does not depend on the past is multiplied for all steps at once.
    """

    kind: str
    size: int
    kernel_init: Initializer

    @nn.compact
    def __call__(self, carry: Any, x: jax.Array, reset: jax.Array) -> tuple[Any, jax.Array]:
        gates = {"gru": 3, "lstm": 4}[self.kind]
        step = {"gru": self._gru, "lstm": self._lstm}[self.kind]
        inputs = nn.Dense(gates * self.size, kernel_init=self.kernel_init, name="input")(x)
        kernel = self.param("recurrent", self.kernel_init, (self.size, gates * self.size), jnp.float32)

        def advance(carry: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            x, reset = inputs
            return step(jax.tree.map(lambda c: jnp.where(reset[:, None], 0.0, c), carry), x, kernel)

        return jax.lax.scan(advance, carry, (inputs, reset))

    def _gru(self, h: jax.Array, x: jax.Array, kernel: jax.Array) -> tuple[Any, jax.Array]:
        """r, z = σ(x + h·U), n = tanh(x + r ⊙ (h·U)), h' = (1 − z) ⊙ n + z ⊙ h."""
        (xr, xz, xn), (hr, hz, hn) = jnp.split(x, 3, axis=-1), jnp.split(h @ kernel, 3, axis=-1)
        update = nn.sigmoid(xz + hz)
        h = (1 - update) * nn.tanh(xn + nn.sigmoid(xr + hr) * hn) + update * h
        return h, h

    def _lstm(self, carry: Any, x: jax.Array, kernel: jax.Array) -> tuple[Any, jax.Array]:
        """C' = σ(f) ⊙ c + σ(i) ⊙ tanh(g), h' = σ(o) ⊙ tanh(c')."""
        c, h = carry
        i, f, g, o = jnp.split(x + h @ kernel, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * nn.tanh(g)
        h = nn.sigmoid(o) * nn.tanh(c)
        return (c, h), h
