"""Behavioural cloning by a flow: an actor that takes noise to an action along a learned velocity
(flow matching; Lipman et al., 2023, arXiv 2210.02747), so that it has as many modes as the data.

A time and a noise are drawn for each transition of a minibatch; the velocity there is regressed to
the difference of noise and action. Acting is flow_steps Euler steps from standard normal noise, and
without exploring from 0. There are no critics. One `step` is num_updates updates. It is no paper's
algorithm, but what those begin with that edit or steer a cloned flow.
"""

from functools import partial

import chex

from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, static
from .off_policy import actor_critic, flow, offline
from .off_policy.acting import with_config
from .off_policy.actor_critic import Batch, Learner
from .off_policy.flow import FlowConfig
from .off_policy.networks import Networks
from .off_policy.offline import OfflineConfig

__all__ = [
    "Batch",
    "Config",
    "Learner",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "update",
]


@configclass
class Config(FlowConfig, OfflineConfig):
    """Hyperparameters of cloning by a flow; those of critics are not used."""

    policy_delay: int = static(1, "Must be 1: there are no critics.", low=1, high=1)


def make_networks(env: Environment, config: Config) -> Networks:
    """A velocity, as the config says, and no critic."""
    return Networks(flow.make_field(env, config), critic=None)


init_learner = partial(actor_critic.init_learner, targets=())


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the velocity towards the data's actions."""
    return flow.imitate(learner, "actor", batch, key, networks=networks, config=config)


update = partial(
    actor_critic.update, critic_update=actor_critic.no_update, actor_update=actor_update
)
make = offline.maker(
    Config, make_networks, init_learner, update, flow.make_policy, acting=with_config
)
