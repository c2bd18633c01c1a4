"""The project's own functions behind the worked numbers of the papers.

`ADAPTERS` has, by the name of an example of tests/data/worked_numbers.json, a function that takes
its inputs as keyword arguments, lists and numbers, and gives its outputs by name. Nothing is
computed here but by what the project has for it; gradients are jax's.
"""

from functools import partial

import jax
import jax.numpy as jnp

from onejit import envs, losses
from onejit.algos import aq_td3, bc, fixpo, parameter_steps, ppo_ewma
from onejit.algos.core import edm, generative
from onejit.algos.core.heads import Gaussian, make_head
from onejit.algos.off_policy import td_scale
from onejit.algos.off_policy.neighbours import nearest, pieces_of
from onejit.algos.on_policy import trust_region
from onejit.envs import inventory, risk
from onejit.losses.sequences import surrogates


def arrays(*values):
    """float32 arrays of lists and numbers."""
    return tuple(jnp.asarray(each, jnp.float32) for each in values)


def array(x):
    """One float32 array of a list or a number."""
    return jnp.asarray(x, jnp.float32)


def slopes(function, *values):
    """A function of several arrays, `[B]`, element by element, and its derivative by the first."""
    return jax.vmap(jax.value_and_grad(function))(*arrays(*values))


def unit_head(size, policy):
    """The head of actions in [−1, 1]^size."""
    return make_head(envs.Box(-1.0, 1.0, (size,)), policy)


def ppo_ewma_loss(lp, blp, plp, adv, eps=0.2, max_ratio=100.0):
    """Nothing is held around the trained policy itself; with the other sign of the advantage the
    loss is the smaller branch.
    """
    lp, blp, plp, adv = arrays(lp, blp, plp, adv)
    loss = partial(losses.ppo_ewma_loss, clip_eps=eps, max_ratio=max_ratio)
    larger, smaller, free = (
        loss(lp, blp, plp, adv),
        -loss(lp, blp, plp, -adv),
        loss(lp, blp, lp, adv),
    )
    return {
        "loss": larger,
        "free": free,
        "held": larger + smaller - free,
        "clipped": losses.clip_fraction(lp, plp, clip_eps=eps),
    }


def ppo_ewma_average(params, decay):
    first, *others = arrays(*params)
    averages = [ppo_ewma.start_average(first, None)]
    config = ppo_ewma.Config(proximal_decay=decay)
    for each in others:
        averages.append(ppo_ewma.move_average(averages[-1], each, {}, config))
    return {
        "weight": [each.weight for each in averages],
        "average": [each.params for each in averages],
    }


def ppo_ewma_batch_scaling(decay, lr, c):
    config = ppo_ewma.Config(proximal_decay=decay, learning_rate=lr).for_batch_smaller_by(c)
    return {"decay": config.proximal_decay, "lr": config.learning_rate}


def r2vpo(lp, olp, adv, lam):
    def loss(lp, olp, adv):
        return surrogates.ratio_variance_loss(lp - olp, adv, coef=lam)

    value, slope = slopes(loss, lp, olp, adv)
    deviation = losses.ratio_deviation(*arrays(lp, olp))
    return {
        "objective": -value,
        "grad_weight": -slope,
        "mean_square": jnp.mean(jnp.square(deviation)),
    }


def fixpo_(mean0, log_std0, mean1, log_std1, ratio, adv, beta, eps_kl, c):
    head = unit_head(len(mean0[0]), "gaussian")
    kl = head.kl(Gaussian(*arrays(mean0, log_std0)), Gaussian(*arrays(mean1, log_std1)))
    ratio, adv, beta = arrays(ratio, adv, beta)
    loss = losses.fixpo_policy_loss(jnp.log(ratio), jnp.zeros_like(ratio), adv, kl, beta=beta)
    config = fixpo.Config(kl_bound=eps_kl, kl_factor=c)
    return {
        "kl": kl,
        "loss": jnp.mean(loss),
        "beta_grad": fixpo.penalty_slope(beta, kl, config),
        "violated": fixpo.is_beyond(kl, config).astype(jnp.float32),
    }


