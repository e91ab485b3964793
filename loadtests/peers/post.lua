-- wrk's script: POSTs the body of the file in the first argument, with the keys in the others by turns.
-- Prints one JSON object as its last line. wrk counts latencies in microseconds.

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["content-type"] = "application/json"
  local requests, turn = {}, 0
  for index = 2, #arguments do
    wrk.headers["authorization"] = "Bearer " .. arguments[index]
    requests[index - 1] = wrk.format()
  end
  if #requests > 1 then
    function request()
      turn = turn % #requests + 1
      return requests[turn]
    end
  end
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '\n{"requests": %d, "duration_us": %d, "errors": %d, "p50_us": %d, "p99_us": %d}',
    summary.requests, summary.duration,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
