# shellcheck shell=bash
# Figures of all rounds in "$RUN/results": lines "DEVICE FIGURE VALUE".

record() {
    printf '%s %s %s\n' "$1" "$2" "$3" >>"$RUN/results"
}

# summarize DEVICE FIGURE: "MEDIAN LOWEST HIGHEST" over the rounds.
summarize() {
    awk -v device="$1" -v figure="$2" '$1 == device && $2 == figure {print $3}' "$RUN/results" | sort -g |
        awk '{value[NR] = $1}
             END {if (NR == 0) exit 1
                  middle = NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2
                  print middle, value[1], value[NR]}'
}

# print_table FIGURE FORMAT DEVICE...: median and range of each, and the ratio of the first device to it.
print_table() {
    local figure=$1 format=$2 first=$3 device median lowest highest first_median
    shift 2
    read -r first_median lowest highest < <(summarize "$first" "$figure")
    printf '\n%-16s %14s   %-27s %s\n' "$figure" median range "$first is"
    for device in "$@"; do
        read -r median lowest highest < <(summarize "$device" "$figure")
        awk -v device="$device" -v median="$median" -v lowest="$lowest" -v highest="$highest" \
            -v format="$format" -v first="$first_median" 'BEGIN {
                range = sprintf(format " .. " format, lowest, highest)
                printf "%-16s %14s   %-27s %s\n", device, sprintf(format, median), range,
                    (median + 0 ? sprintf("%.2f times", first / median) : "-")}'
    done
}

describe_machine() {
    say "machine: $(uname -sr), $(awk -F': ' '/^model name/ {print $2; exit}' /proc/cpuinfo), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg)"
    say "placement: device on CPU $DEVICE_CPU, everything else on CPU $LOAD_CPU; but the receive side of a veth with XDP, without a receive thread, runs in the sender's context"
}
