-- wrk's own summary stops at the 99th percentile; this prints what the benchmark reads.
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format("figures %d %.2f %.1f %.1f %.1f %d",
    summary.requests, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
