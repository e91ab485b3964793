-- Ends a flight whose answer was not kept.
-- KEYS[1] flight   ARGV[1] token   ARGV[2] channel   ARGV[3] the flight's name there
-- ARGV[4] ms for which whoever asks generates alone, because this answer cannot be shared; 0: another one may lead

if redis.call("HGET", KEYS[1], "token") ~= ARGV[1] then
  return
end
local followed = redis.call("HEXISTS", KEYS[1], "followed") == 1
redis.call("DEL", KEYS[1])
if tonumber(ARGV[4]) > 0 then
  redis.call("HSET", KEYS[1], "token", "")
  redis.call("PEXPIRE", KEYS[1], ARGV[4])
end
if followed then
  redis.call("PUBLISH", ARGV[2], ARGV[3])
end
