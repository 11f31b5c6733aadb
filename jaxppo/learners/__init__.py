"""Learners: how parameters move."""

from jaxppo.learners.base import Learner
from jaxppo.learners.sgd import SGD

__all__ = ["SGD", "Learner"]
