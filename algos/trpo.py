"""Trust Region Policy Optimization (Schulman et al., 2015, arXiv 1502.05477): the longest natural
gradient step whose mean divergence from the old policy is within a bound.

One `step` is one rollout of num_envs·num_steps environment steps, one step of the policy on all of
it, see `on_policy.trust_region`, and update_epochs·num_minibatches gradient steps of the value
network. Differs from the released code (modular_rl, baselines) in that the Fisher matrix is that of
all of the rollout and not of a fifth, in that the value network is trained by Adam and not by
L-BFGS, and as PPO does here. An own optimiser is the value network's alone.
"""

from functools import partial

from .core.collect import Transition
from .core.config import configclass
from .core.networks import Networks
from .core.networks import make_actor_critic as make_networks
from .on_policy import loop, trust_region
from .on_policy.policy_gradient import Learner, Minibatch, init_learner
from .on_policy.policy_gradient import value_objective as value_loss
from .on_policy.trust_region import TrustRegionConfig, policy_loss

__all__ = [
    "Config",
    "Learner",
    "Minibatch",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "policy_loss",
    "update",
    "value_loss",
]


@configclass
class Config(TrustRegionConfig):
    """Hyperparameters of TRPO."""


update = partial(
    trust_region.update,
    objectives={"losses/policy_grad_norm": policy_loss, "losses/value_grad_norm": value_loss},
)
make = loop.maker(Config, update)
