-- Admits a request to its key's budgets and looks for a cached answer, in one round trip.
-- Both budgets are token buckets that refill evenly over a minute (RFC 2697 describes the idea).
--
-- KEYS[1] request bucket   KEYS[2] token bucket   KEYS[3] cached answer
-- ARGV[1] requests per minute   ARGV[2] tokens per minute   ARGV[3] tokens to reserve   ARGV[4] "1": look in the cache
-- Returns {admitted (1|0), requests left, tokens left, ms until requests are full again, ms until tokens are full
--          again, ms to wait when refused, which budget refused ("requests"|"tokens"|""), cached answer or false}

local clock = redis.call("TIME")
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function level(key, limit)
  local bucket = redis.call("HMGET", key, "level", "at_ms")
  local left = tonumber(bucket[1]) or limit
  local at_ms = tonumber(bucket[2]) or now_ms
  return math.min(limit, left + math.max(0, now_ms - at_ms) * limit / 60000)
end

local function put(key, left)
  redis.call("HSET", key, "level", tostring(left), "at_ms", now_ms)
  redis.call("PEXPIRE", key, 120000)
end

local function ms_to_gain(amount, limit)
  return math.ceil(math.max(0, amount) * 60000 / limit)
end

local request_limit, token_limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local cached = ARGV[4] == "1" and redis.call("GET", KEYS[3])
local cost = cached and 0 or math.min(tonumber(ARGV[3]), token_limit)

local requests, tokens = level(KEYS[1], request_limit), level(KEYS[2], token_limit)
local wait_ms, refused_by = 0, ""
if requests < 1 then
  wait_ms, refused_by = ms_to_gain(1 - requests, request_limit), "requests"
elseif tokens < cost then
  wait_ms, refused_by = ms_to_gain(cost - tokens, token_limit), "tokens"
else
  requests, tokens = requests - 1, tokens - cost
  put(KEYS[1], requests)
  if cost > 0 then put(KEYS[2], tokens) end
end

return {
  refused_by == "" and 1 or 0,
  math.floor(requests),
  math.floor(tokens),
  ms_to_gain(request_limit - requests, request_limit),
  ms_to_gain(token_limit - tokens, token_limit),
  wait_ms,
  refused_by,
  refused_by == "" and cached or false,
}
