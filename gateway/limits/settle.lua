-- Corrects a token bucket once a request's real usage is known.
-- KEYS[1] token bucket   ARGV[1] tokens per minute   ARGV[2] tokens to give back (negative: to take)
-- A bucket that has expired is full, so there is nothing to correct.

local left = tonumber(redis.call("HGET", KEYS[1], "level"))
if left then
  redis.call("HSET", KEYS[1], "level", tostring(math.min(tonumber(ARGV[1]), left + tonumber(ARGV[2]))))
end
