#!/usr/bin/env bash
# One task of a SLURM array for each config, each into a work folder of its own. From the
# checkout, in which .venv is installed:
#
#   sbatch --array=0-1 launch/slurm.sh configs/tiny.py configs/smollm2.py
#
# With --dry_run before the configs it prints the line of its task, or outside SLURM those
# of all, and runs nothing. WORKDIRS names where the work folders are made (out). Give a
# partition, a GPU and the like on sbatch's command line. A task that was stopped goes on
# when it is submitted again: --requeue lets SLURM do it.
#SBATCH --job-name=cifr_jax
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --requeue
set -euo pipefail

dry_run=
if [[ ${1-} == --dry_run ]]; then
  dry_run=1
  shift
fi
configs=("$@")
task=${SLURM_ARRAY_TASK_ID-}
if [[ ${#configs[@]} == 0 || (-z $task && -z $dry_run) ]]; then
  echo "usage: sbatch --array=0-LAST launch/slurm.sh [--dry_run] CONFIG..." >&2
  exit 2
fi
if [[ -n $task ]]; then
  if ((task >= ${#configs[@]})); then
    echo "launch/slurm.sh: task $task of ${#configs[@]} configs; correct --array" >&2
    exit 2
  fi
  configs=("${configs[task]}")
fi

for config in "${configs[@]}"; do
  name=$(basename "$config")  # configs/tiny.py:runlocal -> tiny-runlocal
  name=${name/.py/}
  command=(.venv/bin/python -m cifr_jax.main
    --config "$config" --workdir "${WORKDIRS:-out}/${name//:/-}")
  printf '%q ' "${command[@]}" && echo
  if [[ -z $dry_run ]]; then "${command[@]}"; fi
done