def fixpo_beta_adam(beta, grads):
    config = fixpo.Config(initial_beta=beta)
    penalty = fixpo.start_penalty((), config)
    seen = []
    for grad in arrays(*grads):
        penalty = fixpo.step_penalty(penalty, grad, config)
        seen.append(penalty.beta)
    return {"beta": seen}


def props(lp, target_lp, eps):
    loss, slope = slopes(partial(losses.props_loss, clip_eps=eps), lp, target_lp)
    kl = losses.approx_kl(*arrays(lp, target_lp))
    return {"loss": loss, "grad_lp": slope, "approx_kl": jnp.mean(kl)}


def annealed_q(q, target, tau0, t, T):  # noqa: N803 - the reference's names
    tau = aq_td3.Config(expectile=tau0).schedules(t / T)["expectile"]
    loss, slope = slopes(partial(losses.expectile_td_loss, expectile=tau), q, target)
    return {"tau": tau, "loss": loss, "grad_q": slope}


def avg_scaler(reward, log_prob, terminated, alpha, gamma):
    scale, sigmas = td_scale.init(), []
    for step in zip(*arrays(reward, log_prob, terminated), strict=True):
        reward, log_prob, terminated = (each[None] for each in step)
        scale = td_scale.update(
            scale,
            losses.soft_reward(reward, log_prob, alpha=alpha),
            gamma * (1.0 - terminated),
            terminated == 1.0,
        )
        sigmas.append(td_scale.value(scale))
    return {"sigma": sigmas}


def avg_losses(q, q_next, reward, terminated, next_log_prob, log_prob, q_pi, alpha, gamma, sigma):
    discount = gamma * (1.0 - terminated)
    target = losses.sac_target(*arrays(reward, discount, q_next, next_log_prob), alpha=alpha)
    delta = losses.scaled_td_error(*arrays(q, target, sigma))
    return {
        "delta": delta,
        "critic_loss": losses.squared_td_loss(delta, jnp.zeros_like(delta)),
        "actor_loss": losses.sac_actor_loss(*arrays(log_prob, q_pi), alpha=alpha),
    }


def squashed_log_prob(pre, mean, log_std):
    head = unit_head(len(pre), "tanh_gaussian")
    (pre,) = arrays(pre)
    log_prob = head.log_prob(pre, Gaussian(*arrays(mean, log_std)))
    return {"action": head.to_env(pre), "log_prob": log_prob}


def s2pg(action, z_next, mean, log_std, old_joint, adv, eps):
    """The joint log-probability is that of the head on an action with further entries."""
    size = len(action)
    mean, log_std = arrays(mean, log_std)

    def log_prob(entries, part):
        head = unit_head(len(entries), "gaussian")
        return head.log_prob(*arrays(entries), Gaussian(mean[part], log_std[part]))

    joint = log_prob([*action, *z_next], slice(None))
    return {
        "log_prob_action": log_prob(action, slice(size)),
        "log_prob_state": log_prob(z_next, slice(size, None)),
        "joint": joint,
        "loss": losses.ppo_clip_loss(joint, *arrays(old_joint, adv), clip_eps=eps),
    }


def ecrm_cost(cost, eta, eta_next, lam, tail, gamma, first, terminated=False):
    numbers = {"lam": lam, "tail": tail, "gamma": gamma}
    flags = jnp.bool_(first), jnp.bool_(terminated)
    return {"transformed": risk.risk_cost(*arrays(cost, eta, eta_next), *flags, **numbers)}


def cvar(values, probs, tail):
    """The mean is that of a tail which is all."""
    worst, threshold = risk.conditional_value_at_risk(*arrays(values, probs), tail=tail)
    mean, _ = risk.conditional_value_at_risk(*arrays(values, probs), tail=1.0)
    return {"cvar": worst, "eta": threshold, "mean": mean}


def prdc(state, pi, data_state, data_action, q, alpha, beta):
    """Neighbours of (β·s, π(s)), and the actor's loss towards their actions."""
    pi, data_action, q = arrays(pi, data_action, q)
    found = nearest(pieces_of(array(data_state), data_action), array(state), pi, beta=beta)
    weight = losses.behaviour_weight(q, alpha=alpha)
    loss = jnp.mean(losses.td3_bc_actor_loss(q, pi, found.action, weight=weight))
    return {"index": found.index, "distance2": found.distance2, "lambda": weight, "loss": loss}


