"""Smoothed policies (Kumar et al. 2022, arXiv 2106.11420): trained under noise, certified, and
attacked.
"""

from .attacks import deviation_adversary, targeted_adversary
from .certify import (
    Attack,
    Certificate,
    attack,
    certifier,
    certify,
    policy_of,
    require_attack,
    smoothed,
)

__all__ = [
    "Attack",
    "Certificate",
    "attack",
    "certifier",
    "certify",
    "deviation_adversary",
    "policy_of",
    "require_attack",
    "smoothed",
    "targeted_adversary",
]
