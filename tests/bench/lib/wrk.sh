# shellcheck shell=bash
# wrk against whatever answers HTTP, and its figures.

# drive SECONDS [WRK OPTION...]: to SERVICE_URL, from CLIENT_NS; prints "REQUESTS SECONDS P50 P99 P99.9 ERRORS", times in microseconds.
drive() {
    local seconds=$1
    shift
    within "$CLIENT_NS" taskset -c "$LOAD_CPU" wrk -t1 -c "$CONNECTIONS" -d "${seconds}s" --timeout 5s "$@" \
        -s "$ROOT/tests/bench/lib/latency.lua" "${SERVICE_URL:-http://$SERVICE_ADDRESS/}" | sed -n 's/^figures //p'
}

# measure_load DEVICE KIND [WRK OPTION...]
measure_load() {
    local device=$1 kind=$2 requests seconds p50 p99 p999 errors
    shift 2
    read -r requests seconds p50 p99 p999 errors < <(drive "$MEASURE_SECONDS" "$@")
    [[ -n ${errors:-} ]] || fail "wrk measured nothing through $device"
    record "$device" "$kind/s" "$(awk -v n="$requests" -v s="$seconds" 'BEGIN {printf "%.0f", n / s}')"
    record "$device" "$kind-p50-us" "$p50"
    record "$device" "$kind-p99-us" "$p99"
    record "$device" "$kind-p99.9-us" "$p999"
    record "$device" "$kind-errors" "$errors"
    say "  $device  $kind: $requests in $seconds s, p50 $p50 us, p99 $p99 us, p99.9 $p999 us, $errors errors"
}
