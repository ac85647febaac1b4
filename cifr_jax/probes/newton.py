"""Many L2 logistic regressions on one matrix, by truncated Newton, as one program.

Every fit sees the same rows: folds are rows of weights, standardisation is a shift and a
scale of the shared columns. So a Newton step of all fits costs a few matrix products with
one copy of the data. Weights are held `[fits, d]`: on XLA:CPU products with a thin output
are several times faster with the long axis last.

Legend: l layers, n rows, d features, f fits.

Source: Lin, Weng and Keerthi, "Trust region Newton method for large-scale logistic
regression" (JMLR 2008), with a backtracking line search in place of the trust region and a
diagonal preconditioner.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Backtracking allows 2^-10 of a Newton step; a shorter one is rounding noise in float32.
_MAX_HALVINGS = 10
_MAX_CONJUGATE_STEPS = 250


class Problem(NamedTuple):
    """The fits of one layer; fit f sees `(x - shift_fd[f]) * scale_fd[f]`."""

    x_nd: jax.Array
    y_n: jax.Array
    weight_fn: jax.Array
    c_f: jax.Array
    shift_fd: jax.Array
    scale_fd: jax.Array


class Solution(NamedTuple):
    """Coefficients on the standardised columns; `residual_f` is |gradient| / |w|."""

    w_fd: jax.Array
    b_f: jax.Array
    residual_f: jax.Array


def _logits(p: Problem, w_fd: jax.Array, b_f: jax.Array) -> jax.Array:
    u_fd = w_fd * p.scale_fd
    return u_fd @ p.x_nd.T + (b_f - jnp.sum(u_fd * p.shift_fd, -1))[:, None]


def _pull_back(p: Problem, r_fn: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C times the transpose of `_logits`: gradients for weights and intercepts."""
    total_f = jnp.sum(r_fn, -1)
    g_fd = p.scale_fd * (r_fn @ p.x_nd - p.shift_fd * total_f[:, None])
    return p.c_f[:, None] * g_fd, p.c_f * total_f


def _objective(p: Problem, w_fd: jax.Array, z_fn: jax.Array) -> jax.Array:
    loss_fn = p.weight_fn * (jax.nn.softplus(z_fn) - p.y_n * z_fn)
    return 0.5 * jnp.sum(w_fd**2, -1) + p.c_f * jnp.sum(loss_fn, -1)


def _dot(a: tuple, b: tuple) -> jax.Array:
    return jnp.sum(a[0] * b[0], -1) + a[1] * b[1]


def _where(mask_f: jax.Array, a: tuple, b: tuple) -> tuple:
    return (jnp.where(mask_f[:, None], a[0], b[0]), jnp.where(mask_f, a[1], b[1]))


def _axpy(t_f: jax.Array, a: tuple, b: tuple) -> tuple:
    return (t_f[:, None] * a[0] + b[0], t_f * a[1] + b[1])


def _newton_direction(
    p: Problem, h_fn: jax.Array, grad: tuple, forcing_f: jax.Array, active_f: jax.Array
) -> tuple:
    """Preconditioned conjugate gradients on `H d = -grad`, each fit to its accuracy."""

    def hessian(v: tuple) -> tuple:
        g_fd, g_f = _pull_back(p, h_fn * _logits(p, *v))
        return v[0] + g_fd, g_f

    total_f = jnp.sum(h_fn, -1)
    second_fd = h_fn @ (p.x_nd * p.x_nd) - 2 * p.shift_fd * (h_fn @ p.x_nd)
    second_fd = p.scale_fd**2 * (second_fd + p.shift_fd**2 * total_f[:, None])
    inverse = (
        1 / (1 + p.c_f[:, None] * jnp.maximum(second_fd, 0)),
        1 / jnp.maximum(p.c_f * total_f, 1e-12),
    )

    def precondition(r: tuple) -> tuple:
        return inverse[0] * r[0], inverse[1] * r[1]

    r = (-grad[0], -grad[1])
    q = precondition(r)
    rq_f = _dot(r, q)
    goal_f = rq_f * forcing_f**2
    zero = (jnp.zeros_like(r[0]), jnp.zeros_like(r[1]))

    def unfinished(state: tuple) -> jax.Array:
        return (state[0] < _MAX_CONJUGATE_STEPS) & jnp.any(state[-1])

    def step(state: tuple) -> tuple:
        i, d, r, v, rq_f, active_f = state
        hv = hessian(v)
        a_f = rq_f / jnp.maximum(_dot(v, hv), 1e-30)
        a_f = jnp.where(active_f, a_f, 0)
        d, r = _axpy(a_f, v, d), _axpy(-a_f, hv, r)
        q = precondition(r)
        new_f = _dot(r, q)
        v = _where(active_f, _axpy(new_f / jnp.maximum(rq_f, 1e-30), v, q), v)
        rq_f = jnp.where(active_f, new_f, rq_f)
        return i + 1, d, r, v, rq_f, active_f & (rq_f > goal_f)

    return jax.lax.while_loop(unfinished, step, (0, zero, r, q, rq_f, active_f))[1]


