-- Renews the concurrency leases that a gateway holds of one owner, by Redis' clock. One that Redis has lost, by a
-- restart or because the gateway was slow, is there again: the request is still running.
--
-- KEYS[1] leases   ARGV[1] a lease's length in ms   ARGV[2…] ids

local clock = redis.call("TIME")
local expires_ms = clock[1] * 1000 + clock[2] / 1000 + tonumber(ARGV[1])
for index = 2, #ARGV do
  redis.call("ZADD", KEYS[1], expires_ms, ARGV[index])
end
redis.call("PEXPIRE", KEYS[1], ARGV[1])
