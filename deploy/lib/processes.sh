# shellcheck shell=bash
# Background processes of a laboratory, tracked by files "$RUN/pids/NAME" holding "PID START-TIME": the start time
# (clock ticks since boot) tells a process of ours from a later one that was given the same number.
# Each is the leader of its own process group, so that its children end with it.

# start_process NAME COMMAND...
start_process() {
    local name=$1
    shift
    mkdir -p "$RUN/pids" "$RUN/log"
    setsid "$@" </dev/null >>"$RUN/log/$name" 2>&1 &
    # Bash would report how each ended, in the middle of other output.
    disown
    printf '%s %s\n' "$!" "$(start_time "$!")" >"$RUN/pids/$name"
}

start_time() {
    local stat fields
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    # The command's name may hold blanks: count from the parenthesis that closes it (field 2).
    read -ra fields <<<"${stat##*) }"
    printf '%s' "${fields[19]}"
}

# Prints the process id of NAME if its group still has a member that runs.
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

# Asks NAME to end, and ends it after SECONDS (default 5).
stop_process() {
    local name=$1 bound=${2:-5} pid
    if pid=$(running_process "$name"); then
        # Without its leader, the rest of the group is asked.
        kill -TERM "$pid" 2>/dev/null || kill -TERM -- "-$pid" 2>/dev/null || true
        await_end "$name" "$bound" || kill_process "$name"
    fi
    rm -f "$RUN/pids/$name"
}

# Ends NAME and its children at once, as a crash would.
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

# The end of every log, before a failure's clean-up removes them.
show_logs() {
    local file
    for file in "$RUN"/log/* "$RUN"/*/error.log; do
        [[ ! -s $file ]] || { warn "the end of ${file#"$RUN"/}:" && tail -n 5 "$file" >&2; }
    done
}
