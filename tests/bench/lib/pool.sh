# shellcheck shell=bash
# The simulated pool of the balancing benchmark, and its load. Service times are slept, not worked, and short enough in number
# that all of it takes a small part of LOAD_CPU: the machine doesn't decide the result.
#
# unequal    four back-ends with a mean of 20 ms and four with 80 ms, 4 workers each: 4 x 200 + 4 x 50 = 1000 requests a second.
# disturbed  eight of 32 ms, 4 workers each; at any time an antagonist slows two of them down to a quarter, for 2 s, then the next
#            two overlapping, round the pool in 8 s: 6 x 125 + 2 x 31.25 = 812 requests a second at every moment.
# wave       eight of 32 ms, 4 workers each; half of them is slowed down to a half for 4 s, then the other half, in turn: a square
#            wave of 8 s, 4 x 125 + 4 x 62.5 = 750 requests a second at every moment.
# steady     eight of 32 ms, 4 workers each, undisturbed: what the load steps are measured on.
# disturbed is the harder one for whoever learns slowly, unequal for whoever doesn't learn at all: weights are equal for all.

readonly METRICS_PORT=9100 POOL_WORKERS=4

# Who names more of them does it before chain.sh.
pool_addresses() {
    seq -f '198.18.1.%g' 11 18
}

# capacity_of SCENARIO: requests a second.
capacity_of() {
    case $1 in
        unequal) printf 1000 ;;
        disturbed) printf 812 ;;
        wave) printf 750 ;;
        steady) printf 1000 ;;
        *) fail "no scenario is called '$1'; there is: unequal disturbed wave steady" ;;
    esac
}

# start_pool SCENARIO SEED
start_pool() {
    local scenario=$1 seed=$2 address number options=()
    for address in "${SERVER_ADDRESSES[@]}"; do
        number=$((${address##*.} - 11))
        case $scenario in
            unequal) options+=(--backend "$(server_name "$address")=$address,$POOL_WORKERS,$((number < 4 ? 20 : 80))") ;;
            steady) options+=(--backend "$(server_name "$address")=$address,$POOL_WORKERS,32") ;;
            disturbed)
                options+=(--backend "$(server_name "$address")=$address,$POOL_WORKERS,32"
                    --antagonist "$(server_name "$address")=4:8000:2000:$((number * 1000))")
                ;;
            wave)
                options+=(--backend "$(server_name "$address")=$address,$POOL_WORKERS,32"
                    --antagonist "$(server_name "$address")=2:8000:4000:$((number % 2 * 4000))")
                ;;
        esac
    done
    start_process pool ip netns exec "$SERVERS_NS" taskset -c "$LOAD_CPU" "$BENCH_BIN/serve-load" \
        --port "$SERVICE_PORT" --metrics-port "$METRICS_PORT" --seed "$seed" "${options[@]}"
    # It listens on all addresses in their order.
    await_http "$SERVERS_NS" "${SERVER_ADDRESSES[-1]}:$METRICS_PORT/metrics"
}

stop_pool() {
    stop_process pool
}

# drive RATE SEED: one JSON object.
drive() {
    within "$CLIENT_NS" taskset -c "$LOAD_CPU" "$BENCH_BIN/generate-load" --target "$SERVICE_ADDRESS:$SERVICE_PORT" \
        --rate "$1" --warm-up "$WARM_UP_SECONDS" --seconds "$MEASURE_SECONDS" --seed "$2"
}
