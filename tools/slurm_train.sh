#!/usr/bin/env bash
# Trains a config on a Slurm cluster: one task per GPU.
#
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG TASKS [arguments of tools/train.py]
#
# TASKS_PER_NODE (8), CPUS_PER_TASK (5), GPUS_PER_NODE (TASKS_PER_NODE; 0 without GPUs) and SRUN_ARGS
# are taken from the environment. A job that Slurm requeues goes on from its last checkpoint.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG TASKS [arguments of tools/train.py]" >&2
    exit 2
fi
per_node="${TASKS_PER_NODE:-8}"
[ "$4" -lt "$per_node" ] && per_node="$4"
gpus="${GPUS_PER_NODE:-$per_node}"
gres=()
[ "$gpus" -gt 0 ] && gres=(--gres="gpu:$gpus")
# shellcheck disable=SC2086  # SRUN_ARGS are several words
exec srun --partition="$1" --job-name="$2" --ntasks="$4" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${gres[@]+"${gres[@]}"} \
    ${SRUN_ARGS:-} "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" --launcher slurm "${@:5}"
