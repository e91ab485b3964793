-- Keeps an answer, within the bytes that a tenant may hold, and ends the flight that it came from.
--
-- KEYS[1] kept answer   KEYS[2] flight   KEYS[3] epoch   KEYS[4] last use of each answer (sorted set by digest)
-- KEYS[5] size and model of each answer (hash by digest), and their sum under `bytes`
-- KEYS[6] where each answer's question stands (hash by digest), for those that can be found by a similar one
-- ARGV[1] digest   ARGV[2] answer   ARGV[3] ms to live   ARGV[4] bytes that the tenant may hold   ARGV[5] model
-- ARGV[6] epoch in which the answer was begun   ARGV[7] token, empty where no flight was led
-- ARGV[8] name of a kept answer but for its digest   ARGV[9] channel   ARGV[10] the flight's name there
-- ARGV[11] name of a context's questions but for the context   ARGV[12] questions of a context at most
-- ARGV[13] context, ARGV[14] text, ARGV[15] vector of the question, where a similar one may find the answer
-- Returns 1 if it is kept; 0 if the cache was cleared meanwhile, or the flight is another's by now.
--
-- Whoever last used an answer is known within seconds, not at once, so that a hit costs one GET. An answer that Redis
-- let expire stays in the sums until its last use is longer ago than an answer lives: they err on the safe side.

local QUESTION_BYTES, CONTEXT_BYTES = 128, 3400 -- in Redis, beside text and vector; by MEMORY USAGE
local name, digest, max_bytes = KEYS[1], ARGV[1], tonumber(ARGV[4])
local token = ARGV[7]
local leads = token ~= "" and redis.call("HGET", KEYS[2], "token") == token
if (token ~= "" and not leads) or (redis.call("GET", KEYS[3]) or "0") ~= ARGV[6] then
  return 0
end

local function size_of(other)
  local entry = redis.call("HGET", KEYS[5], other)
  return entry and tonumber(string.match(entry, "^%d+")) or 0
end

local clock = redis.call("TIME")
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local held = tonumber(redis.call("HGET", KEYS[5], "bytes") or "0") - size_of(digest)

local function drop(other)
  held = held - size_of(other)
  redis.call("HDEL", KEYS[5], other)
  redis.call("ZREM", KEYS[4], other)
  redis.call("DEL", ARGV[8] .. other)
  forget_question(KEYS[6], ARGV[11], other)
end

redis.call("SET", name, ARGV[2], "PX", ARGV[3])
redis.call("ZADD", KEYS[4], now_ms, digest)
local size = #ARGV[2]
if ARGV[13] then
  local stream = ARGV[11] .. ARGV[13]
  forget_question(KEYS[6], ARGV[11], digest)
  local id = redis.call("XADD", stream, "MAXLEN", ARGV[12], "*", "text", ARGV[14], "vector", ARGV[15], "answer", digest)
  redis.call("HSET", KEYS[6], digest, ARGV[13] .. " " .. id)
  redis.call("PEXPIRE", stream, ARGV[3])
  redis.call("PEXPIRE", KEYS[6], 2 * ARGV[3])
  size = size + #ARGV[14] + #ARGV[15] + QUESTION_BYTES
  if redis.call("XLEN", stream) == 1 then
    size = size + CONTEXT_BYTES
  end
end
held = held + size
redis.call("HSET", KEYS[5], digest, size .. " " .. ARGV[5])
for _, expired in ipairs(redis.call("ZRANGEBYSCORE", KEYS[4], "-inf", now_ms - ARGV[3], "LIMIT", 0, 64)) do
  drop(expired)
end
while held > max_bytes do
  local oldest = redis.call("ZRANGE", KEYS[4], 0, 0)[1]
  if not oldest or oldest == digest then
    break
  end
  drop(oldest)
end
redis.call("HSET", KEYS[5], "bytes", held)
redis.call("PEXPIRE", KEYS[4], 2 * ARGV[3])
redis.call("PEXPIRE", KEYS[5], 2 * ARGV[3])

if leads then
  local followed = redis.call("HEXISTS", KEYS[2], "followed") == 1
  redis.call("DEL", KEYS[2])
  if followed then
    redis.call("PUBLISH", ARGV[9], ARGV[10])
  end
end
return 1
