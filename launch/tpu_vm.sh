#!/usr/bin/env bash
# Runs cifr_jax on a Cloud TPU VM, from this checkout:
#
#   TPU_NAME=my-tpu TPU_ZONE=us-central2-b launch/tpu_vm.sh [--dry_run] \
#     --config configs/tiny.py --workdir out/tiny
#
# Copies the checkout to every worker, makes the virtual environment there once, and starts
# the same line on all of them. A line that was stopped goes on when it is given again.
# cifr_jax runs on one process and one device: take a slice of one host; workers on several
# would not share the run.
# PYTHON names the interpreter on the workers (3.11 or newer).
set -euo pipefail

dry_run=
if [[ ${1-} == --dry_run ]]; then
  dry_run=1
  shift
fi
if [[ $# == 0 || -z ${TPU_NAME-} || -z ${TPU_ZONE-} ]]; then
  echo "usage: TPU_NAME=... TPU_ZONE=... $0 [--dry_run] --config FILE --workdir FOLDER" >&2
  exit 2
fi

run() {
  printf '%q ' "$@" && echo
  if [[ -z $dry_run ]]; then "$@"; fi
}

cd "$(dirname "$0")/.."
archive=$(mktemp -u).tar.gz
trap 'rm -f "$archive"' EXIT
on_workers=(--worker=all "--zone=$TPU_ZONE")
setup="mkdir -p cifr_jax && tar -xzf cifr_jax.tar.gz -C cifr_jax && cd cifr_jax &&
  (test -d .venv || ${PYTHON:-python3} -m venv .venv) && .venv/bin/pip install -q -e '.[tpu]'"
program=$(printf '%q ' python3 -m cifr_jax.main "$@")

run tar -czf "$archive" --exclude=./.git --exclude=./.venv --exclude=./out .
run gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:cifr_jax.tar.gz" "${on_workers[@]}"
run gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${on_workers[@]}" --command="$setup"
run gcloud compute tpus tpu-vm ssh "$TPU_NAME" "${on_workers[@]}" \
  --command="cd cifr_jax && source .venv/bin/activate && $program"
