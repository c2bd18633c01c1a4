"""Loss functions and the estimators they are fed with: arrays in, arrays out.

Every function here is pure and works under `jax.jit`, `jax.vmap` and `jax.grad`. Data arrays are
positional; hyperparameters are keyword-only and may be traced. Losses are per element, always
something to minimise, and the caller reduces and masks: `jnp.mean(losses.ppo_clip_loss(log_prob,
old_log_prob, advantage, clip_eps=0.2))`.

What a paper of the control literature says stands here by name; the objectives for sequences,
groups, preferences and what belongs to them, in which a paper is a composition, are in namespaces:
`losses.sequences.advantages.group_normalize`, `losses.preferences.dpo_loss`.

Half precision (bfloat16, float16) is widened on entry: all of the arithmetic is float32's, with its
range and its limits, and so are the results. Gradients come back in the dtype of the array they are
taken by, as everywhere in jax. float32 and float64 stay what they are. Matrix products are of the
highest precision, on accelerators too.
"""

from . import bandits, curricula, denoising, generative, preferences, sequences, supervised
from .a2pr import (
    a2pr_actor_loss,
    a2pr_goal,
    a2pr_pull,
    a2pr_vae_loss,
    a2pr_value_target,
)
from .avg import scaled_td_error, soft_reward
from .bc import bc_loss, ema_rate
from .categorical import (
    categorical_cross_entropy,
    categorical_mean,
    categorical_projection,
    clipped_double_categorical,
)
from .distributions import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    tanh_gaussian_log_prob,
    tsallis_log,
    tsallis_log_prob,
)
from .expectile import expectile_td_loss
from .expo import expo_choice, expo_edit
from .famo2o import famo2o_code, famo2o_coefficient
from .fixpo import fixpo_beta_loss, fixpo_policy_loss
from .iql import iql_actor_loss, iql_value_loss
from .mdpo import (
    mdpo_off_policy_actor_loss,
    mdpo_off_policy_tsallis_joint_actor_loss,
    mdpo_off_policy_tsallis_per_dimension_actor_loss,
    mdpo_on_policy_loss,
)
from .ppo import clipped_value_loss, ppo_clip_loss
from .ppo_ewma import ewma, ppo_ewma_loss
from .props import props_loss
from .ratios import approx_kl, clip_fraction, importance_ratio, ratio_deviation
from .rebrac import rebrac_actor_loss, rebrac_target
from .returns import gae, lambda_returns, n_step_return, vtrace
from .sac import sac_actor_loss, sac_target, sac_temperature_loss
from .smoothing import certified_probability, certified_return, clopper_pearson_lower, dkw_lower
from .spo import spo_aligned_loss, spo_loss
from .staq import staq_coefficients, staq_logits, staq_target
from .td3 import target_policy_noise, td3_actor_loss, td3_critic_loss, td3_target
from .td3_bc import behaviour_weight, td3_bc_actor_loss
from .temporal_difference import bootstrapped_target, squared_td_loss
from .trpo import trpo_loss

__all__ = [
    "a2pr_actor_loss",
    "a2pr_goal",
    "a2pr_pull",
    "a2pr_vae_loss",
    "a2pr_value_target",
    "approx_kl",
    "bandits",
    "bc_loss",
    "behaviour_weight",
    "bootstrapped_target",
    "categorical_cross_entropy",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "categorical_mean",
    "categorical_projection",
    "certified_probability",
    "certified_return",
    "clip_fraction",
    "clipped_double_categorical",
    "clipped_value_loss",
    "clopper_pearson_lower",
    "curricula",
    "denoising",
    "dkw_lower",
    "ema_rate",
    "ewma",
    "expectile_td_loss",
    "expo_choice",
    "expo_edit",
    "famo2o_code",
    "famo2o_coefficient",
    "fixpo_beta_loss",
    "fixpo_policy_loss",
    "gae",
    "gaussian_entropy",
    "gaussian_kl",
    "gaussian_log_prob",
    "generative",
    "importance_ratio",
    "iql_actor_loss",
    "iql_value_loss",
    "lambda_returns",
    "mdpo_off_policy_actor_loss",
    "mdpo_off_policy_tsallis_joint_actor_loss",
    "mdpo_off_policy_tsallis_per_dimension_actor_loss",
    "mdpo_on_policy_loss",
    "n_step_return",
    "ppo_clip_loss",
    "ppo_ewma_loss",
    "preferences",
    "props_loss",
    "ratio_deviation",
    "rebrac_actor_loss",
    "rebrac_target",
    "sac_actor_loss",
    "sac_target",
    "sac_temperature_loss",
    "scaled_td_error",
    "sequences",
    "soft_reward",
    "spo_aligned_loss",
    "spo_loss",
    "squared_td_loss",
    "staq_coefficients",
    "staq_logits",
    "staq_target",
    "supervised",
    "tanh_gaussian_log_prob",
    "target_policy_noise",
    "td3_actor_loss",
    "td3_bc_actor_loss",
    "td3_critic_loss",
    "td3_target",
    "trpo_loss",
    "tsallis_log",
    "tsallis_log_prob",
    "vtrace",
]
