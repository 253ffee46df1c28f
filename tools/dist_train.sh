#!/usr/bin/env bash
# Trains a config in several processes by torchrun: one process per GPU, or any number on CPUs.
#
#   tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
#
# If a process dies, all of them start again and go on from the last checkpoint by themselves, up to
# MAX_RESTARTS times (3). On several machines, with a work dir that all of them see, run the same
# command on each with
#
#   NNODES=2 MASTER_ADDR=first-machine [PORT=29500] [RUN_ID=name] tools/dist_train.sh CONFIG PROCESSES
#
# where PROCESSES counts those of one machine; NNODES=1:4 takes as many machines as come.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]" >&2
    exit 2
fi
if [ "${NNODES:-1}" = 1 ]; then
    meeting=(--standalone)
else
    meeting=(
        --nnodes="$NNODES"
        --rdzv-backend=c10d
        --rdzv-endpoint="${MASTER_ADDR:?the first machine}:${PORT:-29500}"
        --rdzv-id="${RUN_ID:-mmplugins}"
    )
fi
# By default the processes of a restart meet in the store of those before, where the addresses of the
# dead still stand: now and then one waits for a dead one for ever. So each start has a store of its own.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE="${TORCH_DISABLE_SHARE_RDZV_TCP_STORE:-1}"
exec "${PYTHON:-python}" -m torch.distributed.run "${meeting[@]}" --nproc-per-node="$2" \
    --max-restarts="${MAX_RESTARTS:-3}" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"
