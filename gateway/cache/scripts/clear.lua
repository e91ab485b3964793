-- Drops kept answers of a tenant, a part at a time, and from the first part on keeps those from being kept that are
-- being generated.
--
-- KEYS[1] epoch   KEYS[2] last use of each answer   KEYS[3] size and model of each answer
-- KEYS[4] where each answer's question stands
-- ARGV[1] name of a kept answer but for its digest   ARGV[2] model, empty for all   ARGV[3] cursor, "0" at first
-- ARGV[4] name of a context's questions but for the context
-- Returns {next cursor, "0" at the end; number of answers dropped}

local EPOCH_TTL_S = 86400 -- longer than any generation
if ARGV[3] == "0" then
  redis.call("INCR", KEYS[1])
  redis.call("EXPIRE", KEYS[1], EPOCH_TTL_S)
end

local part = redis.call("HSCAN", KEYS[3], ARGV[3], "COUNT", 500)
local freed, dropped = 0, 0
for at = 1, #part[2], 2 do
  local digest, size, model = part[2][at], string.match(part[2][at + 1], "^(%d+) (.*)$")
  if size and (ARGV[2] == "" or ARGV[2] == model) then
    freed = freed + size
    dropped = dropped + redis.call("DEL", ARGV[1] .. digest)
    redis.call("HDEL", KEYS[3], digest)
    redis.call("ZREM", KEYS[2], digest)
    forget_question(KEYS[4], ARGV[4], digest)
  end
end
if freed > 0 then
  redis.call("HINCRBY", KEYS[3], "bytes", -freed)
end
return { part[1], dropped }
