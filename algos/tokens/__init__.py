"""Policies of tokens, trained on answers that are judged whole: GRPO, RLOO, DPO and their kin.

One `step` draws num_prompts prompts, has the policy write group_size answers to each, judges them,
and takes update_passes gradient steps on one objective, over all answers at once; an environment
step is a token, padding included. What the papers differ in is the objective, which is data: a
function of a `Batch` to a scalar, by name (`objectives.OBJECTIVES`) or your own,
`tokens.make(env, config, objective)`. Everything else is the same for all of them: the network, an
embedding, a gated recurrent unit and a relu layer; Adam, clipped by the global norm; an entropy
bonus beside the objective; a reference policy, the initial one unless ref_alpha lets it move; and
prompts that nobody selects, unless config.sampler says who, see `samplers`. So a paper's name says
its objective here, not its whole training.

An evaluation adds pass@1 and pass@k of sampled answers to the return of greedy ones.
"""

from . import objectives, samplers
from .batch import Answered, Batch
from .config import Config
from .loop import State, answer, make, make_network, pass_metrics, respond
from .objectives import OBJECTIVES
from .policy import Recurrent, read, sample, score
from .samplers import SAMPLERS, Sampler
from .update import Learner, init_learner, update

__all__ = [
    "OBJECTIVES",
    "SAMPLERS",
    "Answered",
    "Batch",
    "Config",
    "Learner",
    "Recurrent",
    "Sampler",
    "State",
    "answer",
    "init_learner",
    "make",
    "make_network",
    "objectives",
    "pass_metrics",
    "read",
    "respond",
    "sample",
    "samplers",
    "score",
    "update",
]
