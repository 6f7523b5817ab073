"""What other libraries and papers call things, by kind: our name -> their names.

Case and separators do not matter. Where our name needs an option to be the same, it stands behind a space.
"""

from __future__ import annotations

SOLVERS: dict[str, tuple[str, ...]] = {
    "euler_maruyama": ("em", "ScoreSdeVpScheduler", "sde euler"),
    "reverse_diffusion": ("reverse diffusion sampling",),
    "ancestral": ("ancestral sampling", "ancestral sampling predictor"),
    "predictor_corrector": ("pc", "pc sampler", "ScoreSdeVeScheduler"),
    "annealed_langevin": ("ald", "annealed langevin dynamics", "anneal langevin dynamics", "ncsn", "smld"),
    "consistent_annealed_langevin": ("cas", "consistent annealed sampling"),
    "langevin": ("langevin dynamics", "ula"),
    "euler": ("forward euler", "flow euler", "FlowMatchEulerDiscreteScheduler"),
    "heun": ("improved euler", "explicit trapezoidal", "FlowMatchHeunDiscreteScheduler"),
    "rk4": ("runge kutta", "runge kutta 4"),
    "kutta3": ("rk3",),
    "rk5": ("butcher5",),
    # k-diffusion and diffusers integrate over sigma/alpha.
    "euler variable='sigma'": ("EulerDiscreteScheduler", "EDMEulerScheduler", "sample_euler", "k_euler"),
    "heun variable='sigma'": ("HeunDiscreteScheduler", "sample_heun", "k_heun"),
    "edm": ("KarrasVeScheduler", "karras ve", "stochastic heun"),
    "euler_ancestral": ("Euler a", "EulerAncestralDiscreteScheduler"),
    "dpm2": ("KDPM2DiscreteScheduler",),
    "dpm2_ancestral": ("DPM2 a", "KDPM2AncestralDiscreteScheduler"),
    "dpmpp_2s_ancestral": ("DPM++ 2S a",),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler",),
    "dpmpp_2m": ("dpmsolver++", "DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"),
    "dpmpp_sde": ("DPMSolverSDEScheduler",),
    "dpmpp_2m_sde": ("sde-dpmsolver++", "SDE-DPM-Solver++(2M)", "CosineDPMSolverMultistepScheduler"),
    "dpmpp_2m_sde kind='heun'": ("DPM++ 2M SDE Heun",),
    "dpmpp_3m_sde": ("SDE-DPM-Solver++(3M)",),
    "dpm_solver_2m": ("dpmsolver",),
    "dpm_fast": ("DPM-Solver-fast",),
    "dpm_adaptive": ("DPM-Solver-12", "DPM-Solver-23", "DPM-Solver adaptive"),
    "unipc": ("UniPCMultistepScheduler", "uni_pc_bh2"),
    "unipc variant='bh1'": ("uni_pc_bh1",),
    "deis": ("DEISMultistepScheduler", "tAB-DEIS"),
    "deis variant='rhoAB'": ("rhoAB", "rhoAB-DEIS"),
    "lms": ("LMSDiscreteScheduler", "linear multistep"),
    "adaptive_sde": ("gotta go fast", "ggf"),
    "ode": ("dopri5", "probability flow", "probability flow ode", "pf-ode", "odeint"),
    "ode method='RK45'": ("rk45", "ode sampler", "solve_ivp"),
    "ode method='RK23'": ("rk23",),
    "ode method='DOP853'": ("dop853",),
    "ode method='LSODA'": ("lsoda",),
    "ode method='dopri8'": ("dopri8",),
    "ode method='bosh3'": ("bosh3",),
    "ode method='torchode_tsit5'": ("tsit5",),
    "sde": ("srk", "reverse sde", "torchsde"),
    "sde method='milstein'": ("milstein",),
}

