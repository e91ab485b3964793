-- Keeps a flight alive while its leader is.
-- KEYS[1] flight   ARGV[1] token   ARGV[2] ms that it outlives this renewal
-- Returns -1 if it is another's by now, 1 if someone waits for it, 0 otherwise

if redis.call("HGET", KEYS[1], "token") ~= ARGV[1] then
  return -1
end
redis.call("PEXPIRE", KEYS[1], ARGV[2])
return redis.call("HEXISTS", KEYS[1], "followed")