def a2pr(
    action,
    vae_action,
    pi,
    value,
    q_data,
    q_vae,
    q_pi,
    recon,
    alpha,
    mask,
    vae_weight,
    mean,
    std,
):
    """Goal and pull, the autoencoder's loss and the actor's."""
    action, vae_action, pi, recon, mean = arrays(action, vae_action, pi, recon, mean)
    value, q_data, q_vae, q_pi = arrays(value, q_data, q_vae, q_pi)
    goal = losses.a2pr_goal(action, vae_action, q_data, q_vae)
    pull = losses.a2pr_pull(value, q_data, q_vae, mask=mask)
    vae_loss = losses.a2pr_vae_loss(
        recon, action, mean, jnp.log(array(std)), q_data, value, weight=vae_weight
    )
    weight = losses.behaviour_weight(q_pi, alpha=alpha)
    loss = losses.a2pr_actor_loss(q_pi, pi, goal, pull, weight=weight)
    return {
        "target": goal,
        "weight": pull,
        "vae_loss": jnp.mean(vae_loss),
        "lambda": weight,
        "loss": jnp.mean(loss),
    }


def a2pr_value_target(reward, discount, target_min, online_min):
    """The critics' target, and the value's."""
    reward, discount, target_min = arrays(reward, discount, target_min)
    return {
        "q_target": losses.bootstrapped_target(reward, discount, target_min),
        "v_target": losses.a2pr_value_target(reward, discount, target_min, array(online_min)),
    }


def famo2o(q_data, v, next_v, reward, discount, log_prob, raw, low, high, expectile_):
    """The losses of value and actor, and the critics' target; exp_adv is the loss of log π = −1."""
    q, v, log_prob = arrays(q_data, v, log_prob)
    coefficient = losses.famo2o_coefficient(array(raw), low=low, high=high)
    options = {"coefficient": coefficient, "max_weight": 100.0}
    return {
        "value_loss": jnp.mean(losses.iql_value_loss(v, q, expectile=expectile_)),
        "coefficient": coefficient,
        "exp_adv": losses.iql_actor_loss(-jnp.ones_like(q), q, v, **options),
        "actor_loss": jnp.mean(losses.iql_actor_loss(log_prob, q, v, **options)),
        "q_target": losses.bootstrapped_target(array(reward), array(discount), array(next_v)),
    }


def famo2o_encoding(coef, n, d):
    """The code of a coefficient."""
    return {"encoding": losses.famo2o_code(array(coef), base=n, size=int(d))}


def famo2o_balance(log_prob, temperature, q1, q2, target_entropy):
    """The losses of the balance and of its temperature."""
    log_prob = array(log_prob)
    q = jnp.minimum(array(q1), array(q2))
    log_alpha = jnp.log(array(temperature))
    temperature_loss = losses.sac_temperature_loss(
        log_alpha, log_prob, target_entropy=target_entropy
    )
    return {
        "balance_loss": jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=temperature)),
        "temperature_loss": jnp.mean(temperature_loss),
    }


def ema_bc(params, power, floor):
    """The average after each update; the first one is the parameters themselves."""
    config = bc.Config(ema_power=power, ema_floor=floor)

    def step(learner, x):
        learner = bc.update_average(learner._replace(params={"actor": x}), config)
        return learner, learner.targets["actor"]

    start = {"actor": array(0.0), "count": jnp.int32(0)}
    learner = bc.Learner({"actor": array(0.0)}, start, {}, (), jnp.int32(0), jnp.int32(0))
    return {"average": jax.lax.scan(step, learner, array(params))[1]}


def pgd_edm(x, sigma, net, clean, sd):
    x, sigma, net, clean = arrays(x, sigma, net, clean)
    c_skip, c_out, c_in, c_noise = losses.generative.edm_scales(sigma, sigma_data=sd)
    level = jnp.broadcast_to(sigma, x.shape[:-1])
    denoised = losses.generative.edm_denoised(x, net, level, sigma_data=sd)
    return {
        "c_skip": c_skip,
        "c_out": c_out,
        "c_in": c_in,
        "c_noise": c_noise,
        "denoised": denoised,
        "loss": jnp.mean(losses.generative.edm_loss(denoised, clean, level, sigma_data=sd)),
    }


