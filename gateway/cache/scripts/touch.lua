-- Notes the last use of answers.
-- KEYS[1] last use of each answer   ARGV digests

local clock = redis.call("TIME")
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
for _, digest in ipairs(ARGV) do
  redis.call("ZADD", KEYS[1], "XX", now_ms, digest)
end
