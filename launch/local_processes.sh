#!/usr/bin/env bash
# Starts N processes of one run on this machine, connected by jax.distributed, to try a multi-node run at home.
#
#   launch/local_processes.sh 2 -m fakeimg train --config demo --workdir runs/demo
#
# PYTHON               interpreter, default python3
# DEVICES_PER_PROCESS  default 1. GPUs are assigned in order; with JAX_PLATFORMS=cpu, the devices are virtual
#
# SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and Ctrl-C are passed to every process, so that training saves and stops. When one process fails, the others
# are stopped too. The exit status is that of the first process that failed, or 0.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "fakeimg: usage: $0 NUMBER_OF_PROCESSES -m fakeimg train FLAGS..." >&2
    exit 2
fi
count=$1
shift
python=${PYTHON:-python3}
devices=${DEVICES_PER_PROCESS:-1}
grace=10 # seconds that the other processes have to stop by themselves after a failure

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port
export JAX_COORDINATOR_BIND_ADDRESS=$JAX_COORDINATOR_ADDRESS # JAX's default accepts connections from the network
export JAX_NUM_PROCESSES=$count
if [[ ${JAX_PLATFORMS:-} == cpu ]]; then
    # The size of XLA's thread pool. With one thread per core and few cores, collectives deadlock.
    export NPROC=${NPROC:-8}
    export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"
fi

# The first signal is recorded: a process that ends with it did not fail.
received=0
forward() {
    [[ $received != 0 ]] || received=$2
    kill "-$1" "${pids[@]}" 2>/dev/null || true
}

pids=()
trap 'forward TERM 15' TERM
trap 'forward INT 2' INT
trap 'forward HUP 1' HUP # has no effect under nohup
trap 'forward USR1 10' USR1
trap 'forward USR2 12' USR2
set -m # one process group each: Ctrl-C in the terminal reaches them once, through the trap, and not twice
for ((rank = 0; rank < count; rank++)); do
    ids=$((rank * devices))
    for ((id = ids + 1; id < (rank + 1) * devices; id++)); do ids+=,$id; done
    JAX_PROCESS_ID=$rank JAX_LOCAL_DEVICE_IDS=$ids "$python" "$@" </dev/null &
    pids+=($!)
done
set +m

status=0
deadline=
while [[ ${#pids[@]} -gt 0 ]]; do
    sleep 0.2 || true
    left=()
    for pid in "${pids[@]}"; do
        if kill -0 "$pid" 2>/dev/null; then
            left+=("$pid")
            continue
        fi
        code=0
        wait "$pid" || code=$?
        [[ $status != 0 ]] || status=$code
    done
    pids=(${left[@]+"${left[@]}"}) # bash before 4.4 calls an empty array unset
    [[ $status != 0 && $status != $((128 + received)) && ${#pids[@]} -gt 0 ]] || continue
    if [[ -z $deadline ]]; then
        deadline=$((SECONDS + grace))
        kill -TERM "${pids[@]}" 2>/dev/null || true
    elif [[ $SECONDS -ge $deadline ]]; then # they wait for the failed one and handle no signal
        kill -KILL "${pids[@]}" 2>/dev/null || true
    fi
done
exit "$status"
