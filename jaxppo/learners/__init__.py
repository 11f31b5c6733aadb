"""Learners: how parameters move."""

from jaxppo.learners.base import Learner
from jaxppo.learners.sgd import SGD
from jaxppo.learners.trust_region import TrustRegion

__all__ = ["SGD", "Learner", "TrustRegion"]