def pgd_schedule(n, lo, hi, rho, churn, tmin, tmax):
    sigma = edm.noise_levels(int(n), low=lo, high=hi, rho=rho)
    return {"sigma": sigma, "gamma": edm.churn(sigma, int(n), amount=churn, low=tmin, high=tmax)}


def pgd_guidance(step, n, coef, cosine, grad, normalise):
    weight = edm.guidance_weight(step, n, cosine=cosine)
    shift = edm.guidance_shift(array(grad), coef * weight, normalise=bool(normalise))
    return {"lambda": weight, "shift": shift}


def cdsa_dsm(x, eps, sigma, score):
    """The target is the score that the loss regresses to."""
    x, eps, score = arrays(x, eps, score)
    level = jnp.broadcast_to(array(sigma), x.shape[:-1])
    return {
        "noisy": losses.generative.noised(x, eps, level),
        "loss": jnp.mean(losses.generative.score_matching_loss(score, eps, level)),
        "loss_target": losses.generative.noise_score(eps, level),
    }


def cdsa_correct_gaussian(action, step, steps, centre, std):
    mean = array(centre)
    log_std = jnp.broadcast_to(jnp.log(array(std)), mean.shape)

    def log_prob(x):
        return jnp.sum(losses.gaussian_log_prob(x, mean, log_std))

    corrected = generative.ascend(
        jax.grad(log_prob), array(action), step_size=step, num_steps=int(steps)
    )
    return {"action": corrected}


def gorl_cfm(action, eps, t, velocity):
    action, eps, velocity = arrays(action, eps, velocity)
    t = jnp.broadcast_to(array(t), action.shape[:-1])
    point, target = losses.generative.flow_path(action, eps, t)
    loss = jnp.mean(losses.generative.flow_matching_loss(velocity, target))
    return {"x_t": point, "velocity_target": target, "loss": loss}


def gorl_decode(z, a, b, n):
    """The velocity is a·x + b·t; the action is the tanh of what it leads to."""
    x = generative.euler(lambda x, t: a * x + b * t[..., None], array(z), int(n))
    return {"x": x, "action": unit_head(len(z), "tanh_gaussian").to_env(x)}


def expo_edit(log_prob, raw, base, beta, temperature, qs, target_entropy):
    base, raw, log_prob, qs = arrays(base, raw, log_prob, qs)
    edited, log_prob = losses.expo_edit(base, raw, log_prob, edit_scale=beta)
    loss = losses.sac_actor_loss(log_prob, jnp.mean(qs, axis=0), alpha=temperature)
    temperature_loss = losses.sac_temperature_loss(
        jnp.log(array(temperature)), log_prob, target_entropy=target_entropy
    )
    return {
        "edited": edited,
        "log_prob": log_prob,
        "edit_loss": jnp.mean(loss),
        "temperature_loss": jnp.mean(temperature_loss),
    }


def expo_backup(candidates, q_target, reward, discount):
    action, value, place = losses.expo_choice(array(candidates), array(q_target))
    target = losses.bootstrapped_target(array(reward), array(discount), value)
    return {"index": place, "action": action, "target": target}


def expo_ddpm(action, eps, alpha_hat, eps_hat):
    action, eps = arrays(action, eps)
    alpha_bar = jnp.broadcast_to(array(alpha_hat), action.shape[:-1])
    return {
        "noisy": losses.generative.ddpm_noised(action, eps, alpha_bar),
        "loss": jnp.mean(losses.generative.ddpm_loss(array(eps_hat), eps)),
    }


def hdpo_rollout(stock, orders, demands, lead, h, p, lost):
    def step(stock, inputs):
        return inventory.period(
            stock, *inputs, holding_cost=h, shortage_cost=p, lost_sales=bool(lost)
        )

    start = jnp.zeros(int(lead)).at[0].set(stock)
    final, cost = jax.lax.scan(step, start, (array(orders), array(demands)))
    return {"cost": cost, "final": final}


