"""How strongly each characteristic counts: logistic regression whose coefficients are never below zero.

On weights of evidence a coefficient below zero would turn an indicator's meaning around. The optimum within the bounds
is found by Newton steps, each solved by cyclic coordinate descent on the quadratic model (as Friedman, Hastie and
Tibshirani, 2010, do for penalties), with L2 on the coefficients but not on the intercept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from danbao_credit.domain.training.columns import Floats, Outcomes

_NEWTON_STEPS, _SWEEPS = 60, 500
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Fit:
    """log odds of good = intercept + Σ coefficient · weight of evidence."""

    intercept: float
    coefficients: Floats


def fit_not_negative(evidence: Floats, outcomes: Outcomes, *, l2: float) -> Fit:
    """`evidence` has a row a case and a column a characteristic; `l2` in units of outcomes."""
    good, cases = outcomes.goods, outcomes.all
    rows, columns = evidence.shape
    design = np.column_stack([np.ones(rows), evidence])
    penalty = np.full(columns + 1, l2)
    penalty[0] = 0.0
    beta = np.zeros(columns + 1)
    beta[0] = float(np.log(good.sum() / outcomes.bads.sum()))
    loss = _loss(design, good, cases, beta, penalty)
    for _ in range(_NEWTON_STEPS):
        odds = design @ beta
        chance = 1 / (1 + np.exp(-odds))
        weight = cases * np.maximum(chance * (1 - chance), 1e-9)
        gradient = design.T @ (cases * chance - good) + penalty * beta
        hessian = (design * weight[:, None]).T @ design + np.diag(penalty)
        step = _bounded_step(hessian, gradient, beta) - beta
        size = 1.0
        # A full Newton step may overshoot far from the optimum: it is halved until the loss falls.
        while size > 1e-6:
            tried = beta + size * step
            tried_loss = _loss(design, good, cases, tried, penalty)
            if tried_loss <= loss:
                break
            size /= 2
        else:
            break
        moved = float(np.abs(tried - beta).max())
        beta, loss = tried, tried_loss
        if moved < _TOLERANCE:
            break
    return Fit(float(beta[0]), beta[1:])


def _bounded_step(hessian: Floats, gradient: Floats, start: Floats) -> Floats:
    """The minimum of the quadratic model with all but the first number at least zero."""
    beta = start.copy()
    slope = gradient.copy()
    for _ in range(_SWEEPS):
        largest = 0.0
        for place in range(len(beta)):
            if hessian[place, place] <= 0:
                continue
            wanted = beta[place] - slope[place] / hessian[place, place]
            if place:
                wanted = max(wanted, 0.0)
            change = wanted - beta[place]
            if change:
                slope += hessian[:, place] * change
                beta[place] = wanted
                largest = max(largest, abs(float(change)))
        if largest < _TOLERANCE / 10:
            break
    return beta


def _loss(design: Floats, good: Floats, cases: Floats, beta: Floats, penalty: Floats) -> float:
    odds = design @ beta
    return float((cases @ np.logaddexp(0, odds)) - good @ odds + (penalty * beta * beta).sum() / 2)