def _line_search(
    p: Problem, x: tuple, z_fn: jax.Array, grad: tuple, d: tuple, active_f: jax.Array
) -> jax.Array:
    """Largest step in 1, 1/2, 1/4 ... with sufficient decrease; 0 where there is none."""
    dz_fn = _logits(p, *d)
    slope_f = _dot(grad, d)
    f0_f = _objective(p, x[0], z_fn)
    # Near the optimum a true decrease drowns in rounding: let a full step pass there.
    slack_f = 4e-7 * jnp.abs(f0_f)

    def step(state: tuple) -> tuple:
        i, t_f, waiting_f = state
        f_f = _objective(p, x[0] + t_f[:, None] * d[0], z_fn + t_f[:, None] * dz_fn)
        bad_f = waiting_f & ~(f_f <= f0_f + 1e-4 * t_f * slope_f + slack_f)
        return i + 1, jnp.where(bad_f, t_f / 2, t_f), bad_f

    state = (0, jnp.where(active_f, 1.0, 0.0), active_f)
    _, t_f, failed_f = jax.lax.while_loop(
        lambda s: (s[0] < _MAX_HALVINGS) & jnp.any(s[2]), step, state
    )
    return jnp.where(failed_f, 0.0, t_f)


def _solve_layer(p: Problem, tol: float, max_steps: int) -> Solution:
    # Start at the class balance: the optimum as C goes to 0.
    total_f = jnp.sum(p.weight_fn, -1)
    rate_f = jnp.sum(p.weight_fn * p.y_n, -1) / total_f
    x0 = (jnp.zeros_like(p.shift_fd), jnp.log(rate_f) - jnp.log1p(-rate_f))

    def gradient(x: tuple, z_fn: jax.Array) -> tuple:
        g_fd, g_f = _pull_back(p, p.weight_fn * (jax.nn.sigmoid(z_fn) - p.y_n))
        return x[0] + g_fd, g_f

    z_fn = _logits(p, *x0)
    grad = gradient(x0, z_fn)
    first_f = jnp.sqrt(_dot(grad, grad))

    def step(state: tuple) -> tuple:
        i, x, z_fn, grad, norm_f, _, active_f = state
        # Quadratic convergence at the end, cheap steps at the start.
        forcing_f = jnp.minimum(0.1, jnp.sqrt(norm_f / jnp.maximum(first_f, 1e-30)))
        h_fn = p.weight_fn * jax.nn.sigmoid(z_fn) * jax.nn.sigmoid(-z_fn)
        d = _newton_direction(p, h_fn, grad, forcing_f, active_f)
        t_f = _line_search(p, x, z_fn, grad, d, active_f)
        x = _axpy(t_f, d, x)
        z_fn = _logits(p, *x)
        grad = gradient(x, z_fn)
        new_f = jnp.sqrt(_dot(grad, grad))
        # The penalty makes the objective 1-strongly convex in w, so |g| bounds |w - w*|.
        residual_f = new_f / jnp.maximum(jnp.sqrt(jnp.sum(x[0] ** 2, -1)), 1e-30)
        small_f = (residual_f <= tol) | (new_f <= 1e-7 * first_f)
        # Rounding floor of float32: more steps only wander.
        floor_f = (new_f < 1e-5 * first_f) & (new_f > 0.5 * norm_f)
        active_f = active_f & ~small_f & ~floor_f & (t_f > 0)
        return i + 1, x, z_fn, grad, new_f, residual_f, active_f

    active_f = first_f > 0
    state = (0, x0, z_fn, grad, first_f, jnp.zeros_like(first_f), active_f)
    _, x, _, _, _, residual_f, _ = jax.lax.while_loop(
        lambda s: (s[0] < max_steps) & jnp.any(s[-1]), step, state
    )
    return Solution(x[0], x[1], residual_f)


@partial(jax.jit, static_argnames=("max_steps",))
def solve_layers(
    x_lnd: jax.Array,
    y_n: jax.Array,
    weight_fn: jax.Array,
    c_f: jax.Array,
    shift_lfd: jax.Array,
    scale_lfd: jax.Array,
    tol: float,
    max_steps: int,
) -> Solution:
    """Minimises `0.5 |w|^2 + C sum_n weight_n log(1 + exp(-+z_n))` for all layers and fits.

    Layers run one after another inside the program, so that each stops when it is done and
    memory holds one layer's intermediate products.

    Args:
      x_lnd: float32 features, best roughly centred.
      y_n: 0/1 labels as float32.
      weight_fn: row weights; 0 leaves a row out of the fit.
      c_f: inverse strength of the penalty.
      shift_lfd, scale_lfd: standardisation of each fit; scale 0 drops a column.
      tol: bound on |gradient| / |w|; by strong convexity also on the relative error of w.
      max_steps: limit on Newton steps.

    Returns: `Solution` with a leading layer axis.
    """

    def one(layer: tuple) -> Solution:
        x_nd, shift_fd, scale_fd = layer
        return _solve_layer(
            Problem(x_nd, y_n, weight_fn, c_f, shift_fd, scale_fd), tol, max_steps
        )

    # Without this, accelerators round the inputs of float32 products to 8 or 11 bits.
    with jax.default_matmul_precision("highest"):
        return jax.lax.map(one, (x_lnd, shift_lfd, scale_lfd))