def hdpo_base_stock(mu, sd, lead, h, p):
    level, cost = inventory.base_stock(mu, sd, lead, holding_cost=h, shortage_cost=p)
    return {"level": level, "cost_per_period": cost}


def hnpg_step(fisher, grad, damping, max_kl, iters):
    matrix = array(fisher)
    direction, step, expected = trust_region.natural_step(
        lambda vector: matrix @ vector,
        array(grad),
        damping=damping,
        max_kl=max_kl,
        num_iterations=int(iters),
    )
    return {"direction": direction, "step": step, "expected": expected}


def hnpg_losses(q_on, ret, q_off, off_target, ratio_on, adv_on, ratio_off, adv_off):
    online = losses.squared_td_loss(array(q_on), array(ret))
    offline = losses.squared_td_loss(array(q_off), array(off_target))
    log_prob = jnp.log(array(ratio_on + ratio_off))
    actor = losses.trpo_loss(log_prob, jnp.zeros_like(log_prob), array(adv_on + adv_off))
    return {
        "critic_loss": jnp.mean(online) + jnp.mean(offline),
        "actor_loss": jnp.mean(actor),
    }


def npg_igt(theta, previous, direction, grad, t, gamma0, eta0):
    theta = array(theta)
    eta = parameter_steps.power_decay(eta0, t, power=0.8)
    gamma = parameter_steps.power_decay(gamma0, t, power=1.0)
    direction = parameter_steps.recursive_gradient(array(direction), array(grad), momentum=eta)
    return {
        "eta": eta,
        "gamma": gamma,
        "lookahead": parameter_steps.look_ahead(theta, array(previous), momentum=eta),
        "direction": direction,
        "theta": parameter_steps.normalized_step(theta, direction, size=gamma),
    }


def harpg(theta, direction, hvp, grad, t, gamma0, eta0, normalised):
    theta, products = array(theta), array(hvp)
    eta = parameter_steps.power_decay(eta0, t, power=1.0)
    direction = parameter_steps.recursive_gradient(
        array(direction), array(grad), products, momentum=eta
    )
    gamma = parameter_steps.power_decay(gamma0, t, power=1.0 if normalised else 0.5)
    step = parameter_steps.normalized_step(theta, direction, size=gamma)
    return {"direction": direction, "theta": step if normalised else theta + gamma * direction}


ADAPTERS = {
    "ppo_ewma_loss": ppo_ewma_loss,
    "ppo_ewma_average": ppo_ewma_average,
    "ppo_ewma_batch_scaling": ppo_ewma_batch_scaling,
    "r2vpo": r2vpo,
    "fixpo": fixpo_,
    "fixpo_beta_adam": fixpo_beta_adam,
    "props": props,
    "annealed_q": annealed_q,
    "avg_scaler": avg_scaler,
    "avg_losses": avg_losses,
    "squashed_log_prob": squashed_log_prob,
    "s2pg": s2pg,
    "ecrm_cost": ecrm_cost,
    "cvar": cvar,
    "prdc": prdc,
    "a2pr": a2pr,
    "a2pr_value_target": a2pr_value_target,
    "famo2o": famo2o,
    "famo2o_encoding": famo2o_encoding,
    "famo2o_balance": famo2o_balance,
    "ema_bc": ema_bc,
    "pgd_edm": pgd_edm,
    "pgd_schedule": pgd_schedule,
    "pgd_guidance": pgd_guidance,
    "cdsa_dsm": cdsa_dsm,
    "cdsa_correct_gaussian": cdsa_correct_gaussian,
    "gorl_cfm": gorl_cfm,
    "gorl_decode": gorl_decode,
    "expo_edit": expo_edit,
    "expo_backup": expo_backup,
    "expo_ddpm": expo_ddpm,
    "hdpo_rollout": hdpo_rollout,
    "hdpo_base_stock": hdpo_base_stock,
    "npg_igt": npg_igt,
    "harpg": harpg,
    "hnpg_step": hnpg_step,
    "hnpg_losses": hnpg_losses,
}
