# shellcheck shell=bash
# Background processes of a laboratory, tracked by files "$RUN/pids/NAME" containing "PID START-TIME": the start time (clock
# ticks since boot) distinguishes our process from a later one with the same id. Each leads its own process group, so that
# its children end with it.

# start_process NAME COMMAND...
start_process() {
    local name=$1
    shift
    mkdir -p "$RUN/pids" "$RUN/log"
    setsid "$@" </dev/null >>"$RUN/log/$name" 2>&1 &
    # Prevents bash from reporting how each ended, in the middle of other output.
    disown
    printf '%s %s\n' "$!" "$(start_time "$!")" >"$RUN/pids/$name"
}

start_time() {
    local stat fields
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    # The command's name may contain blanks: count from its closing parenthesis (field 2).
    read -ra fields <<<"${stat##*) }"
    printf '%s' "${fields[19]}"
}

# Prints the process id of NAME if its group still has a running member.
running_process() {
    local pid recorded now
    [[ -f $RUN/pids/$1 ]] || return 1
    read -r pid recorded <"$RUN/pids/$1" || return 1
    now=$(start_time "$pid")
    [[ -z $now || $now == "$recorded" ]] || return 1
    pgrep --runstates D,I,R,S,T --pgroup "$pid" >/dev/null || return 1
    printf '%s' "$pid"
}

# Waits until NAME has ended; fails after SECONDS.
await_end() {
    local name=$1 deadline=$((SECONDS + $2 + 1))
    while running_process "$name" >/dev/null; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

# Sends SIGTERM to NAME, and SIGKILL after SECONDS (default 5).
stop_process() {
    local name=$1 bound=${2:-5} pid
    if pid=$(running_process "$name"); then
        # If the leader is gone, signals the rest of the group.
        kill -TERM "$pid" 2>/dev/null || kill -TERM -- "-$pid" 2>/dev/null || true
        await_end "$name" "$bound" || kill_process "$name"
    fi
    rm -f "$RUN/pids/$name"
}

# Kills NAME and its children at once, as in a crash.
kill_process() {
    local name=$1 pid
    if pid=$(running_process "$name"); then
        kill -KILL -- "-$pid" 2>/dev/null || true
        await_end "$name" 5 ||
            { warn "process $name (pid $pid) does not end; look at /proc/$pid/stack" && return 1; }
    fi
    rm -f "$RUN/pids/$name"
}

process_names() {
    local file
    for file in "$RUN"/pids/*; do
        [[ ! -f $file ]] || printf '%s\n' "${file##*/}"
    done
}

# Shows the end of every log, before the clean-up after a failure removes them.
show_logs() {
    local file
    for file in "$RUN"/log/* "$RUN"/*/error.log; do
        [[ ! -s $file ]] || { warn "the end of ${file#"$RUN"/}:" && tail -n 5 "$file" >&2; }
    done
}
