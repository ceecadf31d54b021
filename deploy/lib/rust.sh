# shellcheck shell=bash
# Selects the Rust that builds Shunt: the one in the search path if it is new enough, otherwise rustup's. Sourced after
# common.sh.

readonly CARGO_BIN=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin

# The oldest Rust that builds Shunt.
wanted_rust() {
    awk -F'"' '/^rust-version/ {print $2}' "$ROOT/Cargo.toml"
}

# The version of cargo in the search path; empty if none runs.
present_rust() {
    local version
    version=$(cd "$ROOT" && cargo --version 2>/dev/null) || return 0
    awk '{print $2}' <<<"$version"
}

is_new_enough() {
    local have
    have=$(present_rust)
    [[ -n $have ]] && printf '%s\n' "$(wanted_rust)" "${have%%-*}" | sort -V -C
}

# Puts rustup's Rust first in the search path, unless the current one is new enough. Fails if neither is.
choose_rust() {
    is_new_enough || { PATH=$CARGO_BIN:$PATH && is_new_enough; }
}
