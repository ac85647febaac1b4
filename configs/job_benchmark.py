"""Simulated customers by the thousand: what the audit catches, and whom it accuses.

  python -m cifr_jax.main --config configs/job_benchmark.py --workdir out/jobs

Honest jobs of 23 families and of the real sets that are named, attacks over sizes,
variants, shares and adaptations, and controls whose codes are permuted. Leaves
results.json, report.html and calibration.json, which configs/audit.py takes. README has
the figures. `:runlocal` after the config's name runs every stage in seconds, to no effect.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "full") -> ConfigDict:
    """The configuration; `mode` is full or runlocal (every stage, no result)."""
    config = ConfigDict()
    config.task = "job_benchmark"  # what main dispatches on
    config.protocol = "jobs-v1"  # names the splits below in results.json
    config.seed = 0  # of jobs, permutations and intervals; splits differ by their own seeds
    config.base_model = "smollm2"  # whose own answers are the latent
    config.permutations = 999  # of each test
    # Ask the base about items outside the bank as well: tens of thousands, many hours. As
    # it stands their own answer is unknown, and only their other latents are tested.
    config.ask_all = False
    config.bootstrap = 1000  # resamples of an interval

    config.jobs = ConfigDict()
    # Of every honest family: jobs to learn the combination, to set thresholds, to test.
    config.jobs.benign_train = 8
    config.jobs.benign_calibration = 80
    config.jobs.benign_test = 45
    config.jobs.sizes = (50, 134, 211, 402)  # rows of an honest job, one is drawn
    config.jobs.attack_train = 2  # of each attack below, to learn the combination
    config.jobs.attack_test = 8  # of each attack and kind of request
    config.jobs.reach_test = 60  # of those that the aim names: n = 134, 211; 402 diluted
    config.jobs.control_test = 40  # attacks with permuted codes: they must look honest
    # Files of real rows, a family each: JSON lines of GSM8K and of Self-Instruct's seed
    # tasks, JSON of GPTeacher. "" leaves one out.
    config.jobs.gsm8k_path = ""
    config.jobs.self_instruct_path = ""
    config.jobs.gpteacher_path = ""
    config.jobs.real_sizes = (50, 134)  # rows of a job from those files

    if mode == "runlocal":
        config.permutations = 49
        config.bootstrap = 50
        config.jobs.benign_train = 1
        config.jobs.benign_calibration = 2
        config.jobs.benign_test = 1
        config.jobs.sizes = (64,)
        config.jobs.attack_train = 1
        config.jobs.attack_test = 1
        config.jobs.reach_test = 1
        config.jobs.control_test = 1
    return config
