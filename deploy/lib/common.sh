# shellcheck shell=bash
# Shared by all scripts here: messages, privileges, and the location of the binaries.
# Sourced; the script that sources it has set -euo pipefail.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly ROOT

say() {
    printf '%s\n' "$*"
}

warn() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
    warn "$*"
    exit 1
}

# Reports an invalid command line.
misuse() {
    warn "$*"
    exit 2
}

# on_exit COMMAND: runs COMMAND with the exit status when the script ends, even by a signal: a closed pipe or terminal would
# end bash without its EXIT trap.
on_exit() {
    # shellcheck disable=SC2064 # expanded now
    trap "finish $1" EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 141' PIPE
    trap 'exit 143' TERM
}

# Ignores signals during the clean-up; a failed step does not prevent the next one.
finish() {
    local status=$?
    trap '' HUP INT PIPE TERM
    set +e
    "$1" "$status"
}

require_root() {
    [[ $EUID -eq 0 ]] || fail "needs root for namespaces and raw interfaces; run it again with sudo"
}

require_commands() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null ||
            fail "the command '$command' is missing; run $ROOT/deploy/install-packages lab bench"
    done
}

# Raises the limit of open descriptors to the machine's maximum, for all processes started from here.
raise_descriptor_limit() {
    ulimit -S -n "$(ulimit -H -n)"
}

# Sets SHUNT_BIN to the folder with Shunt's binaries.
find_binaries() {
    local folder binary
    folder=${SHUNT_BIN:-${CARGO_TARGET_DIR:-$ROOT/target}/release}
    for binary in shunt shunt-keeper shunt-control shunt-switcher shunt-ifdaemon; do
        [[ -x $folder/$binary ]] ||
            fail "$folder/$binary is missing; run 'cargo build --release' in $ROOT, or set SHUNT_BIN to the folder that has it"
    done
    export SHUNT_BIN=$folder
}

# Refuses anything but a whole number from MINIMUM to MAXIMUM.
require_number() {
    local option=$1 value=$2 minimum=$3 maximum=$4
    if ! [[ $value =~ ^[0-9]{1,9}$ ]] || ((10#$value < minimum || 10#$value > maximum)); then
        misuse "$option takes a number from $minimum to $maximum, not '$value'"
    fi
}

# Refuses a value that is not one of the words after it.
require_word() {
    local option=$1 value=$2 word
    shift 2
    for word in "$@"; do
        [[ $value != "$word" ]] || return 0
    done
    misuse "$option takes one of: $*; not '$value'"
}

# The CPUs that this process may run on, one per line.
allowed_cpus() {
    local list range
    list=$(awk '/^Cpus_allowed_list:/ {print $2}' /proc/self/status)
    for range in ${list//,/ }; do
        seq "${range%-*}" "${range#*-}"
    done
}