GRIDS: dict[str, tuple[str, ...]] = {
    "uniform": ("sgm_uniform", "normal", "linear", "time_uniform", "even"),
    "quadratic": ("quad", "time_quadratic"),
    "log_snr": ("lambda", "lam", "half log snr", "log sigma"),
    "karras": ("edm", "rho"),
    "angle": ("kl_optimal", "arctan"),
    "beta": ("beta sigmas",),
    "time_shift": ("shift", "flow shift", "sd3"),
    "strided": ("linspace", "discrete", "timesteps"),
    "strided spacing='leading'": ("leading", "ddim_uniform"),
    "strided spacing='trailing'": ("trailing", "simple"),
}

# The words behind a solver's name in user interfaces: "DPM++ 2M Karras".
UI_GRIDS = (
    "karras", "exponential", "polyexponential", "beta", "normal", "simple", "sgm uniform", "ddim uniform", "uniform",
    "kl optimal",
)  # fmt: skip

PARAMETRISATIONS: dict[str, tuple[str, ...]] = {
    "x0": ("sample", "x_start", "xstart", "x", "data", "denoiser", "denoised", "original sample", "pred_x0"),
    "eps": ("epsilon", "noise"),
    "score": ("score function", "grad log p"),
    "velocity": ("flow", "u", "vector field", "velocity field", "flow matching", "rectified flow"),
    "edm": ("preconditioned", "karras"),
}

CLOCKS: dict[str, tuple[str, ...]] = {
    "t": ("time", "continuous"),
    "index": ("timestep", "timesteps", "discrete", "step"),
    "lam": ("lambda", "half log snr"),
    "sigma": ("noise level", "kappa"),
    "c_noise": ("edm", "karras", "preconditioned"),
}

PROCESSES: dict[str, tuple[str, ...]] = {
    "VP": ("ddpm", "vpsde", "linear", "variance preserving"),
    "VE": ("ncsn", "smld", "vesde", "variance exploding"),
    "SubVP": ("subvpsde",),
    "EDM": ("karras",),
    "Cosine": ("iddpm", "improved ddpm", "squaredcos_cap_v2"),
    "RectifiedFlow": ("flow", "flow matching", "conditional flow matching", "optimal transport", "reflow"),
    "Table": ("betas", "alphas_cumprod", "scaled_linear", "discrete"),
}

# Of several with one meaning the one that the function or command has is named.
OPTIONS: dict[str, tuple[str, ...]] = {
    "steps": ("num_inference_steps", "n_steps", "num_steps", "sampling steps", "timesteps", "timestep"),
    "calls": ("nfe", "nfes", "n_calls", "num_calls", "evaluations", "function evaluations"),
    "n": ("num_samples", "n_samples", "num_images", "batch_size"),
    "micro_batch": ("batch_size",),
    "samples": ("num_samples", "n_samples"),
    "solver": ("sampler", "scheduler"),
    "grid": ("schedule", "sigmas", "timestep_spacing", "spacing", "skip_type", "use_karras_sigmas"),
    "solvers": ("solver", "sampler", "samplers", "scheduler", "schedulers"),
    "grids": ("grid", "schedule", "schedules"),
    "targets": ("task", "tasks", "problem", "problems"),
    "distances": ("distance", "metric", "metrics"),
    "seed": ("generator", "random_seed", "manual_seed"),
    "start": ("sigma_max", "t_start"),
    "stop": ("sigma_min", "t_end"),
    "denoise": ("denoise_to_zero", "denoise_final", "noise_removal"),
    "cond": ("condition", "conditioning", "class_labels", "model_kwargs"),
    "clip": ("clip_sample", "clip_denoised"),
    "threshold": ("thresholding", "dynamic_thresholding", "dynamic_thresholding_ratio"),
    "lower_order_final": ("euler_at_final",),
    "out": ("output", "output_dir", "outdir", "save_dir"),
    "dtype": ("torch_dtype", "precision"),
    "probes": ("num_probes", "n_probes"),
    "trace": ("hutchinson_type", "divergence"),
    "eta": ("ddim_eta",),
    "order": ("solver_order",),
}

BY_KIND = {
    "solver": SOLVERS, "grid": GRIDS, "parametrisation": PARAMETRISATIONS, "clock": CLOCKS, "process": PROCESSES,
    "option": OPTIONS,
}  # fmt: skip
