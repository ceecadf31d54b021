//! The JSON fields, for `--help`. A test compares them with the actual output.

/// Of `shunt status`.
pub const STATUS: &str = "\
Exit status:
  0   healthy
  1   degraded: every service is served, but something needs attention
  2   not serving: some clients get no service, or the instance doesn't run
  3   unknown: the shared memory can't be read (not root, or of another version)
  64  the command line is wrong

Fields of --json (without shared memory: instance, health and problems only):
  instance, health (healthy, degraded, not-serving), epoch (0: none), published_ms, reloaded_ms (since 1970; 0: never), reloads_refused
  processes[]: process (keeper, control, switcher, ifdaemon), number, pid, state (running, silent, dead, absent),
      heartbeat_age_ms, cpu, epoch, idle_percent, generation
  ports[]: interface, switcher, queues[] (queue, receives, kind, mode, busy_polls, threaded), received, bytes_received, sent,
      bytes_sent, missed, errors
  host (null: no pseudo-interface): device, offloads, reads, writes (system calls), stores[] (switcher, to_host and
      from_host (depth, capacity, packets, bytes, dropped), wakes, sleeps), drops[] (reason, count)
  connection_table: live (entries in use), active (in flight), inactive (over, not freed yet), exact, capacity, evicted
  traffic: received, sent, dropped, passed, answered, difference (received - sent - dropped - passed)
  reports[]: outcome, count, meaning
  problems[]: code, severity (notice, degraded, not-serving), object, text, mend
Codes of problems:
  not serving: not_running, nothing_published, process_dead, process_absent, process_silent (of keeper and control:
      degraded), interface_down, interface_gone, host_down, service_without_backend
  degraded: epoch_not_taken, backend_down, backend_declined, backend_unreachable, table_nearly_full, control_unanswered,
      configuration_refused, reload_refused, configuration_unsaved, key_missing, agent_silent,
      feedback_not_listening, frames_unaccounted
  degraded, or a notice where anybody can have brought it about: backend_unanswered,
      checksum_unfilled, reports_refused
  notice: interfaces_unseen";

/// Of `shunt services`.
pub const SERVICES: &str = "\
Fields of --json:
  services[]: id, name, address, protocol, target (backends, host), mode, algorithm, client_ranges (that rules tell
      apart), state (up, no-backend, removed), backends_up, backends_total,
      active_connections (in flight: from the first packet to the first FIN or RST), inactive_connections (over, and
      kept for late packets until timeouts.tcp_closing_s or tcp_closed_s), connections (since the start), packets_in, bytes_in, packets_out, bytes_out, refused,
      moved, reset (connections whose backend was down, or drained for too long)";

/// Of `shunt backends`.
pub const BACKENDS: &str = "\
Fields of --json:
  backends[]: id, name, address, protocol, state (up, down, drained, removed), health (from control; null if it doesn't
      run), services[] (service, weight, effective_weight, factor, why (from control), slots_percent (null: the
      algorithm uses no slots)), next_hop,
      next_hop_mac (null: unresolved), interface, active_connections, inactive_connections (as of services), opened (since
      the start), packets, bytes
      load (null: never reported): age_ms, silent, says (up, drain, down), clients, in_flight, foreign, execution_us,
      cpu_permille, memory_permille, requests_per_s, score (expected wait in us, or in flight, or CPU)";

/// Of `shunt drain` and `shunt enable`.
pub const DRAIN: &str = "\
`shunt backends` shows how far a drained back-end is: it is free of load once ACTIVE is 0. A drain ends with `shunt
enable`, or with a stop of all of Shunt; weight = 0 in the configuration lasts.

Fields of --json:
  state (drained, enabled), backends[] (names), epoch (of the configuration, since which it is in force)";

/// Of `shunt connections`.
pub const CONNECTIONS: &str = "\
Fields of --json:
  matching: how many fit the filter
  connections[]: protocol, client, service, backend, state (opening, established, closing, closed), age_ms, idle_ms,
      flags[] (answered, client_fin, backend_fin, client_reset, backend_reset)";

/// Of `shunt drops`.
pub const DROPS: &str = "\
Fields of --json:
  total, answered (of all reasons), unanswered (refusals that the limit for their source left without an answer)
  drops[]: reason, count (frames dropped), answered (refused by a reset or an ICMP error), per_switcher[] (of both
      together), meaning
  notices[]: notice, count, meaning (packets that went on; own_call: none of Shunt's packets)";
