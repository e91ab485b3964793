-- The question that an answer was kept with goes when the answer does. Part of keep.lua and clear.lua.
--
-- places: hash, where each answer's question stands   streams: name of a context's questions but for the context

local function forget_question(places, streams, digest)
  local place = redis.call("HGET", places, digest)
  if place then
    local context, id = string.match(place, "^(%S+) (%S+)$")
    redis.call("XDEL", streams .. context, id)
    redis.call("HDEL", places, digest)
  end
end
