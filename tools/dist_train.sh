#!/usr/bin/env bash
# Trains a config in several processes on this machine, by torchrun: one process per GPU, or any
# number of them on CPUs. torchrun chooses a free port.
#
#   tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]" >&2
    exit 2
fi
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="$2" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"
