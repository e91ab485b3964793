-- Who generates the answer to a question that several gateways may be asked at once.
--
-- KEYS[1] kept answer   KEYS[2] flight   KEYS[3] epoch
-- ARGV[1] token of who asks   ARGV[2] ms that a flight outlives its last renewal   ARGV[3] "1": a kept answer will do
-- Returns {"answered", epoch, answer}, {"lead", epoch}, {"follow", epoch}, or {"alone", epoch} where the last answer
-- could not be shared
--
-- A flight is a hash: `token` of its leader, empty where none will come; `followed` once someone waits for it.

local epoch = redis.call("GET", KEYS[3]) or "0"
local answer = ARGV[3] == "1" and redis.call("GET", KEYS[1])
if answer then
  return { "answered", epoch, answer }
end
local leader = redis.call("HGET", KEYS[2], "token")
if not leader then
  redis.call("HSET", KEYS[2], "token", ARGV[1])
  redis.call("PEXPIRE", KEYS[2], ARGV[2])
  return { "lead", epoch }
end
if leader == "" then
  return { "alone", epoch }
end
redis.call("HSET", KEYS[2], "followed", "1")
return { "follow", epoch }
