#!/usr/bin/env bash
# Tests a config in several processes on this machine, by torchrun: one process per GPU, or any
# number of them on CPUs. torchrun chooses a free port.
#
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]" >&2
    exit 2
fi
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="$3" \
    "$(dirname "$0")/test.py" "$1" "$2" --launcher pytorch "${@:4}"
