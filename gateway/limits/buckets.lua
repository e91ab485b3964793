-- Two token buckets of one owner, a key or a tenant. Stands before admit.lua and settle.lua.
--
-- State, six packed doubles, which cost half of what a hash with decimal numbers does:
--   at_ms        when it was written; levels refill evenly from then on
--   requests     requests that may be made now
--   tokens       tokens that may be reserved now
--   most         what `tokens` would be if all requests in flight turned out to use nothing
--   this_minute  tokens reserved in the minute of at_ms by requests that are still in flight
--   last_minute  the same of the minute before; older reservations have lapsed and count as used
-- A level that is `unlimited` for its owner is a number too large to matter. What has expired is full: it holds a
-- minute's worth, times `burst` (gateway/limits/plan.py).

local floor, min, max = math.floor, math.min, math.max
local clock = redis.call("TIME")
local now_ms = clock[1] * 1000 + clock[2] / 1000
local MINUTE_MS = 60000

local function read_buckets(name, request_limit, token_limit, burst)
  local state = redis.call("GET", name)
  if not state then
    return request_limit * burst, token_limit * burst, token_limit * burst, 0, 0
  end
  local at_ms, requests, tokens, most, this_minute, last_minute = struct.unpack("<dddddd", state)
  local turns = floor(now_ms / MINUTE_MS) - floor(at_ms / MINUTE_MS)
  if turns == 1 then
    most, this_minute, last_minute = most - last_minute, 0, this_minute
  elseif turns > 1 then
    most, this_minute, last_minute = most - this_minute - last_minute, 0, 0
  end
  local minutes = max(0, now_ms - at_ms) / MINUTE_MS
  requests = min(request_limit * burst, requests + minutes * request_limit)
  tokens = min(token_limit * burst, tokens + minutes * token_limit)
  most = min(token_limit * burst, most + minutes * token_limit)
  return requests, tokens, most, this_minute, last_minute
end

local function write_buckets(name, token_limit, requests, tokens, most, this_minute, last_minute)
  local full_in = "120000"
  if tokens < 0 then
    full_in = floor(2 * MINUTE_MS - tokens / token_limit * MINUTE_MS)
  end
  redis.call("SET", name, struct.pack("<dddddd", now_ms, requests, tokens, most, this_minute, last_minute),
    "PX", full_in)
end
